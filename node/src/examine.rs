//! A look at a node from outside, for `tidings doctor`: what `start.rs` would find, without starting
//! or changing anything.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{SwarmEvent, dummy};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, noise, tcp, yamux};
use thiserror::Error;

use tidings_core::event::DnsOutcome;
use tidings_protocol::domain::Domain;

use crate::bootstrap::resolve;
pub use crate::client_listener::check_tls;
use crate::clock::Stopwatch;
use crate::config::Config;
pub use crate::disk::space;
pub use crate::keys::{Held, examine as examine_keys};
use crate::resolver;

/// An address that a node listens on, and whether it can be bound just now.
#[derive(Debug)]
pub struct Port {
    /// The configuration's key.
    pub key: &'static str,
    /// The address, as the configuration has it.
    pub address: String,
    /// What the system said.
    pub bound: io::Result<()>,
}

/// Tries every address that the node listens on. One that is in use may be in use by the node itself.
#[must_use]
pub fn ports(config: &Config) -> Vec<Port> {
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(drop);
    let peers = config.peers.listen.iter().map(|address| {
        let bound = match socket(address) {
            Some((Carrier::Tcp, socket)) => tcp(socket),
            Some((Carrier::Udp, socket)) => UdpSocket::bind(socket).map(drop),
            None => Err(io::ErrorKind::InvalidInput.into()),
        };
        Port { key: "listen_peers", address: address.to_string(), bound }
    });
    let others = [("listen_clients", config.clients.listen), ("listen_admin", config.listen_admin)]
        .map(|(key, address)| Port { key, address: address.to_string(), bound: tcp(address) });
    peers.chain(others).collect()
}

enum Carrier {
    Tcp,
    Udp,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the configuration lets nothing else pass")]
fn socket(address: &Multiaddr) -> Option<(Carrier, SocketAddr)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some((Carrier::Tcp, SocketAddr::new(ip, port))),
        Protocol::Udp(port) => Some((Carrier::Udp, SocketAddr::new(ip, port))),
        _ => None,
    }
}

/// Which node the DNS names for a domain, asked as the node itself would ask.
pub async fn dns(config: &Config, domain: &Domain) -> DnsOutcome {
    resolver::ask_once(&config.dns_servers, domain).await
}

/// A peer did not answer.
#[derive(Debug, Error)]
pub enum DialError {
    /// Not within the time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// It cannot be reached, or is somebody else.
    #[error("{0}")]
    Refused(String),
    /// Its name leads nowhere.
    #[error("{0}")]
    Name(String),
    /// No transport of our own.
    #[error("making a transport")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Dials a peer under a name that is thrown away, and hangs up once it has proved its peer id. Says
/// how long that took.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    peer: PeerId,
    address: &Multiaddr,
    allow_private: bool,
    within: Duration,
) -> Result<Duration, DialError> {
    let addresses = resolve(address, allow_private)
        .await
        .map_err(|error| DialError::Name(error.to_string()))?;
    let transport = |source: noise::Error| DialError::Transport(Box::new(source));
    let built = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .map_err(transport)?
        .with_quic()
        .with_behaviour(|_| dummy::Behaviour);
    let mut swarm = match built {
        Ok(builder) => {
            builder.with_swarm_config(|config| config).with_connection_timeout(within).build()
        }
        Err(never) => match never {},
    };
    let watch = Stopwatch::start();
    let options = DialOpts::peer_id(peer).addresses(addresses).build();
    swarm.dial(options).map_err(|error| DialError::Refused(error.to_string()))?;
    let answer = async {
        loop {
            #[expect(clippy::wildcard_enum_match_arm, reason = "only the end of the dial counts")]
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { .. } => return Ok(watch.elapsed()),
                SwarmEvent::OutgoingConnectionError { error, .. } => {
                    return Err(DialError::Refused(last_word(&error)));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(within, answer).await.unwrap_or(Err(DialError::Silent(within)))
}

/// The innermost reason: what the system said, without the layers around it.
fn last_word(error: &libp2p::swarm::DialError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.split(['\n', ':']).map(str::trim).collect();
    let last = lines.iter().rev().find(|line| line.contains(' ')).copied();
    last.unwrap_or(&text).trim_end_matches([')', ']']).to_owned()
}
