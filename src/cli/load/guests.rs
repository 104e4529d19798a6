//! The accounts that a load uses in a shop's database: made for it, and removed with their orders.

use std::path::PathBuf;

use load::Credentials;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::cli::database::{Database, DatabaseError, data_dir};
use crate::config::Settings;
use crate::store::erase::{self, Erased};
use crate::store::generated;
use crate::store::passwords::{PasswordError, Passwords};

/// Whoever has this lock of a session owns all accounts that loads have made in the database.
const LOCK: i64 = 0x4576_656e_6c6f_6164;

/// Why no load is sent, or why its accounts were not removed.
#[derive(Debug, thiserror::Error)]
pub enum GuestsError {
    /// No database, or no shop in it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The shop's database was not found, so nobody knows whose orders are in it.
    #[error(
        "whether the shop is a real one cannot be told, because its database was not found: no server runs in \
         {}. Name the database as the shop does (--data-dir, --database-url or DATABASE_URL), or say \
         --place-orders to have orders and accounts placed in whatever shop it is; then they stay there",
        .0.display()
    )]
    NotFound(PathBuf),
    /// There are accounts that nobody made up.
    #[error(
        "the shop has {} accounts that are no load's and no sample's, so it is a real one. A load places orders, \
         which take pieces from stock until the load has ended: say --place-orders if that is meant",
        several(*.0)
    )]
    Real(i64),
    /// Somebody else sends a load.
    #[error("another load is sent to this shop: wait for its end")]
    Busy,
    /// The accounts are not known to the shop.
    #[error(
        "the shop does not know an account that was just written to its database: {0} is another shop's. Name \
         the database as the shop does (--data-dir, --database-url or DATABASE_URL)"
    )]
    OtherShop(String),
    /// No password could be made.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The database refused.
    #[error(
        "the accounts of the load: {}; what is left of them is removed by the next load, or by `evenkeel load \
         --clean`", pool::describe(.0)
    )]
    Sql(#[from] sqlx::Error),
}

fn several(accounts: i64) -> String {
    match accounts {
        generated::COUNTED.. => format!("{} or more", generated::COUNTED),
        accounts => accounts.to_string(),
    }
}

/// A load's accounts, for as long as it lasts. What a killed load leaves, the next one removes.
pub(super) struct Guests {
    database: Database,
    conn: PgConnection,
}

impl Guests {
    /// Finds the shop's database, removes what an earlier load has left, and refuses a real shop unless
    /// `place_orders`; then `None` says that the database was not found.
    pub(super) async fn open(
        settings: &Settings,
        place_orders: bool,
    ) -> Result<Option<Self>, GuestsError> {
        let Some(mut guests) = Self::find(settings).await? else {
            return match place_orders {
                true => Ok(None),
                false => Err(GuestsError::NotFound(data_dir(&settings.database))),
            };
        };
        let people = generated::people(&mut guests.conn).await?;
        if people > 0 && !place_orders {
            return Err(GuestsError::Real(people));
        }
        guests.tidy().await?;
        Ok(Some(guests))
    }

    /// The database of a shop that runs, locked against other loads.
    pub(super) async fn find(settings: &Settings) -> Result<Option<Self>, GuestsError> {
        let Some(database) = Database::running(&settings.database).await? else {
            return Ok(None);
        };
        let mut conn = database.shop_as_it_is().await?;
        let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut conn)
            .await?;
        match locked {
            true => Ok(Some(Self { database, conn })),
            false => Err(GuestsError::Busy),
        }
    }

    /// Removes what an earlier load has left, and says so.
    async fn tidy(&mut self) -> Result<(), GuestsError> {
        let left = self.erase().await?;
        if left.accounts > 0 {
            eprintln!(
                "an earlier load did not end in order: its accounts ({}) and orders ({}) are removed",
                left.accounts, left.orders
            );
        }
        Ok(())
    }

    /// Makes accounts. They are known to nobody else.
    pub(super) async fn register(&mut self, count: usize) -> Result<Vec<Credentials>, GuestsError> {
        let password = uuid::Uuid::new_v4().to_string();
        let turn = Passwords::new(1).turn(0).await?;
        let hash = turn.hash(password.clone()).await?;
        let load = uuid::Uuid::new_v4();
        let emails = generated::create(&mut self.conn, load, count, &hash).await?;
        let credentials = emails.into_iter().map(|email| Credentials {
            email,
            password: password.clone(),
        });
        Ok(credentials.collect())
    }

    /// That the shop does not know them.
    pub(super) fn unknown(&self) -> GuestsError {
        let options = &self.database.options;
        GuestsError::OtherShop(options.get_database().unwrap_or_default().to_owned())
    }

    /// Removes them with their orders, whose pieces go back into stock.
    pub(super) async fn remove(mut self) -> Result<Erased, GuestsError> {
        let erased = self.erase().await?;
        // Its end also ends the lock.
        self.conn.close().await?;
        self.database.close().await?;
        Ok(erased)
    }

    async fn erase(&mut self) -> Result<Erased, sqlx::Error> {
        let accounts = generated::accounts(&mut self.conn).await?;
        erase::erase(&mut self.conn, &accounts, &[]).await
    }
}
