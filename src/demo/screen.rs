//! What the person in front of the terminal sees.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use load::LiveCounters;
use pool::Class;

use super::observer::Sample;

/// How often a live board is renewed on a terminal, and printed elsewhere.
const RENEWAL: Duration = Duration::from_millis(250);
const LINE_EVERY: Duration = Duration::from_secs(1);
const ORDER: [Class; 3] = [Class::Browse, Class::Account, Class::Checkout];

/// The terminal, or whatever the output goes to.
#[derive(Debug)]
pub struct Screen {
    bars: MultiProgress,
    terminal: bool,
}

/// Live readings of an act, renewed in place.
#[derive(Debug)]
pub struct Board {
    classes: [ProgressBar; 3],
    pool: ProgressBar,
    lock: ProgressBar,
    migration: ProgressBar,
    rows: Option<u64>,
    terminal: bool,
}

/// What happened between two renewals.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Counters at its beginning.
    pub before: LiveCounters,
    /// Counters at its end.
    pub after: LiveCounters,
    /// Its length.
    pub lasted: Duration,
    /// From the act's beginning to its end.
    pub at: Duration,
}

impl Screen {
    /// The standard output.
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let target = if terminal {
            ProgressDrawTarget::stdout()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            terminal,
        }
    }

    /// Prints a line that stays.
    pub fn say(&self, text: &str) {
        if self.terminal {
            // A terminal that has gone away is noticed by its hang-up signal.
            let _ = self.bars.println(text);
        } else {
            println!("{text}");
        }
    }

    /// Prints the heading of a part.
    pub fn heading(&self, text: &str) {
        self.say(&format!("\n{text}\n{}", "─".repeat(text.chars().count())));
    }

    /// A bar over `length` of something.
    pub fn bar(&self, what: &'static str, length: u64) -> ProgressBar {
        if !self.terminal {
            println!("{what} …");
        }
        let bar = self.bars.add(ProgressBar::new(length));
        bar.set_style(style(
            "{prefix:10} {bar:40.cyan/dim} {percent:>3} % {msg} {eta}",
        ));
        bar.set_prefix(what);
        bar
    }

    /// A line that says what is being waited for.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        if !self.terminal {
            println!("{what} …");
        }
        let spinner = self.bars.add(ProgressBar::new_spinner());
        spinner.set_message(what.to_owned());
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }

    /// How often a [`Board`] is to be renewed.
    pub fn renewal(&self) -> Duration {
        if self.terminal { RENEWAL } else { LINE_EVERY }
    }

    /// A board for an act at `peak` requests per second, with a bar for a migration of `rows`.
    pub fn board(&self, peak: f64, rows: Option<u64>) -> Board {
        let line = |template: &str, prefix: &'static str, length: u64| {
            let bar = self.bars.add(ProgressBar::new(length));
            bar.set_style(style(template));
            bar.set_prefix(prefix);
            bar
        };
        let text = |prefix| line("  {prefix:10} {msg}", prefix, 0);
        let classes = ORDER.map(|class| {
            // The bar is full at the class's share of the peak.
            line(
                "  {prefix:10} {bar:30.green/red} {msg}",
                class.name(),
                peak.ceil() as u64,
            )
        });
        Board {
            classes,
            pool: text("pool"),
            lock: text("lock"),
            migration: match rows {
                Some(rows) => line("  {prefix:10} {bar:30.cyan/dim} {msg}", "migration", rows),
                None => ProgressBar::hidden(),
            },
            rows,
            terminal: self.terminal,
        }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Board {
    /// Shows what happened in `interval` and what was seen last.
    pub fn show(&self, interval: &Interval, sample: Option<&Sample>) {
        let mut parts = vec![format!("{:5.1} s", interval.at.as_secs_f64())];
        for (class, bar) in ORDER.into_iter().zip(&self.classes) {
            let (before, after) = (interval.before.class(class), interval.after.class(class));
            let rate =
                |now: u64, then: u64| (now - then) as f64 / interval.lasted.as_secs_f64().max(1e-3);
            let (ok, failed) = (
                rate(after.ok + after.refused, before.ok + before.refused),
                rate(after.failed, before.failed),
            );
            let ended = (ok + failed).max(1.0);
            bar.set_length(ended.ceil() as u64);
            bar.set_position(ok.ceil() as u64);
            bar.set_message(format!("{ok:6.0} ok/s {failed:6.0} failed/s"));
            parts.push(format!("{class} {ok:.0} ok {failed:.0} failed"));
        }
        if let Some(sample) = sample {
            self.show_sample(sample, &mut parts);
        }
        if !self.terminal {
            println!("{}", parts.join(" · "));
        }
    }

    fn show_sample(&self, sample: &Sample, parts: &mut Vec<String>) {
        let pool = sample.pool.map_or("no answer".to_owned(), |pool| {
            format!("{} in use, {} waiting", pool.in_use, pool.waiting)
        });
        parts.push(format!("pool {pool}"));
        self.pool.set_message(pool);
        let lock = sample.blocker.as_ref().map(|blocker| {
            format!(
                "{} wait for pid {} ({}: {})",
                blocker.waiting, blocker.pid, blocker.application, blocker.holds
            )
        });
        parts.extend(lock.clone());
        self.lock
            .set_message(lock.unwrap_or_else(|| "–".to_owned()));
        let progress = sample.migration.as_ref().zip(self.rows);
        if let Some((progress, rows)) = progress {
            let done = u64::try_from(progress.rows_changed).unwrap_or_default();
            self.migration.set_position(done.min(rows));
            let cause = progress.cause();
            let message = format!(
                "{} · {done} of {rows} rows · duty {:.2} {cause}",
                progress.state, progress.duty
            );
            parts.push(message.clone());
            self.migration.set_message(message);
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let lines = [&self.pool, &self.lock, &self.migration];
        for bar in self.classes.iter().chain(lines) {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("██░")
}
