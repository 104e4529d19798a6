//! The HTTP interface: extract, make one domain call, respond.

mod accounts;
mod changes;
mod docs;
pub mod error;
pub mod extract;
mod health;
mod incidents;
mod measure;
mod metrics;
mod ops;
mod orders;
mod pages;
mod products;
mod surroundings;
mod throttles;
mod tickets;

use std::any::Any;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::HeaderName;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use axum::{Extension, Router};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::trace::TraceLayer;
use tracing::{Span, debug, error, info_span, warn};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::class::Class;
use error::{ApiError, Kind};
use measure::measured;
use metrics::Metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All addresses of `app`. Spawns what they need in the background on `app.shutdown`, and therefore
/// has to be called within a runtime.
pub fn router(app: App) -> Router {
    let metrics = Metrics::new();
    let stop = || app.shutdown.token().clone();
    app.shutdown.spawn(app.probe.clone().watch(stop()));
    app.shutdown.spawn(metrics.clone().upkeep(stop()));

    let class = |class, routes| measured(&app, &metrics, class, routes);
    let (routes, api) = OpenApiRouter::with_openapi(docs::base())
        .merge(class(Class::Browse, products::router()))
        .merge(class(Class::Account, accounts::router()))
        .merge(class(Class::Account, orders::reading()))
        .merge(class(Class::Checkout, orders::placing()))
        .merge(health::router())
        .merge(metrics::router())
        .merge(ops::router())
        .merge(throttles::router())
        .merge(incidents::router())
        .merge(changes::router())
        .split_for_parts();
    let time_limit = from_fn_with_state(app.settings.http.request_timeout, time_limit);
    routes
        .merge(docs::pages(api))
        .merge(pages::router())
        .merge(tickets::router())
        .fallback(async || ApiError::not_found("address"))
        .method_not_allowed_fallback(async || ApiError::new(Kind::METHOD_NOT_ALLOWED, ""))
        // One stack around everything; the first is the outermost.
        .layer(
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(request_span)
                        .on_request(())
                        .on_response(log_response)
                        .on_failure(()),
                )
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(time_limit)
                .layer(DefaultBodyLimit::max(app.settings.http.body_limit))
                .layer(Extension(metrics)),
        )
        .with_state(app)
}

/// Serves `app` on `listener` until its shutdown begins; requests under way then have
/// `settings.http.drain` to end.
///
/// # Errors
/// When the listener fails.
pub async fn serve(app: App, listener: TcpListener) -> std::io::Result<()> {
    let stop = app.shutdown.token().clone();
    let drain = app.settings.http.drain;
    let listener = listener.tap_io(|stream| {
        if let Err(err) = stream.set_nodelay(true) {
            debug!(%err, "TCP_NODELAY was refused");
        }
    });
    let serving =
        axum::serve(listener, router(app)).with_graceful_shutdown(stop.clone().cancelled_owned());
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        result = serving => result,
        () = overdue => {
            warn!(?drain, "requests were still under way at the end of the drain");
            Ok(())
        }
    }
}

/// The address is logged as its route, because what people search for is theirs alone.
fn request_span(request: &Request) -> Span {
    let id = request.extensions().get::<RequestId>();
    let id = id.and_then(|id| id.header_value().to_str().ok());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("(none)", MatchedPath::as_str);
    info_span!("request", id, method = %request.method(), route)
}

fn log_response<B>(response: &axum::http::Response<B>, took: Duration, _: &Span) {
    let status = response.status().as_u16();
    if response.status().is_server_error() {
        warn!(status, ?took, "failed");
    } else {
        debug!(status, ?took, "answered");
    }
}

async fn time_limit(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            Kind::UNAVAILABLE,
            "The request took too long. Whether it took effect is unknown: repeat an order with \
             the same Idempotency-Key.",
        )
        .into_response(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    error!(message, "a handler panicked");
    ApiError::internal(&std::io::Error::other("panic")).into_response()
}
