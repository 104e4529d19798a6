//! What is printed in place of secrets.

use serde::Serializer;

/// Stands for a secret that is set.
pub const HIDDEN: &str = "(hidden)";

/// Writes that there is a secret, and not which.
pub(super) fn hidden<T, S: Serializer>(_: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(HIDDEN)
}

/// Writes a URL without its password.
pub(super) fn url<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match url {
        Some(url) => serializer.serialize_str(&without_password(url, None).0),
        None => serializer.serialize_none(),
    }
}

/// The database's URL for people, with `stand_in` in place of its password or without one, and whether it
/// has one. What is no URL is hidden whole.
pub fn without_password(url: &str, stand_in: Option<&str>) -> (String, bool) {
    let mut hidden = false;
    let (address, query) = match url.split_once('?') {
        Some((address, query)) => (address, Some(query)),
        None => (url, None),
    };
    let Some((scheme, rest)) = address.split_once("://") else {
        return (HIDDEN.to_owned(), true);
    };
    let mut told = address.to_owned();
    if let Some((user, host)) = rest.rsplit_once('@')
        && let Some((name, _)) = user.split_once(':')
    {
        hidden = true;
        let stand_in = stand_in.map_or_else(String::new, |stand_in| format!(":{stand_in}"));
        told = format!("{scheme}://{name}{stand_in}@{host}");
    }
    if let Some(query) = query {
        let parts = query
            .split('&')
            .filter_map(|part| match part.split_once('=') {
                Some((key, _)) if key.eq_ignore_ascii_case("password") => {
                    hidden = true;
                    stand_in.map(|stand_in| format!("{key}={stand_in}"))
                }
                _ => Some(part.to_owned()),
            });
        let parts: Vec<_> = parts.collect();
        if !parts.is_empty() {
            told = format!("{told}?{}", parts.join("&"));
        }
    }
    (told, hidden)
}
