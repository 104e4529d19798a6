//! Cookies: the session's, and the one by which a device is known.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::config::Accounts;
use crate::store::sessions::Token;

/// Name of the cookie that holds a session's token.
const SESSION: &str = "evenkeel_session";
/// Its name where clients reach the service over TLS: browsers take a cookie of this name from this host
/// alone, and over TLS alone.
const SECURE_SESSION: &str = "__Host-evenkeel_session";
/// Name of the cookie by which a device is known. It is sent with log-ins alone, and one that somebody else
/// has set is worth nothing.
const DEVICE: &str = "evenkeel_device";
/// For as long as browsers keep any cookie: 400 days.
const DEVICE_SECONDS: u64 = 400 * 24 * 3600;

/// Name of the session's cookie, `over_tls` or not.
pub fn session_name(over_tls: bool) -> &'static str {
    if over_tls { SECURE_SESSION } else { SESSION }
}

/// Sets the session's cookie.
pub fn session(token: &str, settings: &Accounts) -> HeaderValue {
    session_for(token, settings.session_lifetime.as_secs(), settings)
}

/// Removes it.
pub fn no_session(settings: &Accounts) -> HeaderValue {
    session_for("", 0, settings)
}

fn session_for(token: &str, max_age: u64, settings: &Accounts) -> HeaderValue {
    let name = session_name(settings.secure_cookies);
    set(name, token, "Path=/; SameSite=Lax", max_age, settings)
}

/// Sets the cookie by which a device is known.
pub fn remembered(device: &Token, settings: &Accounts) -> HeaderValue {
    let scope = "Path=/api/sessions; SameSite=Strict";
    set(DEVICE, &device.reveal(), scope, DEVICE_SECONDS, settings)
}

fn set(name: &str, value: &str, scope: &str, max_age: u64, settings: &Accounts) -> HeaderValue {
    let secure = if settings.secure_cookies {
        "; Secure"
    } else {
        ""
    };
    let text = format!("{name}={value}; {scope}; HttpOnly; Max-Age={max_age}{secure}");
    // A token is base64url, so that this is always a valid header; if not, no cookie is safe.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The session's token in a request. Over TLS only the cookie counts that nobody else can have set: the other
/// name could be set by a neighbouring host, with a session of its own.
pub fn session_token(headers: &HeaderMap, over_tls: bool) -> Option<&str> {
    named(headers, session_name(over_tls))
}

/// What a device shows to be known.
pub fn device(headers: &HeaderMap) -> Option<Token> {
    named(headers, DEVICE).and_then(Token::parse)
}

fn named<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter();
    cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == wanted).then_some(value))
}
