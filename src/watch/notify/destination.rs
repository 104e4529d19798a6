//! Where a message goes: the host's addresses, looked at before anything is sent there.
//!
//! A channel's address may come from somebody who must not reach what this machine can reach: the
//! database, the cloud's metadata, other services behind the firewall. So a host is resolved once,
//! every address is looked at, and the connection is made to those addresses: a second look-up could
//! answer differently.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Network;

/// Addresses that may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// All of them, at least one.
    pub addresses: Vec<SocketAddr>,
}

/// What a channel may reach.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Whether every address will do.
    pub private: bool,
    /// Addresses that will do although they are not of the public internet.
    pub allowed: Vec<Network>,
}

/// Why a host is not connected to.
#[derive(Debug, thiserror::Error)]
pub enum DestinationError {
    /// It has no address.
    #[error("{host} has no address: {source}")]
    Unresolved {
        /// The host.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// It has an address that outsiders may not reach through us.
    #[error(
        "{host} is at {address}, which is {kind}; if that is meant, set `private = true` for the \
         channel or list the address in watch.notify.allow_private"
    )]
    Refused {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
        /// What it is.
        kind: &'static str,
    },
}

impl Destination {
    /// Resolves a host and looks at all of its addresses.
    ///
    /// # Errors
    /// [`DestinationError::Refused`] if only one of them is out of reach: whoever mixes them tries
    /// something.
    pub async fn resolve(host: &str, port: u16, reach: &Reach) -> Result<Self, DestinationError> {
        // As a URL writes it.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let unresolved = |source| DestinationError::Unresolved {
            host: host.to_owned(),
            source,
        };
        let resolved = tokio::net::lookup_host((host, port)).await;
        let addresses: Vec<SocketAddr> = resolved.map_err(unresolved)?.collect();
        if addresses.is_empty() {
            return Err(unresolved(std::io::ErrorKind::NotFound.into()));
        }
        for address in &addresses {
            if let Some(kind) = reach.refuses(address.ip()) {
                return Err(DestinationError::Refused {
                    host: host.to_owned(),
                    address: address.ip(),
                    kind,
                });
            }
        }
        Ok(Self { addresses })
    }
}

impl Reach {
    /// What the address is, if it may not be reached.
    pub fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        let plain = address.to_canonical();
        let listed = self.allowed.iter().any(|network| network.contains(plain));
        if self.private || listed {
            return None;
        }
        match address {
            IpAddr::V4(address) => special_v4(address),
            IpAddr::V6(address) => special_v6(address),
        }
    }
}

/// What an address is, unless it is one of the public internet (IANA's registry of special-purpose
/// addresses, which the clouds' metadata services are within).
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let kind = match address.octets() {
        [0, ..] => "unspecified",
        [127, ..] => "this machine",
        [169, 254, ..] => "link-local, where clouds keep their metadata",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [100, 64..=127, ..] => "of a provider's inside",
        [192, 0, 0, _] | [192, 88, 99, _] => "reserved for protocols",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "for documentation only",
        [198, 18..=19, ..] => "for benchmarks only",
        [224..=239, ..] => "multicast",
        [240..=255, ..] => "reserved",
        _ => return None,
    };
    Some(kind)
}

/// As [`special_v4`]; an address that carries one of version 4 is what that one is.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        special_v4(Ipv4Addr::new(a, b, c, d))
    };
    let kind = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "this machine",
        // Mapped, or translated by NAT64.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            return v4(high, low);
        }
        [0x64, 0xff9b, 1, ..] => "private",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => "private",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => "for documentation only",
        [0x2001, 0..=0x1ff, ..] | [0x2002, ..] => "reserved for protocols",
        // Nothing else has been given out.
        [0x2000..=0x3fff, ..] => return None,
        _ => "reserved",
    };
    Some(kind)
}
