-- title: Fill the total of orders that were placed before totals were stored
-- owner: orders
-- table: orders
-- key: account_id, id
-- pending: orders.total_minor IS NULL

UPDATE orders
   SET total_minor = (
           SELECT coalesce(sum(line.quantity * line.unit_price_minor), 0)
             FROM order_lines AS line
            WHERE line.account_id = orders.account_id AND line.order_id = orders.id
       )
 WHERE :range
