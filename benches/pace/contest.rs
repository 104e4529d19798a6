//! The shop's process and the load on it, as the judge sees them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::class::Class;
use evenkeel::rehearsal::load::Recording;

use super::shop;

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

    /// How long after `step` the duty was for the first time at most half of its mean over the
    /// second before; `None` if it never was, or if there was next to nothing to halve.
    pub fn halved_after(&self, step: Instant) -> Option<Duration> {
        let duties = self.duties.lock().unwrap();
        let second = step.checked_sub(Duration::from_secs(1))?;
        let before: Vec<f64> = duties
            .iter()
            .filter(|(at, _)| (second..step).contains(at))
            .map(|(_, duty)| *duty)
            .collect();
        let mean = before.iter().sum::<f64>() / before.len() as f64;
        if mean.is_nan() || mean <= 0.02 {
            return None;
        }
        duties
            .iter()
            .find(|(at, duty)| *at >= step && *duty <= mean / 2.0)
            .map(|(at, _)| *at - step)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
