//! Incidents of known causes, with harmless company, played against a shop that a watch watches: what
//! does it say?

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::Utc;
use load::Rate;
use rand::RngExt;
use rand::rngs::StdRng;
use serde::Serialize;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use uuid::Uuid;

use super::trouble::{Actor, AtWork, Decoy, Trouble};
use crate::app::APPLICATION;
use crate::watch::event::What;
use crate::watch::finding::Cause;
use crate::watch::incident::{Incident, Stage as Progress, rule_of};
use crate::watch::log::Log;

/// How long a cause may go unnoticed.
const NOTICED: Duration = Duration::from_secs(8);
/// How long it may take until an incident is over once its cause is gone.
const OVER: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// Names that scripts, jobs and people give their sessions; some give none.
const APPLICATIONS: [&str; 7] = [
    "nightly_report.sh",
    "psql",
    "",
    "etl-worker",
    "reprice.py",
    "DBeaver 24.1",
    "evenkeel-nightly",
];

/// What is played.
#[derive(Clone, Debug)]
pub enum Befalls {
    /// Something in the database.
    Trouble(Trouble),
    /// So many times as many shoppers.
    Surge(f64),
}

/// An incident to be played.
#[derive(Clone, Debug)]
pub struct Case {
    /// What befalls the shop.
    pub befalls: Befalls,
    /// By whom.
    pub actor: Actor,
    /// What else goes on.
    pub decoys: Vec<Decoy>,
}

/// Who may cause what.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// A role that runs maintenance, and whose sessions may be ended.
    pub maintenance: &'static str,
    /// Another.
    pub person: &'static str,
}

/// Where cases are played.
#[derive(Clone, Debug)]
pub struct Place {
    /// The shop's database.
    pub options: PgConnectOptions,
    /// What its watch writes down.
    pub log: Log,
    /// The load on it.
    pub rate: Rate,
    /// Its rate without a surge.
    pub peak: f64,
}

/// What the watch said.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// What was played.
    pub cause: &'static str,
    /// What it said: the cause of its best finding, or `nothing`.
    pub verdict: String,
    /// From the beginning of the trouble until it said so, in seconds; null if it never did.
    pub named_s: f64,
    /// Until it ended a session; null if it ended none.
    pub stopped_s: f64,
    /// Until shoppers were well again; null if they were not while it was watched.
    pub normal_s: f64,
    /// Whether it blamed the right sessions, where any are to be blamed.
    pub right_session: bool,
    /// Sessions that were ended though they had done no harm.
    pub innocents_ended: i64,
    /// Its sentence.
    #[serde(skip)]
    pub sentence: String,
    /// Where it said so.
    #[serde(skip)]
    pub incident: Option<Uuid>,
}

impl Told {
    /// Whether it said what was true.
    pub fn is_right(&self) -> bool {
        self.verdict == self.cause && self.right_session
    }
}

impl Case {
    /// Draws an incident.
    pub fn draw(random: &mut StdRng, roles: Roles) -> Self {
        let tables = ["orders", "order_lines", "accounts", "products"];
        let table = |random: &mut StdRng| tables[random.random_range(0..tables.len())].to_owned();
        let actor = |random: &mut StdRng, role: &str| Actor {
            role: role.to_owned(),
            application: APPLICATIONS[random.random_range(0..APPLICATIONS.len())].to_owned(),
        };
        let role = if random.random_bool(0.6) {
            roles.maintenance
        } else {
            roles.person
        };
        let by = actor(random, role);
        let befalls = match random.random_range(0..13) {
            0..=2 => Befalls::Trouble(Trouble::Alter(vec![table(random)])),
            3 => Befalls::Trouble(Trouble::Alter(vec![
                "orders".to_owned(),
                "products".to_owned(),
            ])),
            4 | 5 => Befalls::Trouble(Trouble::Forgotten(table(random))),
            6 => Befalls::Trouble(Trouble::Index("orders".to_owned())),
            7 | 8 => Befalls::Trouble(Trouble::BlockedAlter {
                table: table(random),
                by: actor(random, roles.maintenance),
            }),
            9 | 10 => Befalls::Trouble(Trouble::BadDeploy {
                shop: APPLICATION.to_owned(),
                sessions: random.random_range(8..16),
                version: random.random(),
            }),
            11 => Befalls::Trouble(Trouble::Storm),
            _ => Befalls::Surge(random.random_range(3.0..5.0)),
        };
        let decoys = [Decoy::Job, Decoy::Analyst, Decoy::IdleTransaction];
        let decoys = decoys
            .into_iter()
            .filter(|_| random.random_bool(0.5))
            .collect();
        Self {
            befalls,
            actor: by,
            decoys,
        }
    }

    /// What the watch should say.
    pub fn cause(&self) -> Cause {
        match &self.befalls {
            Befalls::Trouble(trouble) => trouble.cause(),
            Befalls::Surge(_) => Cause::TrafficSurge,
        }
    }

    /// Plays it, and takes it back when the watch has said what it says.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn play(&self, place: &Place, roles: Roles) -> Result<Told, sqlx::Error> {
        let mut conn = place
            .options
            .clone()
            .application_name("evenkeel cases")
            .connect()
            .await?;
        let mut decoys = Vec::new();
        for decoy in &self.decoys {
            let actor = Actor {
                role: roles.maintenance.to_owned(),
                application: format!("decoy {decoy:?}"),
            };
            decoys.push(decoy.begin(&place.options, &actor).await?);
        }
        // Company is there before the trouble.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let known = calm(place).await;
        let began = Utc::now();
        let trouble = match &self.befalls {
            Befalls::Trouble(trouble) => Some(trouble.begin(&place.options, &self.actor).await?),
            Befalls::Surge(times) => {
                place.rate.set(place.peak * times);
                None
            }
        };
        let new = |all: Vec<Incident>| all.into_iter().rfind(|i| !known.contains(&i.id));
        let named =
            |incident: &Incident| incident.finding.as_ref().is_some_and(|f| f.is_of_a_cause());
        let waiting = Instant::now();
        while waiting.elapsed() < NOTICED && !new(incidents(place).await).is_some_and(|i| named(&i))
        {
            tokio::time::sleep(POLL).await;
        }
        // A first opinion may be corrected.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let incident = new(incidents(place).await);
        place.rate.set(place.peak);
        let pids = trouble.as_ref().map_or(&[][..], AtWork::pids).to_vec();
        let mut innocents_ended = 0;
        for decoy in &decoys {
            innocents_ended += decoy.pids().len() as i64 - decoy.alive(&mut conn).await?;
        }
        for at_work in trouble.into_iter().chain(decoys) {
            at_work.stop().await?;
        }
        self.repair(&mut conn).await;
        let waiting = Instant::now();
        while waiting.elapsed() < OVER
            && new(incidents(place).await).is_some_and(|i| i.stage != Progress::Resolved)
        {
            tokio::time::sleep(POLL).await;
        }
        let over = new(incidents(place).await);
        Ok(self.told(
            incident.as_ref(),
            over.as_ref(),
            began,
            &pids,
            innocents_ended,
        ))
    }

    /// Takes back what a script may have left behind.
    async fn repair(&self, conn: &mut PgConnection) {
        let Befalls::Trouble(Trouble::BlockedAlter { table, .. }) = &self.befalls else {
            return;
        };
        // The ALTER may have come through when the reader went.
        let sql = format!(
            "SET lock_timeout = '2s'; ALTER TABLE {table} DROP COLUMN IF EXISTS evenkeel_trouble"
        );
        let _ = sqlx::Executor::execute(conn, sqlx::AssertSqlSafe(sql)).await;
    }

    fn told(
        &self,
        incident: Option<&Incident>,
        over: Option<&Incident>,
        began: chrono::DateTime<Utc>,
        pids: &[i32],
        innocents_ended: i64,
    ) -> Told {
        let finding = incident.and_then(|incident| incident.finding.as_ref());
        let verdict = finding.map_or("nothing", |finding| finding.cause.name());
        let culprit = finding.and_then(|finding| finding.culprit.as_ref());
        let after = |at: Option<chrono::DateTime<Utc>>| {
            at.map_or(f64::NAN, |at| (at - began).as_seconds_f64())
        };
        let first = |wanted: &dyn Fn(&What) -> bool| after(incident.and_then(|i| i.first(wanted)));
        let says = |what: &What| matches!(what, What::Found { finding } if finding.cause.name() == verdict);
        let ended = |what: &What| matches!(what, What::Acted { problem: None, .. });
        Told {
            cause: self.cause().name(),
            verdict: verdict.to_owned(),
            named_s: first(&says),
            stopped_s: first(&ended),
            normal_s: after(over.and_then(|incident| incident.recovered_at)),
            right_session: match self.cause() {
                Cause::Script | Cause::BlockedChain => {
                    culprit.is_some_and(|culprit| pids.contains(&culprit.pid))
                }
                _ => true,
            },
            innocents_ended,
            incident: incident.map(|incident| incident.id),
            sentence: finding
                .map(crate::watch::finding::Finding::sentence)
                .unwrap_or_default(),
        }
    }
}

/// Waits until no incident is open: what happens then is no part of one. Returns those that there were.
async fn calm(place: &Place) -> HashSet<Uuid> {
    let waiting = Instant::now();
    loop {
        let known = incidents(place).await;
        let goes_on = known.iter().any(|i| i.stage != Progress::Resolved);
        if !goes_on || waiting.elapsed() >= OVER {
            return known.into_iter().map(|incident| incident.id).collect();
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The incidents so far.
pub async fn incidents(place: &Place) -> Vec<Incident> {
    // What cannot be read now can be in a moment.
    let _ = place.log.reread().await;
    let incidents = place.log.incidents().into_iter();
    // Those of rules say that something is, not what.
    incidents
        .filter(|incident| rule_of(&incident.key).is_none())
        .collect()
}
