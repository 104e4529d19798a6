//! What can go wrong on the way: dead and slow channels, and a process that is lost.

use std::time::Duration;

use evenkeel::config::notify::Channel;
use evenkeel::config::{Settings, Watch};
use evenkeel::watch::event::What;
use evenkeel::watch::log::Log;
use evenkeel::watch::notify::Escalator;
use evenkeel::watch::ticket::Tickets;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::receivers::{Answer, Receiver};
use super::{Process, eventually, settings};

/// Two levels of one Slack-like channel each.
pub fn two_levels(first: &str, second: &str, more: &str) -> Watch {
    settings(&format!(
        r#"
        watch.notify.tries = 2
        watch.notify.timeout = "1s"
        {more}
        [[watch.notify.channels]]
        kind = "slack"
        name = "first"
        private = true
        url = "{first}/"
        [[watch.notify.channels]]
        kind = "slack"
        name = "second"
        private = true
        url = "{second}/"
        [[watch.notify.levels]]
        channels = ["first"]
        acknowledge_within = "2s"
        [[watch.notify.levels]]
        channels = ["second"]
        "#
    ))
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_dead_channel_is_passed_over_and_reported_in_the_next_message() {
    let receiver = Receiver::start().await;
    let mut settings = two_levels(&nobody().await, &receiver.url(), "");
    settings.notify.levels[0].acknowledge_within = Duration::from_secs(3600);
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    let body = receiver.wait_for(1).await[0].json().to_string();
    assert!(body.contains("escalated to level 2"), "{body}");
    assert!(
        body.contains("Channels that could not be reached"),
        "{body}"
    );
    assert!(
        body.contains("first at ") && body.contains("Connection refused"),
        "{body}"
    );
    let events = process.incident(incident).events;
    let reason = events.iter().find_map(|event| match &event.what {
        What::Escalated { level: 2, reason } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(reason.unwrap(), "no channel of level 1 could be reached");
    process.finish().await;
}

#[tokio::test]
async fn a_slow_channel_holds_up_nobody() {
    let slow = Receiver::answering(vec![Answer::Never]).await;
    let quick = Receiver::start().await;
    let mut settings = two_levels(&slow.url(), &quick.url(), "");
    settings.notify.timeout = Duration::from_secs(3600);
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    process.opens().await;
    slow.wait_for(1).await;
    quick.wait_for(1).await;
    process.die().await;
}

#[tokio::test]
async fn a_process_that_is_lost_is_followed_by_one_that_goes_on() {
    let first = Receiver::start().await;
    let second = Receiver::start().await;
    let settings = two_levels(&first.url(), &second.url(), "");
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    let told = async || Some(()).filter(|()| !process.told(incident).is_empty());
    eventually("the record", told).await;
    process.die().await;
    assert_eq!(second.requests().len(), 0);

    let process = Process::start(&settings, &journal).await;
    second.wait_for(1).await;
    assert_eq!(first.requests().len(), 1, "nobody is told twice");
    let via = "cli".to_owned();
    process.happens(incident, What::Acknowledged { via }).await;
    first.wait_for(2).await;
    process.die().await;

    // The end came while nobody could tell it.
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let impact = Box::default();
    let resolved = What::Resolved { impact };
    log.append(evenkeel::watch::event::Event::now(
        incident, "watch", resolved,
    ))
    .await;
    let process = Process::start(&settings, &journal).await;
    let is_end = |receiver: &Receiver| {
        let last = receiver.requests().pop()?.json();
        last["text"].as_str()?.contains("(resolved)").then_some(())
    };
    eventually("the end at the first", async || is_end(&first)).await;
    eventually("the end at the second", async || is_end(&second)).await;
    process.finish().await;
}

#[tokio::test]
async fn an_incident_that_comes_back_after_its_end_is_taken_up_again() {
    let receiver = Receiver::start().await;
    let second = Receiver::start().await;
    let settings = two_levels(&receiver.url(), &second.url(), "");
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    let incident = process.opens().await;
    receiver.wait_for(1).await;
    process.happens(incident, What::Recovered).await;
    process.resolves(incident).await;
    receiver.wait_for(2).await;
    process.happens(incident, What::Relapsed).await;
    second.wait_for(1).await;
    process.finish().await;
}

#[tokio::test]
async fn a_process_that_is_not_on_duty_leaves_it_to_the_other() {
    let first = Receiver::start().await;
    let settings = two_levels(&first.url(), &nobody().await, "");
    let journal = TempDir::new().unwrap();
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let tickets = Tickets::new(&settings.notify).unwrap();
    let (duty, receiver) = tokio::sync::watch::channel(false);
    let escalator = Escalator::new(&settings, log.clone(), tickets.clone()).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(escalator.on_duty(receiver).run(stop.clone()));
    let process = Process {
        log,
        tickets,
        stop,
        task,
    };
    process.opens().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(first.requests().len(), 0);
    duty.send(true).unwrap();
    first.wait_for(1).await;
    process.finish().await;
}

#[tokio::test]
async fn an_unusable_channel_stops_the_start_with_a_sentence() {
    let slack = |url: &str| {
        format!("[[watch.notify.channels]]\nkind = \"slack\"\nname = \"chat\"\n{url}\n")
    };
    let cases = [
        (slack(""), "`chat` needs url, or url_env"),
        (slack("url = \"x\"\nurl_env = \"X\""), "both url and url_env"),
        (slack("url = \"ftp://x\""), "must begin with https:// or http://"),
        (slack("url = \"https://user:pass@x/\""), "must not hold a password"),
        (slack("url_env = \"EVENKEEL_TEST_NOT_SET\""), "EVENKEEL_TEST_NOT_SET, which watch.notify names, is not set"),
        (slack("url = \"https://x/\"\nfoo = 1"), "unknown field `foo`"),
        (
            format!("{}[[watch.notify.levels]]\nchannels = [\"mail\"]", slack("url = \"https://x/\"")),
            "level 1 names the channel `mail`",
        ),
        (slack("url = \"https://x/\"").repeat(2), "two are called `chat`"),
        (
            "[[watch.notify.channels]]\nkind = \"webhook\"\nname = \"hook\"\nurl = \"https://x\"\nsecret = \"short\""
                .to_owned(),
            "the secret of `hook` must be `whsec_`",
        ),
        ("watch.notify.allow_private = [\"ten\"]".to_owned(), "neither an address nor a network"),
    ];
    for (toml, expected) in cases {
        let problem = start(&toml).await.unwrap_err();
        assert!(
            problem.contains(expected),
            "{problem}\nshould say: {expected}"
        );
    }
    start(&slack("url_env = \"PATH\"")).await.unwrap_err();
    start(&slack("url = \"https://x/\"")).await.unwrap();
}

async fn start(toml: &str) -> Result<(), String> {
    let settings: Settings = toml::from_str(toml).map_err(|err| err.to_string())?;
    settings.validate()?;
    let journal = TempDir::new().unwrap();
    let log = Log::open(journal.path().to_owned()).await.unwrap();
    let tickets = Tickets::new(&settings.watch.notify).map_err(|err| err.to_string())?;
    let escalator = Escalator::new(&settings.watch, log, tickets);
    escalator.map(|_| ()).map_err(|err| err.to_string())
}

#[test]
fn the_handbooks_example_is_valid() {
    let handbook = include_str!("../../../docs/operations.md");
    let section = handbook
        .split("\n## Channels and escalation\n")
        .nth(1)
        .unwrap();
    let example = section
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let settings: Settings = toml::from_str(example).unwrap();
    settings.validate().unwrap();
    let kinds = settings
        .watch
        .notify
        .channels
        .iter()
        .map(std::mem::discriminant::<Channel>);
    assert_eq!(kinds.collect::<std::collections::HashSet<_>>().len(), 5);
}
