//! An incident to tell of: a script locks the orders, is named, ended, and the shop recovers.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::event::{Act, Event, Felt, Impact, Occasion, Severity, What};
use evenkeel::watch::finding::{Cause, Finding, KnownJob, Suspect};
use evenkeel::watch::incident::Incident;
use pool::Class;
use uuid::Uuid;

/// When the story begins.
pub fn began() -> DateTime<Utc> {
    "2026-06-20T10:00:02.300Z".parse().unwrap()
}

/// Writes a story down, event by event.
pub struct Story {
    pub id: Uuid,
    pub events: Vec<Event>,
}

impl Story {
    /// One that begins with `title`, now or at [`began`] when it is `told`.
    pub fn open(title: &str) -> Self {
        let mut story = Self {
            id: Uuid::now_v7(),
            events: Vec::new(),
        };
        story.add(0.0, "watch", opened(title));
        story
    }

    /// `by` does `what`, seconds after the beginning.
    pub fn add(&mut self, after_s: f64, by: &str, what: What) -> Event {
        let mut event = Event::now(self.id, by, what);
        event.at = began() + TimeDelta::milliseconds((after_s * 1e3).round() as i64);
        self.events.push(event.clone());
        event
    }

    pub fn incident(&self) -> Incident {
        Incident::fold(self.events.clone()).unwrap()
    }
}

pub fn opened(title: &str) -> What {
    What::Opened {
        title: title.to_owned(),
        severity: Severity::Critical,
        key: "script/cron/nightly-reprice".to_owned(),
    }
}

pub fn note(text: &str) -> What {
    What::Noted {
        text: text.to_owned(),
    }
}

/// The script, with a statement of its own.
pub fn suspect(statement: &str) -> Suspect {
    Suspect {
        pid: 4711,
        backend_start: Some(began() - TimeDelta::seconds(1)),
        role: "cron".to_owned(),
        application: "nightly_reprice.sh".to_owned(),
        client: Some("10.0.0.7".to_owned()),
        since: Some(began() - TimeDelta::milliseconds(300)),
        statement: statement.to_owned(),
        job: Some(KnownJob {
            name: "nightly-reprice".to_owned(),
            owner: "pricing".to_owned(),
        }),
        holds: vec!["AccessExclusiveLock on orders".to_owned()],
    }
}

pub fn finding(cause: Cause, culprit: Option<Suspect>, certainty: f64) -> Finding {
    Finding {
        at: began() + TimeDelta::milliseconds(400),
        cause,
        culprit,
        first_victim: None,
        accomplices: Vec::new(),
        certainty,
        evidence: vec![
            "holds AccessExclusiveLock on orders".to_owned(),
            "16 shop sessions wait for it".to_owned(),
        ],
        exclusions: vec![
            "Not traffic: arrivals −1 %".to_owned(),
            "Not a deploy: none for 6 h".to_owned(),
        ],
    }
}

/// With numbers that JSON gives back as they are.
pub fn felt(failed: f64, p95_ms: f64) -> What {
    let class = |class, arrivals_per_s: f64, failed: f64| Felt {
        class,
        arrivals_per_s,
        failed_per_s: arrivals_per_s * failed,
        p95_ms: Some(p95_ms),
    };
    What::Felt {
        classes: vec![
            class(Class::Checkout, 160.0, failed),
            class(Class::Account, 240.0, failed),
            class(Class::Browse, 1600.0, failed * 0.125),
        ],
    }
}

pub fn impact() -> Impact {
    Impact {
        failed: vec![
            (Class::Checkout, 412),
            (Class::Account, 618),
            (Class::Browse, 3),
        ],
        arrived: vec![
            (Class::Checkout, 720),
            (Class::Account, 1080),
            (Class::Browse, 7200),
        ],
        orders_lost: 398.4,
        money_at_risk_minor: Some(3_984_000),
    }
}

/// The whole story.
pub fn whole() -> Story {
    let mut story = Story::open("checkout, account suffer: job `nightly-reprice` of pricing");
    let statement = "alter table orders add column reduced boolean; update orders set reduced = $1";
    let culprit = suspect(statement);
    let found = |cause, culprit, certainty| What::Found {
        finding: Box::new(finding(cause, culprit, certainty)),
    };
    story.add(0.1, "watch", found(Cause::Unknown, None, 0.2));
    story.add(0.2, "watch", felt(0.375, 310.0));
    let script = found(Cause::Script, Some(culprit.clone()), 0.94);
    story.add(0.4, "watch", script);
    for channel in ["slack", "pager"] {
        let told = What::Notified {
            level: 1,
            channel: channel.to_owned(),
            occasion: Occasion::Opened,
            news: Vec::new(),
            problem: (channel == "slack").then(|| "503 Service Unavailable".to_owned()),
        };
        story.add(0.9, "watch", told);
    }
    let changed = What::Changed {
        summary: "crontab of nightly-reprice: 03:00 to 10:00".to_owned(),
        source: "ansible".to_owned(),
    };
    story.add(-12.0, "ops/changes", changed);
    story.add(1.2, "watch", felt(1.0, 2100.0));
    let acted = What::Acted {
        act: Act::Terminate,
        suspect: Box::new(culprit),
        policy: "role `cron` is for maintenance".to_owned(),
        problem: None,
        undo: "start nightly-reprice again; its transaction was rolled back".to_owned(),
    };
    story.add(1.3, "watch", acted);
    story.add(2.2, "watch", felt(0.75, 1900.0));
    story.add(3.2, "watch", felt(0.125, 240.0));
    story.add(4.2, "watch", felt(0.0, 14.0));
    story.add(3.4, "watch", What::Recovered);
    let escalated = What::Escalated {
        level: 2,
        reason: "nobody acknowledged within 10 s".to_owned(),
    };
    story.add(11.0, "watch", escalated);
    let acknowledged = What::Acknowledged {
        via: "link".to_owned(),
    };
    story.add(19.5, "Ana Díaz", acknowledged);
    story.add(
        27.0,
        "Ana Díaz",
        note("It ran by hand.\nThe schedule was wrong: 10:00 instead of 22:00."),
    );
    let resolved = What::Resolved {
        impact: Box::new(impact()),
    };
    story.add(33.4, "watch", resolved);
    story
}
