//! Where messages may not go.

use std::net::{IpAddr, Ipv4Addr};

use evenkeel::watch::notify::{Destination, DestinationError, Reach};
use proptest::prelude::*;
use tempfile::TempDir;

use super::receivers::Receiver;
use super::{Process, eventually, settings};

fn refused(address: &str) -> bool {
    Reach::default().refuses(address.parse().unwrap()).is_some()
}

#[test]
fn addresses_that_are_not_of_the_public_internet_are_refused() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
    ] {
        assert!(refused(address), "{address} was let through");
    }
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.255.255",
        "172.32.0.1",
        "192.167.255.255",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
    ] {
        assert!(!refused(address), "{address} was refused");
    }
}

proptest! {
    #[test]
    fn an_address_is_what_it_is_however_it_is_written(address in any::<u32>()) {
        let address = Ipv4Addr::from(address);
        let plain = Reach::default().refuses(IpAddr::V4(address));
        let mapped = Reach::default().refuses(IpAddr::V6(address.to_ipv6_mapped()));
        prop_assert_eq!(plain, mapped);
        let special = address.is_loopback() || address.is_private() || address.is_link_local()
            || address.is_multicast() || address.is_broadcast() || address.is_unspecified()
            || address.is_documentation();
        prop_assert!(!special || plain.is_some(), "{}", address);
    }
}

#[tokio::test]
async fn every_way_to_write_this_machine_is_refused() {
    for host in ["localhost", "127.0.0.1", "[::1]", "[::ffff:7f00:1]"] {
        let found = Destination::resolve(host, 80, &Reach::default()).await;
        assert!(
            matches!(found, Err(DestinationError::Refused { .. })),
            "{host}: {found:?}"
        );
    }
    let private = Reach {
        private: true,
        ..Reach::default()
    };
    let found = Destination::resolve("127.0.0.1", 80, &private)
        .await
        .unwrap();
    assert_eq!(found.addresses, ["127.0.0.1:80".parse().unwrap()]);
}

fn hook(url: &str, more: &str) -> String {
    format!(
        r#"
        watch.notify.tries = 1
        {more}
        [[watch.notify.channels]]
        kind = "slack"
        name = "chat"
        url = "{url}/"
        "#
    )
}

#[tokio::test]
async fn nothing_is_sent_to_this_machine_unless_the_settings_say_so() {
    let receiver = Receiver::start().await;
    let port = receiver.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "0x7f.1",
        "2130706433",
        "[::ffff:127.0.0.1]",
    ] {
        let settings = settings(&hook(&format!("http://{host}:{port}"), ""));
        let journal = TempDir::new().unwrap();
        let process = Process::start(&settings, &journal).await;
        let incident = process.opens().await;
        let told = async || process.told(incident).pop();
        let (_, _, problem) = eventually("the record", told).await;
        let problem = problem.unwrap();
        assert!(
            problem.contains("which is this machine"),
            "{host}: {problem}"
        );
        assert!(problem.contains("private = true"), "{problem}");
        process.die().await;
    }
    assert_eq!(receiver.requests().len(), 0);

    let allowed = r#"watch.notify.allow_private = ["10.0.0.1", "127.0.0.0/8"]"#;
    let settings = settings(&hook(&receiver.url(), allowed));
    let journal = TempDir::new().unwrap();
    let process = Process::start(&settings, &journal).await;
    process.opens().await;
    receiver.wait_for(1).await;
    process.finish().await;
}
