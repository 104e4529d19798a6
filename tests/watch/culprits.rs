//! Who is named, and what is done about it, by a shop that serves shoppers all the while.

use std::time::Duration;

use evenkeel::demo::trouble::{AtWork, Decoy, Trouble};
use evenkeel::watch::event::{Act, Event, What};
use evenkeel::watch::finding::Cause;
use evenkeel::watch::incident::{Incident, Stage as Progress};
use pool::Class;

use super::stage::{ANALYST, CRON, Stage, actor, findings};

/// An analyst locks the orders and forgets it.
async fn forgotten(stage: &Stage) -> AtWork {
    let lock = Trouble::Forgotten(orders());
    let by = actor(ANALYST, "psql");
    lock.begin(&stage.options(), &by).await.unwrap()
}

fn orders() -> String {
    "orders".to_owned()
}

fn acts(incident: &Incident) -> Vec<(Act, i32, Option<String>)> {
    let acted = incident
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Acted {
                act,
                suspect,
                problem,
                ..
            } => Some((*act, suspect.pid, problem.clone())),
            _ => None,
        });
    acted.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_a_maintenance_role_is_named_and_ended_and_the_shop_recovers() {
    let mut stage = Stage::open().await;
    let job = Decoy::Job
        .begin(&stage.options(), &actor(ANALYST, "etl"))
        .await
        .unwrap();
    let idle = Decoy::IdleTransaction
        .begin(&stage.options(), &actor(ANALYST, "psql"))
        .await
        .unwrap();
    let script = Trouble::Alter(vec![orders()]);
    let script = script
        .begin(&stage.options(), &actor(CRON, "nightly_report.sh"))
        .await
        .unwrap();

    let over = stage
        .incident("it is over", |i| i.stage == Progress::Resolved)
        .await;
    let found = findings(&over)[0];
    assert_eq!(found.cause, Cause::Script);
    let culprit = found.culprit.as_ref().unwrap();
    assert_eq!(
        (culprit.role.as_str(), culprit.application.as_str()),
        (CRON, "nightly_report.sh")
    );
    assert_eq!(script.pids(), [culprit.pid]);
    assert!(
        culprit
            .holds
            .contains(&"AccessExclusiveLock on orders".to_owned()),
        "{culprit:?}"
    );
    assert_eq!(acts(&over), [(Act::Terminate, culprit.pid, None)]);
    assert_eq!(script.alive(&mut stage.sql).await.unwrap(), 0);
    for innocent in [&job, &idle] {
        assert_eq!(innocent.alive(&mut stage.sql).await.unwrap(), 1);
    }
    let recording = stage.stop().await;
    // The lock is on orders; looking at products goes on.
    let browse = recording.total(Class::Browse);
    assert!(browse.failed * 100 <= browse.sent, "{browse:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_rule_allows_an_end_a_person_is_asked_and_nobody_is_ended() {
    let mut stage = Stage::open().await;
    let lock = forgotten(&stage).await;
    let asked = stage
        .incident("somebody is asked", |incident| {
            incident
                .events
                .iter()
                .any(|e| matches!(e.what, What::Asked { .. }))
        })
        .await;
    let found = findings(&asked)[0];
    assert_eq!(found.cause, Cause::Script);
    assert!(
        found.sentence().contains("idle in a transaction"),
        "{}",
        found.sentence()
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lock.alive(&mut stage.sql).await.unwrap(), 1);
    lock.stop().await.unwrap();
    let over = stage
        .incident("it is over", |i| i.stage == Progress::Resolved)
        .await;
    assert_eq!(acts(&over), []);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_an_idle_reader_both_are_named_and_the_statement_that_may_be_is_ended() {
    let mut stage = Stage::open().await;
    let chain = Trouble::BlockedAlter {
        table: orders(),
        by: actor(CRON, "deploy-schema"),
    };
    let chain = chain
        .begin(&stage.options(), &actor(ANALYST, "notebook"))
        .await
        .unwrap();
    let over = stage
        .incident("it is over", |i| i.stage == Progress::Resolved)
        .await;
    let found = findings(&over)[0];
    assert_eq!(found.cause, Cause::BlockedChain);
    let (root, first) = (
        found.culprit.as_ref().unwrap(),
        found.first_victim.as_ref().unwrap(),
    );
    assert_eq!([root.pid, first.pid], chain.pids());
    assert_eq!(root.application, "notebook");
    assert!(
        first.statement.starts_with("alter table orders"),
        "{first:?}"
    );
    // The reader harms nobody once nobody wants what it reads.
    assert_eq!(acts(&over), [(Act::Terminate, first.pid, None)]);
    assert_eq!(chain.alive(&mut stage.sql).await.unwrap(), 1);
    chain.stop().await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_to_be_ended_is_named_and_left() {
    let mut stage = Stage::open().await;
    let lock = Trouble::Alter(vec![orders()]);
    let lock = lock
        .begin(&stage.options(), &actor(CRON, "precious-import"))
        .await
        .unwrap();
    let named = stage.incident("it is named", |i| i.finding.is_some()).await;
    assert_eq!(
        findings(&named)[0].culprit.as_ref().unwrap().application,
        "precious-import"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(lock.alive(&mut stage.sql).await.unwrap(), 1);
    assert_eq!(acts(&stage.incident("it is there", |_| true).await), []);
    lock.stop().await.unwrap();
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_allows_is_done_once() {
    let mut stage = Stage::open().await;
    let lock = forgotten(&stage).await;
    let asks = |event: &Event| matches!(event.what, What::Asked { .. });
    let asked = stage
        .incident("somebody is asked", |i| i.events.iter().any(asks))
        .await;
    let ask = asked.events.iter().find(|event| asks(event)).unwrap().id;
    for _ in 0..2 {
        let allowed = Event::now(asked.id, "ana", What::Permitted { ask });
        stage.log.append(allowed).await;
    }
    let over = stage
        .incident("it is over", |i| i.stage == Progress::Resolved)
        .await;
    assert_eq!(acts(&over), [(Act::Terminate, lock.pids()[0], None)]);
    assert_eq!(lock.alive(&mut stage.sql).await.unwrap(), 0);
    stage.stop().await;
}
