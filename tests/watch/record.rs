//! The record of an incident is whole, whatever is killed meanwhile, and the same for everybody.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use embedded_postgres::StopMode;
use evenkeel::watch::event::{Event, Impact, What};
use evenkeel::watch::incident::{Incident, Stage};
use evenkeel::watch::log::Log;
use evenkeel::watch::record::{self, FindError};
use evenkeel::watch::replicator::Replicator;
use proptest::prelude::*;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::story::{Story, felt, note, opened, whole};
use crate::support::server::OwnServer;
use crate::support::{eventually, server};

/// A process that keeps a record: its log, and the task that shares it.
struct Process {
    log: Log,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _journal: Option<TempDir>,
}

impl Process {
    async fn start(database: &PgConnectOptions) -> Self {
        let journal = tempfile::tempdir().unwrap();
        let mut process = Self::on(database, journal.path()).await;
        process._journal = Some(journal);
        process
    }

    async fn on(database: &PgConnectOptions, journal: &Path) -> Self {
        let log = Log::open(journal.to_owned()).await.unwrap();
        let stop = CancellationToken::new();
        let replicator = Replicator::new(database.clone(), log.clone());
        let task = tokio::spawn(replicator.run(stop.clone()));
        Self {
            log,
            stop,
            task,
            _journal: None,
        }
    }

    async fn append_all(&self, events: &[Event]) {
        for event in events {
            self.log.append(event.clone()).await;
        }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn ids(incident: &Incident) -> BTreeSet<Uuid> {
    incident.events.iter().map(|event| event.id).collect()
}

/// Waits until the database has all of `story`.
async fn stored(conn: &mut PgConnection, story: &Story) -> Incident {
    let wanted = ids(&story.incident());
    eventually("the record is whole", async || {
        let incident = record::find(conn, story.id).await.ok()?;
        (ids(&incident) == wanted).then_some(incident)
    })
    .await
}

#[tokio::test]
async fn what_a_process_writes_comes_to_the_database_and_to_every_other_process() {
    let database = server::empty_database().await;
    let mut sql = database.connect().await.unwrap();
    let (one, two) = (
        Process::start(&database).await,
        Process::start(&database).await,
    );
    let mut story = Story::open("browse suffers");
    story.add(1.0, "watch", felt(0.5, 900.0));
    one.append_all(&story.events).await;
    stored(&mut sql, &story).await;
    eventually("the other process knows", async || {
        two.log.incident(story.id)
    })
    .await;

    // Both ways, and from the command line, which writes to the database.
    two.log.append(story.add(2.0, "ana", note("I look"))).await;
    let mine = story.add(3.0, "ben", note("so do I"));
    record::store(&mut sql, &[mine]).await.unwrap();
    for process in [&one, &two] {
        eventually("both know all", async || {
            let known = process.log.incident(story.id)?;
            (ids(&known) == ids(&story.incident())).then_some(())
        })
        .await;
    }
    assert_eq!(
        stored(&mut sql, &story).await.events,
        story.incident().events
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_killed_during_an_incident_loses_nothing() {
    let mut server = OwnServer::start("record").await;
    let database = server.database.clone();
    let process = Process::start(&database).await;
    let mut story = Story::open("the database is about to be lost");
    process.append_all(&story.events).await;
    stored(&mut database.connect().await.unwrap(), &story).await;

    // Written all the while: before, while it is down, and after.
    for round in 0..2_i32 {
        let writing = async {
            for n in 0..30_i32 {
                let event = story.add(f64::from(round * 100 + n), "watch", felt(1.0, 2000.0));
                process.log.append(event).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let killing = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.cluster.restart(StopMode::Immediate).await.unwrap();
        };
        tokio::join!(writing, killing);
    }
    let impact = Box::new(Impact::default());
    let resolved = story.add(300.0, "watch", What::Resolved { impact });
    process.log.append(resolved).await;
    let mut sql = database.connect().await.unwrap();
    let whole = stored(&mut sql, &story).await;
    assert_eq!(whole.events, story.incident().events);
    let listed = record::list(&mut sql, 10).await.unwrap();
    assert_eq!(listed, [story.incident().summary()]);
    process.stop().await;
    drop(sql);
    server.stop().await;
}

#[tokio::test]
async fn what_was_never_stored_is_after_the_next_start() {
    let database = server::empty_database().await;
    let journal = tempfile::tempdir().unwrap();
    let story = whole();
    // This process never reaches a database, and is killed.
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    for event in &story.events {
        log.append(event.clone()).await;
    }
    drop(log);
    let process = Process::on(&database, journal.path()).await;
    let mut sql = database.connect().await.unwrap();
    assert_eq!(
        stored(&mut sql, &story).await.events,
        story.incident().events
    );
    process.stop().await;
}

#[tokio::test]
async fn what_the_database_forgot_is_stored_again() {
    let database = server::empty_database().await;
    let mut sql = database.connect().await.unwrap();
    let story = whole();
    let journal = tempfile::tempdir().unwrap();
    let process = Process::on(&database, journal.path()).await;
    process.append_all(&story.events).await;
    stored(&mut sql, &story).await;
    // As after a failover to a replica that was behind; connections break then.
    for forget in ["incident_events", "incidents"] {
        let sql_text = format!("DELETE FROM evenkeel.{forget}");
        let delete = sqlx::query(sqlx::AssertSqlSafe(sql_text));
        delete.execute(&mut sql).await.unwrap();
    }
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'evenkeel record'",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    process
        .log
        .append(Story::open("another").events.remove(0))
        .await;
    assert_eq!(
        stored(&mut sql, &story).await.events,
        story.incident().events
    );
    process.stop().await;
}

#[tokio::test]
async fn a_new_process_brings_along_what_is_open_and_what_was_lately() {
    let database = server::empty_database().await;
    let mut sql = database.connect().await.unwrap();
    let old = Story::open("forgotten, and still open");
    let mut over = Story::open("over for long");
    let impact = Box::new(Impact::default());
    over.add(1.0, "watch", What::Resolved { impact });
    let mut recent = Story::open("over");
    for event in &mut recent.events {
        event.at = Utc::now() - TimeDelta::days(1);
    }
    for (story, age) in [(&old, 90), (&over, 90), (&recent, 0)] {
        let mut events = story.events.clone();
        for event in &mut events {
            event.at -= TimeDelta::days(age);
            // The story's own time lies in a year of its own.
            if age > 0 {
                event.at = event.at.min(Utc::now() - TimeDelta::days(age));
            }
        }
        record::store(&mut sql, &events).await.unwrap();
    }
    let process = Process::start(&database).await;
    eventually("it knows them", async || {
        let known = |id| process.log.incident(id).is_some();
        (known(old.id) && known(recent.id)).then_some(())
    })
    .await;
    assert!(process.log.incident(over.id).is_none());
    process.stop().await;
}

#[tokio::test]
async fn a_commit_that_is_overtaken_is_not_missed() {
    let database = server::empty_database().await;
    let mut slow = database.connect().await.unwrap();
    let mut fast = database.connect().await.unwrap();
    let process = Process::start(&database).await;
    let story = Story::open("slow");
    let event = &story.events[0];
    let mut tx = sqlx::Connection::begin(&mut slow).await.unwrap();
    sqlx::query(
        "INSERT INTO evenkeel.incident_events (id, incident, at, by, what, body)
         VALUES ($1, $2, $3, 'watch', 'opened', $4)",
    )
    .bind(event.id)
    .bind(event.incident)
    .bind(event.at)
    .bind(serde_json::to_value(event).unwrap())
    .execute(&mut *tx)
    .await
    .unwrap();
    // It has a position already, and a later one is visible first.
    let other = Story::open("fast");
    record::store(&mut fast, &other.events).await.unwrap();
    eventually("the later one is known", async || {
        process.log.incident(other.id)
    })
    .await;
    assert!(process.log.incident(story.id).is_none());
    tx.commit().await.unwrap();
    eventually("the earlier one is known", async || {
        process.log.incident(story.id)
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn a_torn_line_costs_that_line_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut story = Story::open("torn");
    story.add(1.0, "ana", note("größer"));
    let log = Log::open(directory.path().to_owned()).await.unwrap();
    for event in &story.events {
        log.append(event.clone()).await;
    }
    let file = directory.path().join(format!("{}.jsonl", story.id));
    let whole = fs::read(&file).unwrap();
    let last = whole.iter().rposition(|byte| *byte > 127).unwrap();
    // Killed at every place in the last line, also within a character.
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in [first + 1, last, whole.len() - 1] {
        fs::write(&file, &whole[..end]).unwrap();
        let log = Log::open(directory.path().to_owned()).await.unwrap();
        let known = log.incident(story.id).unwrap();
        assert_eq!(known.events, story.events[..1], "{end}");
        // Whoever writes next begins a line of his own.
        let next = Story::open("torn").events.remove(0);
        let next = Event {
            incident: story.id,
            what: note("next"),
            ..next
        };
        log.append(next.clone()).await;
        let log = Log::open(directory.path().to_owned()).await.unwrap();
        let known = log.incident(story.id).unwrap();
        assert!(known.events.contains(&next), "{end}: {known:?}");
    }
}

#[tokio::test]
async fn two_processes_may_share_a_journal() {
    let directory = tempfile::tempdir().unwrap();
    let one = Log::open(directory.path().to_owned()).await.unwrap();
    let two = Log::open(directory.path().to_owned()).await.unwrap();
    let mut story = Story::open("shared");
    one.append(story.events[0].clone()).await;
    for n in 0..20 {
        let log = if n % 2 == 0 { &one } else { &two };
        log.append(story.add(f64::from(n), "ana", note(&n.to_string())))
            .await;
    }
    for log in [&one, &two] {
        log.reread().await.unwrap();
        assert_eq!(
            log.incident(story.id).unwrap().events,
            story.incident().events
        );
    }
}

#[tokio::test]
async fn a_journal_is_kept_until_a_week_after_all_of_it_was_stored() {
    let database = server::empty_database().await;
    let mut sql = database.connect().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (over, open) = (whole(), Story::open("open"));
    let process = Process::on(&database, directory.path()).await;
    process.append_all(&over.events).await;
    process.append_all(&open.events).await;
    stored(&mut sql, &over).await;
    stored(&mut sql, &open).await;
    process.stop().await;
    let path = |id: Uuid, extension: &str| directory.path().join(format!("{id}.{extension}"));
    let age = |days: u64| {
        let mark = OpenOptions::new().write(true).open(path(over.id, "stored"));
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        mark.unwrap().set_modified(then).unwrap();
    };
    let reopen = async || Log::open(directory.path().to_owned()).await.unwrap();
    assert!(path(over.id, "stored").exists() && !path(open.id, "stored").exists());
    // It does not begin anew with every connection.
    let noted = || fs::metadata(path(over.id, "stored")).unwrap().modified();
    age(6);
    let before = noted().unwrap();
    Process::on(&database, directory.path()).await.stop().await;
    assert_eq!(noted().unwrap(), before);
    assert!(reopen().await.incident(over.id).is_some());
    // A note that came after it was stored.
    let mut file = OpenOptions::new()
        .append(true)
        .open(path(over.id, "jsonl"))
        .unwrap();
    let mut late = Story::open("late").events.remove(0);
    (late.incident, late.what) = (over.id, note("late"));
    writeln!(file, "{}", serde_json::to_string(&late).unwrap()).unwrap();
    age(8);
    assert!(reopen().await.incident(over.id).is_some());
    Process::on(&database, directory.path()).await.stop().await;
    age(8);
    let log = reopen().await;
    assert!(log.incident(over.id).is_none() && log.incident(open.id).is_some());
    assert!(!path(over.id, "jsonl").exists() && !path(over.id, "stored").exists());
    let kept = record::find(&mut sql, over.id).await.unwrap();
    assert!(kept.events.contains(&late), "{kept:?}");
}

#[tokio::test]
async fn text_that_the_database_cannot_hold_is_stored_without_it() {
    let mut sql = server::empty_database().await.connect().await.unwrap();
    let mut story = Story::open("a \0 in the title");
    story.add(1.0, "a\0b", note("\\u0000 is not \0"));
    record::store(&mut sql, &story.events).await.unwrap();
    let found = record::find(&mut sql, story.id).await.unwrap();
    assert_eq!(found.title, "a \u{fffd} in the title");
    assert_eq!(found.events[1].what, note("\\u0000 is not \u{fffd}"));
}

#[tokio::test]
async fn an_event_of_a_newer_version_is_left_out_and_holds_nothing_up() {
    let database = server::empty_database().await;
    let mut sql = database.connect().await.unwrap();
    let mut story = Story::open("newer");
    record::store(&mut sql, &story.events).await.unwrap();
    sqlx::query(
        "INSERT INTO evenkeel.incident_events (id, incident, at, by, what, body)
         SELECT gen_random_uuid(), incident, at, by, 'dreamt', jsonb_set(body, '{what}', '\"dreamt\"')
           FROM evenkeel.incident_events",
    )
    .execute(&mut sql)
    .await
    .unwrap();
    let process = Process::start(&database).await;
    let later = story.add(5.0, "ana", note("later"));
    record::store(&mut sql, &[later]).await.unwrap();
    eventually("what follows is known", async || {
        let known = process.log.incident(story.id)?;
        (known.events == story.incident().events).then_some(())
    })
    .await;
    process.stop().await;
}

#[tokio::test]
async fn the_list_follows_the_events_in_whatever_order_they_come() {
    let mut sql = server::empty_database().await.connect().await.unwrap();
    let story = whole();
    let mut events = story.events.clone();
    events.reverse();
    for event in &events {
        record::store(&mut sql, std::slice::from_ref(event))
            .await
            .unwrap();
    }
    let listed = record::list(&mut sql, 10).await.unwrap();
    assert_eq!(listed, [story.incident().summary()]);
    assert_eq!(listed[0].stage, Stage::Resolved);
    let relapsed = Event {
        at: story.events.last().unwrap().at + TimeDelta::seconds(1),
        what: What::Relapsed,
        ..Story::open("").events.remove(0)
    };
    let relapsed = Event {
        incident: story.id,
        ..relapsed
    };
    record::store(&mut sql, &[relapsed]).await.unwrap();
    let listed = record::list(&mut sql, 10).await.unwrap();
    assert_eq!(listed[0].stage, Stage::Open);
}

#[tokio::test]
async fn the_beginning_of_an_id_names_an_incident() {
    let mut sql = server::empty_database().await.connect().await.unwrap();
    let mut known = Vec::new();
    for id in [
        "01970000-0000-7000-8000-000000000001",
        "01970000-0000-7000-8000-000000000002",
        "ff000000-0000-7000-8000-000000000003",
    ] {
        let mut event = Story::open(id).events.remove(0);
        event.incident = id.parse().unwrap();
        record::store(&mut sql, &[event]).await.unwrap();
        known.push(id.parse::<Uuid>().unwrap());
    }
    let mut both = async |given: &str| {
        let stored = record::identify(&mut sql, given).await;
        let among = record::identify_among(&known, given);
        assert_eq!(stored.is_ok(), among.is_ok());
        (stored, among)
    };
    assert_eq!(both("FF").await.0.unwrap(), known[2]);
    assert_eq!(both(&known[1].to_string()).await.1.unwrap(), known[1]);
    let (stored, among) = both("0197").await;
    for err in [stored.unwrap_err(), among.unwrap_err()] {
        assert!(
            matches!(&err, FindError::Ambiguous { ids, .. } if ids.len() == 2),
            "{err}"
        );
    }
    assert!(matches!(both("ee").await.0, Err(FindError::Unknown(_))));
    for bad in ["", "%", "x'", "0197_", &"0".repeat(37)] {
        assert!(
            matches!(both(bad).await.0, Err(FindError::NoId(_))),
            "{bad}"
        );
    }
}

/// Any event of an incident, with times that often coincide.
fn any_event() -> impl Strategy<Value = Event> {
    let what = prop_oneof![
        Just(opened("a")),
        Just(opened("b")),
        Just(felt(0.5, 10.0)),
        Just(note("n")),
        Just(What::Recovered),
        Just(What::Relapsed),
        Just(What::AcknowledgementExpired),
        Just(What::Acknowledged { via: "cli".into() }),
        (0..4_u32).prop_map(|level| What::Escalated {
            level,
            reason: String::new()
        }),
        (0..3_u8).prop_map(|orders_lost| What::Resolved {
            impact: Box::new(Impact {
                orders_lost: orders_lost.into(),
                ..Impact::default()
            })
        }),
        (0..3_u8).prop_map(|tenths| What::Found {
            finding: Box::new(super::story::finding(
                evenkeel::watch::finding::Cause::ALL[usize::from(tenths) * 4],
                None,
                f64::from(tenths) / 10.0
            ))
        }),
    ];
    (any::<u128>(), 0..5_i64, "[ab]", what).prop_map(|(id, second, by, what)| Event {
        id: Uuid::from_u128(id),
        incident: Uuid::nil(),
        at: super::story::began() + TimeDelta::seconds(second),
        by,
        what,
    })
}

proptest! {
    #[test]
    fn an_incident_does_not_depend_on_the_order_or_repetition_of_its_events(
        (events, told) in prop::collection::vec(any_event(), 1..20).prop_flat_map(|events| {
            let twice = [events.clone(), events.clone()].concat();
            (Just(events), Just(twice).prop_shuffle())
        })
    ) {
        let json = |incident: Option<Incident>| serde_json::to_value(incident).unwrap();
        prop_assert_eq!(json(Incident::fold(events)), json(Incident::fold(told)));
    }
}
