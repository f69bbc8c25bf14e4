//! The one task that owns the swarm: commands in, swarm events in, effects carried out.
//!
//! Never waits for the caller: what it has to report lies in an outbox, and while that is full it
//! takes in nothing more. Frames do not pass here; see `session.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, dcutr, identify, ping, relay};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::behaviour::{Behaviour, BehaviourEvent, KAD_PROTOCOL};
use super::circuit::is_circuit;
use super::dht::Dht;
use super::instance::Instance;
use super::lanes::{Happened, LanesEvent, Opener, Pair};
use super::limits::{BEAT, OUTBOX_EVENTS_MAX};
use super::nat::Nat;
use super::peers::{Effect, Peers};
use super::session::{End, Ended, Session};
use super::{Command, P2pEvent, P2pLimits, Validate};
use crate::alias::alias;

/// The swarm and all that is known about its peers.
pub(crate) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    peers: Peers<ConnectionId, Box<Pair>>,
    dht: Dht,
    nat: Nat,
    limits: P2pLimits,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<P2pEvent>,
    outbox: VecDeque<Report>,
    sessions: JoinSet<Ended>,
    running: BTreeMap<Id, Running>,
    /// Addresses of the dial commands not yet answered, and the dials that came of them.
    addresses: BTreeMap<PeerId, Vec<Multiaddr>>,
    dials: BTreeMap<ConnectionId, PeerId>,
}

/// An event for the caller, and who waits until it was handed over.
struct Report {
    event: P2pEvent,
    announced: Option<oneshot::Sender<()>>,
}

/// A session task's link.
struct Running {
    link: u64,
    peer: PeerId,
    end: Option<oneshot::Sender<End>>,
}

impl SwarmTask {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        nat: Nat,
        limits: P2pLimits,
        validate: Arc<Validate>,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<P2pEvent>,
    ) -> Self {
        let local = *swarm.local_peer_id();
        Self {
            swarm,
            peers: Peers::new(local),
            dht: Dht::new(local, validate),
            nat,
            limits,
            commands,
            events,
            outbox: VecDeque::new(),
            sessions: JoinSet::new(),
            running: BTreeMap::new(),
            addresses: BTreeMap::new(),
            dials: BTreeMap::new(),
        }
    }

    /// Runs until the last handle or the receiver of events is dropped.
    pub(crate) async fn run(mut self) {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let events = self.events.clone();
        loop {
            let room = self.outbox.len() < OUTBOX_EVENTS_MAX;
            tokio::select! {
                permit = events.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(report) = self.outbox.pop_front() {
                        permit.send(report.event);
                        if report.announced.is_some_and(|announced| announced.send(()).is_err()) {
                            tracing::debug!("a link broke off before it was announced");
                        }
                    }
                }
                Some(ended) = self.sessions.join_next_with_id() => self.ended(ended),
                event = self.swarm.select_next_some(), if room => self.swarm_event(event),
                command = self.commands.recv(), if room => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                _ = beat.tick() => {
                    self.peers.beat();
                    self.dht.beat();
                    let failed = self.nat.beat(&mut self.swarm);
                    self.report_if(failed);
                }
                () = events.closed() => return,
            }
            self.obey();
            let news = self.nat.news(&mut self.swarm);
            self.report_if(news);
        }
    }

    fn report(&mut self, event: P2pEvent) {
        self.outbox.push_back(Report { event, announced: None });
    }

    fn report_if(&mut self, event: Option<P2pEvent>) {
        if let Some(event) = event {
            self.report(event);
        }
    }

    fn command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        let answer = match command {
            Command::Dial { peer, addresses } => {
                self.peers.want(peer);
                if self.peers.is_wanted(&peer) {
                    self.addresses.insert(peer, behaviour.dht.dialable(&peer, addresses));
                }
                None
            }
            Command::Close { peer } => {
                self.peers.close(peer);
                None
            }
            Command::Block { peer } => {
                behaviour.blocked.block_peer(peer);
                None
            }
            Command::Unblock { peer } => {
                behaviour.blocked.unblock_peer(peer);
                None
            }
            Command::Publish { key, value } => self.dht.publish(&mut behaviour.dht.kad, key, value),
            Command::Lookup { key } => self.dht.look_up(&mut behaviour.dht.kad, key),
            Command::AddBootstrap { peer, addresses } => {
                behaviour.dht.add_configured(peer, addresses);
                let addresses = behaviour.dht.dialable(&peer, []);
                self.nat.found(&mut self.swarm, peer, addresses)
            }
            Command::Bootstrap => {
                if let Err(error) = behaviour.dht.kad.bootstrap() {
                    tracing::debug!(%error, "the routing table was not filled");
                }
                None
            }
        };
        self.report_if(answer);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                tracing::debug!(peer = %alias(&peer_id), dialled = endpoint.is_dialer(), "connected");
                if self.dials.remove(&connection_id).is_some() {
                    self.peers.dialled(peer_id);
                }
                self.peers.connected(peer_id, connection_id, endpoint.is_relayed());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let cause = cause.map(|cause| chain(&cause));
                tracing::debug!(peer = %alias(&peer_id), cause, "disconnected");
                self.peers.disconnected(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(peer) = self.dials.remove(&connection_id) {
                    self.peers.dial_failed(peer, &chain(&error));
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(error = chain(&error), "an inbound connection failed");
            }
            // What a relay says of its own addresses is not asked for; see `reservations.rs`.
            SwarmEvent::NewListenAddr { address, .. } if !is_circuit(&address) => {
                self.nat.listens(&mut self.swarm, &address);
                self.report(P2pEvent::ListenAddress(address));
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                match self.nat.unlistened(listener_id, &reason) {
                    Some(failed) => self.report(failed),
                    None => tracing::warn!(?addresses, ?reason, "no longer listening"),
                }
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed for a moment");
            }
            _ => {}
        }
    }

    fn behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Lanes(LanesEvent { peer, connection, what }) => match what {
                Happened::Opened { pair, opener } => {
                    self.peers.opened(peer, connection, opener, pair);
                }
                Happened::OpenFailed { why } => self.peers.open_failed(peer, connection, &why),
            },
            BehaviourEvent::Dht(event) => {
                let kad = &mut self.swarm.behaviour_mut().dht.kad;
                if let Some(answer) = self.dht.happened(kad, event) {
                    self.report(answer);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                connection_id,
                info,
            }) => {
                if let Some(instance) = Instance::from_agent(&info.agent_version) {
                    self.peers.identified(peer_id, connection_id, instance);
                    #[cfg(test)]
                    self.report(P2pEvent::Named);
                }
                if self.swarm.behaviour().dht.is_configured(&peer_id) {
                    self.nat.observed(&mut self.swarm, &info.observed_addr);
                }
                // Only who serves our table belongs into it, under the addresses that it claims.
                if info.protocols.contains(&KAD_PROTOCOL) {
                    self.swarm.behaviour_mut().dht.add_learnt(peer_id, info.listen_addrs);
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) }) => {
                // TCP alone would notice a dead peer after a quarter of an hour.
                tracing::debug!(peer = %alias(&peer), %error, "the peer does not answer pings");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => self.nat.reserved(relay_peer_id),
            BehaviourEvent::Relay(event) => {
                self.nat.relays(&event, |peer| self.swarm.is_connected(peer));
            }
            BehaviourEvent::Dcutr(dcutr::Event { remote_peer_id, result }) => {
                self.nat.punched(&remote_peer_id, result.as_ref().err());
            }
            BehaviourEvent::Probe(probe) => {
                self.nat.probed(&probe.tested_addr, probe.result.is_ok());
            }
            BehaviourEvent::Identify(_)
            | BehaviourEvent::Ping(_)
            | BehaviourEvent::RelayClient(_)
            | BehaviourEvent::DialBack(_) => {}
            BehaviourEvent::Blocked(never)
            | BehaviourEvent::ConnectionLimits(never)
            | BehaviourEvent::MemoryLimits(never)
            | BehaviourEvent::InboundGate(never) => match never {},
        }
    }

    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        let (id, spoils_connection, why) = match ended {
            Ok((id, ended)) => (id, ended.spoils_connection(), ended.why()),
            Err(error) => {
                tracing::error!(%error, "a link's task broke off");
                (error.id(), true, "a fault in this node".to_owned())
            }
        };
        let Some(Running { link, peer, .. }) = self.running.remove(&id) else { return };
        tracing::info!(link, peer = %alias(&peer), why, "link down");
        self.nat.link_down(link);
        self.report(P2pEvent::LinkDown { link, peer, why });
        self.peers.ended(link, spoils_connection);
    }

    fn obey(&mut self) {
        // A dial that fails at once has effects of its own.
        loop {
            let effects = self.peers.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect<ConnectionId, Box<Pair>>) {
        match effect {
            Effect::Dial(peer) => self.dial(peer),
            Effect::Open(peer, connection) => {
                self.swarm.behaviour_mut().lanes.open(peer, connection);
            }
            Effect::Start { link, peer, opener, is_relayed, pair } => {
                self.start(link, peer, (opener, is_relayed), pair);
            }
            Effect::End { link, end } => {
                let session = self.running.values_mut().find(|session| session.link == link);
                let tell = session.and_then(|session| session.end.take());
                if tell.is_some_and(|tell| tell.send(end).is_err()) {
                    tracing::debug!(link, "the link has just ended by itself");
                }
            }
            Effect::CloseConnection(connection) => {
                self.swarm.close_connection(connection);
            }
            Effect::Disconnect(peer) => {
                // It ends dials too; their failure must not be taken for that of a later one.
                self.dials.retain(|_, dialled| *dialled != peer);
                if self.swarm.disconnect_peer_id(peer).is_err() {
                    tracing::debug!(peer = %alias(&peer), "was not connected");
                }
            }
            Effect::Failed { peer, why } => {
                self.addresses.remove(&peer);
                self.report(P2pEvent::DialFailed { peer, why });
            }
        }
    }

    fn dial(&mut self, peer: PeerId) {
        let addresses = self.addresses.get(&peer).cloned().unwrap_or_default();
        // A connection that is being closed still counts for the swarm, not for us.
        let options = DialOpts::peer_id(peer).condition(PeerCondition::Always);
        // From a port of its own: two nodes that dial each other from and to the same two ports
        // would meet in one TCP connection that both believe to have dialled.
        let options: DialOpts = if addresses.is_empty() {
            options.allocate_new_port().build()
        } else {
            options.addresses(addresses).allocate_new_port().build()
        };
        let connection = options.connection_id();
        self.dials.insert(connection, peer);
        if let Err(error) = self.swarm.dial(options) {
            self.dials.remove(&connection);
            self.peers.dial_failed(peer, &chain(&error));
        }
    }

    fn start(
        &mut self,
        link: u64,
        peer: PeerId,
        (opener, relayed): (Opener, bool),
        pair: Box<Pair>,
    ) {
        let dialer = opener == Opener::Us;
        self.addresses.remove(&peer);
        self.nat.link_up(link, relayed);
        tracing::info!(link, peer = %alias(&peer), dialer, relayed, "link up");
        let (session, sender) = Session::new(link, peer, self.events.clone(), &self.limits);
        let (end, told) = oneshot::channel();
        let (announced, wait) = oneshot::channel();
        let id = self.sessions.spawn(session.run(pair, wait, told)).id();
        self.running.insert(id, Running { link, peer, end: Some(end) });
        let event = P2pEvent::LinkUp { link, peer, dialer, relayed, sender };
        self.outbox.push_back(Report { event, announced: Some(announced) });
    }
}

/// An error with all its sources, for the caller's log: the libraries' own texts leave them out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
