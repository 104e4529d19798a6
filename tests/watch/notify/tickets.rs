//! Links in messages: nobody can make one, and each is good for a while and once.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use evenkeel::config::Notify;
use evenkeel::config::notify::Secret;
use evenkeel::watch::event::{Act, Event, Impact, Severity, What};
use evenkeel::watch::log::Log;
use evenkeel::watch::ticket::{Right, TicketError, Tickets};
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

fn keyed() -> Notify {
    Notify {
        ticket_key: Some(Secret::new("0123456789abcdef0123456789abcdef")),
        ticket_lifetime: Duration::from_secs(600),
        ..Notify::default()
    }
}

fn right(ask: Uuid) -> Right {
    Right::Act {
        ask,
        act: Act::Terminate,
        pid: 4711,
        backend_start: Some(Utc::now()),
    }
}

async fn open(journal: &TempDir) -> Log {
    Log::open(journal.path().to_owned()).await.unwrap()
}

async fn incident(log: &Log) -> Uuid {
    let id = Uuid::now_v7();
    let opened = What::Opened {
        title: "checkout suffers".to_owned(),
        severity: Severity::Critical,
        key: "script".to_owned(),
    };
    log.append(Event::now(id, "watch", opened)).await;
    id
}

#[test]
fn a_ticket_says_what_it_was_issued_for_until_it_expires() {
    let tickets = Tickets::new(&keyed()).unwrap();
    let (id, now) = (Uuid::now_v7(), Utc::now());
    let text = tickets.issue(id, right(id), now);
    let ticket = tickets.read(&text, now + TimeDelta::seconds(599)).unwrap();
    assert_eq!(
        (ticket.incident, ticket.right),
        (id, right_of(&text, &tickets))
    );
    let late = tickets.read(&text, now + TimeDelta::seconds(601));
    assert_eq!(late.unwrap_err(), TicketError::Expired);
}

fn right_of(text: &str, tickets: &Tickets) -> Right {
    let right = tickets.read(text, Utc::now()).unwrap().right;
    assert!(matches!(
        right,
        Right::Act {
            pid: 4711,
            act: Act::Terminate,
            ..
        }
    ));
    right
}

#[test]
fn a_ticket_of_another_key_is_forged() {
    let (id, now) = (Uuid::now_v7(), Utc::now());
    let other = Tickets::new(&Notify::default()).unwrap();
    let text = other.issue(id, right(id), now);
    let tickets = Tickets::new(&keyed()).unwrap();
    assert_eq!(tickets.read(&text, now).unwrap_err(), TicketError::Forged);
    let random = Tickets::new(&Notify::default()).unwrap();
    assert_eq!(random.read(&text, now).unwrap_err(), TicketError::Forged);
}

proptest! {
    #[test]
    fn a_ticket_that_was_changed_anywhere_is_forged(at in 0..300_usize, to in "[A-Za-z0-9_.-]") {
        let tickets = Tickets::new(&keyed()).unwrap();
        let (id, now) = (Uuid::now_v7(), Utc::now());
        let text = tickets.issue(id, right(id), now);
        let at = at % text.len();
        let mut changed = text.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != text);
        prop_assert_eq!(tickets.read(&changed, now).unwrap_err(), TicketError::Forged);
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in ".{0,200}") {
        let tickets = Tickets::new(&keyed()).unwrap();
        prop_assert_eq!(tickets.read(&text, Utc::now()).unwrap_err(), TicketError::Forged);
    }
}

#[tokio::test]
async fn an_act_is_permitted_once_by_whichever_message_also_after_a_restart() {
    let journal = TempDir::new().unwrap();
    let log = open(&journal).await;
    let id = incident(&log).await;
    let tickets = Tickets::new(&keyed()).unwrap();
    let (ask, now) = (Uuid::now_v7(), Utc::now());
    let by_mail = tickets.issue(id, right(ask), now);
    let by_chat = tickets.issue(id, right(ask), now + TimeDelta::seconds(1));
    let (mail, chat) = tokio::join!(
        tickets.redeem(&by_mail, &log, now),
        tickets.redeem(&by_chat, &log, now)
    );
    assert_eq!(
        [mail.is_ok(), chat.is_ok()]
            .iter()
            .filter(|ok| **ok)
            .count(),
        1
    );

    let log = open(&journal).await;
    let tickets = Tickets::new(&keyed()).unwrap();
    let again = tickets.redeem(&by_chat, &log, now).await;
    assert_eq!(again.unwrap_err(), TicketError::Used);
}

#[tokio::test]
async fn nothing_is_permitted_in_an_incident_that_is_over_or_unknown() {
    let journal = TempDir::new().unwrap();
    let log = open(&journal).await;
    let tickets = Tickets::new(&keyed()).unwrap();
    let (ask, now) = (Uuid::now_v7(), Utc::now());
    let unknown = tickets.issue(ask, right(ask), now);
    let over = tickets.redeem(&unknown, &log, now).await;
    assert_eq!(over.unwrap_err(), TicketError::Over);
    let id = incident(&log).await;
    let impact = Box::new(Impact::default());
    log.append(Event::now(id, "watch", What::Resolved { impact }))
        .await;
    let late = tickets.issue(id, right(ask), now);
    let over = tickets.redeem(&late, &log, now).await;
    assert_eq!(over.unwrap_err(), TicketError::Over);
}

#[test]
fn a_short_key_is_refused() {
    let short = Notify {
        ticket_key: Some(Secret::new("short")),
        ..Notify::default()
    };
    let err = Tickets::new(&short).unwrap_err().to_string();
    assert!(err.contains("at least 32 characters"), "{err}");
}
