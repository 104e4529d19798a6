//! Who is there to take a run that waits.

use std::time::Duration;

use serde::Serialize;
use sqlx::FromRow;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

/// A process of the shop says every five seconds that it is alive; one that has not for so long is not
/// counted on.
pub const HEARD: Duration = Duration::from_secs(15);

/// The processes of a shop that have spoken of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow, Serialize, ToSchema)]
pub struct Presence {
    /// Those that take runs.
    pub take_runs: i64,
    /// Those that do not, because their `migration.enabled` is false.
    pub take_none: i64,
}

impl Presence {
    /// Counts them by what they last published.
    ///
    /// # Errors
    /// What the database says.
    pub async fn read(conn: &mut PgConnection) -> Result<Self, sqlx::Error> {
        sqlx::query_as(
            "SELECT count(*) FILTER (WHERE takes) AS take_runs,
                    count(*) FILTER (WHERE NOT takes) AS take_none
               FROM (SELECT coalesce(body->'takes_runs' = 'true', false) AS takes
                       FROM evenkeel.readings
                      WHERE at > clock_timestamp() - make_interval(secs => $1)) AS processes",
        )
        .bind(HEARD.as_secs_f64())
        .fetch_one(conn)
        .await
    }

    /// Why nobody takes a run; `None` when somebody does.
    pub fn nobody(self) -> Option<String> {
        match (self.take_runs, self.take_none) {
            (0, 0) => Some("no process is there to take it".to_owned()),
            (0, n) => Some(format!(
                "no process is there to take it ({n} of the shop are, with `migration.enabled` = false)"
            )),
            _ => None,
        }
    }
}
