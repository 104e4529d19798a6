-- no-transaction
-- By which time rows are found that have outlived their use (src/retention). Built beside whoever writes.
-- A build that was interrupted leaves an index that nobody uses: it is built again.
DROP INDEX CONCURRENTLY IF EXISTS sessions_expires_at_idx;
CREATE INDEX CONCURRENTLY sessions_expires_at_idx ON sessions (expires_at);
DROP INDEX CONCURRENTLY IF EXISTS idempotency_keys_created_at_idx;
CREATE INDEX CONCURRENTLY idempotency_keys_created_at_idx ON idempotency_keys (created_at);
DROP INDEX CONCURRENTLY IF EXISTS evenkeel.throttles_until_idx;
CREATE INDEX CONCURRENTLY throttles_until_idx ON evenkeel.throttles (until);
DROP INDEX CONCURRENTLY IF EXISTS evenkeel.runs_finished_at_idx;
CREATE INDEX CONCURRENTLY runs_finished_at_idx ON evenkeel.runs (finished_at);
DROP INDEX CONCURRENTLY IF EXISTS evenkeel.events_without_run_idx;
CREATE INDEX CONCURRENTLY events_without_run_idx ON evenkeel.events (at) WHERE run_id IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS evenkeel.certificates_made_at_idx;
CREATE INDEX CONCURRENTLY certificates_made_at_idx ON evenkeel.certificates (made_at);
DROP INDEX CONCURRENTLY IF EXISTS evenkeel.proofs_made_at_idx;
CREATE INDEX CONCURRENTLY proofs_made_at_idx ON evenkeel.proofs (made_at);
