//! The peer link: libp2p as the control plane, two framed lanes per peer as the data plane.
//!
//! Knows frames as cut bytes and records as keys and values; what they mean is the core's. The
//! swarm dials, identifies, limits, answers lookups and finds ways through NAT; frames never pass
//! through it, but for those that it relays unread.

mod address_filter;
#[cfg(test)]
mod announce_tests;
mod behaviour;
mod circuit;
mod dht;
mod inbound_gate;
mod instance;
mod kad_gate;
mod lanes;
mod limits;
mod nat;
mod nat_gate;
#[cfg(test)]
mod nat_tests;
mod peers;
mod port_check;
mod queue;
mod relaying;
mod reservations;
mod session;
mod swarm_task;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use libp2p::TransportError;
use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tidings_protocol::frame::Frame;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

pub(crate) use address_filter::is_dialable;
pub(crate) use circuit::{is_circuit, rank};
pub(crate) use limits::RELAYS_MAX;

use crate::chance::NoRandomness;
use address_filter::AddressFilter;
use behaviour::build_swarm;
use limits::COMMANDS_MAX;
use nat::{Nat, SharedFigures, lock};
pub use nat::{NatFigures, Reach, Reachability};
pub use queue::{LaneSenders, SendRefused};
pub use relaying::{RelayFor, Relaying};
use swarm_task::SwarmTask;

/// Which of the addresses that others told about one peer would be dialled, in which order.
#[must_use]
pub fn dialable(addresses: &[&str], is_private_allowed: bool) -> Vec<String> {
    let filter =
        if is_private_allowed { AddressFilter::PrivateToo } else { AddressFilter::PublicOnly };
    let known = addresses.iter().filter_map(|text| text.parse().ok());
    let peer = PeerId::random();
    filter.learnt(&peer, known).iter().map(ToString::to_string).collect()
}

/// One of the two streams of a link. Each keeps its order; between them there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Control frames and statements: small, never behind a body.
    Control,
    /// Envelopes.
    Bulk,
}

/// The secret seed of the transport key. It names this process to libp2p and nothing else; the
/// node's own keys are not derived from it.
#[derive(Clone)]
pub struct TransportSeed(Zeroizing<[u8; 32]>);

impl TransportSeed {
    /// The seed from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The peer id that this seed answers to, for the signed addresses.
    ///
    /// # Errors
    /// [`StartError::Key`] when the library refuses the seed, which 32 bytes never cause.
    pub fn peer_id(&self) -> Result<PeerId, StartError> {
        Ok(self.keypair()?.public().to_peer_id())
    }

    fn keypair(&self) -> Result<Keypair, StartError> {
        // The library wipes the slice that it is given, so it gets a copy.
        let mut copy = self.0.clone();
        Keypair::ed25519_from_bytes(copy.as_mut_slice())
            .map_err(|source| StartError::Key { source: Box::new(source) })
    }
}

impl fmt::Debug for TransportSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransportSeed(..)")
    }
}

/// How the peer link starts.
#[derive(Clone, Debug)]
pub struct P2pConfig {
    /// Names this process to other peers.
    pub transport_seed: TransportSeed,
    /// Addresses to listen on, QUIC (`/ip4/../udp/../quic-v1`) and TCP (`/ip4/../tcp/..`).
    pub listen: Vec<Multiaddr>,
    /// Addresses under which others reach us. If there are any, peers are told these and no others.
    pub announce: Vec<Multiaddr>,
    /// Whether loopback, private and link-local addresses learnt from others may be dialled.
    pub allow_private_addresses: bool,
    /// Peers through which others reach us; where they are, [`Command::AddBootstrap`] says.
    pub relays: Vec<PeerId>,
    /// What this node does as a relay for others.
    pub relaying: Relaying,
    /// Queue sizes and times.
    pub limits: P2pLimits,
}

/// What an operator or a test may tune; all other bounds are fixed.
#[derive(Clone, Debug)]
pub struct P2pLimits {
    /// Events waiting for the caller. Each may hold a frame of 64 KiB; at the bound, reading stops.
    pub events_max: usize,
    /// Bytes waiting to be written on one link's control lane.
    pub control_bytes_max: usize,
    /// Bytes waiting to be written on one link's bulk lane.
    pub bulk_bytes_max: usize,
    /// A link on which nothing arrived for this long ends. The caller sends keep-alives.
    pub read_idle: Duration,
}

impl Default for P2pLimits {
    fn default() -> Self {
        Self {
            events_max: 512,
            control_bytes_max: 1024 * 1024,
            bulk_bytes_max: 4 * 1024 * 1024,
            read_idle: Duration::from_secs(60),
        }
    }
}

/// What the caller's check says about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Valid, and to be kept in place of the held one (or there was none).
    Newer,
    /// Valid, but the held one stays.
    NotNewer,
    /// Not a record for this key.
    Invalid,
}

/// The caller's check of a record: key, value, and the value held under that key, if any. Runs in
/// the swarm task, so it must not wait; the same check serves offered and found records.
pub type Validate = dyn Fn(&[u8], &[u8], Option<&[u8]>) -> Validity + Send + Sync;

/// What the peer link can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open a link to `peer`. Answered by one [`P2pEvent::LinkUp`] or [`P2pEvent::DialFailed`],
    /// and by nothing when a link is already up. Without addresses, those learnt are tried.
    ///
    /// The addresses count as learnt from others, so the address filter applies to them; those of
    /// [`Command::AddBootstrap`] are added and pass always.
    Dial {
        /// Who must answer.
        peer: PeerId,
        /// Where; at most 8 are used, QUIC before TCP.
        addresses: Vec<Multiaddr>,
    },
    /// End the link to `peer` after writing what is queued (for at most a second), then close
    /// all connections to it.
    Close {
        /// Whose link ends.
        peer: PeerId,
    },
    /// Refuse `peer` from now on, and close its connections at once.
    Block {
        /// Who is refused.
        peer: PeerId,
    },
    /// Undo [`Command::Block`].
    Unblock {
        /// Who may connect again.
        peer: PeerId,
    },
    /// Store a record here and at the nodes nearest to its key: first at those that are known, then at
    /// those that are found. Answered by [`P2pEvent::Published`], unless a newer value for the key
    /// comes before. Repeating it, with a fresh value, is the caller's.
    Publish {
        /// Where it is found.
        key: Vec<u8>,
        /// What is found there.
        value: Vec<u8>,
    },
    /// Look for the valid records under `key`. Answered by [`P2pEvent::Found`].
    Lookup {
        /// Where to look.
        key: Vec<u8>,
    },
    /// Remember a peer that a person configured, for the table and for dials. Its addresses are
    /// dialled whatever the address filter says.
    AddBootstrap {
        /// Who.
        peer: PeerId,
        /// Where; at most 8 are used.
        addresses: Vec<Multiaddr>,
    },
    /// Fill the routing table from the peers that it knows. No answer.
    Bootstrap,
}

/// What the peer link reports. Of one link, the order is up, frames, down; of two links to one
/// peer, the first is down before the second is up.
#[derive(Clone, Debug)]
pub enum P2pEvent {
    /// We listen on this address.
    ListenAddress(Multiaddr),
    /// How this node is reached has changed.
    Reach(Reach),
    /// A relay refused a reservation, or lost it; it is asked again.
    RelayFailed {
        /// Which.
        relay: PeerId,
        /// Why, for the log.
        why: String,
    },
    /// Both lanes to this peer are open. There is at most one link per peer.
    LinkUp {
        /// A number never used before in this process.
        link: u64,
        /// Who is proven to be at the other end.
        peer: PeerId,
        /// Whether we opened the lanes.
        dialer: bool,
        /// Whether it goes through a relay.
        relayed: bool,
        /// Where frames go.
        sender: LaneSenders,
    },
    /// The link is gone; frames still queued are lost.
    LinkDown {
        /// Which.
        link: u64,
        /// To whom.
        peer: PeerId,
        /// Why, for the log.
        why: String,
    },
    /// A frame arrived.
    Frame {
        /// On which link.
        link: u64,
        /// From whom.
        peer: PeerId,
        /// On which lane.
        lane: Lane,
        /// The frame.
        frame: Frame,
    },
    /// After [`SendRefused::Full`], half of the lane's budget is free again.
    Writable {
        /// Which link.
        link: u64,
        /// To whom.
        peer: PeerId,
        /// Which lane.
        lane: Lane,
    },
    /// The peer has said which process of it answers.
    #[cfg(test)]
    Named,
    /// No link came of a [`Command::Dial`].
    DialFailed {
        /// To whom.
        peer: PeerId,
        /// Why, for the log.
        why: String,
    },
    /// Answer to [`Command::Lookup`]: all distinct valid values, unordered, perhaps none.
    Found {
        /// Where was looked.
        key: Vec<u8>,
        /// What was there.
        values: Vec<Vec<u8>>,
    },
    /// Answer to [`Command::Publish`].
    Published {
        /// Which record.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// Whether some other node acknowledged it. No proof that it is stored.
        ok: bool,
    },
}

/// Why the peer link does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The seed is no key.
    #[error("reading the transport seed")]
    Key {
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// TCP, Noise or QUIC could not be set up.
    #[error("setting up the transports")]
    Transport {
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This process could not be given its number.
    #[error(transparent)]
    Chance(#[from] NoRandomness),
    /// An address cannot be listened on.
    #[error("listening on {address}, as listen_peers says; is another node running?")]
    Listen {
        /// Which.
        address: Multiaddr,
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CommandRefused {
    /// Too many commands wait; try after the next event.
    #[error("the peer link has too many commands waiting")]
    Busy,
    /// The peer link has ended.
    #[error("the peer link has ended")]
    Ended,
}

/// Handle to the running peer link. It ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct P2p {
    commands: mpsc::Sender<Command>,
    local: PeerId,
    figures: SharedFigures,
}

impl P2p {
    /// Our own peer id.
    #[must_use]
    pub fn local_peer(&self) -> PeerId {
        self.local
    }

    /// How this node is reached, and what it relays.
    #[must_use]
    pub fn nat(&self) -> NatFigures {
        lock(&self.figures).clone()
    }

    /// Hands over a command. Never waits, so a caller that also reads the events cannot deadlock.
    ///
    /// # Errors
    /// [`CommandRefused`]; the command was not taken.
    pub fn command(&self, command: Command) -> Result<(), CommandRefused> {
        self.commands.try_send(command).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => CommandRefused::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandRefused::Ended,
        })
    }
}

/// Starts the swarm on `tasks`. Gives the handle (it knows our peer id) and the bounded receiver
/// of events; when that is full, reading from peers stops.
///
/// # Errors
/// [`StartError`]; nothing was started.
pub fn start(
    config: &P2pConfig,
    tasks: &mut JoinSet<()>,
    validate: Arc<Validate>,
) -> Result<(P2p, mpsc::Receiver<P2pEvent>), StartError> {
    let filter = if config.allow_private_addresses {
        AddressFilter::PrivateToo
    } else {
        AddressFilter::PublicOnly
    };
    let announces = !config.announce.is_empty();
    let seed = config.transport_seed.keypair()?;
    let mut swarm = build_swarm(seed, filter, &config.relaying, announces)?;
    let failed = |address: &Multiaddr, source| {
        let address = address.clone();
        StartError::Listen { address, source }
    };
    for address in &config.listen {
        port_check::check(address).map_err(|error| failed(address, Box::new(error)))?;
    }
    for address in &config.listen {
        swarm.listen_on(address.clone()).map_err(|error| match error {
            // The text of the one would say what that of the other says.
            TransportError::Other(error) => failed(address, Box::new(error)),
            error @ TransportError::MultiaddrNotSupported(_) => failed(address, Box::new(error)),
        })?;
    }
    let figures = SharedFigures::default();
    let mut nat = Nat::new(config, filter, Arc::clone(&figures));
    for address in &config.announce {
        swarm.add_external_address(address.clone());
        nat.candidate(&mut swarm, address);
    }
    let mode = nat.serves_the_table(config.relays.len());
    swarm.behaviour_mut().dht.serve(mode);
    let local = *swarm.local_peer_id();
    let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
    let (events_out, events) = mpsc::channel(config.limits.events_max.max(1));
    let limits = config.limits.clone();
    let task = SwarmTask::new(swarm, nat, limits, validate, commands_in, events_out);
    tasks.spawn(task.run());
    Ok((P2p { commands, local, figures }, events))
}
