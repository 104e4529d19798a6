//! The database is killed: people are told and the next level is, while it is down, and the record is
//! whole afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use evenkeel::config::{Settings, Watch};
use evenkeel::db::embedded::{Cluster, StopMode};
use evenkeel::watch::finding::Cause;
use evenkeel::watch::incident::Stage;
use evenkeel::watch::log::Log;
use evenkeel::watch::notify::Escalator;
use evenkeel::watch::record;
use evenkeel::watch::ticket::Tickets;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use super::notify::receivers::Receiver;
use crate::support::{TestApp, server};

fn settings(first: &Receiver, second: &Receiver) -> Watch {
    let toml = format!(
        r#"
        watch.resolve_after = "1s"
        [[watch.notify.channels]]
        kind = "slack"
        name = "on-call"
        private = true
        url = "{}/"
        [[watch.notify.channels]]
        kind = "slack"
        name = "administrators"
        private = true
        url = "{}/"
        [[watch.notify.levels]]
        channels = ["on-call"]
        acknowledge_within = "1s"
        [[watch.notify.levels]]
        channels = ["administrators"]
        "#,
        first.url(),
        second.url()
    );
    let settings: Settings = toml::from_str(&toml).unwrap();
    settings.validate().unwrap();
    settings.watch
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_while_it_is_down_and_the_record_is_whole_afterwards() {
    let directory = server::directory("lost");
    let mut cluster = Cluster::start(server::options(&directory), |_| ())
        .await
        .unwrap();
    cluster.create_database("shop").await.unwrap();
    let database = cluster.connect_options("shop");
    server::apply_schema(&database).await;
    let (on_call, administrators) = (Receiver::start().await, Receiver::start().await);
    let watch = settings(&on_call, &administrators);
    let shop = TestApp::builder()
        .database(database)
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

    let postmaster = i32::try_from(cluster.postmaster_pid()).unwrap();
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    let told = on_call.wait_for(1).await[0].json().to_string();
    assert!(told.contains("does not answer"), "{told}");
    administrators.wait_for(1).await;
    let open = log.incidents().pop().unwrap();
    assert_eq!((open.stage, open.level), (Stage::Open, 2));
    assert_eq!(open.finding.unwrap().cause, Cause::DatabaseLost);

    cluster.restart(StopMode::Immediate).await.unwrap();
    let ids = |incident: &evenkeel::watch::incident::Incident| -> BTreeSet<Uuid> {
        incident.events.iter().map(|event| event.id).collect()
    };
    let whole = tokio::time::timeout(Duration::from_secs(40), async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let known = log.incident(open.id).unwrap();
            let mut sql = shop.sql().await;
            let stored = record::find(&mut sql, open.id).await;
            if let Ok(stored) = stored
                && known.stage == Stage::Resolved
                && ids(&stored) == ids(&known)
            {
                return stored;
            }
        }
    });
    let whole = whole.await.expect("the record is whole");
    assert_eq!(whole.stage, Stage::Resolved);
    assert_eq!(whole.level, 2);
    shop.app.shutdown.finish().await;
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
}
