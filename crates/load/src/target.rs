//! Where the load goes: this machine and nowhere else.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

use crate::LoadError;

/// The address of a shop on this machine. There is no way to make one for another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(SocketAddr);

impl Target {
    /// The shop that listens on `address`.
    ///
    /// # Errors
    /// [`LoadError::NotLoopback`] unless the address is one of this machine's loopback addresses.
    pub fn new(address: SocketAddr) -> Result<Self, LoadError> {
        if address.ip().is_loopback() {
            Ok(Self(address))
        } else {
            Err(LoadError::NotLoopback(address.to_string()))
        }
    }

    /// The absolute URI of `path`, which begins with a slash.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri, LoadError> {
        let wrong = |err: http::Error| LoadError::Path(path.to_owned(), err.to_string());
        let path: PathAndQuery = path.parse().map_err(|err| wrong(http::Error::from(err)))?;
        Uri::builder()
            .scheme("http")
            .authority(self.0.to_string())
            .path_and_query(path)
            .build()
            .map_err(wrong)
    }
}

impl FromStr for Target {
    type Err = LoadError;

    /// Reads `http://127.0.0.1:8080`. The name `localhost` means 127.0.0.1 and is never looked up.
    fn from_str(url: &str) -> Result<Self, LoadError> {
        let wrong = || LoadError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?;
        let ip: IpAddr = if host.eq_ignore_ascii_case("localhost") {
            Ipv4Addr::LOCALHOST.into()
        } else {
            host.trim_matches(['[', ']'])
                .parse()
                .map_err(|_| LoadError::NotLoopback(host.to_owned()))?
        };
        Self::new(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_addresses_are_accepted() {
        for url in [
            "http://127.0.0.1:8080",
            "http://localhost:8080/",
            "http://[::1]:8080",
            "http://127.9.9.9",
        ] {
            assert!(url.parse::<Target>().is_ok(), "{url} was refused");
        }
        for url in [
            "http://192.0.2.1:8080",
            "http://shop.example:8080",
            "http://localhost.example",
            "http://0.0.0.0:8080",
            "http://127.0.0.1@192.0.2.1:80",
            "http://[2001:db8::1]",
        ] {
            let err = url.parse::<Target>().expect_err(url);
            assert!(matches!(err, LoadError::NotLoopback(_)), "{url}: {err}");
        }
        for url in [
            "https://127.0.0.1",
            "127.0.0.1:8080",
            "",
            "http://127.0.0.1/api",
        ] {
            let err = url.parse::<Target>().expect_err(url);
            assert!(matches!(err, LoadError::Url(_)), "{url}: {err}");
        }
    }
}
