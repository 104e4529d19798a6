//! `evenkeel incident`: looks at incidents and does what people do to them. Works on the record in the
//! database, and while that is down on the journal of this machine.

use std::path::PathBuf;

use chrono::Utc;

mod show;
mod source;

use super::migrate::actor;
use crate::config::Settings;
use crate::watch::incident::Incident;
use crate::watch::{postmortem, response};
pub use source::IncidentError;
use source::Source;

/// Look at incidents, take care of them, write their postmortems.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the newest incidents, newest first.
    List {
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show all that is known of an incident.
    Show {
        /// Its id, or the beginning of it.
        id: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say that you take care; nobody further is told then.
    #[command(alias = "acknowledge")]
    Ack {
        /// Its id, or the beginning of it.
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Allow what the watch asked for last; it is done once.
    Allow {
        /// Its id, or the beginning of it.
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Add your words to the timeline.
    Note {
        /// Its id, or the beginning of it.
        id: String,
        /// The words.
        text: String,
        #[command(flatten)]
        who: Who,
    },
    /// Say that it is over.
    Resolve {
        /// Its id, or the beginning of it.
        id: String,
        #[command(flatten)]
        who: Who,
    },
    /// Write the postmortem: a document in Markdown and the timeline as a picture.
    Report {
        /// Its id, or the beginning of it.
        id: String,
        /// Where to; a directory of the incident's name unless given.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct Who {
    /// Your name; the user's unless given.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Who {
    fn name(self) -> String {
        self.by.unwrap_or_else(actor)
    }
}

/// Runs the command and prints what it found or did.
///
/// # Errors
/// [`IncidentError`] says what to do.
pub async fn run(args: Args, settings: &Settings) -> Result<(), IncidentError> {
    let mut source = Source::open(settings).await?;
    let done = dispatch(args.command, &mut source).await;
    source.close().await?;
    done
}

async fn dispatch(command: Command, source: &mut Source) -> Result<(), IncidentError> {
    match command {
        Command::List { limit, json } => {
            let incidents = source.list(limit).await?;
            if json {
                return show::json(&incidents);
            }
            if incidents.is_empty() {
                println!("there has been no incident");
            }
            for incident in incidents {
                println!("{}", show::headline(&incident));
            }
            Ok(())
        }
        Command::Show { id, json } => {
            let incident = source.find(&id).await?;
            if json {
                return show::json(&incident);
            }
            print!("{}", show::text(&incident));
            Ok(())
        }
        Command::Ack { id, who } => {
            let incident = source.find(&id).await?;
            let by = who.name();
            source
                .append(response::acknowledge(&incident, &by, "cli")?)
                .await?;
            println!("{by} takes care of {}", show::short(incident.id));
            Ok(())
        }
        Command::Allow { id, who } => {
            let incident = source.find(&id).await?;
            let allowed = response::allow(&incident, &who.name())?;
            source.append(allowed).await?;
            if let Some(question) = show::question(&incident) {
                println!("allowed: {question}");
            }
            println!("the shop's process that watches does it, once");
            Ok(())
        }
        Command::Note { id, text, who } => {
            let incident = source.find(&id).await?;
            source
                .append(response::note(&incident, &who.name(), &text)?)
                .await?;
            println!("noted on {}", show::short(incident.id));
            Ok(())
        }
        Command::Resolve { id, who } => {
            let incident = source.find(&id).await?;
            let impact = source.impact(&incident, Utc::now()).await;
            let by = who.name();
            source
                .append(response::resolve(&incident, &by, impact)?)
                .await?;
            println!("{} is over", show::short(incident.id));
            Ok(())
        }
        Command::Report { id, out } => {
            let incident = source.find(&id).await?;
            report(&incident, out).await
        }
    }
}

async fn report(incident: &Incident, out: Option<PathBuf>) -> Result<(), IncidentError> {
    let out =
        out.unwrap_or_else(|| PathBuf::from(format!("incident-{}", show::short(incident.id))));
    let written = postmortem::write(incident, &out).await?;
    println!("{}", written.document.display());
    println!("{}", written.picture.display());
    Ok(())
}
