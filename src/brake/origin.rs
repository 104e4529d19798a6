//! Where requests come from.

use std::net::{IpAddr, Ipv6Addr};

/// A network that counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that a provider
/// gives to one customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & (u128::MAX << 64);
                Ipv6Addr::from_bits(network).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_and_an_ipv4_address_count_as_one_however_they_are_written() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().expect("is an address"));
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:0:0:2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            assert_eq!(origin(one) == origin(other), same, "{one} and {other}");
        }
    }
}
