-- The second proof: what a read of the whole table by physical position, under one snapshot, says of
-- rows that are pending. It shares neither index nor order with the walk by key.

ALTER TABLE evenkeel.runs
    ADD COLUMN proof jsonb;   -- what the last such read for this run said; NULL before the first

-- Proofs that somebody asked for after a run was certified. Rows are only ever added. They refer to the
-- run by number, as certificates do.
CREATE TABLE evenkeel.proofs (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id   bigint NOT NULL,
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    rows     bigint NOT NULL,      -- that the walk by key met
    pending  bigint NOT NULL,      -- those of them that were pending
    document jsonb NOT NULL        -- what the physical read said
);
CREATE INDEX proofs_run_idx ON evenkeel.proofs (run_id, id);
