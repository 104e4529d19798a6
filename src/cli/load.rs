//! `evenkeel load`: sends a crowd of shoppers to a shop on this machine.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;

mod guests;

use load::{
    Capacity, CapacityLimits, ClassStats, Lag, Load, LoadError, Mix, Profile, Recording, Sessions,
    Shop, Target, measure_capacity,
};
use pool::Class;

use super::database::data_dir;
use crate::config::Settings;
use crate::shutdown::{Shutdown, Signalled};
use guests::Guests;
pub use guests::GuestsError;

/// How often the line on the terminal is renewed.
const RENEWAL: Duration = Duration::from_millis(250);

/// Send shoppers to a shop on this machine, as an open-loop load.
///
/// This places real orders, by accounts that are made for it at load.evenkeel.invalid, where the shop registers
/// nobody; pieces are taken from stock. At its end, also after Ctrl-C, these accounts and their orders are
/// removed and the pieces put back; what a killed load leaves is removed by the next one. All of that is done in
/// the shop's database, which is found as by every other command. A shop with accounts that are neither a load's nor of the sample shop's
/// domains (example.com, .org, .net) is refused without --place-orders.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address of the shop. Only this machine is accepted.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: Target,
    /// Requests per second, on average; they arrive at random.
    #[arg(long, default_value_t = 500.0, value_parser = positive)]
    rate: f64,
    /// For how long.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Weights of the classes.
    #[arg(long, default_value = "browse=80,account=12,checkout=8")]
    mix: Mix,
    /// Accounts that are registered for the shoppers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    accounts: u16,
    /// How long a shopper waits for an answer.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    deadline: Duration,
    /// The same seed sends the same requests at the same times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Look for the highest rate that the shop sustains, instead of sending one.
    #[arg(long, conflicts_with_all = ["rate", "duration"])]
    capacity: bool,
    /// Send it to a real shop as well, or to one whose database is not found; there its orders stay.
    #[arg(long)]
    place_orders: bool,
    /// Send nothing: remove what an earlier load has left.
    #[arg(long, conflicts_with_all = ["capacity", "place_orders"])]
    clean: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Why no load was sent, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be sent.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its accounts could not be made or removed.
    #[error(transparent)]
    Guests(#[from] GuestsError),
    /// Somebody has ended it before there was anything to tell.
    #[error("interrupted")]
    Interrupted,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
        .ok_or_else(|| "a number above 0 is wanted".to_owned())
}

/// Runs the command and prints what it measured. Ctrl-C ends a load early and prints so far.
///
/// # Errors
/// [`CommandError`] when no load could be sent. A shop that fails under the load is a result.
pub async fn run(args: Args, settings: &Settings) -> Result<(), CommandError> {
    if args.clean {
        return clean(settings).await;
    }
    if !args.mix.needs_sessions() {
        return measure(&args, Sessions::Tokens(Vec::new())).await;
    }
    let Some(mut guests) = Guests::open(settings, args.place_orders).await? else {
        eprintln!(
            "the shop's database was not found: the accounts of this load, which are registered as load-… at \
             example.com, and their orders stay. With the shop's --data-dir or --database-url a load removes \
             its own"
        );
        return measure(&args, Sessions::Register(args.accounts.into())).await;
    };
    let measured = match with(&mut guests, &args).await {
        Err(CommandError::Load(LoadError::UnknownAccount)) => Err(guests.unknown().into()),
        measured => measured,
    };
    let erased = guests.remove().await?;
    eprintln!(
        "removed: the accounts of this load ({}) and their orders ({}); the pieces are back in stock",
        erased.accounts, erased.orders
    );
    measured
}

async fn with(guests: &mut Guests, args: &Args) -> Result<(), CommandError> {
    let credentials = guests.register(args.accounts.into()).await?;
    measure(args, Sessions::LogIn(credentials)).await
}

async fn clean(settings: &Settings) -> Result<(), CommandError> {
    let guests = Guests::find(settings).await?;
    let guests = guests.ok_or_else(|| GuestsError::NotFound(data_dir(&settings.database)))?;
    let erased = guests.remove().await?;
    println!(
        "removed: accounts of loads ({}) and their orders ({}); the pieces are back in stock",
        erased.accounts, erased.orders
    );
    Ok(())
}

async fn measure(args: &Args, sessions: Sessions) -> Result<(), CommandError> {
    let profile = Profile {
        mix: args.mix,
        deadline: args.deadline,
        seed: args.seed,
        ..Profile::default()
    };
    let interrupted = Shutdown::signalled();
    tokio::pin!(interrupted);
    let shop = Shop::learn(args.url, &profile, sessions);
    let shop = Arc::new(unless(&mut interrupted, shop).await?);
    if args.capacity {
        let limits = CapacityLimits::default();
        let capacity = measure_capacity(&shop, &profile, &limits);
        let capacity = unless(&mut interrupted, capacity).await?;
        print(args.json, &capacity, show_capacity);
    } else {
        let recording = send(args, &shop, &profile, interrupted).await?;
        print(args.json, &Report::of(args.rate, &recording), show_report);
    }
    Ok(())
}

/// What `work` finds, unless somebody ends it before.
async fn unless<T>(
    interrupted: impl Future<Output = Signalled>,
    work: impl Future<Output = Result<T, LoadError>>,
) -> Result<T, CommandError> {
    tokio::select! {
        done = work => Ok(done?),
        _ = interrupted => Err(CommandError::Interrupted),
    }
}

async fn send(
    args: &Args,
    shop: &Arc<Shop>,
    profile: &Profile,
    mut interrupted: impl Future<Output = Signalled> + Unpin,
) -> Result<Recording, LoadError> {
    let load = Load::start(shop, profile, args.rate)?;
    let line = ProgressBar::new_spinner();
    let mut renewal = tokio::time::interval(RENEWAL);
    while load.began().elapsed() < args.duration {
        let left = args.duration.saturating_sub(load.began().elapsed());
        tokio::select! {
            _ = &mut interrupted => break,
            () = tokio::time::sleep(left) => break,
            _ = renewal.tick() => line.set_message(progress(&load)),
        }
    }
    line.finish_and_clear();
    Ok(load.stop().await)
}

fn progress(load: &Load) -> String {
    let live = load.live();
    let classes = Class::SHOPPERS.map(|class| {
        let counts = live.class(class);
        format!("{class} {} ok {} failed", counts.ok, counts.failed)
    });
    let seconds = load.began().elapsed().as_secs();
    format!(
        "{seconds} s · {} · {} under way",
        classes.join(" · "),
        live.in_flight
    )
}

/// What a load did, for people and as JSON.
#[derive(Serialize)]
struct Report {
    rate: f64,
    seconds: f64,
    browse: ClassStats,
    account: ClassStats,
    checkout: ClassStats,
    /// How late this process was in sending.
    lag: Lag,
}

impl Report {
    fn of(rate: f64, recording: &Recording) -> Self {
        Self {
            rate,
            seconds: recording.lasted().as_secs_f64(),
            browse: recording.total(Class::Browse),
            account: recording.total(Class::Account),
            checkout: recording.total(Class::Checkout),
            lag: recording.lag,
        }
    }
}

fn print<T: Serialize>(json: bool, result: &T, show: fn(&T) -> String) {
    match serde_json::to_string_pretty(result) {
        Ok(text) if json => println!("{text}"),
        _ => println!("{}", show(result)),
    }
}

fn show_report(report: &Report) -> String {
    let mut text = format!(
        "{:10}{:>9}{:>9}{:>9}{:>9}{:>10}{:>10}{:>10}\n",
        "", "sent", "ok", "refused", "failed", "p50 ms", "p99 ms", "max ms"
    );
    let classes = [
        ("browse", &report.browse),
        ("account", &report.account),
        ("checkout", &report.checkout),
    ];
    for (name, stats) in classes.into_iter().filter(|(_, stats)| stats.sent > 0) {
        text += &format!(
            "{name:10}{:>9}{:>9}{:>9}{:>9}{:>10.1}{:>10.1}{:>10.1}\n",
            stats.sent,
            stats.ok,
            stats.refused,
            stats.failed,
            stats.p50_ms,
            stats.p99_ms,
            stats.max_ms
        );
        let causes = [
            ("timed out", stats.timeout),
            ("no or a broken connection", stats.connection),
            ("answered 503", stats.unavailable),
            ("answered another 5xx", stats.server_error),
            ("answered another status", stats.unexpected),
            ("not sent, too many under way", stats.dropped),
        ];
        for (cause, count) in causes.into_iter().filter(|(_, count)| *count > 0) {
            text += &format!("{:>30} {cause}\n", count);
        }
    }
    text + &format!(
        "sent late by this machine: p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        report.lag.p50_ms, report.lag.p99_ms, report.lag.max_ms
    )
}

fn show_capacity(capacity: &Capacity) -> String {
    let mut text = format!(
        "{:>10}{:>12}{:>10}{:>10}\n",
        "offered/s", "answered/s", "p99 ms", "failed"
    );
    for step in &capacity.steps {
        text += &format!(
            "{:>10.0}{:>12.0}{:>10.1}{:>9.1}%{}\n",
            step.offered_rps,
            step.answered_rps,
            step.p99_ms,
            step.failed_share * 100.0,
            if step.sustained {
                ""
            } else {
                "  not sustained"
            }
        );
    }
    let bound = if capacity.found { "" } else { "at least " };
    text + &format!("capacity: {bound}{:.0} requests per second", capacity.rps)
}
