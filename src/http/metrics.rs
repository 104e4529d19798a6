//! `/metrics`, in Prometheus' format.
//!
//! Every app has its own recorder, and the handles of the busy metrics are looked up once: counting
//! a request is a few atomic additions.

use std::array;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use metrics::{
    Counter, Histogram, Key, Label, Level, Metadata, Recorder, SharedString, Unit,
    with_local_recorder,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use pool::Class;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::surroundings;
use crate::app::App;
use crate::brake::Outcome;
use crate::connections::Ended;

const REQUESTS: &str = "evenkeel_http_requests_total";
const DURATION: &str = "evenkeel_http_request_duration_seconds";
const IN_FLIGHT: &str = "evenkeel_http_requests_in_flight";
const FAILED: &str = "evenkeel_http_requests_failed_total";
const ABANDONED: &str = "evenkeel_http_requests_abandoned_total";
const CONNECTIONS: &str = "evenkeel_http_connections";
const CONNECTIONS_ENDED: &str = "evenkeel_http_connections_ended_total";
const LOG_INS: &str = "evenkeel_log_ins_total";
const POOL_IN_USE: &str = "evenkeel_pool_in_use";
const POOL_WAITING: &str = "evenkeel_pool_waiting";
const POOL_TIMEOUTS: &str = "evenkeel_pool_acquire_timeouts_total";
const POOL_WAIT: &str = "evenkeel_pool_wait_microseconds_total";
const POOL_OPEN: &str = "evenkeel_pool_open";

const BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// How often samples are moved from the recording buffers into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// The metrics of one app. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

/// The metrics of one class, ready to be counted.
#[derive(Clone)]
pub struct ClassMetrics {
    /// By the first digit of the status, from 1.
    requests: Arc<[Counter; 5]>,
    duration: Histogram,
}

/// The address of the metrics.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Show metrics in Prometheus' format.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = OK, body = String, content_type = "text/plain")))]
async fn metrics(State(app): State<App>, Extension(metrics): Extension<Metrics>) -> String {
    metrics.render(&app)
}

fn by_class(name: &'static str, class: Class) -> Key {
    Key::from_parts(name, vec![Label::new("class", class.name())])
}

impl Metrics {
    /// Empty metrics.
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "fails only without buckets")]
        let builder = PrometheusBuilder::new()
            .set_buckets(&BUCKETS)
            .expect("there are buckets");
        let recorder = builder.build_recorder();
        for (name, unit, text) in [
            (REQUESTS, Unit::Count, "Requests that were answered"),
            (
                FAILED,
                Unit::Count,
                "Requests that failed, or were given up by clients that had waited",
            ),
            (
                ABANDONED,
                Unit::Count,
                "Requests given up by clients that had not waited",
            ),
            (
                CONNECTIONS_ENDED,
                Unit::Count,
                "Connections that the service ended: idle, head (incomplete), unread (answer), room \
                 (for another), refused (no room)",
            ),
            (
                LOG_INS,
                Unit::Count,
                "Log-ins: right, wrong, account_held or network_held (too many attempts), busy",
            ),
            (
                POOL_TIMEOUTS,
                Unit::Count,
                "Requests that got no connection in time",
            ),
            (
                POOL_WAIT,
                Unit::Microseconds,
                "Time spent waiting for a connection",
            ),
        ] {
            recorder.describe_counter(name.into(), Some(unit), SharedString::const_str(text));
        }
        for (name, text) in [
            (IN_FLIGHT, "Requests under way"),
            (CONNECTIONS, "Open connections of clients"),
            (POOL_IN_USE, "Connections held"),
            (POOL_WAITING, "Requests that wait for a connection"),
            (POOL_OPEN, "Open connections"),
        ] {
            recorder.describe_gauge(name.into(), None, SharedString::const_str(text));
        }
        recorder.describe_histogram(
            DURATION.into(),
            Some(Unit::Seconds),
            SharedString::const_str("Time from arrival to answer"),
        );
        let handle = recorder.handle();
        let recorder = Arc::new(recorder);
        Self { recorder, handle }
    }

    /// The metrics of `class`.
    pub fn class(&self, class: Class) -> ClassMetrics {
        const STATUS: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        let requests = array::from_fn(|i| {
            let labels = vec![
                Label::new("class", class.name()),
                Label::new("status", STATUS[i]),
            ];
            let key = Key::from_parts(REQUESTS, labels);
            self.recorder.register_counter(&key, &METADATA)
        });
        let duration = by_class(DURATION, class);
        ClassMetrics {
            requests: Arc::new(requests),
            duration: self.recorder.register_histogram(&duration, &METADATA),
        }
    }

    /// Keeps the recording buffers small until `stop`.
    pub async fn upkeep(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.handle.run_upkeep();
            let _ = tokio::time::timeout(UPKEEP, stop.cancelled()).await;
        }
    }

    /// The text of all metrics, with the state of `app` as it is now.
    fn render(&self, app: &App) -> String {
        let gauge = |key: Key, value: f64| {
            self.recorder.register_gauge(&key, &METADATA).set(value);
        };
        let counter = |key: Key, value: u64| {
            self.recorder
                .register_counter(&key, &METADATA)
                .absolute(value);
        };
        let now = std::time::Instant::now();
        for (class, gate) in Class::ALL.into_iter().zip(app.pool.gates()) {
            gauge(by_class(POOL_IN_USE, class), gate.in_use as f64);
            gauge(by_class(POOL_WAITING, class), gate.waiting as f64);
            counter(by_class(POOL_TIMEOUTS, class), gate.timed_out);
            counter(by_class(POOL_WAIT, class), gate.waited_us);
        }
        for class in Class::SHOPPERS {
            let reading = app.latencies.read(class, pressure::latency::FAST, now);
            gauge(by_class(IN_FLIGHT, class), reading.in_flight as f64);
            counter(by_class(FAILED, class), app.latencies.totals(class).failed);
            counter(by_class(ABANDONED, class), app.latencies.abandoned(class));
        }
        for why in Ended::ALL {
            let labels = vec![Label::new("reason", why.name())];
            let key = Key::from_parts(CONNECTIONS_ENDED, labels);
            counter(key, app.connections.ended(why));
        }
        for outcome in Outcome::ALL {
            let labels = vec![Label::new("outcome", outcome.name())];
            let key = Key::from_parts(LOG_INS, labels);
            counter(key, app.brake.log_ins.total(outcome));
        }
        gauge(Key::from_name(CONNECTIONS), app.connections.open() as f64);
        gauge(Key::from_name(POOL_OPEN), app.pool.open() as f64);
        with_local_recorder(&*self.recorder, || app.board.publish());
        self.handle.render() + &surroundings::text(&app.surroundings.seen(), now)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ClassMetrics {
    /// Counts an answered request.
    pub fn record(&self, status: StatusCode, took: Duration) {
        let kind = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.requests.get(kind) {
            counter.increment(1);
        }
        self.duration.record(took);
    }
}
