//! A shop under a steady load, with a watch over it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::config::{BreakerRule, Policy};
use evenkeel::demo::trouble::{self, Actor};
use evenkeel::store::sample::{self, SampleSize};
use evenkeel::watch::event::What;
use evenkeel::watch::finding::Finding;
use evenkeel::watch::incident::Incident;
use evenkeel::watch::log::Log;
use load::{Load, Profile, Recording, Sessions, Shop, Target};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tempfile::TempDir;

use crate::support::{TestApp, eventually};

const SIZE: SampleSize = SampleSize {
    products: 50,
    accounts: 10,
    orders: 500,
};
/// Requests per second: enough to notice, little enough for a debug build beside other tests.
const RATE: f64 = 120.0;
/// The role that may be ended.
pub const CRON: &str = "cron";
/// A role that may not.
pub const ANALYST: &str = "analyst";

pub struct Stage {
    pub shop: TestApp,
    pub log: Log,
    pub sql: PgConnection,
    load: Option<Load>,
    _journal: TempDir,
}

impl Stage {
    pub async fn open() -> Self {
        let shop = TestApp::builder()
            .settings(|settings| {
                settings.watch.resolve_after = Duration::from_secs(2);
                settings.watch.breaker.maintenance_roles = vec![CRON.to_owned()];
                settings.watch.breaker.rules = vec![BreakerRule {
                    role: None,
                    application: Some("precious*".to_owned()),
                    policy: Policy::Never,
                    grace: None,
                }];
            })
            .start()
            .await;
        let mut sql = shop.sql().await;
        for role in [CRON, ANALYST] {
            // Of the whole server, and other tests make it at the same time.
            let made = async || trouble::create_role(&mut sql, role).await.ok();
            eventually("the role", made).await;
        }
        sample::fill(&mut sql, SIZE, &|_, _| {}).await.unwrap();
        let journal = tempfile::tempdir().unwrap();
        let log = Log::open(journal.path().to_owned()).await.unwrap();
        let keeper = shop.app.keeper(log.clone(), None);
        let stop = shop.app.shutdown.token().clone();
        shop.app
            .shutdown
            .spawn(async move { keeper.run(stop).await });
        let profile = Profile::default();
        let target = Target::new(shop.address).unwrap();
        let learnt = Shop::learn(target, &profile, Sessions::Register(2))
            .await
            .unwrap();
        let load = Load::start(&Arc::new(learnt), &profile, RATE).unwrap();
        let stage = Self {
            shop,
            log,
            sql,
            load: Some(load),
            _journal: journal,
        };
        // What is usual is learnt first.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(
            stage.log.incidents().is_empty(),
            "{:#?}",
            stage.log.incidents()
        );
        stage
    }

    /// How others connect to the shop's database.
    pub fn options(&self) -> PgConnectOptions {
        self.shop.database()
    }

    /// The newest incident once `wanted` holds of it.
    pub async fn incident(&self, what: &str, wanted: impl Fn(&Incident) -> bool) -> Incident {
        let mut news = self.log.subscribe();
        let began = Instant::now();
        loop {
            let newest = self.log.incidents().pop();
            if let Some(incident) = newest.filter(&wanted) {
                return incident;
            }
            let left = Duration::from_secs(120).checked_sub(began.elapsed());
            let left = left.unwrap_or_else(|| panic!("{what}: {:#?}", self.log.incidents()));
            let _ = tokio::time::timeout(left, news.changed()).await;
        }
    }

    pub async fn stop(mut self) -> Recording {
        self.load.take().unwrap().stop().await
    }
}

pub fn actor(role: &str, application: &str) -> Actor {
    Actor {
        role: role.to_owned(),
        application: application.to_owned(),
    }
}

/// The findings of an incident, in order.
pub fn findings(incident: &Incident) -> Vec<&Finding> {
    incident
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Found { finding } => Some(&**finding),
            _ => None,
        })
        .collect()
}
