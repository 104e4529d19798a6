-- What the processes of a shop tell each other about their shoppers, and what operators ask of the
-- pace for a time.

-- One row per process that serves shoppers, written by that process alone. Its end in order deletes
-- it; a row that stays and no longer changes is a process that fell silent.
CREATE TABLE evenkeel.readings (
    process  text PRIMARY KEY,
    sequence bigint NOT NULL,          -- grows with every row that the process writes
    at       timestamptz NOT NULL,     -- the database's clock
    body     jsonb NOT NULL            -- latencies and gates of every class
) WITH (fillfactor = 50);              -- room for the next version of the row on its own page

-- Rules that cap the pace. They expire by themselves; rows stay as a record.
CREATE TABLE evenkeel.throttles (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    migration  text,                   -- NULL for all
    duty       double precision NOT NULL CHECK (duty >= 0 AND duty <= 1),  -- 0 stands still
    actor      text NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    until      timestamptz NOT NULL,
    removed_at timestamptz,
    removed_by text
);
CREATE INDEX throttles_in_force_idx ON evenkeel.throttles (until) WHERE removed_at IS NULL;
