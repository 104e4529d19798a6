-- The migration engine's ledger. State lives here and nowhere else: any number of processes share
-- it, and the command line and the HTTP interface only read and write these rows.

CREATE TABLE evenkeel.runs (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration     text NOT NULL,       -- the file's name without its extension
    definition    text NOT NULL,       -- the file as it was when the run was queued
    state         text NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    phase         text NOT NULL DEFAULT 'main' CHECK (phase IN ('main', 'sweep')),
    -- Keys are arrays of their columns' text forms, so that any type fits.
    cursor        text[],              -- the last key done in this phase; NULL before the first
    end_key       text[],              -- the last key that existed when the phase began
    batch_rows    integer,             -- size of the next batch; NULL before the first
    rows_estimate bigint,              -- rows of the table when the run began, by the planner
    rows_seen     bigint NOT NULL DEFAULT 0,  -- keys that the cursor has passed in the main phase
    rows_changed  bigint NOT NULL DEFAULT 0,
    batches       bigint NOT NULL DEFAULT 0,
    sweep_pass    integer NOT NULL DEFAULT 0,
    sweep_found   bigint NOT NULL DEFAULT 0,  -- pending rows that the current sweep has met
    -- The lease: whoever holds the greatest token may write, until the database's clock says so.
    lease_holder  text,
    lease_token   bigint NOT NULL DEFAULT 0,
    lease_until   timestamptz,
    pace          jsonb,               -- what the holder last said about its pace and why
    started_by    text NOT NULL,
    error         text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz
);
CREATE UNIQUE INDEX runs_one_at_a_time_idx ON evenkeel.runs (migration)
    WHERE state IN ('queued', 'running', 'paused');

-- One row per committed batch, written in the batch's own transaction.
CREATE TABLE evenkeel.batches (
    run_id       bigint NOT NULL REFERENCES evenkeel.runs (id),
    number       bigint NOT NULL,
    phase        text NOT NULL,
    lower_key    text[],   -- exclusive; NULL from the beginning
    upper_key    text[] NOT NULL,  -- inclusive
    rows_seen    bigint NOT NULL,
    rows_changed bigint NOT NULL,
    lease_token  bigint NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (run_id, number)
);

-- Key ranges that could not be changed, with the reason, while the rest went on.
CREATE TABLE evenkeel.quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id      bigint NOT NULL REFERENCES evenkeel.runs (id),
    lower_key   text[],
    upper_key   text[] NOT NULL,
    sqlstate    text,
    error       text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz   -- a later sweep found nothing pending in the range
);
CREATE INDEX quarantine_run_idx ON evenkeel.quarantine (run_id);

-- Append-only: who did what to a run, when and why.
CREATE TABLE evenkeel.events (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id bigint REFERENCES evenkeel.runs (id),
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text NOT NULL,
    action text NOT NULL,
    detail text NOT NULL DEFAULT ''
);
CREATE INDEX events_run_idx ON evenkeel.events (run_id, id);
