//! The judgement by what was seen, on samples that are made up, so that the right answer is known; and
//! what the breaker makes of it.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use evenkeel::config::{Breaker, BreakerRule, Job, Policy};
use evenkeel::watch::breaker::{self, Decision};
use evenkeel::watch::changes::{Change, Kind};
use evenkeel::watch::culprit::{Database, Evidence, Shop, judge};
use evenkeel::watch::event::Act;
use evenkeel::watch::finding::{Cause, Finding, Suspect};
use evenkeel::watch::sessions::{Clients, Sample, Session, State};
use evenkeel::watch::shoppers::{ClassNow, Shoppers, Usual};
use evenkeel::watch::statements::Statements;

const ALTER: &str = "ALTER TABLE orders ADD COLUMN x date";

fn session(pid: i32, application: &str) -> Session {
    Session {
        pid,
        role: "shop".to_owned(),
        application: application.to_owned(),
        state: State::Active,
        backend_start: Some(Utc::now()),
        statement_s: Some(1.0),
        query: Some("SELECT 1".to_owned()),
        ..Session::default()
    }
}

/// Shop sessions that wait for `holder`.
fn queue(pids: std::ops::Range<i32>, holder: i32) -> Vec<Session> {
    let waits = |pid| Session {
        blocked_by: vec![holder],
        wait: Some("Lock".to_owned()),
        wants: Some("RowExclusiveLock on orders".to_owned()),
        waits_s: Some(0.5),
        ..session(pid, "evenkeel")
    };
    pids.map(waits).collect()
}

fn script(pid: i32) -> Session {
    Session {
        role: "cron".to_owned(),
        holds: vec!["AccessExclusiveLock on orders".to_owned()],
        query: Some(ALTER.to_owned()),
        ..session(pid, "nightly.sh")
    }
}

fn sample(sessions: impl IntoIterator<Item = Session>) -> Sample {
    Sample {
        connections: 20,
        connections_max: 100,
        sessions: sessions.into_iter().collect(),
        ..Sample::default()
    }
}

/// Shoppers of whom `failed` a second fail, and of whom so many times the usual arrive.
fn shoppers(failed: f64, arrivals: f64) -> Shoppers {
    let usual = Usual {
        arrivals_per_s: 100.0,
        p95_ms: 5.0,
        learnt_s: 100.0,
    };
    let now = ClassNow {
        arrivals_per_s: 100.0 * arrivals,
        failed_per_s: failed,
        p95_ms: Some(5.0),
        ..ClassNow::default()
    };
    Shoppers {
        now: [now; 3],
        usual: [usual; 3],
    }
}

struct Scene {
    sample: Option<Sample>,
    shoppers: Shoppers,
    statements: Statements,
    changes: Vec<Change>,
    before: Option<Finding>,
}

impl Scene {
    fn suffering(sample: Sample) -> Self {
        let mut statements = Statements::default();
        let now = Utc::now();
        for minutes in [30, 20, 1] {
            let at = now - TimeDelta::minutes(minutes);
            statements.learn(
                ["SELECT 1", "INSERT INTO orders VALUES (1)"].into_iter(),
                at,
            );
        }
        Self {
            sample: Some(sample),
            shoppers: shoppers(20.0, 1.0),
            statements,
            changes: Vec::new(),
            before: None,
        }
    }

    fn judged(&self) -> Option<Finding> {
        let suffer = !self.shoppers.pains().is_empty();
        judge(&Evidence {
            now: Utc::now(),
            database: match &self.sample {
                Some(sample) => Database::Answers(sample),
                None => Database::Lost("connection refused"),
            },
            shoppers: &self.shoppers,
            suffering_s: suffer.then_some(6.0),
            statements: &self.statements,
            changes: &self.changes,
            before: self.before.as_ref().map(|finding| (finding, 1.0)),
            jobs: &[Job {
                name: "nightly-reprice".to_owned(),
                owner: "pricing".to_owned(),
                role: Some("cron".to_owned()),
                application: Some("nightly*".to_owned()),
            }],
            shop: &Shop {
                application: "evenkeel".to_owned(),
            },
        })
    }

    fn found(&self) -> Finding {
        self.judged().unwrap()
    }
}

#[test]
fn whoever_holds_the_lock_is_named_with_evidence_and_exclusions() {
    let analyst = session(7, "notebook");
    let found = Scene::suffering(sample(
        queue(10..20, 1).into_iter().chain([script(1), analyst]),
    ))
    .found();
    assert_eq!((found.cause, found.certainty), (Cause::Script, 1.0));
    let said = found.sentence();
    for part in [
        "job `nightly-reprice` of pricing (role cron",
        "holds AccessExclusiveLock on orders",
        "10 of 10 waiting sessions of the shop wait for it",
        "Not traffic: arrivals +0 %",
        "Not a deploy: none is known of",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_queue_that_is_short_and_young_is_nobodys_fault() {
    let mut scene = Scene::suffering(sample(queue(10..12, 1).into_iter().chain([script(1)])));
    scene.shoppers = shoppers(0.0, 1.0);
    assert_eq!(scene.judged(), None);
}

#[test]
fn a_queue_of_the_shops_own_is_no_culprit() {
    let holder = session(1, "evenkeel");
    let found = Scene::suffering(sample(queue(10..20, 1).into_iter().chain([holder]))).found();
    assert_eq!(found.cause, Cause::Unknown);
}

#[test]
fn a_migration_of_ours_is_called_that_and_not_a_script() {
    let batch = session(1, "evenkeel migration fill_days run 1 batch 7");
    let found = Scene::suffering(sample(queue(10..20, 1).into_iter().chain([batch]))).found();
    assert_eq!(found.cause, Cause::OwnMigration);
    let decision = breaker::decide(&Breaker::default(), &found, Duration::from_secs(60));
    assert!(matches!(decision, Decision::Leave(_)), "{decision:?}");
}

#[test]
fn a_name_that_only_resembles_ours_protects_nobody() {
    for name in ["evenkeel-nightly", "evenkeel ", "evenkeel sampler 2"] {
        let rogue = Session {
            application: name.to_owned(),
            ..script(1)
        };
        let found = Scene::suffering(sample(queue(10..20, 1).into_iter().chain([rogue]))).found();
        assert_eq!(found.cause, Cause::Script, "{name}");
    }
}

#[test]
fn more_arrivals_are_a_surge_and_a_new_statement_is_a_deploy() {
    let busy = |query: &str| {
        let query = query.to_owned();
        let busy = (10..20).map(move |pid| Session {
            query: Some(query.clone()),
            ..session(pid, "evenkeel")
        });
        sample(busy)
    };
    let mut surge = Scene::suffering(busy("SELECT 2"));
    surge.shoppers = shoppers(20.0, 3.0);
    let found = surge.found();
    assert_eq!(found.cause, Cause::TrafficSurge);
    assert!(
        found
            .sentence()
            .contains("900 requests arrive per second, usually 300"),
        "{}",
        found.sentence()
    );

    let mut deploy = Scene::suffering(busy("SELECT related FROM products"));
    let undeclared = deploy.found();
    deploy.changes = vec![Change {
        at: Utc::now() - TimeDelta::seconds(90),
        kind: Kind::Deploy,
        summary: "shop 2.14.0".to_owned(),
        source: "ci".to_owned(),
        body: serde_json::Value::Null,
    }];
    let declared = deploy.found();
    assert_eq!(
        (undeclared.cause, declared.cause),
        (Cause::BadDeploy, Cause::BadDeploy)
    );
    assert!(declared.certainty > undeclared.certainty);
    assert!(
        declared
            .sentence()
            .contains("shop 2.14.0 was deployed 1m 30s ago"),
        "{}",
        declared.sentence()
    );
}

#[test]
fn one_analyst_at_work_is_a_bystander() {
    let analyst = session(7, "notebook");
    let found = Scene::suffering(sample([analyst])).found();
    assert_eq!(
        (found.cause, found.culprit.as_ref()),
        (Cause::Unknown, None)
    );
    assert!(
        found
            .sentence()
            .contains("at work, and not blamed: `notebook`"),
        "{}",
        found.sentence()
    );
}

#[test]
fn connections_that_run_out_are_a_storm_of_whoever_has_most_of_them() {
    let mut storm = sample([]);
    storm.connections = 97;
    storm.connections_max = 97;
    let clients = |application: &str, connections| Clients {
        application: application.to_owned(),
        role: "worker".to_owned(),
        connections,
    };
    storm.clients = vec![clients("forgotten", 77), clients("evenkeel", 20)];
    let mut scene = Scene::suffering(storm);
    scene.shoppers = shoppers(0.0, 1.0);
    let found = scene.found();
    assert_eq!(found.cause, Cause::ConnectionStorm);
    assert!(
        found.sentence().contains("77 of them are its"),
        "{}",
        found.sentence()
    );
}

#[test]
fn what_outlives_its_cause_is_recovery_and_what_nobody_caused_is_unknown() {
    let mut scene = Scene::suffering(sample([]));
    assert_eq!(scene.found().cause, Cause::Unknown);
    scene.before = Some(finding(Cause::Script, 1.0));
    assert_eq!(scene.found().cause, Cause::Recovery);
    // Whoever failed comes again: that is no surge.
    scene.shoppers = shoppers(20.0, 3.0);
    assert_eq!(scene.found().cause, Cause::Recovery);
    scene.shoppers = shoppers(0.0, 1.0);
    assert_eq!(scene.judged(), None);
    scene.sample = None;
    assert_eq!(scene.found().cause, Cause::DatabaseLost);
}

fn suspect(pid: i32, role: &str, application: &str) -> Suspect {
    Suspect {
        pid,
        backend_start: Some(Utc::now()),
        role: role.to_owned(),
        application: application.to_owned(),
        client: None,
        since: None,
        statement: String::new(),
        job: None,
        holds: Vec::new(),
    }
}

fn finding(cause: Cause, certainty: f64) -> Finding {
    Finding {
        at: Utc::now(),
        cause,
        culprit: Some(suspect(1, "cron", "nightly.sh")),
        first_victim: None,
        accomplices: Vec::new(),
        certainty,
        evidence: Vec::new(),
        exclusions: Vec::new(),
    }
}

fn settings() -> Breaker {
    Breaker {
        maintenance_roles: vec!["cron".to_owned()],
        rules: vec![BreakerRule {
            role: None,
            application: Some("precious*".to_owned()),
            policy: Policy::Never,
            grace: None,
        }],
        ..Breaker::default()
    }
}

#[test]
fn the_breaker_ends_whom_a_rule_allows_when_it_is_certain_and_the_grace_is_over() {
    let (soon, late) = (settings().grace / 2, settings().grace);
    let decide = |finding: &Finding, named| breaker::decide(&settings(), finding, named);
    let certain = finding(Cause::Script, 1.0);
    assert_eq!(decide(&certain, soon), Decision::Wait);
    assert!(matches!(
        decide(&certain, late),
        Decision::Do {
            act: Act::Terminate,
            ..
        }
    ));
    assert!(matches!(
        decide(&finding(Cause::Script, 0.5), late),
        Decision::Ask { .. }
    ));
    // Everything else is not ended by ending a session.
    for cause in Cause::ALL {
        let acts = matches!(cause, Cause::Script | Cause::BlockedChain);
        let decision = decide(&finding(cause, 1.0), late);
        assert_eq!(matches!(decision, Decision::Do { .. }), acts, "{cause}");
    }
}

#[test]
fn without_a_rule_it_asks_and_who_is_precious_is_left() {
    let late = Duration::from_secs(1);
    let mut found = finding(Cause::Script, 1.0);
    let asks = breaker::decide(&Breaker::default(), &found, late);
    assert!(matches!(asks, Decision::Ask { .. }), "{asks:?}");
    found.culprit = Some(suspect(1, "cron", "precious-import"));
    assert!(matches!(
        breaker::decide(&settings(), &found, late),
        Decision::Leave(_)
    ));
}

#[test]
fn of_a_chain_the_end_is_ended_that_may_be() {
    let mut found = finding(Cause::BlockedChain, 1.0);
    found.culprit = Some(suspect(1, "analyst", "notebook"));
    found.first_victim = Some(suspect(2, "cron", "deploy"));
    match breaker::decide(&settings(), &found, Duration::from_secs(1)) {
        Decision::Do { suspect, .. } => assert_eq!(suspect.pid, 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn whom_the_role_may_not_look_into_is_not_ended() {
    let mut found = finding(Cause::Script, 1.0);
    found.culprit.as_mut().unwrap().backend_start = None;
    let decision = breaker::decide(&settings(), &found, Duration::from_secs(1));
    assert!(matches!(decision, Decision::Leave(_)), "{decision:?}");
}
