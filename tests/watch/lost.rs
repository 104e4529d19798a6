//! The database is killed: people are told and the next level is, while it is down, and the record is
//! whole afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use embedded_postgres::StopMode;
use evenkeel::watch::finding::Cause;
use evenkeel::watch::incident::Stage;
use evenkeel::watch::log::Log;
use evenkeel::watch::notify::Escalator;
use evenkeel::watch::record;
use evenkeel::watch::ticket::Tickets;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use super::notify::going_on::two_levels;
use super::notify::receivers::Receiver;
use crate::support::server::OwnServer;
use crate::support::{TestApp, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_while_it_is_down_and_the_record_is_whole_afterwards() {
    let mut server = OwnServer::start("lost").await;
    let (on_call, administrators) = (Receiver::start().await, Receiver::start().await);
    let more = r#"watch.resolve_after = "1s""#;
    let watch = two_levels(&on_call.url(), &administrators.url(), more);
    let shop = TestApp::builder()
        .database(server.database.clone())
        .settings(|settings| settings.watch = watch.clone())
        .start()
        .await;
    let journal = tempfile::tempdir().unwrap();
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let tickets = Tickets::new(&watch.notify).unwrap();
    let keeper = shop.app.keeper(log.clone(), None);
    let escalator = Escalator::new(&watch, log.clone(), tickets).unwrap();
    let escalator = escalator.on_duty(keeper.leads());
    let stop = shop.app.shutdown.token().clone();
    shop.app
        .shutdown
        .spawn(shop.app.replicator(log.clone()).run(stop.clone()));
    shop.app.shutdown.spawn(escalator.run(stop.clone()));
    shop.app
        .shutdown
        .spawn(async move { keeper.run(stop).await });
    tokio::time::sleep(Duration::from_secs(1)).await;

    let postmaster = i32::try_from(server.cluster.postmaster_pid()).unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    let told = on_call.wait_for(1).await[0].json().to_string();
    assert!(told.contains("does not answer"), "{told}");
    administrators.wait_for(1).await;
    let open = log.incidents().pop().unwrap();
    assert_eq!((open.stage, open.level), (Stage::Open, 2));
    assert_eq!(open.finding.unwrap().cause, Cause::DatabaseLost);

    server.cluster.restart(StopMode::Immediate).await.unwrap();
    let ids = |incident: &evenkeel::watch::incident::Incident| -> BTreeSet<Uuid> {
        incident.events.iter().map(|event| event.id).collect()
    };
    let whole = eventually("the record is whole", async || {
        let known = log.incident(open.id)?;
        let stored = record::find(&mut shop.sql().await, open.id).await.ok()?;
        (known.stage == Stage::Resolved && ids(&stored) == ids(&known)).then_some(stored)
    })
    .await;
    assert_eq!(whole.stage, Stage::Resolved);
    assert_eq!(whole.level, 2);
    shop.app.shutdown.finish().await;
    server.stop().await;
}
