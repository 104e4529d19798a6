//! Whose password is computed next.
//!
//! Those who have the least open come first, so a crowd from one network waits for everybody else and not
//! they for it; among equals the newest, because whoever has waited for longest is about to give up, and a
//! crowd that comes at once does not hold up who comes after it. Few wait, so nobody waits for long.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How long somebody waits for a turn: less than the second after which a request counts as stuck.
const PATIENCE: Duration = Duration::from_millis(800);
/// Who may wait, for each turn that is taken at once: as many as are served within [`PATIENCE`].
const QUEUE: usize = 24;

/// Where somebody stands: what is open, and when it came. The smallest is next.
type Place = (u32, Reverse<u64>);

/// Hands out turns. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    queue: usize,
    waiting: BTreeMap<Place, oneshot::Sender<Turn>>,
    /// Counts up.
    next: u64,
}

/// The right to compute one password. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Turn(Turns);

impl Turns {
    /// At most `concurrency` at once.
    pub(super) fn new(concurrency: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: concurrency,
            queue: concurrency.saturating_mul(QUEUE),
            waiting: BTreeMap::new(),
            next: 0,
        })))
    }

    /// Waits for a turn; `None` when there are too many who have less open, or for too long.
    pub(super) async fn take(&self, open: u32) -> Option<Turn> {
        let (receiver, waiting) = {
            let state = &mut *self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(Turn(self.clone()));
            }
            let (sender, receiver) = oneshot::channel();
            let place = (open, Reverse(state.next));
            state.next += 1;
            state.waiting.insert(place, sender);
            if state.waiting.len() > state.queue {
                state.waiting.pop_last();
            }
            let turns = self.clone();
            (receiver, Waiting { turns, place })
        };
        let turn = tokio::time::timeout(PATIENCE, receiver).await;
        drop(waiting);
        turn.ok()?.ok()
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }
}

/// Somebody who waits, until it has a turn or has given up.
struct Waiting {
    turns: Turns,
    place: Place,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turns.0.lock().waiting.remove(&self.place);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let state = &mut *self.0.0.lock();
            let next = state.waiting.pop_first();
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some((_, waiter)) = next {
            // One that has given up at this moment drops the turn, which passes it on.
            drop(waiter.send(Turn(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    /// Lets those in `crowd` wait in this order while the only turn is taken; who was served, in order.
    async fn served(crowd: &[(u32, &'static str)]) -> UnboundedReceiver<(&'static str, bool)> {
        let turns = Turns::new(1);
        let taken = turns.take(0).await.expect("is free");
        let (order, served) = unbounded_channel();
        for &(open, name) in crowd {
            let (before, waits) = (turns.waiting(), turns.clone());
            let order = order.clone();
            tokio::spawn(async move {
                let turn = waits.take(open).await;
                order.send((name, turn.is_some())).expect("receiver lives");
                drop(turn);
            });
            while turns.waiting() == before && before < QUEUE {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
        drop(taken);
        served
    }

    #[tokio::test]
    async fn who_has_least_open_is_next_and_among_equals_the_newest() {
        let crowd = [(9, "crowd"), (1, "early"), (1, "late"), (0, "known")];
        let mut served = served(&crowd).await;
        for name in ["known", "late", "early", "crowd"] {
            assert_eq!(served.recv().await, Some((name, true)));
        }
    }

    #[tokio::test]
    async fn a_crowd_makes_room_for_whoever_has_less_open_and_is_refused_at_once() {
        let mut crowd: Vec<_> = (2..50).map(|open| (open, "crowd")).collect();
        crowd.push((1, "honest"));
        let mut served = served(&crowd).await;
        let mut seen = Vec::new();
        while let Some(one) = served.recv().await {
            seen.push(one);
        }
        let refused = seen.iter().filter(|(_, served)| !served).count();
        assert_eq!(refused, crowd.len() - QUEUE);
        let first = seen.iter().find(|(_, served)| *served);
        assert_eq!(first, Some(&("honest", true)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_nothing_behind() {
        let turns = Turns::new(1);
        let taken = turns.take(0).await;
        assert!(turns.take(0).await.is_none());
        assert_eq!(turns.waiting(), 0);
        drop(taken);
        assert!(turns.take(0).await.is_some());
    }
}
