//! Measures what the shoppers of a class feel: from arrival, body included, until the answer.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;

use super::metrics::{ClassMetrics, Metrics};
use crate::app::App;
use crate::class::Class;
use crate::pressure::{Latencies, Outcome};

#[derive(Clone)]
struct Measured {
    class: Class,
    latencies: Latencies,
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
        metrics: metrics.class(class),
    };
    routes.route_layer(from_fn_with_state(measured, measure))
}

async fn measure(State(measured): State<Measured>, request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    // Dropped unfinished when the client hangs up, the request times out or the handler panics:
    // all of them count as failed.
    let in_flight = measured.latencies.arrive(measured.class, arrived);
    let response = next.run(request).await;
    let (status, now) = (response.status(), Instant::now());
    let outcome = if status.is_server_error() {
        Outcome::Failed
    } else {
        Outcome::Ok
    };
    in_flight.finish(outcome, now);
    measured.metrics.record(status, now - arrived);
    response
}
