-- title: Fill the day (UTC) on which an order was placed, for the daily report
-- owner: reporting
-- table: orders
-- key: account_id, id
-- pending: placed_day IS NULL

UPDATE orders
   SET placed_day = (placed_at AT TIME ZONE 'UTC')::date
 WHERE :range
