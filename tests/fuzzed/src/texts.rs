//! What people type, paste or configure: addresses, invites, the dial filter and node.toml.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use tidings_node::config::{Config, ConfigError};
use tidings_node::p2p::dialable;
use tidings_protocol::{
    address::{Address, UserName},
    id::NodeId,
    invite::InviteText,
    name_record::{NameRecords, record_text},
};

pub(crate) fn address(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    if let Ok(address) = Address::parse(text) {
        let again = Address::parse(&address.to_string()).expect("what is shown can be typed");
        assert_eq!(again, address);
    }
    if let Ok(node) = NodeId::parse(text) {
        assert_eq!(NodeId::parse(&node.to_text()), Ok(node));
        assert_eq!(node.to_text(), text.to_lowercase());
    }
    if let Ok(name) = UserName::parse(text) {
        assert_eq!(name.as_str(), text);
    }
}

/// A text, and the bytes as the inside of one.
pub(crate) fn invite(bytes: &[u8]) {
    if let Ok(text) = core::str::from_utf8(bytes)
        && let Ok(invite) = text.parse::<InviteText>()
    {
        assert_eq!(invite.to_text().parse(), Ok(invite));
    }
    // Behind the checksum that a fuzzer cannot guess.
    let raw = InviteText::from_raw(bytes);
    if let Ok(invite) = raw {
        assert_eq!(invite.to_text().parse(), Ok(invite));
    }
}

/// Lines are the records of one name.
pub(crate) fn name_record(bytes: &[u8]) {
    let records = bytes.split(|byte| *byte == b'\n');
    if let NameRecords::Node(node) = NameRecords::read(records.clone()) {
        let id = node.to_text();
        let names = |record: &[u8]| String::from_utf8_lossy(record).to_lowercase().contains(&id);
        assert!(records.into_iter().any(names), "a node that no record names");
        let text = record_text(&node);
        assert_eq!(NameRecords::read([text.as_bytes()]), NameRecords::Node(node));
    }
}

/// The first byte says whether a private network is allowed; lines are addresses.
pub(crate) fn dial_filter(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let Ok(text) = core::str::from_utf8(rest) else { return };
    let is_private_allowed = first & 1 == 1;
    let addresses: Vec<&str> = text.lines().collect();
    let dialled = dialable(&addresses, is_private_allowed);
    assert!(dialled.len() <= 16, "a stranger names as many addresses as he likes");
    for address in &dialled {
        let parts: Vec<&str> = address.split('/').collect();
        let (ip, port) = match parts.as_slice() {
            ["", "ip4" | "ip6", ip, "tcp", port]
            | ["", "ip4" | "ip6", ip, "udp", port, "quic-v1"] => {
                (ip.parse::<IpAddr>().expect("an address"), port)
            }
            _ => panic!("{address} is dialled"),
        };
        assert_ne!(*port, "0", "{address} is dialled");
        assert!(!(ip.is_unspecified() || ip.is_multicast()), "{address} is dialled");
        if !is_private_allowed {
            assert!(is_public(ip), "{address} is dialled");
        }
    }
}

/// Written apart from the filter, by what the standard library knows.
fn is_public(ip: IpAddr) -> bool {
    let is_public_v4 = |ip: Ipv4Addr| {
        !(ip.is_private()
            || ip.is_loopback()
            || ip.is_link_local()
            || ip.is_broadcast()
            || ip.is_documentation()
            || ip.octets()[0] == 0)
    };
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(inner) => is_public_v4(inner),
            None => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
        },
    }
}

pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = core::str::from_utf8(bytes) else { return };
    let path = Path::new("/srv/acme/node.toml");
    match Config::parse(text, path) {
        Ok(config) => {
            // Whoever listens in public does so with TLS, or says that a proxy does it.
            let is_loopback = config.clients.listen.ip().is_loopback();
            let is_safe = is_loopback || config.clients.tls.is_some();
            assert!(is_safe || text.contains("behind_proxy"), "plain and public");
        }
        Err(ConfigError::Line { line, why, .. }) => {
            assert!(line <= text.lines().count() + 1 && !why.is_empty(), "line {line}: {why}");
        }
        Err(ConfigError::NoData { .. }) => {}
        Err(ConfigError::Read { .. }) => panic!("nothing was read"),
    }
}
