//! A database with a table to migrate, and an engine to do it.

use std::time::Duration;

use evenkeel::config::Engine;
use evenkeel::migration::governor::Sensors;
use evenkeel::migration::ledger::{self, Run, State};
use evenkeel::migration::runner::{End, Runner};
use evenkeel::migration::sampler::Sampler;
use pool::gate::{Admission, Gate};
use pool::settings::{Limits, Share};
use pool::{Addresses, Class, Pool};
use pressure::settings::{Budgets, PaceSettings};
use pressure::{Latencies, Surroundings};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio_util::sync::CancellationToken;

use crate::support::server;
use crate::support::wire::CountingProxy;

/// Changes a pending row, and would change it again if it were asked to.
pub const UPDATE: &str = "UPDATE t SET done = true, n = n + 1 WHERE :range";
/// More than anything here takes; a bound for what would hang.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A database of its own.
pub struct Fixture {
    /// How to reach it.
    pub database: PgConnectOptions,
    /// A connection beside the engine's.
    pub sql: PgConnection,
    /// The engine's pool.
    pub pool: Pool,
    /// The engine's settings.
    pub engine: Engine,
    /// What the engine hears of the database and the fleet; nothing, unless a test is about that.
    pub surroundings: Option<Surroundings>,
    /// The pace's settings: full speed, unless a test is about the pace.
    pub pace: PaceSettings,
}

/// The text of a migration of table `t`.
pub fn migration(header: &str, statement: &str) -> String {
    format!("-- title: T\n-- owner: tests\n{header}\n\n{statement}\n")
}

/// The text of a migration of table `t` by its primary key.
pub fn of_t() -> String {
    migration("-- table: t\n-- pending: NOT done", UPDATE)
}

/// A pool of the engine's, on the database that `options` reach.
fn pool(options: &PgConnectOptions, background: usize) -> Pool {
    pool_at(options.clone().application_name("engine"), background)
}

fn pool_at(addresses: impl Into<Addresses>, background: usize) -> Pool {
    let limits = Limits {
        acquire: Duration::from_secs(5),
        hold: Some(Duration::from_secs(10)),
    };
    let mut shares = [Share { min: 0, max: 3 }; 4];
    shares[Class::Background.index()].max = background;
    let gate = Gate::new(Admission::new(6, shares));
    Pool::new(addresses, 6, Duration::from_secs(5), gate, [limits; 4])
}

impl Fixture {
    pub async fn new() -> Self {
        Self::at(server::empty_database().await).await
    }

    /// Another engine on `other`'s database.
    pub async fn beside(other: &Self) -> Self {
        Self::at(other.database.clone()).await
    }

    /// A database whose text is in `encoding`, sorted by its bytes.
    pub async fn encoded(encoding: &str) -> Self {
        let database = server::encoded_database(encoding).await;
        server::apply_schema(&database).await;
        Self::at(database).await
    }

    /// Has the engine work as `role`, which may do what it wants with the ledger and with `t`.
    pub async fn as_role(&mut self, role: &str) {
        self.run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA evenkeel TO {role};
             GRANT ALL ON ALL TABLES IN SCHEMA evenkeel TO {role};
             GRANT ALL ON ALL SEQUENCES IN SCHEMA evenkeel TO {role}; GRANT ALL ON t TO {role}"
        ))
        .await;
        self.pool = pool(&self.database.clone().username(role), 3);
    }

    /// An engine on a database that is there.
    pub async fn at(database: PgConnectOptions) -> Self {
        let pool = pool(&database, 3);
        Self {
            sql: database.connect().await.unwrap(),
            database,
            pool,
            surroundings: None,
            engine: Engine {
                batch_first: 10,
                batch_max: 50,
                ..Engine::default()
            },
            pace: PaceSettings {
                adaptive: false,
                ..PaceSettings::default()
            },
        }
    }

    /// Has the engine reach its database through tasks of this very runtime: no answer can be there
    /// before whoever asked has waited, however the processes are scheduled.
    pub async fn answers_only_who_waits(&mut self) {
        let proxy = CountingProxy::start(&self.database).await;
        self.pool = pool(&proxy.options, 3);
    }

    /// Has the engine work as `role`.
    pub async fn act_as(&mut self, role: &str) {
        self.database = self.database.clone().username(role);
        self.pool = pool(&self.database, 3);
    }

    /// Has the engine run authors' SQL at `direct`, and all else where it did.
    pub fn send_authors_to(&mut self, direct: PgConnectOptions) {
        let shop = self.database.clone();
        self.pool = pool_at(
            Addresses {
                shop,
                direct: Some(direct),
            },
            3,
        );
    }

    /// Leaves the engine so many connections at a time.
    pub fn with_connections(&mut self, background: usize) {
        self.pool = pool(&self.database, background);
    }

    /// A fixture whose table `t` has the keys 1 to `rows`.
    pub async fn with_rows(rows: i64) -> Self {
        let mut fixture = Self::new().await;
        fixture.run("CREATE TABLE t (id bigint PRIMARY KEY)").await;
        let keys = format!("INSERT INTO t SELECT generate_series(1, {rows})");
        fixture.run(&keys).await;
        fixture.count_changes("t").await;
        fixture
    }

    /// A sampler of this fixture's database, in the name of `process`; with `latencies` it publishes
    /// what shoppers feel there.
    pub fn watch(
        &self,
        process: &str,
        budgets: Budgets,
        latencies: Option<Latencies>,
        stop: &CancellationToken,
    ) -> Surroundings {
        let surroundings = Surroundings::new(process, budgets);
        let sampler = Sampler::new(
            self.database.clone(),
            self.pool.clone(),
            surroundings.clone(),
            latencies,
        );
        tokio::spawn(sampler.run(stop.clone()));
        surroundings
    }

    /// Has every row of `table` count how often it was changed.
    pub async fn count_changes(&mut self, table: &str) {
        self.run(&format!(
            "ALTER TABLE {table} ADD done boolean NOT NULL DEFAULT false,
                 ADD n integer NOT NULL DEFAULT 0, ADD changes integer NOT NULL DEFAULT 0;
             CREATE OR REPLACE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN NEW.changes := OLD.changes + 1; RETURN NEW; END';
             CREATE TRIGGER count_change BEFORE UPDATE OF done, n ON {table}
                 FOR EACH ROW EXECUTE FUNCTION count_change()"
        ))
        .await;
    }

    pub async fn connect(&self) -> PgConnection {
        self.database.connect().await.unwrap()
    }

    pub async fn run(&mut self, sql: &str) {
        let done = self.sql.execute(AssertSqlSafe(sql.to_owned())).await;
        done.unwrap_or_else(|err| panic!("{err}: {sql}"));
    }

    pub async fn count(&mut self, sql: &str) -> i64 {
        let counted = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        let counted = counted.fetch_one(&mut self.sql).await;
        counted.unwrap_or_else(|err| panic!("{err}: {sql}"))
    }

    pub async fn enqueue(&mut self, text: &str) -> Run {
        ledger::enqueue(&mut self.sql, "m", text, "tester")
            .await
            .unwrap()
    }

    pub async fn command(&mut self, run: &Run, to: State) -> Run {
        ledger::command(&mut self.sql, run.id, to, "tester")
            .await
            .unwrap()
    }

    /// An engine that stops with `stop`, beside a shop whose shoppers feel `latencies`.
    pub fn runner_with(&self, latencies: Option<Latencies>, stop: CancellationToken) -> Runner {
        let sensors = Sensors {
            latencies,
            pool: self.pool.clone(),
            surroundings: self.surroundings.clone(),
        };
        Runner::new(sensors, self.engine.clone(), self.pace.clone(), stop)
    }

    /// An engine on its own.
    pub fn runner(&self) -> Runner {
        self.runner_with(None, CancellationToken::new())
    }

    /// Takes the run as another process does after the holder has died; `None` when the holder's
    /// last statement, which may still have been on its way, was the one that completed it.
    pub async fn try_take_over(&mut self) -> Option<Run> {
        loop {
            self.run(
                "UPDATE evenkeel.runs SET lease_until = now() - interval '1 s'
                  WHERE state = 'running'",
            )
            .await;
            // A batch on its way renews the lease that was just ended: then once more.
            if let Some(run) = self.runner().take().await.unwrap() {
                return Some(run);
            }
            let running: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM evenkeel.runs WHERE state IN ('queued', 'running'))",
            )
            .fetch_one(&mut self.sql)
            .await
            .unwrap();
            if !running {
                return None;
            }
        }
    }

    /// Takes the run as another process does after the holder has died before the end.
    pub async fn take_over(&mut self) -> Run {
        self.try_take_over().await.unwrap()
    }

    /// Takes the run that is due and drives it to its end.
    pub async fn drive(&self) -> End {
        let runner = self.runner();
        let run = runner.take().await.unwrap().unwrap();
        tokio::time::timeout(PATIENCE, runner.drive(run))
            .await
            .unwrap()
    }

    /// Queues `text` and drives it.
    pub async fn migrate(&mut self, text: &str) -> (End, Run) {
        let run = self.enqueue(text).await;
        let end = self.drive().await;
        (end, self.find(&run).await)
    }

    pub async fn find(&mut self, run: &Run) -> Run {
        ledger::find(&mut self.sql, run.id).await.unwrap()
    }

    /// The run that was queued last.
    pub async fn find_last(&mut self) -> Run {
        let last = self.count("SELECT max(id) FROM evenkeel.runs").await;
        ledger::find(&mut self.sql, last).await.unwrap()
    }

    /// Queues `text`, which must fail, and returns the reason.
    pub async fn refusal(&mut self, text: &str) -> String {
        let (end, run) = self.migrate(text).await;
        assert_eq!((end, run.state), (End::Failed, State::Failed));
        run.error.unwrap()
    }

    /// Every row of `table` was changed exactly once, by batches without gap or overlap.
    pub async fn assert_exactly_once(&mut self, table: &str, run: &Run) {
        let rows = self.count(&format!("SELECT count(*) FROM {table}")).await;
        let once = format!("SELECT count(*) FROM {table} WHERE done AND n = 1 AND changes = 1");
        assert_eq!(self.count(&once).await, rows, "{run:?}");
        let run = self.find(run).await;
        assert_eq!(
            (run.state, run.rows_seen, run.rows_changed),
            (State::Completed, rows, rows),
            "{run:?}"
        );
        let ledger = "SELECT coalesce(sum(rows_changed), 0)::bigint FROM evenkeel.batches";
        assert_eq!(self.count(ledger).await, rows, "{run:?}");
        assert_eq!(self.gaps().await, 0, "{run:?}");
    }

    /// Batches of the main walk that do not begin where the one before ended.
    pub async fn gaps(&mut self) -> i64 {
        self.count(
            "SELECT count(*) FROM (
                 SELECT lower_key, lag(upper_key) OVER (PARTITION BY run_id ORDER BY number) AS before
                   FROM evenkeel.batches WHERE phase = 'main') AS b
              WHERE lower_key IS DISTINCT FROM before",
        )
        .await
    }

    /// Ranges that are set aside and not resolved.
    pub async fn quarantined(&mut self) -> i64 {
        self.count("SELECT count(*) FROM evenkeel.quarantine WHERE resolved_at IS NULL")
            .await
    }

    /// Waits until `sql` counts more than zero.
    pub async fn wait_until(&mut self, sql: &str) {
        let met = async {
            while self.count(sql).await == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, met)
            .await
            .unwrap_or_else(|_| panic!("never: {sql}"));
    }
}
