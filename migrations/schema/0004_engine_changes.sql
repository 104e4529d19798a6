-- Changes: schema statements before and after a backfill, each with its progress, so that a run goes
-- on at the right one after a crash at any point.
ALTER TABLE evenkeel.runs ADD COLUMN step text;  -- expand, backfill or contract; NULL while it has only a backfill

CREATE TABLE evenkeel.steps (
    run_id    bigint NOT NULL REFERENCES evenkeel.runs (id),
    number    integer NOT NULL,    -- order of the statement within the file, from 1
    step      text NOT NULL CHECK (step IN ('expand', 'contract')),
    statement text NOT NULL,
    tries     integer NOT NULL DEFAULT 0,
    waits_for text,                -- why it is not done yet
    began_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at   timestamptz,
    PRIMARY KEY (run_id, number)
);
