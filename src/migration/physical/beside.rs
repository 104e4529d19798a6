//! A read beside shoppers whom this process serves, outside a run.

use std::time::{Duration, Instant};

use pressure::pace::Pace;
use pressure::settings::PaceSettings as Settings;
use tokio::sync::watch;

use super::{Paced, Physical, Question, read};
use crate::config::Engine;
use crate::migration::governor::{Governor, Sensors};

/// As [`read`](super::read()), at the pace that a governor of its own derives from what `sensors` feel.
pub async fn read_beside(
    sensors: &Sensors,
    settings: &Settings,
    engine: &Engine,
    question: &Question<'_>,
    limit: Duration,
) -> Physical {
    let now = Instant::now();
    let (publish, pace) = watch::channel(Pace::initial(settings, now));
    let mut governor = Governor::new(settings.clone(), rand::random(), now);
    let mut paced = Paced {
        pace,
        target: engine.batch_target,
    };
    tokio::select! {
        read = read(&sensors.pool, engine, question, limit, &mut paced) => {
            let Ok(found) = read;
            found
        }
        never = governor.run(sensors, &publish) => match never {},
    }
}
