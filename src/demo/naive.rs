//! Act 1, June 20: a cron job runs a heavy script straight against the database at peak.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Executor};

use super::cycles::Period;
use super::evidence::{Act, ByClass, Classes, OutageFigures};
use super::outage::{self, Outage};
use super::scene::Footage;
use super::shop::{Safeguards, Shop};
use super::watched::ROLE;
use super::{DemoError, Production};

/// How the script's session calls itself.
pub const SCRIPT: &str = "cron: nightly_report.sh";

/// What the script sends: it fills the column and makes its report. All of it is one transaction, so
/// the lock that ALTER takes is held to the end.
const STATEMENTS: [&str; 5] = [
    "BEGIN",
    "ALTER TABLE orders ADD COLUMN placed_day date",
    "UPDATE orders SET placed_day = (placed_at AT TIME ZONE 'UTC')::date",
    "SELECT placed_day, count(DISTINCT order_id), sum(quantity * unit_price_minor)
       FROM orders JOIN order_lines ON (order_lines.account_id, order_id) = (orders.account_id, id)
      GROUP BY placed_day",
    "COMMIT",
];

/// How long normal service is shown for, before and after.
const NORMAL: Duration = Duration::from_secs(3);
/// An outage that has outlived its cause by this much is shown no longer.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(15);

/// What the act recorded.
#[derive(Debug)]
pub struct Naive {
    /// Its figures.
    pub act: Act,
    /// Everything that happened.
    pub footage: Footage,
    /// From the script's start to its end, as offsets.
    pub script: Period,
    /// Whether it was terminated.
    pub terminated: bool,
    /// The outage, if there was one.
    pub outage: Option<Outage>,
}

/// Plays the act and restores the table.
///
/// # Errors
/// When the shop, the load or the database fails in a way that is not part of the play.
pub async fn play(production: &Production<'_>) -> Result<Naive, DemoError> {
    let Production { stage, screen, .. } = *production;
    screen.heading("Act 1 · June 20: a cron job meets the peak");
    screen.say("The shop as it was then: one pool, no classes, no limits.");
    let shop = Shop::start(stage, "naive", Safeguards::Off).await?;
    let mut scene = production.scene(&shop, None).await?;
    scene.dawn().await;
    scene.pass(NORMAL).await;

    let script = stage.connect_as(ROLE, SCRIPT).await?;
    let mut operator = stage.connect("evenkeel demo: operator").await?;
    let from = scene.now();
    scene.note_at(
        from,
        format!("{SCRIPT} starts: ALTER, UPDATE and a report in one transaction"),
    );
    let patience = production.pace.script_patience;
    let ended = scene
        .during(run_or_terminate(script, &mut operator, patience))
        .await?;
    let to = scene.now();
    scene.note_at(
        to,
        match ended {
            ScriptEnd::Committed => "the script has ended by itself",
            ScriptEnd::Terminated => "the script is terminated",
        },
    );
    recover(&mut scene).await;
    let footage = scene.end().await;
    shop.stop().await?;
    restore(production, &mut operator).await?;
    let script = Period { from, to };
    Ok(judge(footage, script, ended, production.profile.deadline))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScriptEnd {
    /// By itself.
    Committed,
    /// Somebody has ended it.
    Terminated,
}

/// Runs the script to its end, or for as long as `patience` lasts.
pub(super) async fn run_or_terminate(
    mut script: PgConnection,
    operator: &mut PgConnection,
    patience: Duration,
) -> Result<ScriptEnd, DemoError> {
    let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut script)
        .await?;
    let work = async {
        for statement in STATEMENTS {
            script.execute(statement).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    if let Ok(ended) = tokio::time::timeout(patience, work).await {
        return match ended {
            Ok(()) => {
                script.close().await?;
                Ok(ScriptEnd::Committed)
            }
            Err(err) if was_terminated(&err) => Ok(ScriptEnd::Terminated),
            Err(err) => Err(err.into()),
        };
    }
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(pid)
        .execute(operator)
        .await?;
    Ok(ScriptEnd::Terminated)
}

/// Whether somebody has ended the session: SQLSTATE 57P01, admin_shutdown.
fn was_terminated(err: &sqlx::Error) -> bool {
    let code = err.as_database_error().and_then(|err| err.code());
    code.is_some_and(|code| code == "57P01")
}

/// Waits until every class has been served without a failure for [`NORMAL`].
async fn recover(scene: &mut super::scene::Scene<'_>) {
    let began = Instant::now();
    let mut normal_since = None;
    let mut failed = scene.failed();
    while began.elapsed() < RECOVERY_PATIENCE {
        scene.pass(Duration::from_millis(250)).await;
        let now_failed = scene.failed();
        if now_failed != failed {
            failed = now_failed;
            normal_since = None;
            continue;
        }
        let since = *normal_since.get_or_insert_with(|| scene.now());
        if scene.now().saturating_sub(since) >= NORMAL {
            scene.note_at(since, "no request fails any more");
            return;
        }
    }
    scene.note("requests still fail: the outage has outlived its cause");
}

/// Leaves the table as the act found it: without the column and without the dead rows.
async fn restore(
    production: &Production<'_>,
    operator: &mut PgConnection,
) -> Result<(), DemoError> {
    let spinner = production
        .screen
        .spinner("restoring the table of orders for act 2");
    operator
        .execute("ALTER TABLE orders DROP COLUMN IF EXISTS placed_day")
        .await?;
    operator.execute("VACUUM (FULL, ANALYZE) orders").await?;
    operator.execute("CHECKPOINT").await?;
    spinner.finish_and_clear();
    Ok(())
}

fn judge(footage: Footage, script: Period, ended: ScriptEnd, deadline: Duration) -> Naive {
    let outage = outage::find(footage.recording.records(), script, deadline);
    let terminated = ended == ScriptEnd::Terminated;
    let figures = outage.map(|outage| OutageFigures {
        onset_s: (outage.from - script.from).as_secs_f64(),
        duration_s: (outage.to - outage.from).as_secs_f64(),
        failed_share: ByClass::from_fn(|class| outage.failed_share[class.index()]),
        script_terminated: terminated,
        script_s: (script.to - script.from).as_secs_f64(),
    });
    let act = Act {
        name: "naive",
        classes: Classes::of(&footage.recording),
        outage: Some(figures.unwrap_or_default()),
        watch: None,
        migration: None,
    };
    Naive {
        act,
        footage,
        script,
        terminated,
        outage,
    }
}
