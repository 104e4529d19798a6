//! Who may try a password, and what a right one opens. Processes share this through PostgreSQL.
//!
//! An attempt is counted before its password is checked, by one statement that any number of processes may
//! send at once: what it grants, it has counted. Each attempt is forgotten after a while, so what is counted
//! is one time per address: when all of them will be (the generic cell rate algorithm). That bounds the
//! attempts in every hour, whatever is forgiven in between. A delay that grows with the failures comes before
//! that bound, so that somebody who mistypes waits for seconds.
//!
//! A device that has shown the right password before has attempts of its own, and shares in the others'
//! when they are used up. Addresses without an account are counted like the others.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::StoreError;
use super::sessions::Token;

/// Attempts before there is a delay. It is one second then, and doubles with each failure, up to
/// [`ATTEMPT`].
const WITHOUT_DELAY: i32 = 5;
/// Seconds after which an attempt of a stranger is forgotten; with all attempts spent, one every so often.
const ATTEMPT: u32 = 90;
/// Attempts of strangers for one address that are not yet forgotten, at most.
const AT_ONCE: u32 = 20;
/// The same for the attempts of one device.
const DEVICE_ATTEMPT: u32 = 1200;
/// The same for the attempts of one device.
const DEVICE_AT_ONCE: u32 = 5;
/// Devices of an account that are remembered: those that were used last.
const DEVICES: u32 = 5;

/// Attempts that can be granted for one address within an hour, by all processes together, if every device
/// is in the wrong hands.
pub const PER_HOUR: u32 =
    AT_ONCE + 3600 / ATTEMPT + DEVICES * (DEVICE_AT_ONCE + 3600 / DEVICE_ATTEMPT);
const _: () = assert!(PER_HOUR <= 100);

/// An attempt that was granted, and counted.
#[derive(Debug, FromRow)]
pub struct Attempt {
    by_device: bool,
    /// Whether the account has been logged in to from this device before.
    pub device_is_known: bool,
    /// The account, if there is one.
    pub account: Option<i64>,
    /// The PHC string of its password.
    pub password_hash: Option<String>,
}

/// Whether a password may be tried.
#[derive(Debug)]
pub enum Claim {
    /// It may, and was counted.
    Granted(Attempt),
    /// Not before so much time has passed.
    TooEarly(Duration),
}

#[derive(FromRow)]
struct Claimed {
    by_stranger: bool,
    /// Seconds.
    wait: Option<f64>,
    #[sqlx(flatten)]
    attempt: Attempt,
}

/// Asks to try a password for `email` from `device`; with `as_stranger`, also when the device has no attempts
/// of its own. One statement.
///
/// An account without `email_key` is from before addresses were compared without letter case, and
/// answers only to the address exactly as its owner typed it.
///
/// # Errors
/// [`StoreError`].
pub async fn claim(
    conn: &mut PgConnection,
    email: &str,
    device: Option<&Token>,
    as_stranger: bool,
) -> Result<Claim, StoreError> {
    // The conflicting row is judged by the clock and not by the beginning of the statement, which may have
    // waited for another one.
    let claimed: Claimed = sqlx::query_as(
        "WITH asked AS MATERIALIZED (
             SELECT sha256(convert_to(lower($1), 'UTF8')) AS email_hash
         ), account AS MATERIALIZED (
             SELECT id, password_hash FROM accounts
              WHERE email_key = lower($1) OR (email_key IS NULL AND email = $1)
              ORDER BY email_key NULLS LAST LIMIT 1
         ), known AS MATERIALIZED (
             SELECT account_id FROM devices
              WHERE account_id = (SELECT id FROM account) AND token_hash = $2
         ), device AS (
             UPDATE devices
                SET spent_until = greatest(spent_until, now()) + make_interval(secs => $7)
              WHERE account_id = (SELECT account_id FROM known) AND token_hash = $2
                AND spent_until <= now() + make_interval(secs => $7 * ($8 - 1))
             RETURNING account_id
         ), before AS MATERIALIZED (
             SELECT greatest(next_at, spent_until - make_interval(secs => $4 * ($5 - 1))) AS free_at
               FROM log_in_attempts WHERE email_hash = (SELECT email_hash FROM asked)
         ), stranger AS (
             INSERT INTO log_in_attempts AS attempt (email_hash, failures, next_at, spent_until)
             SELECT email_hash, 1, now(), now() + make_interval(secs => $4) FROM asked
              WHERE $3 AND NOT EXISTS (SELECT FROM device)
                AND NOT EXISTS (SELECT FROM before WHERE free_at > now())
             ON CONFLICT (email_hash) DO UPDATE
                SET spent_until = greatest(attempt.spent_until, clock_timestamp())
                                  + make_interval(secs => $4),
                    (failures, next_at) = (
                        SELECT n, clock_timestamp() + make_interval(secs =>
                                   CASE WHEN n < $6 THEN 0 ELSE least(power(2, least(n - $6, 30)), $4) END)
                          FROM (SELECT CASE WHEN attempt.spent_until <= clock_timestamp() THEN 1
                                            ELSE attempt.failures + 1 END AS n) AS failed)
              WHERE attempt.next_at <= clock_timestamp()
                AND attempt.spent_until <= clock_timestamp() + make_interval(secs => $4 * ($5 - 1))
             RETURNING email_hash
         )
         SELECT EXISTS (SELECT FROM device) AS by_device,
                EXISTS (SELECT FROM stranger) AS by_stranger,
                EXISTS (SELECT FROM known) AS device_is_known,
                (SELECT extract(epoch FROM free_at - now())::float8 FROM before) AS wait,
                account.id AS account, account.password_hash
           FROM (VALUES (1)) AS one LEFT JOIN account ON true",
    )
    .bind(email)
    .bind(device.map(Token::hash))
    .bind(as_stranger)
    .bind(f64::from(ATTEMPT))
    .bind(f64::from(AT_ONCE))
    .bind(WITHOUT_DELAY)
    .bind(f64::from(DEVICE_ATTEMPT))
    .bind(f64::from(DEVICE_AT_ONCE))
    .fetch_one(conn)
    .await?;
    if claimed.by_stranger || claimed.attempt.by_device {
        return Ok(Claim::Granted(claimed.attempt));
    }
    // Nothing to wait for is known when another attempt came first at this very moment.
    let wait = Duration::try_from_secs_f64(claimed.wait.unwrap_or_default());
    Ok(Claim::TooEarly(wait.unwrap_or_default()))
}

/// What a right password opens.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The address that was logged in with.
    pub email: &'a str,
    /// The session that is to be.
    pub session: &'a Token,
    /// How long it lives.
    pub lifetime: Duration,
    /// By which the device is known from now on.
    pub device: &'a Token,
}

/// Opens a session, remembers the device and forgives the attempt and, unless it was one of the device's
/// own, the delay; returns when the session ends. Also removes the account's expired sessions and the devices
/// that are too many. One statement.
///
/// # Errors
/// [`StoreError`]; a foreign key when the account is gone.
pub async fn open(
    conn: &mut PgConnection,
    opening: &Opening<'_>,
    attempt: &Attempt,
) -> Result<DateTime<Utc>, StoreError> {
    // Other attempts of strangers stay counted: an owner who logs in often does not make room for more.
    let expires_at = sqlx::query_scalar(
        "WITH expired AS (
             DELETE FROM sessions WHERE account_id = $1 AND expires_at <= now()
         ), forgiven AS (
             UPDATE log_in_attempts
                SET failures = 0, next_at = now(), spent_until = spent_until - make_interval(secs => $5)
              WHERE $5 > 0 AND email_hash = sha256(convert_to(lower($4), 'UTF8'))
         ), remembered AS (
             INSERT INTO devices AS device (account_id, token_hash) VALUES ($1, $6)
             ON CONFLICT (account_id, token_hash) DO UPDATE
                SET used_at = now(), spent_until = device.spent_until - make_interval(secs => $7)
         ), surplus AS (
             DELETE FROM devices WHERE account_id = $1 AND token_hash IN (
                 SELECT token_hash FROM devices WHERE account_id = $1 AND token_hash <> $6
                  ORDER BY used_at DESC OFFSET $8)
         )
         INSERT INTO sessions (account_id, token_hash, expires_at)
         VALUES ($1, $2, now() + make_interval(secs => $3))
         RETURNING expires_at",
    )
    .bind(opening.session.account())
    .bind(opening.session.hash())
    .bind(opening.lifetime.as_secs_f64())
    .bind(opening.email)
    .bind(f64::from(if attempt.by_device { 0 } else { ATTEMPT }))
    .bind(opening.device.hash())
    .bind(f64::from(if attempt.by_device { DEVICE_ATTEMPT } else { 0 }))
    .bind(i64::from(DEVICES) - 1)
    .fetch_one(conn)
    .await?;
    Ok(expires_at)
}
