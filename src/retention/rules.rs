//! What is deleted, and when it has been kept for long enough.

use std::time::Duration;

use crate::config::Retention;

/// Rows of one kind.
pub(super) struct Rule {
    /// What they are, for people.
    pub what: &'static str,
    /// How long they are kept.
    pub life: fn(&Retention) -> Duration,
    /// Deletes up to `$2` of those that were over before `$1`. What somebody else has locked is left to
    /// the next time.
    pub delete: &'static str,
}

/// The runs that have been over for long enough and are older than the newest completed one of their migration:
/// that one says how the rows stand, and a certificate will count those that came after it.
macro_rules! old_runs {
    () => {
        "(SELECT id FROM evenkeel.runs AS old
           WHERE finished_at < $1
             AND id < (SELECT max(id) FROM evenkeel.runs AS complete
                        WHERE complete.migration = old.migration AND complete.state = 'completed'))"
    };
}

/// In an order in which nothing is deleted before what refers to it.
pub(super) const RULES: [Rule; 17] = [
    Rule {
        what: "idempotency keys",
        life: |settings| settings.idempotency_keys,
        delete: "DELETE FROM idempotency_keys WHERE (account_id, key) IN (
                     SELECT account_id, key FROM idempotency_keys WHERE created_at < $1
                      ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "expired sessions",
        life: |settings| settings.sessions,
        delete: "DELETE FROM sessions WHERE (account_id, token_hash) IN (
                     SELECT account_id, token_hash FROM sessions WHERE expires_at < $1
                      ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "failed log-ins",
        life: |settings| settings.log_in_attempts,
        delete: "DELETE FROM log_in_attempts WHERE email_hash IN (
                     SELECT email_hash FROM log_in_attempts WHERE spent_until < $1
                      ORDER BY spent_until LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "devices that are no longer used",
        life: |settings| settings.devices,
        delete: "DELETE FROM devices WHERE (account_id, token_hash) IN (
                     SELECT account_id, token_hash FROM devices WHERE used_at < $1
                      ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "batches of completed migrations",
        life: |settings| settings.batches,
        // A certificate of a later run counts what the runs before it did: those batches stay until the
        // migration is complete.
        delete: "DELETE FROM evenkeel.batches WHERE (run_id, number) IN (
                     SELECT run_id, number FROM evenkeel.batches
                      WHERE run_id IN (
                            SELECT id FROM evenkeel.runs AS run
                             WHERE finished_at < $1
                               AND (SELECT state FROM evenkeel.runs AS newest
                                     WHERE newest.migration = run.migration
                                     ORDER BY id DESC LIMIT 1) = 'completed')
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "batches of old runs",
        life: |settings| settings.runs,
        delete: concat!(
            "DELETE FROM evenkeel.batches WHERE (run_id, number) IN (
                     SELECT run_id, number FROM evenkeel.batches
                      WHERE run_id IN ",
            old_runs!(),
            "
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ),
    },
    Rule {
        what: "events of old runs",
        life: |settings| settings.runs,
        delete: concat!(
            "DELETE FROM evenkeel.events WHERE id IN (
                     SELECT id FROM evenkeel.events
                      WHERE run_id IN ",
            old_runs!(),
            "
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ),
    },
    Rule {
        what: "events of no run",
        life: |settings| settings.runs,
        delete: "DELETE FROM evenkeel.events WHERE id IN (
                     SELECT id FROM evenkeel.events WHERE run_id IS NULL AND at < $1
                      ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "quarantine of old runs",
        life: |settings| settings.runs,
        delete: concat!(
            "DELETE FROM evenkeel.quarantine WHERE id IN (
                     SELECT id FROM evenkeel.quarantine
                      WHERE run_id IN ",
            old_runs!(),
            "
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ),
    },
    Rule {
        what: "steps of old runs",
        life: |settings| settings.runs,
        delete: concat!(
            "DELETE FROM evenkeel.steps WHERE (run_id, number) IN (
                     SELECT run_id, number FROM evenkeel.steps
                      WHERE run_id IN ",
            old_runs!(),
            "
                      LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ),
    },
    Rule {
        what: "old runs",
        life: |settings| settings.runs,
        delete: concat!(
            "DELETE FROM evenkeel.runs WHERE id IN (
                     SELECT id FROM evenkeel.runs AS run
                      WHERE id IN ",
            old_runs!(),
            "
                        AND NOT EXISTS (SELECT FROM evenkeel.batches WHERE run_id = run.id)
                        AND NOT EXISTS (SELECT FROM evenkeel.events WHERE run_id = run.id)
                        AND NOT EXISTS (SELECT FROM evenkeel.quarantine WHERE run_id = run.id)
                        AND NOT EXISTS (SELECT FROM evenkeel.steps WHERE run_id = run.id)
                      ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
        ),
    },
    Rule {
        what: "certificates",
        life: |settings| settings.certificates,
        delete: "DELETE FROM evenkeel.certificates WHERE run_id IN (
                     SELECT run_id FROM evenkeel.certificates AS certificate
                      WHERE made_at < $1
                        AND run_id <> (SELECT max(run_id) FROM evenkeel.certificates AS newest
                                        WHERE newest.migration = certificate.migration)
                      ORDER BY made_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "later proofs",
        life: |settings| settings.certificates,
        delete: "DELETE FROM evenkeel.proofs WHERE id IN (
                     SELECT id FROM evenkeel.proofs AS proof
                      WHERE made_at < $1
                        AND (id <> (SELECT max(id) FROM evenkeel.proofs AS newest
                                     WHERE newest.run_id = proof.run_id)
                             OR NOT EXISTS (SELECT FROM evenkeel.certificates AS certificate
                                             WHERE certificate.run_id = proof.run_id))
                      ORDER BY made_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "throttles",
        life: |settings| settings.throttles,
        delete: "DELETE FROM evenkeel.throttles WHERE id IN (
                     SELECT id FROM evenkeel.throttles WHERE until < $1
                      ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "changes",
        life: |settings| settings.changes,
        delete: "DELETE FROM evenkeel.changes WHERE id IN (
                     SELECT id FROM evenkeel.changes WHERE at < $1
                      ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
    Rule {
        what: "events of incidents",
        life: |settings| settings.incidents,
        delete: "DELETE FROM evenkeel.incident_events WHERE id IN (
                     SELECT event.id FROM evenkeel.incidents AS incident
                       JOIN evenkeel.incident_events AS event ON event.incident = incident.id
                      WHERE incident.stage = 'resolved' AND incident.opened_at < $1
                      LIMIT $2 FOR UPDATE OF event SKIP LOCKED)",
    },
    Rule {
        what: "incidents",
        life: |settings| settings.incidents,
        delete: "DELETE FROM evenkeel.incidents WHERE id IN (
                     SELECT id FROM evenkeel.incidents AS incident
                      WHERE stage = 'resolved' AND opened_at < $1
                        AND NOT EXISTS (SELECT FROM evenkeel.incident_events AS event
                                         WHERE event.incident = incident.id)
                      ORDER BY opened_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
    },
];
