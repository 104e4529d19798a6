//! What watching costs: two idle shops side by side, one of them watched.

use std::time::Duration;

use super::stage::Stage;

/// What is done once, at the start, is over.
const SETTLED: Duration = Duration::from_secs(5);
const ROUND: Duration = Duration::from_secs(20);
const ROUNDS: usize = 5;
/// What `USER_HZ` is wherever Linux runs on what PostgreSQL runs on.
const TICKS_PER_SECOND: f64 = 100.0;

pub async fn measure() {
    let (watched, other) = (Stage::open(true).await, Stage::open(false).await);
    tokio::time::sleep(SETTLED).await;
    println!("processor time in percent of a core, over {ROUND:?} without requests");
    println!("{:8} {:>16} {:>16}", "", "shop", "PostgreSQL");
    let mut extra = Vec::new();
    for _ in 0..ROUNDS {
        let before = [&watched, &other].map(spent);
        tokio::time::sleep(ROUND).await;
        let after = [&watched, &other].map(spent);
        let of = |stage: usize, process: usize| {
            100.0 * (after[stage][process] - before[stage][process]) / ROUND.as_secs_f64()
        };
        for (stage, name) in [(0, "watched"), (1, "not")] {
            println!("{name:8} {:16.2} {:16.2}", of(stage, 0), of(stage, 1));
        }
        extra.push([0, 1].map(|process| of(0, process) - of(1, process)));
    }
    let mean = |process: usize| extra.iter().map(|e| e[process]).sum::<f64>() / ROUNDS as f64;
    println!("{:8} {:16.2} {:16.2}", "extra", mean(0), mean(1));
    watched.close().await;
    other.close().await;
}

/// Processor time in seconds: of the shop, and of its database with all sessions, also those that
/// have ended.
fn spent(stage: &Stage) -> [f64; 2] {
    let [shop, postmaster] = stage.processes();
    let sessions = children(postmaster);
    let database: f64 = sessions.into_iter().map(|pid| seconds(pid, false)).sum();
    [seconds(shop, false), database + seconds(postmaster, true)]
}

fn children(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(file).unwrap_or_default();
    children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// Of a process; `with_reaped` also of its children that have ended. A process that has just ended has
/// spent nothing.
fn seconds(pid: u32, with_reaped: bool) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name, which may have spaces: proc(5).
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |field: usize| -> f64 {
        let text = fields.split(' ').nth(field - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    };
    let own = ticks(14) + ticks(15);
    let reaped = if with_reaped {
        ticks(16) + ticks(17)
    } else {
        0.0
    };
    (own + reaped) / TICKS_PER_SECOND
}
