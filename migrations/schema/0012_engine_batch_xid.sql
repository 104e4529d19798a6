-- Which transaction a batch was: a row that is pending and was last written by it has become pending by
-- itself, and must not be changed once more.

ALTER TABLE evenkeel.batches
    ADD COLUMN xid     bigint,   -- NULL for batches from before this file
    ADD COLUMN cluster bigint;   -- whose transaction: numbers of a dump mean nothing where it is restored

ALTER TABLE evenkeel.batches
    ALTER COLUMN xid SET DEFAULT pg_catalog.pg_current_xact_id()::text::bigint,
    ALTER COLUMN cluster SET DEFAULT (pg_catalog.pg_control_system()).system_identifier;

-- lint: allow require-concurrent-index-creation because only the engine writes these rows, one a batch
CREATE INDEX batches_xid_idx ON evenkeel.batches (xid) WHERE xid IS NOT NULL;

-- Which table a run was started for: the search path of the process that drives it may lead elsewhere.

ALTER TABLE evenkeel.runs
    ADD COLUMN relation text;   -- with its schema; NULL where the table was not there yet
