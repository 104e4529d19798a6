//! Troubles that befall a shop's database, as people and jobs cause them: for the demo's second act
//! and its stories, and for the tests and the benchmark of the watch.
//!
//! Every trouble is real: sessions of other applications and roles that do to the database what
//! scripts do. It ends when it is stopped, or when somebody ends its sessions.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio_util::task::AbortOnDropHandle;

use crate::watch::finding::Cause;

/// Who causes a trouble.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The role.
    pub role: String,
    /// How its sessions call themselves; may be empty.
    pub application: String,
}

/// Something that makes shoppers suffer.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A script takes an exclusive lock on tables with `ALTER`, and then works in the same transaction.
    Alter(Vec<String>),
    /// A person locks a table and goes to lunch.
    Forgotten(String),
    /// An index is built, not concurrently, on a table.
    Index(String),
    /// A reader has left its transaction open, and an `ALTER` by somebody else waits behind it.
    BlockedAlter {
        /// The table.
        table: String,
        /// Who alters.
        by: Actor,
    },
    /// A new version of the shop, whose sessions call themselves as the shop's do, runs a slow statement in
    /// so many sessions.
    BadDeploy {
        /// How the shop calls itself.
        shop: String,
        /// How many sessions.
        sessions: usize,
        /// Which version: each has a statement of its own.
        version: u32,
    },
    /// Clients open connections and forget them, until none is left.
    Storm,
}

/// Something that goes on beside it and harms nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoy {
    /// A job that updates a row of its own table again and again.
    Job,
    /// An analyst whose statements take a second each.
    Analyst,
    /// A transaction that somebody has left open, and that nobody waits for.
    IdleTransaction,
}

/// Sessions at work; they end with this value.
#[derive(Debug)]
pub struct AtWork {
    tasks: Vec<AbortOnDropHandle<()>>,
    pids: Vec<i32>,
    options: PgConnectOptions,
}

impl Trouble {
    /// What the watch should say.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Alter(_) | Self::Forgotten(_) | Self::Index(_) => Cause::Script,
            Self::BlockedAlter { .. } => Cause::BlockedChain,
            Self::BadDeploy { .. } => Cause::BadDeploy,
            Self::Storm => Cause::ConnectionStorm,
        }
    }

    /// Lets it begin, on the database of `options`, as `actor`.
    ///
    /// # Errors
    /// When the sessions cannot be opened.
    pub async fn begin(
        &self,
        options: &PgConnectOptions,
        actor: &Actor,
    ) -> Result<AtWork, sqlx::Error> {
        let mut at_work = AtWork::new(options);
        match self {
            Self::Alter(tables) => {
                let mut script = vec!["BEGIN".to_owned()];
                script.extend(
                    tables.iter().map(|table| {
                        format!("ALTER TABLE {table} ADD COLUMN evenkeel_trouble date")
                    }),
                );
                // As long as it takes: what a script works at meanwhile makes no difference.
                script.push("SELECT pg_sleep(600)".to_owned());
                at_work.send(actor, script).await?;
            }
            Self::Forgotten(table) => {
                let script = ["BEGIN".to_owned(), format!("LOCK TABLE {table}")];
                at_work.send(actor, script.to_vec()).await?;
            }
            Self::Index(table) => {
                let build =
                    format!("BEGIN; CREATE INDEX ON {table} ((id::text)); SELECT pg_sleep(600)");
                at_work.send(actor, vec![build]).await?;
            }
            Self::BlockedAlter { table, by } => {
                let read = format!("SELECT FROM {table} LIMIT 1");
                at_work.send(actor, vec!["BEGIN".to_owned(), read]).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                let alter = format!("ALTER TABLE {table} ADD COLUMN evenkeel_trouble date");
                at_work.send(by, vec![alter]).await?;
            }
            Self::BadDeploy {
                shop,
                sessions,
                version,
            } => {
                let actor = Actor {
                    role: actor.role.clone(),
                    application: shop.clone(),
                };
                let slow = format!(
                    "SELECT count(*) AS related_{version} FROM products AS p, products AS q \
                      WHERE md5(p.title || q.title) LIKE '%related%'"
                );
                for _ in 0..*sessions {
                    at_work.repeat(&actor, &slow, Duration::ZERO).await?;
                }
            }
            Self::Storm => loop {
                match at_work.send(actor, vec!["SELECT 1".to_owned()]).await {
                    Ok(()) => {}
                    Err(err) if is_full(&err) => break,
                    Err(err) => return Err(err),
                }
            },
        }
        Ok(at_work)
    }
}

impl Decoy {
    /// Lets it begin, on the database of `options`, as `actor`.
    ///
    /// # Errors
    /// When the session cannot be opened.
    pub async fn begin(
        self,
        options: &PgConnectOptions,
        actor: &Actor,
    ) -> Result<AtWork, sqlx::Error> {
        let mut at_work = AtWork::new(options);
        match self {
            Self::Job => {
                let mut conn = connect(options, actor).await?;
                conn.execute("CREATE TABLE IF NOT EXISTS job_state (n bigint)")
                    .await?;
                let step = "UPDATE job_state SET n = n + 1";
                at_work
                    .repeat(actor, step, Duration::from_millis(50))
                    .await?;
            }
            Self::Analyst => {
                let report =
                    "SELECT sum(length(md5(n::text))) FROM generate_series(1, 700000) AS n";
                let pause = Duration::from_millis(500);
                at_work.repeat(actor, report, pause).await?;
            }
            Self::IdleTransaction => {
                let script = ["BEGIN".to_owned(), "SELECT pg_current_xact_id()".to_owned()];
                at_work.send(actor, script.to_vec()).await?;
            }
        }
        Ok(at_work)
    }
}

impl AtWork {
    fn new(options: &PgConnectOptions) -> Self {
        Self {
            tasks: Vec::new(),
            pids: Vec::new(),
            options: options.clone(),
        }
    }

    /// The process ids of its sessions.
    pub fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// How many of its sessions live.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn alive(&self, conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)")
            .bind(&self.pids)
            .fetch_one(conn)
            .await
    }

    /// Ends its sessions that are left.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn stop(self) -> Result<(), sqlx::Error> {
        // Those that only hold a connection end with it, and make room for this one.
        drop(self.tasks);
        let options = self.options.application_name("evenkeel trouble: end");
        let mut conn = options.connect().await?;
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY($1)")
            .bind(self.pids)
            .execute(&mut conn)
            .await?;
        Ok(())
    }

    /// Sends the statements on a connection of their own, which then stays open.
    async fn send(&mut self, actor: &Actor, script: Vec<String>) -> Result<(), sqlx::Error> {
        let mut conn = self.open(actor).await?;
        let work = async move {
            for statement in script {
                if conn.execute(AssertSqlSafe(statement)).await.is_err() {
                    return;
                }
            }
            // The connection stays open with this task.
            std::future::pending::<()>().await;
        };
        self.tasks.push(AbortOnDropHandle::new(tokio::spawn(work)));
        Ok(())
    }

    /// Sends the statement again and again, with a pause in between, until somebody ends the session.
    async fn repeat(
        &mut self,
        actor: &Actor,
        statement: &str,
        pause: Duration,
    ) -> Result<(), sqlx::Error> {
        let mut conn = self.open(actor).await?;
        let statement = statement.to_owned();
        let work = async move {
            while conn.execute(AssertSqlSafe(statement.clone())).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        };
        self.tasks.push(AbortOnDropHandle::new(tokio::spawn(work)));
        Ok(())
    }

    async fn open(&mut self, actor: &Actor) -> Result<PgConnection, sqlx::Error> {
        let mut conn = connect(&self.options, actor).await?;
        let pid = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut conn)
            .await?;
        self.pids.push(pid);
        Ok(conn)
    }
}

/// Makes a role for those who cause troubles, or leaves one of that name as it is. As a member of the
/// owner it may alter the tables.
///
/// # Errors
/// What the database says.
pub async fn create_role(conn: &mut PgConnection, role: &str) -> Result<(), sqlx::Error> {
    let sql = format!(
        "DO $$ BEGIN CREATE ROLE {role} LOGIN;
               EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         DO $$ BEGIN EXECUTE format('GRANT %I TO {role}', current_user); END $$"
    );
    conn.execute(AssertSqlSafe(sql)).await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions, actor: &Actor) -> Result<PgConnection, sqlx::Error> {
    let options = options.clone().username(&actor.role);
    options.application_name(&actor.application).connect().await
}

/// Whether the server admits no more connections, of anybody or of this role.
fn is_full(err: &sqlx::Error) -> bool {
    let code = err
        .as_database_error()
        .and_then(|err| err.code().map(|c| c.into_owned()));
    code.as_deref() == Some("53300")
}
