//! Who is told, and when: a made-up clock, made-up channels, and the real decision.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::config::Notify;
use evenkeel::config::notify::Level;
use evenkeel::watch::escalation::{Plan, Step, Tell, due};
use evenkeel::watch::event::{Act, Event, Impact, Occasion, Severity, What};
use evenkeel::watch::finding::{Cause, Finding, Suspect};
use evenkeel::watch::incident::Incident;
use proptest::prelude::*;
use uuid::Uuid;

const MINUTE: u64 = 60;

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_718_877_600, 0).unwrap()
}

fn seconds(seconds: u64) -> TimeDelta {
    TimeDelta::seconds(i64::try_from(seconds).unwrap())
}

fn level(channels: &[&str], acknowledge_within: u64, repeat_every: u64) -> Level {
    Level {
        channels: channels.iter().map(ToString::to_string).collect(),
        acknowledge_within: Duration::from_secs(acknowledge_within),
        repeat_every: Duration::from_secs(repeat_every),
    }
}

fn three_levels() -> Notify {
    Notify {
        levels: vec![
            level(&["chat", "mail"], 5 * MINUTE, 5 * MINUTE),
            level(&["phone"], 5 * MINUTE, 3 * MINUTE),
            level(&["boss"], 5 * MINUTE, 10 * MINUTE),
        ],
        ..Notify::default()
    }
}

fn opened(severity: Severity) -> What {
    What::Opened {
        title: "checkout suffers".to_owned(),
        severity,
        key: "script".to_owned(),
    }
}

fn found(cause: Cause, certainty: f64) -> What {
    let finding = Finding {
        at: start(),
        cause,
        culprit: None,
        accomplices: Vec::new(),
        first_victim: None,
        certainty,
        evidence: Vec::new(),
        exclusions: Vec::new(),
    };
    What::Found {
        finding: Box::new(finding),
    }
}

pub fn suspect(pid: i32) -> Suspect {
    Suspect {
        pid,
        backend_start: Some(start()),
        role: "cron".to_owned(),
        application: "nightly-reprice".to_owned(),
        client: Some("10.0.0.7".to_owned()),
        since: Some(start()),
        statement: "ALTER TABLE orders ADD COLUMN x".to_owned(),
        job: None,
        holds: vec!["AccessExclusiveLock on orders".to_owned()],
    }
}

fn acted(pid: i32, problem: Option<&str>) -> What {
    What::Acted {
        act: Act::Terminate,
        suspect: Box::new(suspect(pid)),
        policy: "cron is a maintenance role".to_owned(),
        problem: problem.map(str::to_owned),
        undo: "start the job again".to_owned(),
    }
}

pub fn asked(pid: i32) -> What {
    What::Asked {
        act: Act::Terminate,
        suspect: Box::new(suspect(pid)),
        policy: "no rule".to_owned(),
    }
}

fn acknowledged() -> What {
    What::Acknowledged {
        via: "cli".to_owned(),
    }
}

fn resolved() -> What {
    What::Resolved {
        impact: Box::new(Impact::default()),
    }
}

/// What was sent: when, and to whom.
#[derive(Clone, Debug)]
struct Sent {
    at: DateTime<Utc>,
    tell: Tell,
    arrived: bool,
}

/// An incident that is played through.
struct Play {
    plan: Plan,
    dead: HashSet<String>,
    events: Vec<Event>,
    now: DateTime<Utc>,
    sent: Vec<Sent>,
    /// Levels, and when and why they were called.
    levels: Vec<(DateTime<Utc>, u32, String)>,
    expired: Vec<DateTime<Utc>>,
}

impl Play {
    fn new(settings: &Notify) -> Self {
        Self {
            plan: Plan::from(settings),
            dead: HashSet::new(),
            events: Vec::new(),
            now: start(),
            sent: Vec::new(),
            levels: Vec::new(),
            expired: Vec::new(),
        }
    }

    fn critical(settings: &Notify) -> Self {
        let mut play = Self::new(settings);
        play.happens(opened(Severity::Critical));
        play.happens(found(Cause::Script, 0.9));
        play
    }

    fn happens(&mut self, what: What) {
        self.append(what);
        self.settle();
    }

    fn append(&mut self, what: What) {
        self.events.push(Event {
            id: Uuid::now_v7(),
            incident: Uuid::nil(),
            at: self.now,
            by: "test".to_owned(),
            what,
        });
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: TimeDelta) {
        let end = self.now + time;
        while let Some(next) = self.settle().filter(|next| *next <= end) {
            assert!(next > self.now, "a wait that is over is none");
            self.now = next;
        }
        self.now = end;
        self.settle();
    }

    /// Does what is due until nothing is; says when something will be.
    fn settle(&mut self) -> Option<DateTime<Utc>> {
        for _ in 0..20 {
            let incident = Incident::fold(self.events.clone())?;
            let mut wait = None;
            let mut done = false;
            for step in due(&incident, &self.plan, self.now) {
                done |= !matches!(step, Step::Wait { .. });
                match step {
                    Step::Wait { until } => wait = Some(until),
                    Step::Expire => {
                        self.expired.push(self.now);
                        self.append(What::AcknowledgementExpired);
                    }
                    Step::Escalate { level, reason } => {
                        self.levels.push((self.now, level, reason.clone()));
                        self.append(What::Escalated { level, reason });
                    }
                    Step::Tell(tell) => self.send(tell),
                }
            }
            if !done {
                return wait;
            }
        }
        panic!(
            "what is due is due again as soon as it is done: {:?}",
            self.sent
        );
    }

    fn send(&mut self, tell: Tell) {
        let arrived = !self.dead.contains(&tell.channel);
        self.append(What::Notified {
            level: tell.level,
            channel: tell.channel.clone(),
            occasion: tell.occasion,
            news: tell.news.clone(),
            problem: (!arrived).then(|| "connection refused".to_owned()),
        });
        self.sent.push(Sent {
            at: self.now,
            tell,
            arrived,
        });
    }

    /// Who was told why, in order, since the last call.
    fn told(&mut self) -> Vec<(String, Occasion)> {
        let sent = std::mem::take(&mut self.sent);
        sent.into_iter()
            .map(|sent| (sent.tell.channel, sent.tell.occasion))
            .collect()
    }

    fn pages(&self) -> impl Iterator<Item = &Sent> {
        let arrived = self.sent.iter().filter(|sent| sent.arrived);
        arrived.filter(|sent| sent.tell.occasion.is_page())
    }
}

fn told(expected: &[(&str, Occasion)]) -> Vec<(String, Occasion)> {
    let owned = |(channel, occasion): &(&str, Occasion)| ((*channel).to_owned(), *occasion);
    expected.iter().map(owned).collect()
}

#[test]
fn nobody_is_told_without_channels() {
    let mut play = Play::critical(&Notify::default());
    play.pass(seconds(3600));
    assert_eq!(play.told(), []);
    assert_eq!(play.levels, []);
}

#[test]
fn the_first_message_waits_a_moment_for_the_cause() {
    let mut play = Play::new(&three_levels());
    play.happens(opened(Severity::Critical));
    assert_eq!(play.told(), []);
    play.pass(TimeDelta::milliseconds(300));
    play.happens(found(Cause::Script, 0.9));
    let both = told(&[("chat", Occasion::Opened), ("mail", Occasion::Opened)]);
    assert_eq!(play.told(), both);

    let mut play = Play::new(&three_levels());
    play.happens(opened(Severity::Critical));
    play.pass(seconds(1));
    assert_eq!(play.told(), both, "it does not wait longer");
}

#[test]
fn who_does_not_acknowledge_is_followed_by_the_next_level_and_the_last_is_repeated() {
    let mut play = Play::critical(&three_levels());
    play.told();
    play.pass(seconds(5 * MINUTE - 1));
    assert_eq!(play.told(), []);
    play.pass(seconds(1));
    assert_eq!(play.told(), told(&[("phone", Occasion::Escalated)]));
    play.pass(seconds(3 * MINUTE));
    assert_eq!(play.told(), told(&[("phone", Occasion::Repeated)]));
    play.pass(seconds(2 * MINUTE));
    assert_eq!(play.told(), told(&[("boss", Occasion::Escalated)]));
    play.pass(seconds(20 * MINUTE));
    let again = ("boss", Occasion::Repeated);
    assert_eq!(play.told(), told(&[again, again]));
    let (_, _, reason) = play.levels.last().unwrap();
    assert_eq!(reason, "nobody of level 2 acknowledged within 5m");
}

#[test]
fn an_acknowledgement_silences_pages_but_not_news_until_it_expires() {
    let mut play = Play::critical(&three_levels());
    play.told();
    play.pass(seconds(60));
    play.happens(acknowledged());
    play.pass(seconds(60));
    let care = Occasion::Acknowledged;
    assert_eq!(play.told(), told(&[("chat", care), ("mail", care)]));
    play.happens(acted(7, None));
    let acted = Occasion::Acted;
    assert_eq!(play.told(), told(&[("chat", acted), ("mail", acted)]));
    play.pass(seconds(29 * MINUTE - 1));
    assert_eq!(play.told(), []);
    play.pass(seconds(1));
    let expired = Occasion::Expired;
    assert_eq!(play.told(), told(&[("chat", expired), ("mail", expired)]));
    play.pass(seconds(5 * MINUTE));
    assert_eq!(play.told(), told(&[("phone", Occasion::Escalated)]));
}

#[test]
fn a_note_is_a_sign_of_life() {
    let mut play = Play::critical(&three_levels());
    play.happens(acknowledged());
    play.pass(seconds(20 * MINUTE));
    let text = "looking at it".to_owned();
    play.happens(What::Noted { text });
    play.pass(seconds(30 * MINUTE - 1));
    assert!(play.expired.is_empty());
    play.pass(seconds(1));
    assert_eq!(play.expired, [play.now]);
}

#[test]
fn a_level_that_cannot_be_reached_is_passed_over_at_once() {
    let mut play = Play::new(&three_levels());
    play.dead = ["chat", "mail"].map(str::to_owned).into();
    play.happens(opened(Severity::Critical));
    play.happens(found(Cause::Script, 0.9));
    let (at, level, reason) = play.levels.last().unwrap();
    assert_eq!((*at, *level), (start(), 2));
    assert_eq!(reason, "no channel of level 1 could be reached");
    assert!(
        play.told()
            .contains(&("phone".to_owned(), Occasion::Escalated))
    );
}

#[test]
fn one_channel_of_a_level_that_can_be_reached_is_enough() {
    let mut play = Play::new(&three_levels());
    play.dead = ["chat".to_owned()].into();
    play.happens(opened(Severity::Critical));
    play.happens(found(Cause::Script, 0.9));
    play.pass(seconds(5 * MINUTE - 1));
    assert_eq!(play.levels.len(), 1);
}

#[test]
fn a_level_that_was_called_keeps_its_time_when_its_channel_dies() {
    let mut play = Play::critical(&three_levels());
    play.dead = ["chat", "mail"].map(str::to_owned).into();
    play.pass(seconds(60));
    play.happens(acted(7, None));
    assert_eq!(play.levels.len(), 1, "they have heard the call");
    play.pass(seconds(4 * MINUTE));
    assert_eq!(play.levels.len(), 2);
}

#[test]
fn an_incident_that_comes_back_after_its_end_calls_again() {
    let mut play = Play::critical(&three_levels());
    play.happens(What::Recovered);
    play.pass(seconds(30));
    play.happens(resolved());
    play.pass(seconds(3600));
    play.told();
    play.happens(What::Relapsed);
    assert!(
        play.told()
            .contains(&("phone".to_owned(), Occasion::Escalated))
    );
}

#[test]
fn a_dead_channel_is_tried_ever_more_rarely_and_told_everything_when_it_is_back() {
    let mut play = Play::new(&Notify {
        levels: vec![level(&["chat"], 5 * MINUTE, 5 * MINUTE)],
        ..Notify::default()
    });
    play.dead = ["chat".to_owned()].into();
    play.happens(opened(Severity::Critical));
    play.happens(found(Cause::Script, 0.9));
    play.pass(seconds(20 * MINUTE));
    let tries: Vec<i64> = play
        .sent
        .iter()
        .map(|sent| (sent.at - start()).num_minutes())
        .collect();
    assert_eq!(tries, [0, 1, 3, 7, 12, 17]);
    play.dead.clear();
    play.told();
    play.pass(seconds(2 * MINUTE));
    assert_eq!(play.told(), told(&[("chat", Occasion::Opened)]));
}

#[test]
fn a_warning_is_told_once_to_the_first_level() {
    let mut play = Play::new(&three_levels());
    play.happens(opened(Severity::Warning));
    play.pass(seconds(24 * 3600));
    let opened = Occasion::Opened;
    assert_eq!(play.told(), told(&[("chat", opened), ("mail", opened)]));
    play.happens(super::escalation::opened(Severity::Critical));
    let updated = Occasion::Updated;
    assert_eq!(
        play.told()[..2],
        told(&[("chat", updated), ("mail", updated)])
    );
    play.pass(seconds(5 * MINUTE));
    assert!(
        play.told()
            .contains(&("phone".to_owned(), Occasion::Escalated))
    );
}

#[test]
fn further_findings_are_kept_back_unless_the_cause_is_another() {
    let mut play = Play::critical(&Notify {
        levels: vec![level(&["chat"], 3600, 3600)],
        ..Notify::default()
    });
    play.told();
    for certainty in [0.91, 0.92, 0.93] {
        play.pass(seconds(60));
        play.happens(found(Cause::Script, certainty));
    }
    assert_eq!(play.told(), []);
    play.happens(found(Cause::BlockedChain, 0.95));
    assert_eq!(play.told(), told(&[("chat", Occasion::Updated)]));
    play.happens(found(Cause::Script, 0.96));
    play.pass(seconds(10 * MINUTE - 1));
    assert_eq!(play.told(), [], "a cause that was known before can wait");
    play.pass(seconds(1));
    assert_eq!(play.told(), told(&[("chat", Occasion::Updated)]));
}

#[test]
fn what_happens_at_once_is_one_message_and_a_question_is_not_kept_back() {
    let mut play = Play::critical(&Notify {
        levels: vec![level(&["chat"], 3600, 3600)],
        ..Notify::default()
    });
    play.told();
    play.pass(seconds(1));
    play.happens(acted(7, None));
    play.happens(acted(8, None));
    assert_eq!(play.told(), []);
    play.happens(asked(9));
    assert_eq!(play.told(), told(&[("chat", Occasion::Asked)]));
    play.pass(seconds(60));
    assert_eq!(play.told(), [], "the question has told the acts");
    for _ in 0..10 {
        play.pass(seconds(2));
        play.happens(acted(7, None));
    }
    assert_eq!(play.told(), [], "the same act again is no news");
    play.happens(acted(7, Some("permission denied")));
    assert_eq!(play.told(), told(&[("chat", Occasion::Acted)]));
}

#[test]
fn a_recovery_that_does_not_last_is_not_told() {
    let mut play = Play::critical(&Notify {
        levels: vec![level(&["chat"], 3600, 3600)],
        ..Notify::default()
    });
    play.told();
    for _ in 0..10 {
        play.pass(seconds(3));
        play.happens(What::Recovered);
        play.pass(seconds(3));
        play.happens(What::Relapsed);
    }
    play.pass(seconds(60));
    assert_eq!(play.told(), []);
    play.happens(What::Recovered);
    play.pass(seconds(10));
    assert_eq!(play.told(), told(&[("chat", Occasion::Recovered)]));
    play.happens(What::Relapsed);
    play.pass(seconds(3));
    play.happens(What::Recovered);
    play.pass(seconds(60));
    assert_eq!(play.told(), [], "they were told that shoppers are well");
    play.happens(What::Relapsed);
    play.pass(seconds(10));
    assert_eq!(play.told(), told(&[("chat", Occasion::Relapsed)]));
}

#[test]
fn flapping_does_not_keep_an_incident_from_the_next_level() {
    let mut play = Play::critical(&three_levels());
    for _ in 0..5 {
        play.pass(seconds(50));
        play.happens(What::Recovered);
        play.pass(seconds(10));
        play.happens(What::Relapsed);
    }
    assert_eq!(play.levels.last().unwrap().1, 2);
}

#[test]
fn the_end_is_told_to_whoever_was_called_and_to_nobody_else() {
    let mut play = Play::critical(&three_levels());
    play.pass(seconds(6 * MINUTE));
    play.told();
    play.happens(What::Recovered);
    play.pass(seconds(5));
    play.happens(resolved());
    play.pass(seconds(3600));
    let end = Occasion::Resolved;
    let all = told(&[("chat", end), ("mail", end), ("phone", end)]);
    assert_eq!(play.told(), all);
}

#[test]
fn an_incident_that_is_over_before_anybody_was_told_is_not_told() {
    let mut play = Play::new(&three_levels());
    play.happens(opened(Severity::Critical));
    play.pass(TimeDelta::milliseconds(500));
    play.happens(What::Recovered);
    play.pass(seconds(30));
    play.happens(resolved());
    play.pass(seconds(3600));
    assert_eq!(play.told(), []);
}

#[test]
fn settings_beyond_the_calendar_do_no_harm() {
    let mut play = Play::critical(&Notify {
        levels: vec![
            level(&["chat"], u64::MAX, u64::MAX),
            level(&["phone"], 1, 1),
        ],
        group_for: Duration::MAX,
        unacknowledge_after: Duration::MAX,
        ..Notify::default()
    });
    play.pass(seconds(3600));
    play.happens(acknowledged());
    play.pass(seconds(3600));
    assert_eq!(play.levels.len(), 1);
}

/// What may happen to an incident from outside.
fn anything() -> impl Strategy<Value = What> {
    let certainty = 0.0..1.0;
    prop_oneof![
        4 => (0..Cause::ALL.len(), certainty).prop_map(|(cause, sure)| found(Cause::ALL[cause], sure)),
        2 => Just(What::Felt { classes: Vec::new() }),
        2 => (1..4, any::<bool>()).prop_map(|(pid, ok)| acted(pid, (!ok).then_some("denied"))),
        1 => (1..4).prop_map(asked),
        2 => Just(acknowledged()),
        1 => Just(What::Noted { text: "hm".to_owned() }),
        2 => Just(What::Recovered),
        2 => Just(What::Relapsed),
        1 => Just(opened(Severity::Critical)),
    ]
}

/// The same without anything that would keep it from being handed on.
fn harmless() -> impl Strategy<Value = What> {
    anything().prop_filter("pauses or silences", |what| {
        !matches!(
            what,
            What::Acknowledged { .. } | What::Recovered | What::Relapsed
        )
    })
}

const CHANNELS: [&str; 4] = ["chat", "mail", "phone", "boss"];

fn any_levels() -> impl Strategy<Value = Notify> {
    let channels = proptest::sample::subsequence(CHANNELS.to_vec(), 1..=3);
    let any_level = (channels, 10..900_u64, 10..900_u64)
        .prop_map(|(channels, within, every)| level(&channels, within, every));
    (prop::collection::vec(any_level, 1..=4), 60..7200_u64).prop_map(|(levels, expires)| Notify {
        levels,
        unacknowledge_after: Duration::from_secs(expires),
        ..Notify::default()
    })
}

fn any_dead() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(CHANNELS.to_vec(), 0..=3)
}

/// Pauses in milliseconds, short ones above all: what is dense is what goes wrong.
fn history(of: impl Strategy<Value = What>) -> impl Strategy<Value = Vec<(i64, What)>> {
    let pause = prop_oneof![0..100_i64, 0..10_000_i64, 0..600_000_i64];
    prop::collection::vec((pause, of), 0..40)
}

/// Plays a critical incident in which `history` happens, and some channels are dead until its half.
fn play(settings: &Notify, dead: &[&str], history: Vec<(i64, What)>) -> Play {
    let mut play = Play::new(settings);
    play.dead = dead.iter().map(ToString::to_string).collect();
    play.happens(opened(Severity::Critical));
    let half = history.len() / 2;
    for (number, (pause, what)) in history.into_iter().enumerate() {
        if number == half {
            play.dead.clear();
        }
        play.pass(TimeDelta::milliseconds(pause));
        play.happens(what);
    }
    play.dead.clear();
    play
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nobody_is_paged_twice_within_the_repeat_time(
        settings in any_levels(), dead in any_dead(), history in history(anything()),
    ) {
        let mut play = play(&settings, &dead, history);
        play.pass(seconds(3600));
        for page in play.pages() {
            let every = settings.levels[page.tell.level as usize - 1].repeat_every;
            let again = play.pages().filter(|other| {
                (other.tell.level, &other.tell.channel) == (page.tell.level, &page.tell.channel)
                    && other.at >= page.at
                    && (other.at - page.at).to_std().unwrap() < every
            });
            prop_assert_eq!(again.count(), 1, "{:?} within {:?}", page, every);
        }
    }

    #[test]
    fn without_an_acknowledgement_the_last_level_is_reached_by_the_sum_of_the_times(
        settings in any_levels(), dead in any_dead(), history in history(harmless()),
    ) {
        let mut play = play(&settings, &dead, history);
        let patience: Duration = settings.levels.iter().map(|level| level.acknowledge_within).sum();
        play.pass(TimeDelta::from_std(patience).unwrap());
        let last = play.levels.last().unwrap();
        prop_assert_eq!(last.1 as usize, settings.levels.len());
        let others = &settings.levels[..settings.levels.len() - 1];
        let sum: Duration = others.iter().map(|level| level.acknowledge_within).sum();
        let latest = start() + TimeDelta::from_std(sum + settings.gather_for).unwrap();
        prop_assert!(last.0 <= latest, "{} after {}", last.0, latest);
    }

    #[test]
    fn an_acknowledgement_silences_until_it_expires(
        settings in any_levels(), dead in any_dead(), before in history(harmless()), after in history(harmless()),
    ) {
        let mut play = play(&settings, &dead, before);
        play.happens(acknowledged());
        let since = play.now;
        let levels = play.levels.len();
        play.sent.clear();
        for (pause, what) in after {
            play.pass(TimeDelta::milliseconds(pause));
            play.happens(what);
        }
        let signs = play.events.iter().filter(|event| {
            matches!(event.what, What::Noted { .. } | What::Acknowledged { .. })
        });
        let end = play.expired.first().copied().unwrap_or(play.now);
        let last = signs.map(|event| event.at).filter(|at| *at <= end).max().unwrap_or(since);
        let until = last.max(since) + TimeDelta::from_std(settings.unacknowledge_after).unwrap();
        prop_assert!(play.pages().all(|page| page.at >= until), "{:?}", play.sent);
        prop_assert!(play.levels[levels..].iter().all(|(at, ..)| *at >= until));
        // And then it goes on.
        let (now, at) = (play.now, until);
        play.pass((at - now).max(TimeDelta::zero()));
        prop_assert!(!play.expired.is_empty());
    }

    #[test]
    fn a_channel_is_told_each_piece_of_news_once_and_the_end_always(
        settings in any_levels(), dead in any_dead(), history in history(anything()),
    ) {
        let mut play = play(&settings, &dead, history);
        play.happens(resolved());
        let end = play.events.iter().rfind(|event| matches!(event.what, What::Resolved { .. }));
        let end = end.unwrap().id;
        play.pass(seconds(3600));
        for channel in CHANNELS {
            let arrived = play.sent.iter().filter(|sent| sent.arrived && sent.tell.channel == channel);
            let news: Vec<Uuid> = arrived.flat_map(|sent| sent.tell.news.clone()).collect();
            let distinct: HashSet<&Uuid> = news.iter().collect();
            prop_assert_eq!(distinct.len(), news.len(), "{} was told something twice", channel);
            prop_assert_eq!(news.is_empty(), !distinct.contains(&end), "{} does not know the end", channel);
        }
    }

    #[test]
    fn whatever_happens_a_channel_is_not_flooded(
        settings in any_levels(), history in history(anything()),
    ) {
        let mut play = play(&settings, &[], history);
        play.pass(seconds(3600));
        for channel in CHANNELS {
            let news = play.sent.iter().filter(|sent| {
                sent.tell.channel == channel
                    && !sent.tell.occasion.is_page()
                    && sent.tell.occasion != Occasion::Asked
            });
            let times: Vec<DateTime<Utc>> = news.map(|sent| sent.at).collect();
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= seconds(5)), "{times:?}");
        }
    }
}
