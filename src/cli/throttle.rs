//! `evenkeel migrate throttle`: caps the pace for a time.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use crate::migration::throttle::{self, Request, Throttle, ThrottleError};

/// Cap the pace of one migration or of all, for a time; show the caps, or end one early.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["time", "list", "remove"]))]
pub(super) struct Args {
    /// Name of the migration.
    #[arg(conflicts_with_all = ["all", "list", "remove"])]
    name: Option<String>,
    /// Every migration.
    #[arg(long, conflicts_with_all = ["list", "remove"])]
    all: bool,
    /// For how long, e.g. 30m; it ends by itself.
    #[arg(long = "for", value_parser = humantime::parse_duration, requires_all = ["duty", "why"])]
    time: Option<Duration>,
    /// Share of the time to work at most, from 0 (stand still) to 1.
    #[arg(long, value_parser = share, requires = "time")]
    duty: Option<f64>,
    /// Why, for whoever wonders about the pace.
    #[arg(long, requires = "time")]
    why: Option<String>,
    /// Show what is in force.
    #[arg(long)]
    list: bool,
    /// End this one now.
    #[arg(long, value_name = "ID")]
    remove: Option<i64>,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|duty| (0.0..=1.0).contains(duty))
        .ok_or_else(|| "a number from 0 to 1 is wanted".to_owned())
}

impl Args {
    /// Whether a throttle is to be made.
    pub(super) fn adds(&self) -> bool {
        self.time.is_some()
    }

    /// The migration that is named.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// Does what was asked and says so.
pub(super) async fn run(
    args: &Args,
    conn: &mut PgConnection,
    actor: &str,
) -> Result<String, ThrottleError> {
    if args.list {
        let all = throttle::list(conn).await?;
        if all.is_empty() {
            return Ok("no throttle is in force".to_owned());
        }
        return Ok(all.iter().map(line).collect::<Vec<_>>().join("\n"));
    }
    if let Some(id) = args.remove {
        let removed = throttle::remove(conn, id, actor).await?;
        return Ok(format!("ended: {}", line(&removed)));
    }
    if args.name.is_none() && !args.all {
        return Err(ThrottleError::Whom);
    }
    let request = Request {
        migration: args.name(),
        duty: args.duty.unwrap_or(0.0),
        extra_ms: 0.0,
        time: args.time.unwrap_or_default(),
        reason: args.why.as_deref().unwrap_or_default(),
    };
    Ok(in_force(&throttle::add(conn, &request, actor).await?))
}

fn in_force(throttle: &Throttle) -> String {
    format!(
        "{}\n  `evenkeel migrate throttle --remove {}` ends it early",
        line(throttle),
        throttle.id
    )
}

/// Let shoppers pay more for a migration than its own budget, for a time.
#[derive(Debug, clap::Args)]
pub(super) struct Spend {
    /// Name of the migration.
    pub(super) name: String,
    /// Milliseconds at the 95th percentile that shoppers may pay beyond the budget.
    #[arg(long)]
    extra_ms: f64,
    /// For how long, e.g. 6h; it ends by itself.
    #[arg(long = "for", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Why, for whoever wonders about the pace.
    #[arg(long)]
    why: String,
}

/// Grants what was asked for and says so.
pub(super) async fn spend(
    args: &Spend,
    conn: &mut PgConnection,
    actor: &str,
) -> Result<String, ThrottleError> {
    let request = Request {
        migration: Some(&args.name),
        duty: 1.0,
        extra_ms: args.extra_ms,
        time: args.time,
        reason: &args.why,
    };
    Ok(in_force(&throttle::add(conn, &request, actor).await?))
}

fn line(throttle: &Throttle) -> String {
    let what = if throttle.extra_ms > 0.0 {
        format!("lets shoppers pay {:.1} ms more", throttle.extra_ms)
    } else {
        format!("works {:.0} % of the time at most", throttle.duty * 100.0)
    };
    format!(
        "throttle {}: {} {what} until {} ({}: {})",
        throttle.id,
        throttle.migration.as_deref().unwrap_or("every migration"),
        throttle.until.format("%Y-%m-%d %H:%M:%S UTC"),
        throttle.actor,
        throttle.reason
    )
}
