//! The other stories: what else makes a shop suffer, and whether the watch tells it apart.

use std::time::Duration;

use chrono::Utc;

use super::cases::{Befalls, Case, Place, Roles, Told};
use super::shop::{Safeguards, Shop};
use super::trouble::{Actor, Decoy, Trouble};
use super::watched::{ROLE, SETTINGS};
use super::{DemoError, Production};
use crate::app::APPLICATION;
use crate::watch::changes::{self, Change, Kind};
use crate::watch::log::Log;

/// The role of people who ask the database questions.
pub const PERSON: &str = "analyst";
const NORMAL: Duration = Duration::from_secs(20);
/// The peak, so that what comes on top of it is felt.
const SURGE: f64 = 2.5;
const SESSIONS: usize = 12;

/// Plays them one after another; returns what the watch said of each.
///
/// # Errors
/// When the shop, the load or the database fails in a way that is not part of the play.
pub(super) async fn play(production: &Production<'_>) -> Result<Vec<Told>, DemoError> {
    let Production { stage, screen, .. } = *production;
    screen.heading("Other stories");
    screen.say("What else makes a shop suffer, beside a job and an analyst who harm nobody.");
    let journal = stage.directory().join("stories");
    let guard = Safeguards::On {
        journal: journal.clone(),
        settings: SETTINGS.to_owned(),
    };
    let shop = Shop::start(stage, "stories", guard).await?;
    let mut scene = production.scene(&shop, None).await?;
    scene.dawn().await;
    scene.pass(NORMAL).await;
    let (rate, peak) = scene.rate();
    let place = Place {
        options: stage.options(),
        log: Log::open(journal).await?,
        rate,
        peak,
    };
    let roles = Roles {
        maintenance: ROLE,
        person: PERSON,
    };
    let mut told = Vec::new();
    for case in cases() {
        if case.cause() == crate::watch::finding::Cause::BadDeploy {
            let mut conn = stage.connect("evenkeel demo: deploy").await?;
            let change = Change {
                at: Utc::now(),
                kind: Kind::Deploy,
                summary: "shop 2.14.0".to_owned(),
                source: "evenkeel demo".to_owned(),
                body: serde_json::json!({}),
            };
            changes::add(&mut conn, &change, Utc::now()).await?;
        }
        scene.note(format!("story: {}", case.cause()));
        let said = scene.during(case.play(&place, roles)).await?;
        scene.note(format!(
            "{} after {:.1} s: {}",
            said.verdict, said.named_s, said.sentence
        ));
        told.push(said);
    }
    scene.end().await;
    shop.stop().await?;
    Ok(told)
}

fn cases() -> Vec<Case> {
    let person = |application: &str| Actor {
        role: PERSON.to_owned(),
        application: application.to_owned(),
    };
    let cron = Actor {
        role: ROLE.to_owned(),
        application: "deploy-schema".to_owned(),
    };
    let blocked = Trouble::BlockedAlter {
        table: "orders".to_owned(),
        by: cron.clone(),
    };
    let deploy = Trouble::BadDeploy {
        shop: APPLICATION.to_owned(),
        sessions: SESSIONS,
        version: 214,
    };
    let befalls = [
        (Befalls::Surge(SURGE), cron.clone()),
        (Befalls::Trouble(deploy), person("shop 2.14.0")),
        (Befalls::Trouble(blocked), person("notebook")),
        (Befalls::Trouble(Trouble::Storm), person("forgotten-worker")),
    ];
    let case = |(befalls, actor)| Case {
        befalls,
        actor,
        decoys: vec![Decoy::Job, Decoy::Analyst],
    };
    befalls.into_iter().map(case).collect()
}
