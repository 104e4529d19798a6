//! The shop's process and the load on it, as the judge sees them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use load::Recording;
use pool::Class;

use super::{AFTER_STEP, shop};

/// What the shop's process says.
enum Answer {
    Ready,
    On,
    Off(i64),
}

/// The shop's process; ended with this value.
pub struct Shop {
    process: Child,
    commands: ChildStdin,
    answers: Receiver<Answer>,
    /// Every duty that was told, with its time.
    duties: Arc<Mutex<Vec<(Instant, f64)>>>,
    pub address: SocketAddr,
}

/// A stretch of time by the load generator's clock.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    pub from: Duration,
    pub to: Duration,
}

impl Period {
    /// The 99th percentile of all requests in it, in milliseconds.
    pub fn p99_ms(self, recording: &Recording) -> f64 {
        recording.all_classes(self.from, self.to).p99_ms
    }

    /// Requests that failed in it.
    pub fn failed(self, recording: &Recording) -> u64 {
        Class::SHOPPERS
            .into_iter()
            .map(|class| recording.window(class, self.from, self.to).failed)
            .sum()
    }
}

impl Shop {
    /// Starts this program as the shop on the database at `url`.
    pub fn start(url: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([shop::ARGUMENT, url, &address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, answers) = channel();
        let duties: Arc<Mutex<Vec<(Instant, f64)>>> = Arc::default();
        let told = Arc::clone(&duties);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let answer = match line.split_once(' ') {
                    Some(("duty", duty)) => {
                        told.lock()
                            .unwrap()
                            .push((Instant::now(), duty.parse().unwrap()));
                        continue;
                    }
                    Some((_, rows)) => Answer::Off(rows.parse().unwrap()),
                    None if line == "on" => Answer::On,
                    None => Answer::Ready,
                };
                if send.send(answer).is_err() {
                    return;
                }
            }
        });
        let commands = process.stdin.take().unwrap();
        let shop = Self {
            process,
            commands,
            answers,
            duties,
            address,
        };
        assert!(
            matches!(shop.answers.recv(), Ok(Answer::Ready)),
            "the shop does not start"
        );
        shop
    }

    /// Lets a contestant begin.
    pub fn on(&mut self, contestant: &str) {
        writeln!(self.commands, "on {contestant}").unwrap();
        assert!(
            matches!(self.answers.recv(), Ok(Answer::On)),
            "the shop has ended"
        );
    }

    /// Ends its work and returns the rows that it has changed.
    pub fn off(&mut self) -> i64 {
        writeln!(self.commands, "off").unwrap();
        match self.answers.recv() {
            Ok(Answer::Off(rows)) => rows,
            _ => panic!("the shop has ended"),
        }
    }

    /// How long after `step` the contestant began to work at most half as much as in the second
    /// before, in every quarter of a second of the next second: a moment's rest that happens to be due
    /// does not count. `None` if it never did, or if there was next to nothing to halve.
    pub fn halved_after(&self, step: Instant) -> Option<Duration> {
        let duties = self.duties.lock().unwrap();
        let before = mean(&duties, step.checked_sub(SECOND)?, SECOND);
        if before <= 0.02 {
            return None;
        }
        let changes: Vec<Instant> = duties.iter().map(|(at, _)| *at).collect();
        let stays_halved = |from: Instant| {
            // A sliding mean is largest where one of the window's ends meets a change.
            let ends = changes.iter().filter_map(|at| at.checked_sub(QUARTER));
            let starts = changes.iter().copied().chain(ends).chain([from]);
            starts
                .filter(|at| *at >= from && *at <= from + SECOND - QUARTER)
                .all(|at| mean(&duties, at, QUARTER) <= before / 2.0)
        };
        let moments = changes.iter().copied().filter(|at| *at > step);
        let last = step + AFTER_STEP - SECOND;
        std::iter::once(step)
            .chain(moments)
            .take_while(|at| *at <= last)
            .find(|at| stays_halved(*at))
            .map(|at| at - step)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const QUARTER: Duration = Duration::from_millis(250);

/// The mean duty over `length` from `from` on.
fn mean(duties: &[(Instant, f64)], from: Instant, length: Duration) -> f64 {
    let to = from + length;
    let ends = duties.iter().skip(1).map(|(at, _)| *at).chain([to]);
    let worked: f64 = duties
        .iter()
        .zip(ends)
        .map(|((at, duty), end)| {
            let within = end.min(to).saturating_duration_since((*at).max(from));
            duty * within.as_secs_f64()
        })
        .sum();
    worked / length.as_secs_f64()
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
