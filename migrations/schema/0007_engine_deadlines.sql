-- When a run should be done, and what operators let shoppers pay for that.

ALTER TABLE evenkeel.runs
    ADD COLUMN deadline timestamptz;   -- NULL: whenever

-- Milliseconds at the 95th percentile that shoppers may pay beyond the pace's own budget. A rule that
-- grants some caps nothing: its duty is 1.
ALTER TABLE evenkeel.throttles
    ADD COLUMN extra_ms double precision NOT NULL DEFAULT 0;
