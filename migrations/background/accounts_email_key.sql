-- title: Give old accounts the lower-case e-mail address by which log-in ignores case
-- owner: accounts
-- table: accounts
-- pending: email_key IS NULL

UPDATE accounts
   SET email_key = lower(email)
 WHERE :range
