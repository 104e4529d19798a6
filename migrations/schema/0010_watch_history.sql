-- Coarse history of what the watch reads: what an hour of the week usually looks like has to survive a
-- restart. Pruned by age; a point of time is written once, by whichever process comes first.
CREATE TABLE evenkeel.watch_history (
    at         timestamptz NOT NULL,   -- end of the time that the means stand for
    resolution integer NOT NULL CHECK (resolution > 0),   -- its length in seconds
    values     jsonb NOT NULL,         -- known means by name of the series
    -- The order in which rows are pruned, and read.
    PRIMARY KEY (resolution, at)
);
