-- The record of incidents: what processes have written to their journals and people have said, and
-- what somebody changed in the world meanwhile.

-- Append-only. An incident is the fold of its events, in the order of their times.
CREATE TABLE evenkeel.incident_events (
    id       uuid PRIMARY KEY,             -- made by the writer, so that a repetition changes nothing
    position bigint GENERATED ALWAYS AS IDENTITY,  -- for readers to go on from; commits may overtake each other
    incident uuid NOT NULL,
    at       timestamptz NOT NULL,         -- the writer's clock
    by       text NOT NULL,
    what     text NOT NULL,
    body     jsonb NOT NULL                -- the whole event
);
CREATE UNIQUE INDEX incident_events_position_idx ON evenkeel.incident_events (position);
CREATE INDEX incident_events_incident_idx ON evenkeel.incident_events (incident, what);
CREATE INDEX incident_events_at_idx ON evenkeel.incident_events (at);

-- What lists need, derived from the events in the transaction that stores them.
CREATE TABLE evenkeel.incidents (
    id        uuid PRIMARY KEY,
    opened_at timestamptz NOT NULL,
    title     text NOT NULL,
    severity  text NOT NULL,
    stage     text NOT NULL,
    key       text NOT NULL
);
CREATE INDEX incidents_opened_idx ON evenkeel.incidents (opened_at);
CREATE INDEX incidents_open_idx ON evenkeel.incidents (id) WHERE stage <> 'resolved';

-- Deploys, jobs, settings: what was told from outside.
CREATE TABLE evenkeel.changes (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('deploy', 'job', 'config', 'migration', 'other')),
    summary text NOT NULL,
    source  text NOT NULL,
    body    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX changes_at_idx ON evenkeel.changes (at);

-- How many orders had been placed by when, read off their sequence about once a minute: counting
-- orders by time would scan them.
CREATE TABLE evenkeel.order_marks (
    at     timestamptz PRIMARY KEY,
    orders bigint NOT NULL
);
