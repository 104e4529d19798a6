-- Proof, undo and repair: what a completed run certifies, which way it goes, what it cost in time and
-- in second tries.

ALTER TABLE evenkeel.runs
    -- 'up', or 'down' for the definition's statement for the way back.
    ADD COLUMN direction   text NOT NULL DEFAULT 'up',
    -- The cancelled or failed run whose cursor this one began from.
    ADD COLUMN follows     bigint,
    -- When an operator last let it go on; ranges set aside before that are not held against it.
    ADD COLUMN resumed_at  timestamptz,
    -- The ranges that are set aside are to be tried before anything else.
    ADD COLUMN repairing   boolean NOT NULL DEFAULT false,
    -- Share of the table that the main phase has passed; never falls.
    ADD COLUMN share_done  double precision NOT NULL DEFAULT 0,
    -- Batches that were tried again after an error, and those that a critical signal cancelled.
    ADD COLUMN retries     bigint NOT NULL DEFAULT 0,
    ADD COLUMN cancelled_batches bigint NOT NULL DEFAULT 0,
    -- Number of the first batch of the current sweep.
    ADD COLUMN sweep_from  bigint,
    -- Pending rows that the current sweep met, could not change and set aside.
    ADD COLUMN sweep_aside bigint NOT NULL DEFAULT 0,
    -- Seconds by what they were spent on.
    ADD COLUMN time_spent  jsonb NOT NULL DEFAULT '{}';

ALTER TABLE evenkeel.batches
    ADD COLUMN retries     integer NOT NULL DEFAULT 0,  -- tries that failed since the batch before
    ADD COLUMN took_ms     real,      -- how long the batch worked
    ADD COLUMN retried_for text,      -- SQLSTATE of the last of them
    ADD COLUMN checksum    numeric;   -- of a sweep's range in which nothing was pending

ALTER TABLE evenkeel.quarantine
    ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now();
-- Apart, so that the table is not rewritten.
ALTER TABLE evenkeel.quarantine ALTER COLUMN tried_at SET DEFAULT clock_timestamp();

-- One per completed run. It refers to the run by number only, so that the proof outlives a ledger
-- that is tidied up.
CREATE TABLE evenkeel.certificates (
    run_id            bigint PRIMARY KEY,
    migration         text NOT NULL,
    direction         text NOT NULL,
    definition_sha256 text NOT NULL,
    started_by        text NOT NULL,
    rows              bigint NOT NULL,   -- looked at by the last sweep, none of them pending
    rows_changed      bigint NOT NULL,   -- the ledger's sum
    checksum          numeric,           -- the sum of the ranges' checksums; NULL when one is not known
    made_at           timestamptz NOT NULL DEFAULT now(),
    document          jsonb NOT NULL
);
CREATE INDEX certificates_migration_idx ON evenkeel.certificates (migration, run_id);
