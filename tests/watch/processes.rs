//! Several processes over one shop, and one after another: one of them watches, and goes on with what
//! another has left.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use evenkeel::watch::alerts::{Evaluator, Measure, Reading, Rules, Series, history};
use evenkeel::watch::event::What;
use evenkeel::watch::incident::{Incident, Stage};
use evenkeel::watch::log::Log;
use pool::Class;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::story::Story;
use crate::support::{TestApp, eventually, server};

/// A process that would watch.
struct Watcher {
    leads: watch::Receiver<bool>,
    log: Log,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _shop: TestApp,
    _journal: TempDir,
}

impl Watcher {
    async fn start(database: &PgConnectOptions) -> Self {
        Self::after(database, &[]).await
    }

    /// One whose journal has `stories`.
    async fn after(database: &PgConnectOptions, stories: &[&Story]) -> Self {
        let journal = tempfile::tempdir().unwrap();
        let log = Log::open(journal.path().to_owned()).await.unwrap();
        for event in stories.iter().flat_map(|story| &story.events) {
            log.append(event.clone()).await;
        }
        let settings = |settings: &mut evenkeel::config::Settings| {
            settings.watch.resolve_after = Duration::from_secs(1);
        };
        let builder = TestApp::builder().database(database.clone());
        let shop = builder.settings(settings).start().await;
        let rules = Rules::load(None).unwrap();
        let keeper = shop.app.keeper(log.clone(), None);
        let keeper = keeper.with_alerts(rules, shop.app.board.clone());
        let leads = keeper.leads();
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        Self {
            leads,
            log,
            stop,
            task,
            _shop: shop,
            _journal: journal,
        }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    async fn comes_to_lead(&self) {
        eventually("it leads", async || self.leads().then_some(())).await;
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn of_several_processes_one_watches_and_the_next_takes_over_when_it_leaves_or_dies() {
    let database = server::empty_database().await;
    let first = Watcher::start(&database).await;
    first.comes_to_lead().await;
    let (second, third) = (
        Watcher::start(&database).await,
        Watcher::start(&database).await,
    );
    // Long enough for each of them to ask twice.
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(first.leads() && !second.leads() && !third.leads());
    }

    first.stop().await;
    let next = eventually("one of the others leads", async || {
        (second.leads() || third.leads()).then_some(())
    });
    next.await;
    let (leader, other) = if second.leads() {
        (second, third)
    } else {
        (third, second)
    };
    assert!(!other.leads());
    // It says nothing more, as if it had been killed.
    leader.task.abort();
    other.comes_to_lead().await;
    other.stop().await;
}

#[tokio::test]
async fn incidents_that_two_processes_left_open_go_on_as_one() {
    let database = server::empty_database().await;
    let (older, newer) = (
        Story::open("checkout suffers"),
        Story::open("browse suffers"),
    );
    let watcher = Watcher::after(&database, &[&older, &newer]).await;
    let is_over = async |incident: &Story| {
        let incident = watcher.log.incident(incident.id)?;
        (incident.stage == Stage::Resolved).then_some(incident)
    };
    let older = eventually("the older is over", async || is_over(&older).await).await;
    assert_eq!(notes(&older), [format!("goes on as {}", newer.id)]);
    // Nobody suffers any more.
    let newer = eventually("the newer is over", async || is_over(&newer).await).await;
    assert!(notes(&newer).is_empty(), "{newer:?}");
    assert!(newer.recovered_at.is_some());
    watcher.stop().await;
}

#[tokio::test]
async fn what_went_wrong_before_the_process_began_counts() {
    let database = server::empty_database().await;
    let mut evaluator = Evaluator::new(Rules::load(None).unwrap());
    let of = |measure| Series::of(Class::Browse, measure).unwrap();
    let (now, mut at) = (Utc::now(), Utc::now() - TimeDelta::hours(2));
    while at < now {
        let reading = Reading::new(at).with(of(Measure::Arrivals), 100.0);
        evaluator.observe(&reading.with(of(Measure::Failed), 20.0));
        at += TimeDelta::seconds(15);
    }
    let mut sql = database.connect().await.unwrap();
    history::save(&mut sql, &evaluator.take_unsaved())
        .await
        .unwrap();

    let watcher = Watcher::start(&database).await;
    let told = async || {
        let mut told = watcher.log.incidents().into_iter();
        told.find(|incident| !notes(incident).is_empty())
    };
    let told = eventually("the budget is burnt", told).await;
    assert_eq!(told.key, "alert/browse-budget-1h");
    assert!(notes(&told)[0].contains("200.0 times"), "{told:?}");
    // The other windows of the same budget fire, too, and tell the same story; that nobody saw the database
    // before does not matter any more.
    let log = watcher.log.clone();
    watcher.stop().await;
    assert_eq!(log.incidents().len(), 1, "{:#?}", log.incidents());
}

fn notes(incident: &Incident) -> Vec<&str> {
    let notes = incident
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Noted { text } => Some(text.as_str()),
            _ => None,
        });
    notes.collect()
}
