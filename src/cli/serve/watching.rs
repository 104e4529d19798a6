//! Whoever watches, keeps the record and tells people.

use std::path::Path;

use futures_util::FutureExt;
use sqlx::postgres::PgConnectOptions;

use super::ServeError;
use crate::app::App;
use crate::cli::database::data_dir;
use crate::config::Settings;
use crate::watch::alerts::Rules;
use crate::watch::journal;
use crate::watch::log::Log;
use crate::watch::notify::Escalator;
use crate::watch::ticket::Tickets;

/// All that the settings of the watch name, read before anything is written: rules, channels, keys and
/// environment variables.
pub(super) struct Watching {
    /// How the watch connects, if not as the shop does.
    options: Option<PgConnectOptions>,
    rules: Rules,
    tickets: Tickets,
    escalator: Box<dyn FnOnce(Log) -> Escalator + Send>,
    /// The journal, where the settings name a directory that is not in a data directory, which may be yet to
    /// be made.
    log: Option<Log>,
}

impl Watching {
    /// Reads what the settings name; `None` where this process does not watch.
    ///
    /// # Errors
    /// [`ServeError`] says which setting, file or variable is wrong.
    pub(super) async fn prepare(settings: &Settings) -> Result<Option<Self>, ServeError> {
        let watch = &settings.watch;
        if !watch.enabled {
            return Ok(None);
        }
        let options = match &watch.database_url {
            Some(url) => Some(url.expose().parse().map_err(ServeError::WatchUrl)?),
            None => None,
        };
        let rules = Rules::load(watch.alerts.rules.as_deref())?;
        let tickets = Tickets::new(&watch.notify)?;
        let escalator = Box::new(Escalator::prepare(watch, tickets.clone())?);
        let log = match &watch.journal {
            Some(directory) if !is_in_new_data(directory, settings) => {
                Some(Log::open(directory.clone()).await?)
            }
            _ => None,
        };
        Ok(Some(Self {
            options,
            rules,
            tickets,
            escalator,
            log,
        }))
    }

    /// Starts them, apart from the shop, whose requests would keep them from it when there are too many.
    ///
    /// # Errors
    /// [`ServeError`] where the journal cannot be opened or no thread is had.
    pub(super) async fn begin(self, app: &mut App) -> Result<(), ServeError> {
        let log = match self.log {
            Some(log) => log,
            None => Log::open(journal::directory(&app.settings)).await?,
        };
        let escalator = (self.escalator)(log.clone());
        let replicator = app.replicator(log.clone());
        let keeper = app.keeper(log.clone(), self.options);
        let keeper = keeper.with_alerts(self.rules, app.board.clone());
        let (leads, stop) = (keeper.leads(), app.shutdown.token().clone());
        let escalator = escalator.on_duty(leads);
        app.shutdown.spawn_apart(
            "watch",
            vec![
                replicator.run(stop.clone()).boxed(),
                escalator.run(stop.clone()).boxed(),
                keeper.run(stop).boxed(),
            ],
        )?;
        (app.incidents, app.tickets) = (Some(log), Some(self.tickets));
        Ok(())
    }
}

/// Whether `directory` is in that of the embedded server's data, which has to be empty when it is made.
fn is_in_new_data(directory: &Path, settings: &Settings) -> bool {
    let database = &settings.database;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    database.url.is_none() && absolute(directory).starts_with(absolute(&data_dir(database)))
}
