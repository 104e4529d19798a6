//! Sends requests when they are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::arrivals::Arrivals;
use crate::profile::{Action, Chooser, Profile};
use crate::record::{Lag, LiveCounters, Outcome, Recorder, Recording};
use crate::shop::Shop;
use crate::{LoadError, stats};

/// A load under way. Dropping it stops sending; [`Load::stop`] also waits for the answers.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    requests: TaskTracker,
    sender: Option<JoinHandle<Lag>>,
}

/// The rate of a load, to be changed from elsewhere. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rate {
    shared: Arc<Shared>,
    sender: Option<Thread>,
}

impl Rate {
    /// Changes it to so many requests per second from now on.
    pub fn set(&self, rate: f64) {
        self.shared
            .rate
            .store(sane(rate).to_bits(), Ordering::Relaxed);
        if let Some(sender) = &self.sender {
            sender.unpark();
        }
    }
}

#[derive(Debug)]
struct Shared {
    shop: Arc<Shop>,
    recorder: Recorder,
    deadline: Duration,
    /// Arrivals per second, as bits.
    rate: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }
}

impl Load {
    /// Sends `rate` requests per second, on average, until it is stopped. Call inside a runtime,
    /// which the requests run on.
    ///
    /// # Errors
    /// [`LoadError`] when the mix is wrong or needs sessions that the shop was learnt without.
    pub fn start(shop: &Arc<Shop>, profile: &Profile, rate: f64) -> Result<Self, LoadError> {
        let chooser = profile.mix.chooser()?;
        if profile.mix.needs_sessions() && shop.shoppers.is_empty() {
            return Err(LoadError::Profile(
                "the mix has actions that need a session, but the shop was learnt without".into(),
            ));
        }
        let shared = Arc::new(Shared {
            shop: Arc::clone(shop),
            recorder: Recorder::new(Instant::now()),
            deadline: profile.deadline,
            rate: AtomicU64::new(sane(rate).to_bits()),
            stopping: AtomicBool::new(false),
        });
        let requests = TaskTracker::new();
        let mut rng = StdRng::seed_from_u64(profile.seed);
        let sender = Sender {
            shared: Arc::clone(&shared),
            requests: requests.clone(),
            runtime: Handle::current(),
            arrivals: Arrivals::new(sane(rate), &mut rng),
            rng,
            chooser,
            max_lines: profile.max_lines,
            max_in_flight: profile.max_in_flight.min(most_sockets()),
            load: shop.loads.fetch_add(1, Ordering::Relaxed),
            number: 0,
        };
        let thread = std::thread::Builder::new().name("load".into());
        let sender = thread.spawn(move || sender.run())?;
        Ok(Self {
            shared,
            requests,
            sender: Some(sender),
        })
    }

    /// Changes the rate from now on; zero pauses.
    pub fn set_rate(&self, rate: f64) {
        self.shared
            .rate
            .store(sane(rate).to_bits(), Ordering::Relaxed);
        self.wake();
    }

    /// A handle to its rate, for whoever does not own the load.
    pub fn rate(&self) -> Rate {
        Rate {
            shared: Arc::clone(&self.shared),
            sender: self.sender.as_ref().map(|sender| sender.thread().clone()),
        }
    }

    /// When the load began: offset zero of the recording.
    pub fn began(&self) -> Instant {
        self.shared.recorder.began()
    }

    /// Counts so far.
    pub fn live(&self) -> LiveCounters {
        self.shared.recorder.live()
    }

    /// Stops sending and waits for what is under way, at most for the deadline: who has no answer by
    /// then has timed out.
    pub async fn stop(mut self) -> Recording {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.wake();
        let lasted = self.began().elapsed();
        let lag = match self.sender.take() {
            // The thread wakes at once and ends, so this does not hold the runtime up.
            Some(sender) => sender.join().unwrap_or_default(),
            None => Lag::default(),
        };
        self.requests.close();
        self.requests.wait().await;
        self.shared.recorder.finish(lag, lasted)
    }

    fn wake(&self) {
        if let Some(sender) = &self.sender {
            sender.thread().unpark();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.wake();
    }
}

/// A rate that arrivals can be drawn at.
fn sane(rate: f64) -> f64 {
    if rate.is_finite() { rate.max(0.0) } else { 0.0 }
}

/// Half of the files that the process may open, once it may open as many as it can: the shop may
/// live in the same process and needs a socket for each of ours.
fn most_sockets() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return usize::MAX;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX) / 2
}

/// The thread that decides when. It never waits for an answer.
struct Sender {
    shared: Arc<Shared>,
    requests: TaskTracker,
    runtime: Handle,
    arrivals: Arrivals,
    rng: StdRng,
    chooser: Chooser,
    max_lines: usize,
    max_in_flight: usize,
    load: u64,
    number: u64,
}

impl Sender {
    fn run(mut self) -> Lag {
        let began = self.shared.recorder.began();
        let mut rate = self.shared.rate();
        let mut lag = stats::histogram();
        while !self.shared.stopping.load(Ordering::Relaxed) {
            while let Some(due) = self.arrivals.take_due(began.elapsed(), &mut self.rng) {
                let late = began.elapsed().saturating_sub(due);
                stats::note(
                    &mut lag,
                    u64::try_from(late.as_micros()).unwrap_or(u64::MAX),
                );
                self.send(due);
                // A rate that the sender cannot keep up with must not keep it from stopping.
                if self.shared.stopping.load(Ordering::Relaxed) {
                    break;
                }
            }
            let wanted = self.shared.rate();
            if wanted != rate {
                rate = wanted;
                self.arrivals.set_rate(began.elapsed(), rate);
            }
            // A thread's timer is good to some 0.1 ms, the runtime's only to 1 ms.
            match self.arrivals.next() {
                Some(due) => std::thread::park_timeout(due.saturating_sub(began.elapsed())),
                None => std::thread::park(),
            }
        }
        Lag::of(&lag)
    }

    fn send(&mut self, due: Duration) {
        let action = self.chooser.choose(&mut self.rng);
        let class = action.class();
        let recorder = &self.shared.recorder;
        recorder.sent(class);
        self.number += 1;
        if recorder.in_flight.load(Ordering::Relaxed) >= self.max_in_flight {
            recorder.ended(class, due, self.shared.deadline, Outcome::Dropped);
            return;
        }
        recorder.in_flight.fetch_add(1, Ordering::Relaxed);
        let call = self.call(action);
        let shared = Arc::clone(&self.shared);
        let request = async move {
            let began = shared.recorder.began();
            let patience = tokio::time::Instant::from_std(began + due + shared.deadline);
            let outcome = shared.shop.http.outcome(call);
            let outcome = tokio::time::timeout_at(patience, outcome)
                .await
                .unwrap_or(Outcome::Timeout);
            let latency = began.elapsed().saturating_sub(due);
            shared.recorder.in_flight.fetch_sub(1, Ordering::Relaxed);
            shared.recorder.ended(class, due, latency, outcome);
        };
        self.requests.spawn_on(request, &self.runtime);
    }

    fn call(&mut self, action: Action) -> crate::client::Call {
        let number = (self.load, self.number);
        self.shared
            .shop
            .call(action, number, self.max_lines, &mut self.rng)
    }
}
