//! Links in messages: a page that says what a link would do, and does it when the button is pressed.
//!
//! Mail servers and chat programs open links to look at them, so nothing happens by opening one.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use chrono::Utc;
use html_escape::encode_text;

use super::extract::Path;
use crate::app::App;
use crate::watch::event::What;
use crate::watch::incident::Incident;
use crate::watch::ticket::{Right, Ticket, TicketError};

/// Nothing runs and nothing is loaded; the form goes back to where it came from.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// Who has the address has the right: it goes nowhere else.
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// `/tickets/{ticket}`.
pub fn router() -> Router<App> {
    Router::new().route("/tickets/{ticket}", get(show).post(redeem))
}

async fn show(State(app): State<App>, Path(ticket): Path<String>) -> Response {
    let Some(tickets) = &app.tickets else {
        return refused(TicketError::Forged);
    };
    let ticket = match tickets.read(&ticket, Utc::now()) {
        Ok(ticket) => ticket,
        Err(err) => return refused(err),
    };
    let incident = app
        .incidents
        .as_ref()
        .and_then(|log| log.incident(ticket.incident));
    let Some(incident) = incident.filter(Incident::is_open) else {
        return refused(TicketError::Over);
    };
    let (button, text) = words(&ticket, &incident);
    let form = format!(
        "<p>{}</p><form method=\"post\"><button>{}</button></form>",
        encode_text(&text),
        encode_text(&button)
    );
    page(StatusCode::OK, &incident.title, &form)
}

async fn redeem(State(app): State<App>, Path(ticket): Path<String>) -> Response {
    let (Some(tickets), Some(log)) = (&app.tickets, &app.incidents) else {
        return refused(TicketError::Forged);
    };
    match tickets.redeem(&ticket, log, Utc::now()).await {
        Ok(Ticket {
            right: Right::Acknowledge { .. },
            ..
        }) => page(
            StatusCode::OK,
            "You take care of it",
            "<p>Nobody else will be called meanwhile.</p>",
        ),
        Ok(_) => page(
            StatusCode::OK,
            "It is allowed",
            "<p>The watch does it now; the incident's timeline will say what came of it.</p>",
        ),
        Err(err) => refused(err),
    }
}

/// What the button says, and what the page says above it.
fn words(ticket: &Ticket, incident: &Incident) -> (String, String) {
    let finding = incident.finding.as_ref();
    let story = finding
        .map(|finding| finding.sentence())
        .unwrap_or_default();
    match &ticket.right {
        Right::Acknowledge { .. } => ("I take care of it".to_owned(), story),
        Right::Act { ask, act, .. } => {
            let asked = incident.events.iter().find(|event| event.id == *ask);
            let who = match asked.map(|event| &event.what) {
                Some(What::Asked { suspect, .. }) => suspect.describe(),
                _ => "the session".to_owned(),
            };
            (format!("{} {who}", act.verb()), story)
        }
    }
}

fn refused(err: TicketError) -> Response {
    let status = match err {
        TicketError::Forged => StatusCode::NOT_FOUND,
        TicketError::Expired | TicketError::Over => StatusCode::GONE,
        TicketError::Used => StatusCode::CONFLICT,
        TicketError::Unwritten => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = format!("<p>{}</p>", encode_text(&err.to_string()));
    page(status, "This link does nothing", &text)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = encode_text(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"stylesheet\" href=\"/static/app.css\"></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>"
    );
    let headers = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, NO_REFERRER),
        (header::CACHE_CONTROL, NO_STORE),
    ];
    (status, headers, Html(html)).into_response()
}
