//! Measures what the shoppers of a class feel, by each request's [`Clock`].

use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use pool::Class;
use pressure::{Latencies, Outcome};
use utoipa_axum::router::OpenApiRouter;

use super::clock::Clock;
use super::metrics::{ClassMetrics, Metrics};
use crate::app::App;

#[derive(Clone)]
struct Measured {
    class: Class,
    latencies: Latencies,
    patience: Duration,
    metrics: ClassMetrics,
}

/// Puts every route of `routes` into `class`.
pub fn measured(
    app: &App,
    metrics: &Metrics,
    class: Class,
    routes: OpenApiRouter<App>,
) -> OpenApiRouter<App> {
    let measured = Measured {
        class,
        latencies: app.latencies.clone(),
        patience: app.settings.http.patience,
        metrics: metrics.class(class),
    };
    routes.route_layer(from_fn_with_state(measured, measure))
}

async fn measure(
    State(measured): State<Measured>,
    Extension(clock): Extension<Clock>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(measured.class);
    let counted = clock.count(&measured.latencies, measured.class, measured.patience);
    let response = next.run(request).await;
    let status = response.status();
    if clock.was_cut_short() {
        counted.finish(Outcome::Abandoned, Instant::now());
        return response;
    }
    let outcome = match status {
        // The shop has done nothing for it.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Outcome::Refused,
        status if status.is_server_error() => Outcome::Failed,
        _ if clock.was_hung_up() => {
            // Counted as if that had been seen before there was an answer.
            drop(counted);
            return response;
        }
        _ => Outcome::Ok,
    };
    let took = counted.finish(outcome, Instant::now());
    measured.metrics.record(status, took);
    response
}
