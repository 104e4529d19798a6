//! The subcommands of `evenkeel migrate`, and what each of them needs.

use std::path::PathBuf;

use crate::cli::database::Access;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write a definition to start from.
    New {
        /// Name of the migration.
        name: String,
    },
    /// Name what would lock, rewrite or scan a table that shoppers use. Ends with 1 if there is
    /// anything.
    Lint {
        /// Schema files, background migrations, or any SQL; of a folder every .sql file in it and
        /// below it.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the declared migrations and the state of their newest run.
    List,
    /// Try batches all over the table, roll them back, and predict.
    Plan {
        /// Name of the migration: its file without `.sql`.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Queue a run; a shop process takes it.
    Start {
        /// Name of the migration.
        name: String,
        /// Go on where the last run was cancelled or failed, if it was of exactly this definition.
        /// The final sweep covers what that run had done.
        #[arg(long)]
        from_last: bool,
        /// Run a migration again that is complete, for rows that became pending since.
        #[arg(long, conflicts_with = "from_last")]
        again: bool,
        /// When it should be done, e.g. 2026-12-01T06:00:00Z. The status says when it will not be,
        /// and what that would cost shoppers; nothing is hurried unless somebody says `spend`.
        #[arg(long, value_name = "WHEN")]
        by: Option<chrono::DateTime<chrono::Utc>>,
    },
    /// Show how far a run is, how fast it goes and what limits it; without a name, all runs.
    Status {
        /// Name of the migration.
        name: Option<String>,
        /// Show it again every second until it ends.
        #[arg(long, requires = "name")]
        watch: bool,
    },
    /// Stop a run after the batch in flight; its cursor is kept.
    Pause {
        /// Name of the migration.
        name: String,
    },
    /// Let a paused or failed run go on.
    Resume {
        /// Name of the migration.
        name: String,
    },
    /// Give a run up; what was changed stays changed.
    Cancel {
        /// Name of the migration.
        name: String,
    },
    /// Look for rows that the last completed run has left, changing nothing: once by key, and once by
    /// physical position. Ends with 1 if either finds any; with 0 if the walk by key finds none and the
    /// other proof is unknown, which is said. Ranges that changed since the last run was certified are
    /// named.
    Verify {
        /// Name of the migration.
        name: String,
        /// Read from this replica, a URL as in DATABASE_URL, instead of the database itself.
        #[arg(long, value_name = "URL")]
        replica: Option<String>,
    },
    /// Print what the last completed run certifies.
    Certificate {
        /// Name of the migration.
        name: String,
        /// As the JSON document that is stored.
        #[arg(long)]
        json: bool,
    },
    /// Queue a run of the statement for the way back.
    Undo {
        /// Name of the migration.
        name: String,
        /// Also when it is taken back already: for rows that got the change since.
        #[arg(long)]
        again: bool,
    },
    /// List the ranges that the newest run has set aside, with their errors.
    Quarantine {
        /// Name of the migration.
        name: String,
    },
    /// Let a failed or paused run try the ranges that it has set aside, after a fix.
    Retry {
        /// Name of the migration.
        name: String,
    },
    /// Cap the pace of one migration or of all, for a time.
    Throttle(crate::cli::throttle::Args),
    /// Let shoppers pay more for a migration than its own budget, for a time.
    Spend(crate::cli::throttle::Spend),
    /// Queue a run and drive it in this process, without a shop.
    Run {
        /// Name of the migration.
        name: String,
        /// Required, because no shopper is measured here: it goes at the speed that --duty gives.
        #[arg(long, required = true)]
        standalone: bool,
        /// Share of the time to work, above 0 and at most 1.
        #[arg(long, default_value_t = 1.0, value_parser = share)]
        duty: f64,
        /// Run a migration again that is complete, for rows that became pending since.
        #[arg(long)]
        again: bool,
    },
}

impl Command {
    /// The migration that the command is about, when it has to be one that is known.
    pub(super) fn about(&self) -> Option<&str> {
        match self {
            Self::New { .. } | Self::Lint { .. } | Self::List => None,
            Self::Status { name, .. } => name.as_deref(),
            Self::Throttle(args) => args.name(),
            Self::Spend(args) => Some(&args.name),
            Self::Plan { name, .. }
            | Self::Start { name, .. }
            | Self::Pause { name }
            | Self::Resume { name }
            | Self::Cancel { name }
            | Self::Verify { name, .. }
            | Self::Certificate { name, .. }
            | Self::Undo { name, .. }
            | Self::Quarantine { name }
            | Self::Retry { name }
            | Self::Run { name, .. } => Some(name),
        }
    }

    /// Whether it evaluates SQL that an author wrote, or has another process do so.
    pub(super) fn evaluates(&self) -> bool {
        matches!(
            self,
            Self::Plan { .. }
                | Self::Start { .. }
                | Self::Verify { .. }
                | Self::Undo { .. }
                | Self::Run { .. }
        )
    }

    /// What it does to the ledger. One that is about a run which is there makes no ledger to say that there
    /// is none.
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Start { .. } | Self::Run { .. } | Self::Spend(_) => Access::Make,
            Self::Throttle(args) if args.adds() => Access::Make,
            Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Cancel { .. }
            | Self::Undo { .. }
            | Self::Retry { .. } => Access::Change,
            Self::New { .. }
            | Self::Lint { .. }
            | Self::List
            | Self::Plan { .. }
            | Self::Status { .. }
            | Self::Verify { .. }
            | Self::Certificate { .. }
            | Self::Quarantine { .. }
            | Self::Throttle(_) => Access::Read,
        }
    }

    /// Whether it can do nothing without definitions. What has run is there to be looked at, controlled
    /// and taken back when its file is gone.
    pub(super) fn reads_files(&self) -> bool {
        matches!(
            self,
            Self::List | Self::Plan { .. } | Self::Start { .. } | Self::Run { .. }
        )
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|duty: &f64| *duty > 0.0 && *duty <= 1.0)
        .ok_or_else(|| "a number above 0 and at most 1 is wanted".to_owned())
}
