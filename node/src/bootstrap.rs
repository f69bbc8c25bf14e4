//! Peers that a person configured: entered into the table, now and again, and their names resolved.
//!
//! A name is for the configuration only: those that others tell are never resolved. It is the
//! system's resolver that answers, and what it answers passes the address filter, so that who can
//! change a name cannot lead this node into its own network. Who answers at an address is proved by
//! its peer id in any case.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use futures::{StreamExt as _, stream};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::limits::{BOOTSTRAP_AGAIN, BOOTSTRAP_EVERY, RESOLVE_AT_ONCE, RESOLVE_TIMEOUT};
use crate::p2p::{Command, P2p, is_dialable};

/// A name leads nowhere.
#[derive(Debug, Error)]
pub(crate) enum Unresolved {
    #[error("the name is not known, or its server does not answer")]
    Unknown(#[source] io::Error),
    #[error("its server does not answer")]
    TimedOut,
    #[error(
        "it has no address that may be dialled; private ones need allow_private_addresses = true"
    )]
    NoAddress,
}

/// An address that a person configured, and what it leads to.
struct Configured {
    peer: PeerId,
    address: Multiaddr,
    /// What it led to when it was last resolved: kept while its name does not resolve.
    leads_to: Vec<Multiaddr>,
    is_failing: bool,
}

/// Enters configured peers into the table, and fills it from them. Those without a name come first;
/// no name waits for another one. Begins anew whenever the configuration has changed.
pub(crate) async fn keep_bootstrapping(
    p2p: P2p,
    mut wanted: watch::Receiver<Vec<(PeerId, Multiaddr)>>,
    allow_private: bool,
) {
    loop {
        let peers = wanted.borrow_and_update().clone();
        let configured: Vec<Configured> = peers.into_iter().map(Configured::new).collect();
        tokio::select! {
            () = keep_entering(&p2p, configured, allow_private) => {}
            changed = wanted.changed() => {
                if changed.is_err() {
                    return std::future::pending().await;
                }
            }
        }
    }
}

/// The same for peers that stay as they are: goes on until it is broken off.
async fn keep_entering(p2p: &P2p, mut configured: Vec<Configured>, allow_private: bool) {
    if configured.is_empty() {
        return std::future::pending().await;
    }
    if configured.iter().any(|known| known.leads_to.is_empty()) {
        enter(p2p, &configured);
    }
    loop {
        resolve_all(&mut configured, allow_private).await;
        enter(p2p, &configured);
        let is_failing = configured.iter().any(|known| known.is_failing);
        sleep(if is_failing { BOOTSTRAP_AGAIN } else { BOOTSTRAP_EVERY }).await;
    }
}

impl Configured {
    fn new((peer, address): (PeerId, Multiaddr)) -> Self {
        let is_name = name_and_port(&address).is_some();
        let leads_to = if is_name { Vec::new() } else { vec![address.clone()] };
        Self { peer, address, leads_to, is_failing: false }
    }

    fn resolved(&mut self, found: Result<Vec<Multiaddr>, Unresolved>) {
        let was_failing = std::mem::replace(&mut self.is_failing, found.is_err());
        match found {
            Ok(addresses) => self.leads_to = addresses,
            // Said once: it is tried again every few seconds.
            Err(error) if !was_failing => {
                let (address, error) = (&self.address, &error as &dyn Error);
                warn!(%address, error, "a configured peer is not reached under its name");
            }
            Err(_) => {}
        }
    }
}

async fn resolve_all(configured: &mut [Configured], allow_private: bool) {
    let addresses: Vec<Multiaddr> = configured.iter().map(|known| known.address.clone()).collect();
    let found: Vec<_> = stream::iter(addresses)
        .map(|address| async move { resolve(&address, allow_private).await })
        .buffered(RESOLVE_AT_ONCE)
        .collect()
        .await;
    for (known, found) in configured.iter_mut().zip(found) {
        known.resolved(found);
    }
}

/// All addresses of a peer go together: a later command takes the place of an earlier one.
fn enter(p2p: &P2p, configured: &[Configured]) {
    let mut peers: BTreeMap<PeerId, Vec<Multiaddr>> = BTreeMap::new();
    for Configured { peer, leads_to, .. } in configured {
        if !leads_to.is_empty() {
            peers.entry(*peer).or_default().extend(leads_to.iter().cloned());
        }
    }
    let added =
        peers.into_iter().map(|(peer, addresses)| Command::AddBootstrap { peer, addresses });
    for command in added.chain([Command::Bootstrap]) {
        if let Err(error) = p2p.command(command) {
            debug!(%error, "refreshing the table of peers was put off");
        }
    }
}

/// The address itself, or those that its name stands for.
pub(crate) async fn resolve(
    address: &Multiaddr,
    allow_private: bool,
) -> Result<Vec<Multiaddr>, Unresolved> {
    let Some((name, port)) = name_and_port(address) else { return Ok(vec![address.clone()]) };
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((name.as_str(), port)))
        .await
        .map_err(|_| Unresolved::TimedOut)?
        .map_err(Unresolved::Unknown)?;
    let addresses: Vec<Multiaddr> = found
        .filter_map(|found| with_ip(address, found))
        .filter(|address| is_dialable(address, allow_private))
        .collect();
    if addresses.is_empty() { Err(Unresolved::NoAddress) } else { Ok(addresses) }
}

/// The name at the beginning of an address, and the port behind it.
fn name_and_port(address: &Multiaddr) -> Option<(String, u16)> {
    let mut parts = address.iter();
    let (Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)), Some(port)) =
        (parts.next(), parts.next())
    else {
        return None;
    };
    if let Protocol::Tcp(port) | Protocol::Udp(port) = port {
        Some((name.into_owned(), port))
    } else {
        None
    }
}

/// The address with an IP in place of the name, if it is of the kind that was asked for.
fn with_ip(address: &Multiaddr, found: SocketAddr) -> Option<Multiaddr> {
    let ip = match (address.iter().next()?, found.ip()) {
        (Protocol::Dns(_) | Protocol::Dns4(_), IpAddr::V4(ip)) => Protocol::Ip4(ip),
        (Protocol::Dns(_) | Protocol::Dns6(_), IpAddr::V6(ip)) => Protocol::Ip6(ip),
        _ => return None,
    };
    address.replace(0, |_| Some(ip.clone()))
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, PeerId};

    use super::{Configured, Unresolved, resolve, resolve_all};

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_without_a_name_stays_as_it_is() {
        for text in ["/ip4/127.0.0.1/tcp/7400", "/ip6/::1/udp/7400/quic-v1"] {
            assert_eq!(resolve(&address(text), false).await.unwrap(), [address(text)]);
        }
    }

    #[tokio::test]
    async fn a_name_becomes_the_addresses_of_its_kind() {
        for (name, ip) in [
            ("/dns4/localhost/udp/7400/quic-v1", "/ip4/127.0.0.1/udp/7400/quic-v1"),
            ("/dns4/127.0.0.1/tcp/7400", "/ip4/127.0.0.1/tcp/7400"),
            ("/dns6/::1/tcp/7400", "/ip6/::1/tcp/7400"),
            ("/dns/::1/tcp/7400", "/ip6/::1/tcp/7400"),
        ] {
            let found = resolve(&address(name), true).await.unwrap();
            assert!(found.contains(&address(ip)), "{name}: {found:?}");
        }
        let found = resolve(&address("/dns6/127.0.0.1/tcp/7400"), true).await;
        assert!(matches!(found, Err(Unresolved::NoAddress)), "{found:?}");
    }

    #[tokio::test]
    async fn a_name_does_not_lead_into_the_own_network() {
        let found = resolve(&address("/dns4/localhost/tcp/7400"), false).await;
        assert!(matches!(found, Err(Unresolved::NoAddress)), "{found:?}");
        let public = resolve(&address("/dns4/9.9.9.9/tcp/7400"), false).await.unwrap();
        assert_eq!(public, [address("/ip4/9.9.9.9/tcp/7400")]);
    }

    #[tokio::test]
    async fn a_name_that_leads_nowhere_keeps_what_it_led_to_and_harms_no_other() {
        let peer = PeerId::random();
        let named = ["/dns4/acme.invalid/tcp/7400", "/ip4/9.9.9.9/tcp/1", "/dns4/127.0.0.1/tcp/2"];
        let mut all = named.map(|text| Configured::new((peer, address(text))));
        let before = |known: &Configured| known.leads_to.len();
        assert_eq!(all.each_ref().map(before), [0, 1, 0], "a name leads nowhere at first");
        all[0].leads_to = vec![address("/ip4/192.0.2.7/tcp/7400")];
        resolve_all(&mut all, true).await;
        let texts = all.each_ref().map(|known| known.leads_to[0].to_string());
        assert_eq!(
            texts,
            ["/ip4/192.0.2.7/tcp/7400", "/ip4/9.9.9.9/tcp/1", "/ip4/127.0.0.1/tcp/2"]
        );
        assert_eq!(all.each_ref().map(|known| known.is_failing), [true, false, false]);
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_an_error() {
        let found = resolve(&address("/dns4/acme.invalid/tcp/7400"), true).await;
        assert!(matches!(found, Err(Unresolved::Unknown(_))), "{found:?}");
    }
}
