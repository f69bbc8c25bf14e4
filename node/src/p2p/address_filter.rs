//! Which addresses of other peers may be dialled. Pure: no socket, no name is resolved.
//!
//! Addresses learnt from strangers are a way to make this node scan somebody's private network or
//! knock at a third party, so only plain public TCP and QUIC addresses pass, and those through a relay
//! that has such an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::circuit::{rank, relay_of};
use super::limits::ADDRESSES_PER_PEER_MAX;

/// The rule for learnt addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressFilter {
    /// Only addresses that the public internet routes.
    PublicOnly,
    /// Loopback, private and link-local addresses too: one machine, or one closed network.
    PrivateToo,
}

impl AddressFilter {
    /// What remains of the addresses that others told about `peer`: allowed, without doubles,
    /// direct ones and QUIC first, at most [`ADDRESSES_PER_PEER_MAX`].
    pub(crate) fn learnt(
        self,
        peer: &PeerId,
        addresses: impl IntoIterator<Item = Multiaddr>,
    ) -> Vec<Multiaddr> {
        tidy(addresses.into_iter().filter_map(|a| naming(peer, a)).filter(|a| self.allows(a)))
    }

    /// Whether a host belongs to the closed network that the configuration speaks of.
    pub(crate) fn is_own_network(self, host: IpAddr) -> bool {
        let reach = match host {
            IpAddr::V4(ip) => reach_v4(ip),
            IpAddr::V6(ip) => reach_v6(ip),
        };
        self == Self::PrivateToo && reach == Reach::Private
    }

    /// Whether an address may be dialled. One through a relay is as good as the relay's own part.
    pub(crate) fn allows(self, address: &Multiaddr) -> bool {
        let parts: Vec<Protocol<'_>> = address.iter().collect();
        match parts.as_slice() {
            [relay @ .., Protocol::P2p(_), Protocol::P2pCircuit] => self.allows_plain(relay),
            plain => self.allows_plain(plain),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "what is not named is not dialled")]
    fn allows_plain(self, parts: &[Protocol<'_>]) -> bool {
        let host = match parts {
            [host, Protocol::Tcp(port)] | [host, Protocol::Udp(port), Protocol::QuicV1]
                if *port != 0 =>
            {
                host
            }
            [..] => return false,
        };
        let reach = match host {
            Protocol::Ip4(ip) => reach_v4(*ip),
            Protocol::Ip6(ip) => reach_v6(*ip),
            // Names resolve to anything, so they are for the configuration only, where they are
            // resolved before they come here.
            _ => Reach::Nowhere,
        };
        match reach {
            Reach::Public => true,
            Reach::Private => self == Self::PrivateToo,
            Reach::Nowhere => false,
        }
    }
}

/// Whether a plain address may be dialled that was made from a name.
pub(crate) fn is_dialable(address: &Multiaddr, allow_private: bool) -> bool {
    let filter = if allow_private { AddressFilter::PrivateToo } else { AddressFilter::PublicOnly };
    filter.allows(address)
}

/// What remains of the addresses that a person configured: whatever they are, if they are about
/// `peer`, without doubles, QUIC first, at most [`ADDRESSES_PER_PEER_MAX`].
pub(crate) fn configured(
    peer: &PeerId,
    addresses: impl IntoIterator<Item = Multiaddr>,
) -> Vec<Multiaddr> {
    tidy(addresses.into_iter().filter_map(|a| naming(peer, a)))
}

/// The address without its last `/p2p/`, unless that names somebody else.
fn naming(peer: &PeerId, mut address: Multiaddr) -> Option<Multiaddr> {
    if let Some(Protocol::P2p(named)) = address.iter().last() {
        if named != *peer {
            return None;
        }
        address.pop();
    }
    // Nobody is his own relay.
    (!address.is_empty() && relay_of(&address) != Some(*peer)).then_some(address)
}

fn tidy(addresses: impl Iterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let mut kept: Vec<Multiaddr> = Vec::new();
    // Far more than the limit are not worth sorting through: they are somebody's game.
    for address in addresses.take(4 * ADDRESSES_PER_PEER_MAX) {
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept.sort_by_key(rank);
    kept.truncate(ADDRESSES_PER_PEER_MAX);
    kept
}

/// How far an IP address carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    Nowhere,
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        // This network, multicast, reserved, broadcast (RFC 1122, 5771, 1112).
        (0 | 224..=255, _, _) => Reach::Nowhere,
        _ if ip.is_loopback() || ip.is_private() || ip.is_link_local() => Reach::Private,
        // Carrier NAT (RFC 6598), benchmarks (2544), protocol assignments (6890).
        (100, 64..=127, _) | (198, 18 | 19, _) | (192, 0, 0) => Reach::Private,
        // Documentation (RFC 5737), the retired 6to4 relay (7526).
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) | (192, 88, 99) => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    // An IPv4 address in IPv6 clothes (mapped, or NAT64 of RFC 6052) reaches as far as itself.
    if let Some(inner) = ip.to_ipv4_mapped() {
        return reach_v4(inner);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return Reach::Nowhere;
    }
    let [a, b, c, d, e, f, g, h] = ip.segments();
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => {
            reach_v4(Ipv4Addr::from_bits((u32::from(g) << 16) | u32::from(h)))
        }
        _ if ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() => {
            Reach::Private
        }
        // Documentation (RFC 3849, 9637).
        (0x2001, 0x0db8) | (0x3fff, 0..=0x0fff) => Reach::Private,
        // Teredo and other protocol assignments (RFC 2928), 6to4 (3056): tunnels to anywhere.
        (0x2001, 0..=0x01ff) | (0x2002, _) => Reach::Nowhere,
        // Only this eighth is global unicast (RFC 4291 and IANA).
        (0x2000..=0x3fff, _) => Reach::Public,
        _ => Reach::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: [&str; 7] = [
        "/ip4/9.9.9.9/tcp/4001",
        "/ip4/9.9.9.9/udp/4001/quic-v1",
        "/ip4/172.32.0.1/tcp/1",
        "/ip4/100.63.0.1/tcp/65535",
        "/ip6/2620:fe::fe/tcp/4001",
        "/ip6/2620:fe::fe/udp/4001/quic-v1",
        "/ip6/::ffff:9.9.9.9/tcp/4001",
    ];

    const PRIVATE: [&str; 22] = [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/127.255.0.3/udp/4001/quic-v1",
        "/ip4/10.0.0.1/tcp/4001",
        "/ip4/172.16.0.1/tcp/4001",
        "/ip4/172.31.255.255/udp/4001/quic-v1",
        "/ip4/192.168.1.1/tcp/4001",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/100.64.0.1/tcp/4001",
        "/ip4/198.18.0.1/tcp/4001",
        "/ip4/192.0.0.8/tcp/4001",
        "/ip4/192.0.2.1/tcp/4001",
        "/ip4/198.51.100.1/tcp/4001",
        "/ip4/203.0.113.1/tcp/4001",
        "/ip6/::1/tcp/4001",
        "/ip6/fc00::1/tcp/4001",
        "/ip6/fdff::1/udp/4001/quic-v1",
        "/ip6/fe80::1/tcp/4001",
        "/ip6/2001:db8::1/tcp/4001",
        "/ip6/3fff::1/tcp/4001",
        "/ip6/::ffff:127.0.0.1/tcp/4001",
        "/ip6/::ffff:192.168.0.1/tcp/4001",
        "/ip6/64:ff9b::10.0.0.1/tcp/4001",
    ];

    /// A peer id, for relays.
    const RELAY: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

    const NOWHERE: [&str; 30] = [
        "/ip4/0.0.0.0/tcp/4001",
        "/ip4/0.1.2.3/tcp/4001",
        "/ip4/224.0.0.1/udp/4001/quic-v1",
        "/ip4/239.255.255.255/tcp/4001",
        "/ip4/240.0.0.1/tcp/4001",
        "/ip4/255.255.255.255/tcp/4001",
        "/ip6/::/tcp/4001",
        "/ip6/ff02::1/udp/4001/quic-v1",
        "/ip6/::ffff:0.0.0.0/tcp/4001",
        "/ip6/::9.9.9.9/tcp/4001",
        "/ip6/64:ff9b::224.0.0.1/tcp/4001",
        "/ip6/64:ff9b:1::1/tcp/4001",
        "/ip6/2001::1/tcp/4001",
        "/ip6/2002:a00:1::1/tcp/4001",
        "/ip6/fec0::1/tcp/4001",
        "/ip6/100::1/tcp/4001",
        "/ip6/5f00::1/tcp/4001",
        "/ip4/9.9.9.9/tcp/0",
        "/ip4/9.9.9.9/udp/0/quic-v1",
        "/ip4/9.9.9.9/udp/4001",
        "/ip4/9.9.9.9/udp/4001/quic",
        "/ip4/9.9.9.9/tcp/4001/ws",
        "/ip4/9.9.9.9/tcp/4001/p2p-circuit",
        "/ip4/9.9.9.9/sctp/4001",
        "/ip4/9.9.9.9",
        "/dns4/acme.example/tcp/4001",
        "/dnsaddr/acme.example",
        "/memory/1",
        "/unix/run%2Ftidings.sock",
        "/p2p-circuit",
    ];

    fn check(filter: AddressFilter, address: &str, allowed: bool) {
        let parsed: Multiaddr = address.parse().expect("a multiaddr");
        assert_eq!(filter.allows(&parsed), allowed, "{filter:?} {address}");
    }

    #[test]
    fn public_addresses_pass_always() {
        for address in PUBLIC {
            check(AddressFilter::PublicOnly, address, true);
            check(AddressFilter::PrivateToo, address, true);
        }
    }

    #[test]
    fn private_addresses_pass_only_when_the_configuration_says_so() {
        for address in PRIVATE {
            check(AddressFilter::PublicOnly, address, false);
            check(AddressFilter::PrivateToo, address, true);
        }
    }

    #[test]
    fn what_is_no_dialable_address_passes_never() {
        for address in NOWHERE {
            check(AddressFilter::PublicOnly, address, false);
            check(AddressFilter::PrivateToo, address, false);
        }
    }

    #[test]
    fn an_address_through_a_relay_is_as_good_as_that_of_the_relay() {
        let through = |relay: &&str| format!("{relay}/p2p/{RELAY}/p2p-circuit");
        for address in PUBLIC.iter().map(through) {
            check(AddressFilter::PublicOnly, &address, true);
        }
        for address in PRIVATE.iter().map(through) {
            check(AddressFilter::PublicOnly, &address, false);
            check(AddressFilter::PrivateToo, &address, true);
        }
        for address in NOWHERE.iter().map(through) {
            check(AddressFilter::PrivateToo, &address, false);
        }
        for circuit in [
            format!("/p2p/{RELAY}/p2p-circuit"),
            format!("/ip4/9.9.9.9/tcp/1/p2p/{RELAY}"),
            format!("/ip4/9.9.9.9/tcp/1/p2p/{RELAY}/p2p/{RELAY}/p2p-circuit"),
            format!("/ip4/9.9.9.9/tcp/1/p2p/{RELAY}/p2p-circuit/p2p/{RELAY}/p2p-circuit"),
            format!("/ip4/9.9.9.9/tcp/1/p2p/{RELAY}/p2p-circuit/ip4/9.9.9.9/tcp/1"),
        ] {
            check(AddressFilter::PrivateToo, &circuit, false);
        }
    }

    #[test]
    fn an_address_through_a_relay_comes_last_and_names_its_peer_at_the_end_only() {
        let acme = PeerId::random();
        let relay: PeerId = RELAY.parse().expect("a peer id");
        let circuit: Multiaddr =
            format!("/ip4/9.9.9.9/udp/1/quic-v1/p2p/{RELAY}/p2p-circuit").parse().expect("one");
        let direct: Multiaddr = "/ip4/9.9.9.9/tcp/4001".parse().expect("a multiaddr");
        let named = circuit.clone().with(Protocol::P2p(acme));
        let learnt = AddressFilter::PublicOnly.learnt(&acme, [named.clone(), direct.clone()]);
        assert_eq!(learnt, [direct, circuit]);
        assert!(AddressFilter::PublicOnly.learnt(&PeerId::random(), [named.clone()]).is_empty());
        assert!(configured(&relay, [named.clone()]).is_empty(), "it is another's");
        let own = named.replace(4, |_| Some(Protocol::P2p(relay))).expect("there is one");
        assert!(configured(&relay, [own]).is_empty(), "nobody is his own relay");
    }

    #[test]
    fn an_address_that_names_somebody_else_is_dropped() {
        let [acme, globex] = [PeerId::random(), PeerId::random()];
        let plain: Multiaddr = "/ip4/9.9.9.9/tcp/4001".parse().expect("a multiaddr");
        let of = |peer| plain.clone().with(Protocol::P2p(peer));
        let learn = |address| AddressFilter::PublicOnly.learnt(&acme, [address]);
        assert_eq!(learn(of(acme)).first(), Some(&plain));
        assert!(learn(of(globex)).is_empty());
        assert!(learn(Multiaddr::empty().with(Protocol::P2p(acme))).is_empty());
        assert!(configured(&acme, [of(globex)]).is_empty());
        assert_eq!(configured(&acme, [of(acme)]).first(), Some(&plain));
    }

    #[test]
    fn few_remain_and_quic_stands_first() {
        let acme = PeerId::random();
        let tcp = (1..=20)
            .map(|port| Multiaddr::from(Ipv4Addr::new(9, 9, 9, 9)).with(Protocol::Tcp(port)));
        let quic: Multiaddr = "/ip4/9.9.9.9/udp/1/quic-v1".parse().expect("a multiaddr");
        let kept = AddressFilter::PublicOnly.learnt(&acme, tcp.chain([quic.clone(), quic.clone()]));
        assert_eq!(kept.len(), ADDRESSES_PER_PEER_MAX);
        assert_eq!(kept.first(), Some(&quic));
        assert_ne!(kept.get(1), Some(&quic));
    }

    #[test]
    fn configured_addresses_are_not_judged() {
        let acme = PeerId::random();
        let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().expect("a multiaddr");
        assert_eq!(configured(&acme, [loopback.clone()]).first(), Some(&loopback));
        assert!(AddressFilter::PublicOnly.learnt(&acme, [loopback]).is_empty());
    }
}
