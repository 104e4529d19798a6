-- Which process watches: one of several, so that people are told once.
CREATE TABLE evenkeel.watch_lease (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    holder    text NOT NULL,
    until     timestamptz NOT NULL
);
