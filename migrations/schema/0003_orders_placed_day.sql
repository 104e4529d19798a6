-- Expand step for the daily report: a nullable column and, separately, a default, so that neither
-- rewrites the table. New orders are right from here on; those from before are filled by
-- migrations/background/orders_placed_day.sql.
ALTER TABLE orders ADD COLUMN placed_day date;
ALTER TABLE orders ALTER COLUMN placed_day SET DEFAULT ((now() AT TIME ZONE 'UTC')::date);
