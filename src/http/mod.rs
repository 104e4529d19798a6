//! The HTTP interface: extract, make one domain call, respond.

mod accounts;
mod changes;
pub mod clock;
mod compression;
mod cookies;
mod docs;
pub mod error;
pub mod extract;
mod foreign;
mod headers;
mod health;
mod host;
mod incidents;
mod json;
mod log_in;
mod measure;
mod metrics;
mod ops;
mod orders;
mod origin;
mod outage;
mod pages;
mod products;
mod surroundings;
mod throttles;
mod tickets;

use std::any::Any;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{from_fn, from_fn_with_state, map_response, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use pool::Class;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{
    MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};
use tower_http::trace::{OnResponse, TraceLayer};
use tracing::{Span, debug, error, info_span};
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::connections::{Port, Register};
use error::{ApiError, Kind};
use measure::measured;
use metrics::Metrics;
use outage::Outages;

/// Connections of operators, which no crowd of shoppers can take.
pub const OPERATORS: usize = 32;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The addresses of the two ports.
pub struct Routers {
    /// For shoppers: the shop, its health, and what links in messages lead to.
    pub shop: Router,
    /// For operators: `/ops` and `/metrics`.
    pub ops: Router,
}

/// All addresses of `app`, counted in `metrics`.
pub fn routers(app: &App, metrics: &Metrics, outages: &Outages) -> Routers {
    let class = |class, routes| measured(app, metrics, class, routes);
    let described = || docs::base(app.settings.accounts.secure_cookies);
    let (shop, api) = OpenApiRouter::with_openapi(described())
        .merge(class(Class::Browse, products::router()).layer(compression::layer()))
        .merge(class(Class::Account, accounts::router()))
        .merge(class(Class::Account, log_in::router()))
        .merge(class(Class::Account, orders::reading()))
        .merge(class(Class::Checkout, orders::placing()))
        .merge(health::router())
        .split_for_parts();
    let files = docs::pages(api).merge(pages::router());
    let shop = shop
        .merge(files.layer(compression::layer()))
        .merge(tickets::router());
    let (ops, api) = OpenApiRouter::with_openapi(described())
        .merge(health::router())
        .merge(metrics::router())
        .merge(ops::router())
        .merge(throttles::router())
        .merge(incidents::router())
        .merge(changes::router())
        .split_for_parts();
    let ops = ops
        .merge(docs::pages(api))
        .layer(compression::layer())
        .layer(Extension(metrics.clone()));
    Routers {
        shop: around(app, outages, shop),
        ops: around(app, outages, ops),
    }
}

/// Puts around `routes` what every answer needs.
fn around(app: &App, outages: &Outages, routes: Router<App>) -> Router {
    let http = &app.settings.http;
    routes
        .fallback(async || ApiError::not_found("address"))
        .method_not_allowed_fallback(async || ApiError::new(Kind::METHOD_NOT_ALLOWED, ""))
        // One stack around everything; the first is the outermost.
        .layer(
            ServiceBuilder::new()
                .map_request(without_foreign_id)
                .layer(map_response_with_state(
                    app.settings.accounts.secure_cookies,
                    headers::complete,
                ))
                .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(request_span)
                        .on_request(())
                        .on_response(Answered(outages.clone()))
                        .on_failure(()),
                )
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(map_response(foreign::as_problem))
                .layer(from_fn(host::required))
                .layer(from_fn_with_state(http.clone(), clock::timed))
                .layer(DefaultBodyLimit::max(http.body_limit)),
        )
        .with_state(app.clone())
}

/// Where the service listens.
pub struct Listeners {
    /// For shoppers.
    pub shop: TcpListener,
    /// For operators.
    pub ops: TcpListener,
}

/// Serves `app` on `listeners` until its shutdown begins; requests under way then have
/// `settings.http.drain` to end.
pub async fn serve(app: App, listeners: Listeners) {
    let metrics = Metrics::new();
    let stop = app.shutdown.token();
    app.shutdown.spawn(app.probe.clone().watch(stop.clone()));
    app.shutdown.spawn(metrics.clone().upkeep(stop.clone()));
    let outages = Outages::default();
    app.shutdown.spawn(outages.clone().watch(stop.clone()));
    app.shutdown
        .spawn(app.brake.log_ins.clone().tell(stop.clone()));
    let Routers { shop, ops } = routers(&app, &metrics, &outages);
    let shop = Port {
        listener: listeners.shop,
        router: shop,
        register: app.connections.clone(),
    };
    let ops = Port {
        listener: listeners.ops,
        router: ops,
        register: Register::new(OPERATORS),
    };
    let limits = &app.settings.http;
    tokio::join!(
        shop.serve(limits.clone(), stop.clone()),
        ops.serve(limits.clone(), stop.clone()),
    );
}

/// A request's id is logged and answered: one that is not 1 to 64 plain characters is replaced by ours.
fn without_foreign_id(mut request: Request) -> Request {
    let is_plain = |id: &HeaderValue| {
        let plain = |c: &u8| c.is_ascii_alphanumeric() || b"-_.".contains(c);
        (1..=64).contains(&id.len()) && id.as_bytes().iter().all(plain)
    };
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    let keeps = matches!((ids.next(), ids.next()), (Some(id), None) if is_plain(id));
    if !keeps {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// The address is logged as its route, because what people search for is theirs alone.
fn request_span(request: &Request) -> Span {
    let id = request.extensions().get::<RequestId>();
    let id = id.and_then(|id| id.header_value().to_str().ok());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("(none)", MatchedPath::as_str);
    info_span!("request", id, method = %request.method(), route)
}

/// Counts the answers that say that the shop could not serve.
#[derive(Clone)]
struct Answered(Outages);

impl<B> OnResponse<B> for Answered {
    fn on_response(self, response: &axum::http::Response<B>, took: Duration, _: &Span) {
        if let Some(fault) = response.extensions().get() {
            self.0.failed(fault, Instant::now());
        }
        debug!(status = response.status().as_u16(), ?took, "answered");
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
