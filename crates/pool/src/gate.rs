//! The bulkhead: who may hold one of the pool's connections, and in which order.
//!
//! Every connection of the shared pool is handed out against a [`Permit`]. A class of work has a
//! reserved share (`min`) that no other class can occupy, and a ceiling (`max`) that it cannot
//! exceed however much of it arrives. Between the two, connections are lent to whoever asks first;
//! when several classes wait, a freed connection goes to checkout before account before browse
//! before background.
//!
//! The consequence that the project rests on: whatever one class does, be it a table lock that
//! stalls every checkout or a migration forced to full speed, the others keep their reserved share.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::Class;
use crate::settings::Share;

/// The rule of admission, free of clocks and queues: counts in, yes or no out.
#[derive(Clone, Debug)]
pub struct Admission {
    size: usize,
    shares: [Share; 4],
    in_use: [usize; 4],
}

impl Admission {
    /// Splits `size` connections by `shares` (one per class, in the order of [`Class::ALL`]), which
    /// [`PoolSettings::validate`](crate::settings::PoolSettings::validate) has checked.
    pub fn new(size: usize, shares: [Share; 4]) -> Self {
        Self {
            size,
            shares,
            in_use: [0; 4],
        }
    }

    /// Whether one more connection may go to `class` without touching what others have reserved.
    pub fn admits(&self, class: Class) -> bool {
        let i = class.index();
        if self.in_use[i] >= self.shares[i].max {
            return false;
        }
        let free = self.size - self.in_use.iter().sum::<usize>();
        let owed_to_others: usize = (0..4)
            .filter(|&other| other != i)
            .map(|other| self.shares[other].min.saturating_sub(self.in_use[other]))
            .sum();
        free > owed_to_others
    }

    /// Counts one connection as held by `class`. Call only after [`Admission::admits`] said yes.
    pub fn take(&mut self, class: Class) {
        self.in_use[class.index()] += 1;
    }

    /// Counts one connection of `class` as free again.
    pub fn give_back(&mut self, class: Class) {
        self.in_use[class.index()] -= 1;
    }

    /// Connections that `class` holds.
    pub fn in_use(&self, class: Class) -> usize {
        self.in_use[class.index()]
    }
}

/// What one class holds, waits for and has waited, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GateReading {
    /// Connections held now.
    pub in_use: usize,
    /// Connections that this class can hold at most.
    pub max: usize,
    /// Requests that wait for a connection now.
    pub waiting: usize,
    /// Age of the request that has waited longest, in milliseconds; 0 when none waits.
    pub oldest_wait_ms: f64,
    /// Connections handed out since the start.
    pub granted: u64,
    /// Requests that gave up waiting since the start.
    pub timed_out: u64,
    /// Time spent waiting by all requests since the start, in microseconds.
    pub waited_us: u64,
}

struct Waiter {
    since: Instant,
    grant: oneshot::Sender<Permit>,
}

#[derive(Default)]
struct Queue {
    waiters: VecDeque<Waiter>,
    granted: u64,
    timed_out: u64,
    waited: Duration,
}

impl Queue {
    /// Drops the waiters at the front that have given up. All waiters of a class have the same
    /// patience, so those who gave up are at the front.
    fn prune(&mut self) {
        while self
            .waiters
            .front()
            .is_some_and(|waiter| waiter.grant.is_closed())
        {
            self.waiters.pop_front();
        }
    }
}

struct State {
    admission: Admission,
    queues: [Queue; 4],
}

/// Hands out permits. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    // Held for a few dozen instructions, never across an await.
    state: Arc<Mutex<State>>,
}

/// The right to hold one connection. Dropping it lets the next one in.
pub struct Permit {
    gate: Gate,
    class: Class,
    armed: bool,
}

impl Permit {
    /// The class that this permit was given to.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.armed {
            let mut state = self.gate.state.lock();
            state.admission.give_back(self.class);
            self.gate.admit_waiters(&mut state);
        }
    }
}

impl Gate {
    /// A gate that follows `admission`.
    pub fn new(admission: Admission) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                admission,
                queues: Default::default(),
            })),
        }
    }

    /// Waits at most `patience` for a permit; `None` when it ran out.
    pub async fn acquire(&self, class: Class, patience: Duration) -> Option<Permit> {
        let since;
        let receiver = {
            let mut state = self.state.lock();
            let queue = &mut state.queues[class.index()];
            queue.prune();
            if queue.waiters.is_empty() && state.admission.admits(class) {
                state.admission.take(class);
                state.queues[class.index()].granted += 1;
                return Some(self.permit(class));
            }
            let (grant, receiver) = oneshot::channel();
            since = Instant::now();
            state.queues[class.index()]
                .waiters
                .push_back(Waiter { since, grant });
            receiver
        };
        let permit = tokio::time::timeout(patience, receiver).await;
        let mut state = self.state.lock();
        let queue = &mut state.queues[class.index()];
        queue.waited += since.elapsed();
        match permit {
            Ok(Ok(permit)) => {
                queue.granted += 1;
                Some(permit)
            }
            // The sender lives in the gate, which `self` keeps alive: only time can run out here.
            Ok(Err(_)) | Err(_) => {
                queue.timed_out += 1;
                None
            }
        }
    }

    /// What every class holds and waits for, in the order of [`Class::ALL`].
    pub fn readings(&self) -> [GateReading; 4] {
        let mut state = self.state.lock();
        let now = Instant::now();
        Class::ALL.map(|class| {
            let i = class.index();
            state.queues[i].prune();
            let queue = &state.queues[i];
            GateReading {
                in_use: state.admission.in_use(class),
                max: state.admission.shares[i].max,
                waiting: queue.waiters.len(),
                oldest_wait_ms: queue.waiters.front().map_or(0.0, |waiter| {
                    now.saturating_duration_since(waiter.since).as_secs_f64() * 1e3
                }),
                granted: queue.granted,
                timed_out: queue.timed_out,
                waited_us: queue.waited.as_micros() as u64,
            }
        })
    }

    fn permit(&self, class: Class) -> Permit {
        Permit {
            gate: self.clone(),
            class,
            armed: true,
        }
    }

    /// Serves waiters in order of class, first come first served within one.
    fn admit_waiters(&self, state: &mut State) {
        for class in Class::ALL {
            while state.admission.admits(class) {
                let Some(waiter) = state.queues[class.index()].waiters.pop_front() else {
                    break;
                };
                state.admission.take(class);
                if let Err(mut refused) = waiter.grant.send(self.permit(class)) {
                    // It gave up a moment ago. Its drop would lock the state that we hold.
                    refused.armed = false;
                    state.admission.give_back(class);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: usize = 16;
    const SHARES: [Share; 4] = [
        Share { min: 3, max: 6 },
        Share { min: 3, max: 6 },
        Share { min: 4, max: 12 },
        Share { min: 0, max: 2 },
    ];

    proptest! {
        /// Whatever arrives and leaves in whatever order, a class below its reserved share is
        /// always admitted, none exceeds its ceiling, and the pool is never overcommitted.
        #[test]
        fn a_reserved_share_is_always_available(
            steps in proptest::collection::vec((0usize..4, any::<bool>()), 0..400)
        ) {
            let mut admission = Admission::new(SIZE, SHARES);
            for (i, arrives) in steps {
                let class = Class::ALL[i];
                if arrives {
                    if admission.admits(class) {
                        admission.take(class);
                    }
                } else if admission.in_use(class) > 0 {
                    admission.give_back(class);
                }
                let total: usize = Class::ALL.iter().map(|&c| admission.in_use(c)).sum();
                prop_assert!(total <= SIZE);
                for class in Class::ALL {
                    let share = SHARES[class.index()];
                    prop_assert!(admission.in_use(class) <= share.max);
                    if admission.in_use(class) < share.min {
                        prop_assert!(admission.admits(class), "{class} is owed a connection");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_freed_connection_goes_to_checkout_before_browse() {
        let one = Share { min: 0, max: 1 };
        let gate = Gate::new(Admission::new(1, [one; 4]));
        let held = gate.acquire(Class::Background, Duration::ZERO).await;
        let patience = Duration::from_secs(5);
        let (order, mut served) = tokio::sync::mpsc::unbounded_channel();
        for class in [Class::Background, Class::Browse, Class::Checkout] {
            let (waiting, order) = (gate.clone(), order.clone());
            tokio::spawn(async move {
                let permit = waiting.acquire(class, patience).await;
                order.send(class).expect("receiver lives");
                drop(permit);
            });
            while gate.readings()[class.index()].waiting == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(held);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(served.recv().await.expect("all are served"));
        }
        assert_eq!(seen, [Class::Checkout, Class::Browse, Class::Background]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_waiting_leaves_nothing_behind() {
        let one = Share { min: 0, max: 1 };
        let gate = Gate::new(Admission::new(1, [one; 4]));
        let held = gate.acquire(Class::Browse, Duration::ZERO).await;
        assert!(held.is_some());
        let refused = gate
            .acquire(Class::Browse, Duration::from_millis(300))
            .await;
        assert!(refused.is_none());
        drop(held);
        assert!(gate.acquire(Class::Browse, Duration::ZERO).await.is_some());
        let reading = gate.readings()[Class::Browse.index()];
        assert_eq!(
            (reading.timed_out, reading.waiting, reading.in_use),
            (1, 0, 0)
        );
    }
}
