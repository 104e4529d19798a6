//! Turns: one background budget, shared fairly by the migrations that a process drives.
//!
//! Whoever has the turn runs a batch and rests after it; the others wait. So together they work the
//! share of the time that the pace allows, however many they are. The turn goes to whoever has worked
//! least, and one that had nothing to do for a while begins where the others are: time is not saved up
//! (start-time fair queueing: Goyal, Vin and Cheng, 1996).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Who waits for a turn, and how much each has worked. It reads no clock.
#[derive(Debug, Default)]
pub struct Line {
    /// Seconds worked, or taken to have been worked, by everyone who is not gone.
    worked: BTreeMap<i64, f64>,
    /// Those who wait, with the seconds they had worked when they came.
    waiting: BTreeMap<i64, f64>,
    /// What the last to have a turn had worked before it.
    now: f64,
}

impl Line {
    /// `who` waits for a turn from now on.
    pub fn arrive(&mut self, who: i64) {
        let worked = self.worked.entry(who).or_default();
        *worked = worked.max(self.now);
        self.waiting.insert(who, *worked);
    }

    /// Whose turn it is.
    pub fn first(&self) -> Option<i64> {
        let first = self.waiting.iter().min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(*first.0)
    }

    /// `who` does not wait any longer: the turn begins.
    pub fn begin(&mut self, who: i64) {
        if let Some(worked) = self.waiting.remove(&who) {
            self.now = worked;
        }
    }

    /// `who` gives up waiting.
    pub fn give_up(&mut self, who: i64) {
        self.waiting.remove(&who);
    }

    /// `who` has worked for so long in its turn.
    pub fn end(&mut self, who: i64, took: Duration) {
        if let Some(worked) = self.worked.get_mut(&who) {
            *worked += took.as_secs_f64();
        }
    }

    /// `who` has left for good.
    pub fn leave(&mut self, who: i64) {
        self.waiting.remove(&who);
        self.worked.remove(&who);
    }
}

/// The turns of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The line, and whether somebody has the turn.
    line: Mutex<(Line, bool)>,
    changed: Notify,
}

/// A migration's place among the others; dropped, it leaves.
#[derive(Debug)]
pub struct Seat {
    turns: Turns,
    who: i64,
}

/// The turn; dropped, it ends.
#[derive(Debug)]
pub struct Turn {
    turns: Turns,
    who: i64,
    worked: Duration,
}

impl Turns {
    /// A place for run `who`.
    pub fn join(&self, who: i64) -> Seat {
        Seat {
            turns: self.clone(),
            who,
        }
    }
}

/// Somebody who waits; dropped before the turn came, they have given up.
struct Waiting<'a>(&'a Seat);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let shared = &self.0.turns.shared;
        shared.line.lock().0.give_up(self.0.who);
        shared.changed.notify_waiters();
    }
}

impl Seat {
    /// How many others take turns with this one.
    pub fn others(&self) -> usize {
        let shared = &self.turns.shared;
        let all = &shared.line.lock().0.worked;
        all.len() - usize::from(all.contains_key(&self.who))
    }

    /// Waits for the turn. Giving up is dropping the future.
    pub async fn turn(&self) -> Turn {
        let shared = &self.turns.shared;
        shared.line.lock().0.arrive(self.who);
        let _waiting = Waiting(self);
        loop {
            let changed = shared.changed.notified();
            {
                let (line, taken) = &mut *shared.line.lock();
                if !*taken && line.first() == Some(self.who) {
                    *taken = true;
                    line.begin(self.who);
                    return Turn {
                        turns: self.turns.clone(),
                        who: self.who,
                        worked: Duration::ZERO,
                    };
                }
            }
            changed.await;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let shared = &self.turns.shared;
        shared.line.lock().0.leave(self.who);
        shared.changed.notify_waiters();
    }
}

impl Turn {
    /// Counts a batch that took `took`.
    pub fn worked(&mut self, took: Duration) {
        self.worked += took;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let shared = &self.turns.shared;
        {
            let (line, taken) = &mut *shared.line.lock();
            line.end(self.who, self.worked);
            *taken = false;
        }
        shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_turn_goes_to_whoever_has_worked_least() {
        let mut line = Line::default();
        line.arrive(1);
        line.arrive(2);
        assert_eq!(line.first(), Some(1));
        line.begin(1);
        line.end(1, 30 * MS);
        line.arrive(1);
        for _ in 0..3 {
            assert_eq!(line.first(), Some(2));
            line.begin(2);
            line.end(2, 11 * MS);
            line.arrive(2);
        }
        assert_eq!(line.first(), Some(1));
    }

    #[test]
    fn time_is_not_saved_up() {
        let mut line = Line::default();
        for who in [1, 2] {
            line.arrive(who);
        }
        for _ in 0..100 {
            line.give_up(2);
            line.begin(1);
            line.end(1, 10 * MS);
            line.arrive(1);
        }
        line.arrive(2);
        let mut turns = [0, 0];
        for _ in 0..10 {
            let who = line.first().expect("both wait");
            turns[who as usize - 1] += 1;
            line.begin(who);
            line.end(who, 10 * MS);
            line.arrive(who);
        }
        assert_eq!(turns, [5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_works_and_each_as_much_as_the_others() {
        let turns = Turns::default();
        let working = Arc::new(Mutex::new((false, [0_u32; 3])));
        let mut tasks = tokio::task::JoinSet::new();
        for who in 0..3_usize {
            let seat = turns.join(who as i64);
            let working = working.clone();
            tasks.spawn(async move {
                loop {
                    let mut turn = seat.turn().await;
                    assert!(
                        !std::mem::replace(&mut working.lock().0, true),
                        "two at once"
                    );
                    let took = 5 * (who as u32 + 1);
                    tokio::time::sleep(took * MS).await;
                    turn.worked(took * MS);
                    let mut working = working.lock();
                    working.0 = false;
                    working.1[who] += took;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        tasks.shutdown().await;
        let worked = working.lock().1;
        assert!(
            worked.iter().all(|ms| (3_250..=3_420).contains(ms)),
            "{worked:?}"
        );
    }

    #[tokio::test]
    async fn who_gives_up_or_leaves_keeps_nobody_waiting() {
        let turns = Turns::default();
        let (one, two, three) = (turns.join(1), turns.join(2), turns.join(3));
        let turn = one.turn().await;
        let mut impatient = Box::pin(two.turn());
        assert!(futures_util::poll!(&mut impatient).is_pending());
        let mut patient = Box::pin(three.turn());
        assert!(futures_util::poll!(&mut patient).is_pending());
        drop(turn);
        drop(impatient);
        drop(patient.await);
        drop(one);
        drop(two.turn().await);
    }
}
