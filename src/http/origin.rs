//! Where a request comes from: its peer, or what a trusted proxy says of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use tracing::warn;

use super::error::ApiError;
use crate::app::App;
use crate::brake::Origin;
use crate::config::Network;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl FromRequestParts<App> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let Some(&ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
            let err = std::io::Error::other("a request without a peer");
            return Err(ApiError::internal(&err));
        };
        let trusted = &app.settings.http.trusted_proxies;
        warn_of_a_proxy(peer.ip(), &parts.headers, trusted);
        Ok(client(peer.ip(), &parts.headers, trusted).into())
    }
}

/// The peer, unless it is a trusted proxy: then whom it names, and so on. Each proxy appends the address that
/// it was asked from, so what an address that is not trusted has sent is never read.
fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_proxy = |address| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    let lists = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = lists.flat_map(|list| list.to_str().unwrap_or_default().rsplit(','));
    while is_proxy(client) {
        // What cannot be read counts as whoever said it.
        let Some(hop) = hops.next().and_then(address) else {
            break;
        };
        client = hop;
    }
    client
}

/// With or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address = text.parse().ok().or_else(with_port)?;
    Some(address.to_canonical())
}

/// Says once that all shoppers count as one, where it seems so.
fn warn_of_a_proxy(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) {
    static TOLD: Once = Once::new();
    let private = match peer.to_canonical() {
        IpAddr::V4(peer) => peer.is_loopback() || peer.is_private(),
        IpAddr::V6(peer) => peer.is_loopback() || peer.is_unique_local(),
    };
    if trusted.is_empty() && private && headers.contains_key(FORWARDED_FOR) {
        TOLD.call_once(|| {
            warn!(
                %peer,
                "a proxy sends X-Forwarded-For, but http.trusted_proxies is empty: all its clients count as \
                 one, and one of them who guesses passwords holds up the log-ins of all; name the proxy there"
            );
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn found(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for list in forwarded {
            let list = HeaderValue::from_str(list).expect("is a header");
            headers.append(FORWARDED_FOR, list);
        }
        let network = |text: &&str| Network::try_from((*text).to_owned()).expect("is a network");
        let trusted: Vec<_> = trusted.iter().map(network).collect();
        client(peer.parse().expect("is an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_is_believed_who_is_no_trusted_proxy() {
        assert_eq!(found("192.0.2.1", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(
            found("192.0.2.1", &["198.51.100.7"], &["10.0.0.0/8"]),
            "192.0.2.1"
        );
    }

    #[test]
    fn behind_proxies_the_client_is_the_nearest_address_that_is_not_theirs() {
        let proxies = ["10.0.0.0/8", "2001:db8:1::/48"];
        for (forwarded, client) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["6.6.6.6, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            (&["6.6.6.6", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8:2::1]:4711, 2001:db8:1::9"], "2001:db8:2::1"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
            (&["198.51.100.7, nonsense"], "10.0.0.1"),
            (&["198.51.100.7,"], "10.0.0.1"),
            (&["10.0.0.3"], "10.0.0.3"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(
                found("10.0.0.1", forwarded, &proxies),
                client,
                "{forwarded:?}"
            );
            assert_eq!(found("::ffff:10.0.0.1", forwarded, &proxies), client);
        }
    }
}
