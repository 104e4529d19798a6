//! Act 2: the same script at the same peak, and the shop has its safeguards and a watch.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use load::Record;
use serde::Serialize;
use sqlx::Executor;

use super::cycles::Period;
use super::evidence::{Act, Classes};
use super::naive::{self, SCRIPT, ScriptEnd};
use super::outage::BUCKET;
use super::people::{ADMINISTRATORS, ON_CALL, People};
use super::scene::{Footage, Scene};
use super::shop::{Safeguards, Shop};
use super::stories::PERSON;
use super::{DemoError, Production, trouble};
use crate::watch::event::What;
use crate::watch::incident::{Incident, Stage as Progress};
use crate::watch::log::Log;
use crate::watch::postmortem;

/// The role that cron jobs have.
pub const ROLE: &str = "cron";
/// What the settings of the shop say of the script: whose it is, and that its role may be ended.
pub const SETTINGS: &str = r#"
[watch]
resolve_after = "4s"

[watch.breaker]
maintenance_roles = ["cron"]

[[watch.jobs]]
name = "nightly-report"
owner = "the reporting team"
role = "cron"
application = "cron: nightly_report.sh"
"#;
/// How long normal service is shown for first; the watch learns meanwhile what is usual.
const NORMAL: Duration = Duration::from_secs(8);
/// An incident that is not over after so long is shown no longer.
const PATIENCE: Duration = Duration::from_secs(25);
const POLL: Duration = Duration::from_millis(200);
/// A request that takes longer is not normal service.
const NORMAL_MS: u32 = 250;
/// Requests of a tenth of a second that may fail or be slow in normal service, as a share.
const ODD: f64 = 0.01;
/// Service is normal again when it has been for so long.
const LASTS: Duration = Duration::from_secs(2);

/// What the act recorded.
#[derive(Debug)]
pub struct Watched {
    /// Its figures.
    pub act: Act,
    /// Everything that happened.
    pub footage: Footage,
    /// From the script's start to its end, as offsets.
    pub script: Period,
    /// The incident as the watch has written it down; `None` when it did not notice.
    pub incident: Option<Incident>,
}

/// How fast the watch was. NaN, which JSON has as null, for what did not happen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WatchFigures {
    /// From the script's start until it was named, in seconds.
    pub named_s: f64,
    /// Until it was stopped.
    pub stopped_s: f64,
    /// Until service was normal again.
    pub normal_s: f64,
    /// Who was named.
    pub culprit: String,
    /// What was said to be the cause.
    pub verdict: String,
    /// Requests that failed in the whole act.
    pub failed: u64,
    /// Requests that were sent in it.
    pub sent: u64,
    /// Until the first people had been told, in seconds.
    pub told_s: f64,
    /// Until the second level had been told.
    pub escalated_s: f64,
    /// Until somebody took care.
    pub acknowledged_s: f64,
    /// Answered requests for looking at products, as a share.
    pub browse_ok: f64,
}

/// Plays the act.
///
/// # Errors
/// When the shop, the load or the database fails in a way that is not part of the play.
pub(super) async fn play(production: &Production<'_>) -> Result<Watched, DemoError> {
    let Production { stage, screen, .. } = *production;
    screen.heading("Act 2 · The same script, watched");
    screen.say("A pool with a bulkhead, and a watch that may end the sessions of role cron.");
    let people = People::wait().await?;
    let journal = stage.directory().join("watched");
    let guard = Safeguards::On {
        journal: journal.clone(),
        settings: format!("{SETTINGS}\n{}", people.settings()),
    };
    let shop = Shop::start(stage, "watched", guard).await?;
    let mut operator = stage.connect("evenkeel demo: operator").await?;
    let mut scene = production.scene(&shop, None).await?;
    scene.dawn().await;
    scene.pass(NORMAL).await;

    let script = stage.connect_as(ROLE, SCRIPT).await?;
    let (from, started) = (scene.now(), Utc::now());
    scene.note_at(from, format!("{SCRIPT} starts, as on June 20"));
    let patience = production.pace.script_patience;
    let ended = scene
        .during(naive::run_or_terminate(script, &mut operator, patience))
        .await?;
    let to = scene.now();
    if ended == ScriptEnd::Committed {
        scene.note_at(to, "the script has ended by itself");
    }
    let incident = follow(&mut scene, &journal, started, from).await;
    let footage = scene.end().await;
    shop.stop().await?;
    operator
        .execute("ALTER TABLE orders DROP COLUMN IF EXISTS placed_day")
        .await?;
    operator.execute("VACUUM orders").await?;
    operator.execute("CHECKPOINT").await?;
    let script = Period { from, to };
    Ok(judge(footage, script, started, incident))
}

/// Makes the roles of cron jobs and of people.
///
/// # Errors
/// What the database says.
pub(super) async fn create_roles(production: &Production<'_>) -> Result<(), DemoError> {
    let mut conn = production.stage.connect("evenkeel demo: operator").await?;
    for role in [ROLE, PERSON] {
        trouble::create_role(&mut conn, role).await?;
    }
    Ok(())
}

/// Notes what the watch writes down, until the incident is over.
async fn follow(
    scene: &mut Scene<'_>,
    journal: &Path,
    started: DateTime<Utc>,
    from: Duration,
) -> Option<Incident> {
    let mut told = HashSet::new();
    let mut incident = None;
    let log = Log::open(journal.to_owned()).await.ok()?;
    let begun = scene.now();
    while scene.now() - begun < PATIENCE {
        scene.pass(POLL).await;
        // What cannot be read now can be in a moment.
        let _ = log.reread().await;
        incident = log.incidents().pop();
        let Some(incident) = &incident else {
            continue;
        };
        for event in &incident.events {
            if told.insert(event.id)
                && let Some(text) = postmortem::words(event)
            {
                let after = (event.at - started).to_std().unwrap_or_default();
                scene.note_at(from + after, format!("{}: {text}", event.by));
            }
        }
        if incident.stage == Progress::Resolved {
            break;
        }
    }
    incident
}

fn judge(
    footage: Footage,
    script: Period,
    started: DateTime<Utc>,
    incident: Option<Incident>,
) -> Watched {
    let first = |wanted: fn(&What) -> bool| {
        let at = incident
            .as_ref()
            .and_then(|incident| incident.first(wanted));
        at.map_or(f64::NAN, |at| (at - started).as_seconds_f64())
    };
    let finding = incident
        .as_ref()
        .and_then(|incident| incident.finding.as_ref());
    let classes = Classes::of(&footage.recording);
    let normal = normal_after(footage.recording.records(), script.from);
    let browse = classes.browse;
    let figures = WatchFigures {
        named_s: first(|what| matches!(what, What::Found { finding } if finding.culprit.is_some())),
        stopped_s: first(|what| matches!(what, What::Acted { problem: None, .. })),
        normal_s: normal.map_or(f64::NAN, |after| after.as_secs_f64()),
        culprit: finding
            .and_then(|finding| Some(finding.culprit.as_ref()?.describe()))
            .unwrap_or_default(),
        verdict: finding
            .map(|finding| finding.cause.name().to_owned())
            .unwrap_or_default(),
        failed: classes.iter().map(|(_, class)| class.failed).sum(),
        sent: classes.iter().map(|(_, class)| class.sent).sum(),
        told_s: first(|what| is_told(what, ON_CALL)),
        escalated_s: first(|what| is_told(what, ADMINISTRATORS)),
        acknowledged_s: first(|what| matches!(what, What::Acknowledged { .. })),
        browse_ok: browse.ok as f64 / browse.sent.max(1) as f64,
    };
    Watched {
        act: Act {
            name: "watched",
            classes,
            outage: None,
            watch: Some(figures),
            migration: None,
        },
        footage,
        script,
        incident,
    }
}

fn is_told(what: &What, who: &str) -> bool {
    matches!(what, What::Notified { channel, problem: None, .. } if channel == who)
}

/// How long after `cause` service was normal again, by what became of `records`, which are sorted by when
/// they were due; `None` if it never was.
pub fn normal_after(records: &[Record], cause: Duration) -> Option<Duration> {
    let since = |record: &Record| Duration::from_micros(record.start_us).saturating_sub(cause);
    let after = records.partition_point(|r| u128::from(r.start_us) < cause.as_micros());
    let number = |record: &Record| since(record).as_micros() / BUCKET.as_micros();
    let mut normal_from = Duration::ZERO;
    for bucket in records[after..].chunk_by(|a, b| number(a) == number(b)) {
        let odd = bucket
            .iter()
            .filter(|record| record.outcome.is_failure() || record.latency_us > NORMAL_MS * 1_000)
            .count();
        let at = since(bucket.first()?);
        if odd as f64 > ODD * bucket.len() as f64 {
            normal_from = at + BUCKET;
        } else if at >= normal_from + LASTS && normal_from > Duration::ZERO {
            return Some(normal_from);
        }
    }
    // Nothing was ever wrong, or it is to the end.
    (normal_from.is_zero()).then_some(normal_from)
}
