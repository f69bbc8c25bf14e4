//! Between the peer link and the core: what libp2p reports becomes events, what the core asks for
//! becomes commands. Frames are decoded and checked on one task per link, in order.
//!
//! Opens no socket; see `p2p/`. Decides nothing about peers.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tidings_core::event::{Event, LinkId};
use tidings_core::ingress::{Opener, Read, read_peer_frame};
use tidings_protocol::descriptor::{Descriptor, Transport, dht_key};
use tidings_protocol::frame::Frame;
use tidings_protocol::id::NodeId;
use tidings_protocol::limits::MULTIADDRS_MAX;
use tidings_protocol::refusal::RefusalCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::alias::alias;
use crate::clock;
use crate::failpoint::{self, Step};
use crate::input::{Input, transport_bytes};
use crate::limits::{ASKED_MAX, PEER_FRAMES_WAITING_MAX, PUBLISH_TIMEOUT, UNKNOWN_FRAMES_MAX};
use crate::p2p::{Command, P2p, P2pEvent, Reach, Validate, Validity, rank};

/// The check that every record of the table must pass.
pub(crate) fn validator() -> Arc<Validate> {
    Arc::new(|key, value, held| judge_record(key, value, held, clock::now_ms()))
}

/// Judges a record of the table of peers at this time, in Unix ms: it must be the descriptor of the
/// node whose key it is, and newer than the one that is held.
#[must_use]
pub fn judge_record(key: &[u8], value: &[u8], held: Option<&[u8]>, now_ms: u64) -> Validity {
    let Ok((_, offered)) = Descriptor::read(value, now_ms) else { return Validity::Invalid };
    if dht_key(&offered.node()).as_bytes() != key {
        return Validity::Invalid;
    }
    match held.map(|held| Descriptor::read(held, now_ms)) {
        Some(Ok((_, held))) if !offered.is_newer_than(&held) => Validity::NotNewer,
        Some(Ok(_) | Err(_)) | None => Validity::Newer,
    }
}

/// What the loop asks of the peer link. None of it waits.
#[derive(Clone, Debug)]
pub(crate) struct PeerLink {
    p2p: P2p,
    asked: Arc<Mutex<Asked>>,
    published: watch::Sender<Published>,
}

/// The newest own descriptor that was to be published.
#[derive(Debug, Default)]
struct Published {
    value: Vec<u8>,
    /// Whether another node has taken it, once that is known.
    ok: Option<bool>,
}

/// Questions without an answer so far.
#[derive(Debug, Default)]
struct Asked {
    /// For each node that is being dialled, the peers that have not answered.
    dials: BTreeMap<NodeId, BTreeSet<PeerId>>,
    /// Peers with a link; dialling them is answered by nothing.
    linked: BTreeSet<PeerId>,
    /// For each key that is being looked up, its node.
    lookups: BTreeMap<Vec<u8>, NodeId>,
}

impl PeerLink {
    pub(crate) fn new(p2p: P2p) -> Self {
        Self { p2p, asked: Arc::default(), published: watch::Sender::default() }
    }

    /// Dials all transports of a node. False when none could be dialled; otherwise a link or
    /// [`Event::DialFailed`] follows.
    pub(crate) fn dial(&self, node: NodeId, transports: &[Transport]) -> bool {
        let mut asked = lock(&self.asked);
        if asked.dials.len() >= ASKED_MAX {
            return false;
        }
        let mut waiting = BTreeSet::new();
        for transport in transports {
            let Ok(peer) = PeerId::from_bytes(&transport.peer_id) else { continue };
            if peer == self.p2p.local_peer() || asked.linked.contains(&peer) {
                continue;
            }
            let addresses = transport.multiaddrs.iter().filter_map(|text| text.parse().ok());
            let command = Command::Dial { peer, addresses: addresses.collect() };
            if self.command(command) {
                waiting.insert(peer);
            }
        }
        let dialled = !waiting.is_empty();
        if dialled {
            asked.dials.insert(node, waiting);
        }
        dialled
    }

    /// Looks a node up. False when that is not possible now; otherwise [`Event::Found`] follows.
    pub(crate) fn lookup(&self, node: NodeId) -> bool {
        let key = dht_key(&node).as_bytes().to_vec();
        let mut asked = lock(&self.asked);
        if asked.lookups.len() >= ASKED_MAX || !self.command(Command::Lookup { key: key.clone() }) {
            return false;
        }
        asked.lookups.insert(key, node);
        true
    }

    pub(crate) fn publish(&self, descriptor: &Descriptor) {
        let Ok(node) = descriptor.delegation.peek().map(|delegation| delegation.node) else {
            return;
        };
        let (key, value) = (dht_key(&node).as_bytes().to_vec(), descriptor.encode());
        self.published.send_replace(Published { value: value.clone(), ok: None });
        if !self.command(Command::Publish { key, value: value.clone() }) {
            self.is_published(&value, false);
        }
    }

    /// Waits, for a while, until another node has taken the newest own descriptor. False when that has
    /// not happened.
    pub(crate) async fn wait_for_published(&self) -> bool {
        let mut published = self.published.subscribe();
        let known = published.wait_for(|published| published.ok.is_some());
        match timeout(PUBLISH_TIMEOUT, known).await {
            Ok(Ok(published)) => published.ok == Some(true),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn is_published(&self, value: &[u8], ok: bool) {
        self.published.send_if_modified(|published| {
            let is_newest = published.value == value;
            if is_newest {
                published.ok = Some(ok);
            }
            is_newest
        });
    }

    /// Remembers where a process is that an administrator configured. A name is the configuration's to
    /// resolve, see `bootstrap.rs`.
    pub(crate) fn pin(&self, transport: &Transport) {
        if let Some((peer, addresses)) = known(transport)
            && !addresses.is_empty()
        {
            self.command(Command::AddBootstrap { peer, addresses });
        }
    }

    /// Dials a process, whosever it is. Nothing follows when it does not answer.
    pub(crate) fn meet(&self, transport: &Transport) {
        if let Some((peer, addresses)) = known(transport) {
            self.command(Command::Dial { peer, addresses });
        }
    }

    /// Lets a process in no more, or again.
    pub(crate) fn bar(&self, transport: &[u8], is_barred: bool) {
        let Ok(peer) = PeerId::from_bytes(transport) else { return };
        self.command(if is_barred { Command::Block { peer } } else { Command::Unblock { peer } });
    }

    /// Ends a link after what was queued has left.
    pub(crate) fn close(&self, peer: PeerId) {
        self.command(Command::Close { peer });
    }

    fn command(&self, command: Command) -> bool {
        let taken = self.p2p.command(command);
        if let Err(error) = taken {
            warn!(%error, "a request to the peer link was lost; it is repeated by schedule");
        }
        taken.is_ok()
    }
}

fn known(transport: &Transport) -> Option<(PeerId, Vec<Multiaddr>)> {
    let peer = PeerId::from_bytes(&transport.peer_id).ok()?;
    let addresses = transport.multiaddrs.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
    let is_ip = |address: &Multiaddr| {
        matches!(address.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
    };
    Some((peer, addresses.filter(is_ip).collect()))
}

fn lock(asked: &Mutex<Asked>) -> MutexGuard<'_, Asked> {
    // Nothing in here panics while it is held, and a lost answer is only a lost hint.
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries what libp2p reports to the loop.
pub(crate) struct Relay {
    pub(crate) link: PeerLink,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) opener: Arc<Opener>,
    pub(crate) announce: Announce,
    /// How this node is reached, as far as is proved.
    pub(crate) reach: Reach,
    /// Where this process listens, for whoever started it.
    pub(crate) listening: watch::Sender<Vec<Multiaddr>>,
}

/// Which of our addresses others hear of.
#[derive(Clone, Debug)]
pub(crate) struct Announce {
    /// If there are any, these and no others.
    pub(crate) fixed: Vec<Multiaddr>,
    /// Whether loopback addresses may be told, and private ones without a proof.
    pub(crate) with_private: bool,
    /// Whether this node listens nowhere.
    pub(crate) is_deaf: bool,
}

/// The worker of a link.
struct Worker {
    frames: mpsc::Sender<Frame>,
    ended: oneshot::Receiver<()>,
}

impl Relay {
    /// Runs until the peer link or the loop ends.
    #[expect(clippy::too_many_lines, reason = "an arm for each event")]
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<P2pEvent>) {
        if self.announce.is_deaf && self.tell_addresses().await.is_err() {
            return;
        }
        let mut workers = JoinSet::new();
        let mut links: BTreeMap<u64, Worker> = BTreeMap::new();
        let mut ending: BTreeMap<PeerId, oneshot::Receiver<()>> = BTreeMap::new();
        while let Some(event) = events.recv().await {
            while workers.try_join_next().is_some() {}
            let carried = match event {
                P2pEvent::LinkUp { link, peer, dialer, sender, .. } => {
                    lock(&self.link.asked).linked(peer);
                    let up = Input::PeerUp { link: LinkId(link), peer, dialer, lanes: sender };
                    let (frames, to_check) = mpsc::channel(PEER_FRAMES_WAITING_MAX);
                    let (end, ended) = oneshot::channel();
                    let inputs = self.inputs.clone();
                    let before = ending.remove(&peer);
                    let opener = Arc::clone(&self.opener);
                    let link_id = LinkId(link);
                    workers.spawn(serve_link(link_id, up, to_check, inputs, opener, before, end));
                    links.insert(link, Worker { frames, ended });
                    Ok(())
                }
                P2pEvent::Frame { link, frame, .. } => {
                    if let Some(worker) = links.get(&link)
                        && worker.frames.send(frame).await.is_err()
                    {
                        debug!(link, "a frame came after its link had ended");
                    }
                    Ok(())
                }
                P2pEvent::LinkDown { link, peer, why } => {
                    debug!(link, why, "a link to a peer ended");
                    lock(&self.link.asked).linked.remove(&peer);
                    ending.retain(|_, ended| {
                        ended.try_recv() == Err(oneshot::error::TryRecvError::Empty)
                    });
                    if let Some(Worker { ended, .. }) = links.remove(&link) {
                        ending.insert(peer, ended);
                    }
                    Ok(())
                }
                P2pEvent::DialFailed { peer, why } => {
                    debug!(why, "a dial failed");
                    let failed = lock(&self.link.asked).dial_failed(peer);
                    self.tell_all(failed.into_iter().map(|node| Event::DialFailed { node })).await
                }
                P2pEvent::Found { key, values } => {
                    let found = self.found(&key, &values);
                    self.tell_all(found).await
                }
                P2pEvent::Published { value, ok, .. } => {
                    self.link.is_published(&value, ok);
                    if !ok {
                        info!("no other node has taken the own descriptor yet");
                    }
                    Ok(())
                }
                P2pEvent::ListenAddress(address) => self.listens(address).await,
                P2pEvent::Reach(reach) => self.reached(reach).await,
                P2pEvent::RelayFailed { relay, why } => {
                    warn_of_relay(&relay, &why);
                    Ok(())
                }
                // The queue of a lane is larger than the window of its peer; see `links.rs`.
                P2pEvent::Writable { .. } => Ok(()),
                #[cfg(test)]
                P2pEvent::Named => Ok(()),
            };
            if carried.is_err() {
                return;
            }
        }
    }

    async fn tell_all(&self, events: impl IntoIterator<Item = Event>) -> Result<(), LoopEnded> {
        for event in events {
            self.inputs.send(Input::Event(event)).await.map_err(|_| LoopEnded)?;
        }
        Ok(())
    }

    fn found(&self, key: &[u8], values: &[Vec<u8>]) -> Option<Event> {
        let node = lock(&self.link.asked).lookups.remove(key)?;
        let now = clock::now_ms();
        let descriptors = values
            .iter()
            .filter_map(|value| Descriptor::read(value, now).ok())
            .filter(|(_, checked)| checked.node() == node)
            .collect();
        Some(Event::Found { node, descriptors })
    }

    async fn listens(&self, address: Multiaddr) -> Result<(), LoopEnded> {
        self.listening.send_if_modified(|known| {
            let new = !known.contains(&address);
            if new {
                known.push(address);
            }
            new
        });
        self.tell_addresses().await
    }

    async fn reached(&mut self, reach: Reach) -> Result<(), LoopEnded> {
        if reach.is_shut && !self.reach.is_shut {
            warn!(
                "no peer could dial this node back: open its port to the world, set announce, or let \
                 others reach it through relays"
            );
        }
        self.reach = reach;
        self.tell_addresses().await
    }

    async fn tell_addresses(&self) -> Result<(), LoopEnded> {
        let multiaddrs = self.announce.choose(&self.listening.borrow(), &self.reach);
        let peer_id = transport_bytes(self.link.p2p.local_peer());
        self.tell_all([Event::Listening { peer_id, multiaddrs }]).await
    }
}

fn warn_of_relay(relay: &PeerId, why: &str) {
    warn!(
        relay = %alias(relay), why,
        "a relay holds no reservation for this node; it is asked again. Does its relay_for allow it, \
         and has it an address that can be reached?"
    );
}

/// The loop takes no more inputs.
struct LoopEnded;

impl Asked {
    /// A link to `peer` is up: no dial to it is waiting any more, whoever asked for it.
    fn linked(&mut self, peer: PeerId) {
        self.linked.insert(peer);
        self.dials.retain(|_, waiting| !waiting.contains(&peer));
    }

    /// The nodes of which no transport is left.
    fn dial_failed(&mut self, peer: PeerId) -> Vec<NodeId> {
        let mut failed = Vec::new();
        self.dials.retain(|node, waiting| {
            let last = waiting.remove(&peer) && waiting.is_empty();
            if last {
                failed.push(*node);
            }
            !last
        });
        failed
    }
}

impl Announce {
    /// The addresses to be signed, direct ones and QUIC first, as many as a descriptor may name. What
    /// was proved takes the place of what was not. Where nothing was, others may as well try what this
    /// node listens on: a peer that only says that it could not reach it must not make it disappear.
    fn choose(&self, listening: &[Multiaddr], reach: &Reach) -> Vec<String> {
        let mut chosen: Vec<&Multiaddr> = if !self.fixed.is_empty() {
            self.fixed.iter().collect()
        } else if self.with_private {
            listening.iter().chain(&reach.circuits).collect()
        } else if !reach.direct.is_empty() {
            reach.direct.iter().collect()
        } else if !reach.circuits.is_empty() {
            reach.circuits.iter().collect()
        } else {
            listening.iter().filter(|address| !is_loopback(address)).collect()
        };
        chosen.sort_by_key(|address| rank(address));
        chosen.into_iter().take(MULTIADDRS_MAX).map(ToString::to_string).collect()
    }
}

fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().next().is_some_and(|part| {
        if let Protocol::Ip4(ip) = part {
            ip.is_loopback()
        } else if let Protocol::Ip6(ip) = part {
            ip.is_loopback()
        } else {
            false
        }
    })
}

/// Reports a link, checks its frames in order, reports its end.
async fn serve_link(
    link: LinkId,
    up: Input,
    mut frames: mpsc::Receiver<Frame>,
    inputs: mpsc::Sender<Input>,
    opener: Arc<Opener>,
    before: Option<oneshot::Receiver<()>>,
    end: oneshot::Sender<()>,
) {
    if let Some(before) = before {
        // Two links to one peer never overlap: the core hears first that the old one is gone.
        before.await.unwrap_or_default();
    }
    if inputs.send(up).await.is_err() {
        return;
    }
    let mut unknown = 0;
    let mut broken = false;
    while let Some(frame) = frames.recv().await {
        if broken {
            continue;
        }
        let event = match read_peer_frame(&frame, clock::now_ms(), &opener) {
            Read::Input(input) => Event::Peer { link, input },
            Read::Unknown if unknown < UNKNOWN_FRAMES_MAX => {
                unknown += 1;
                continue;
            }
            Read::Unknown => Event::PeerBroke { link, code: RefusalCode::Malformed },
            Read::Broken(code) => Event::PeerBroke { link, code },
        };
        broken = matches!(event, Event::PeerBroke { .. });
        failpoint::pass(Step::AfterPeerRead);
        if inputs.send(Input::Event(event)).await.is_err() {
            return;
        }
    }
    if inputs.send(Input::Event(Event::PeerClosed { link })).await.is_ok() && end.send(()).is_err()
    {
        debug!("the relay ended before a link did");
    }
}

/// Reads an address that names its peer at the end: `/ip4/../p2p/<peer id>`.
pub(crate) fn split_peer(text: &str) -> Option<(PeerId, Multiaddr)> {
    let mut address = Multiaddr::from_str(text).ok()?;
    let Some(Protocol::P2p(peer)) = address.pop() else { return None };
    Some((peer, address))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use libp2p::{Multiaddr, PeerId};
    use tidings_protocol::id::NodeId;

    use super::{Announce, Asked, Reach, split_peer};
    use crate::p2p::Reachability;

    #[test]
    fn a_dial_has_failed_when_its_last_transport_has() {
        let [acme, globex] = [NodeId([1; 32]), NodeId([2; 32])];
        let [one, two] = [PeerId::random(), PeerId::random()];
        let mut asked = Asked::default();
        asked.dials.insert(acme, BTreeSet::from([one, two]));
        asked.dials.insert(globex, BTreeSet::from([two]));
        assert_eq!(asked.dial_failed(two), [globex]);
        assert_eq!(asked.dial_failed(one), [acme]);
        assert!(asked.dials.is_empty());
    }

    #[test]
    fn a_link_ends_every_dial_to_its_peer() {
        let peer = PeerId::random();
        let mut asked = Asked::default();
        asked.dials.insert(NodeId([1; 32]), BTreeSet::from([peer, PeerId::random()]));
        asked.linked(peer);
        assert!(asked.dials.is_empty());
    }

    #[test]
    fn loopback_is_told_to_nobody_unless_asked_for() {
        let listening = [
            "/ip4/127.0.0.1/tcp/7400",
            "/ip4/192.0.2.1/tcp/7400",
            "/ip4/192.0.2.1/udp/7400/quic-v1",
        ]
        .map(|text| text.parse().unwrap());
        let nothing = Reach::default();
        let announce = |with_private| Announce { fixed: vec![], with_private, is_deaf: false };
        let choose = |with_private| announce(with_private).choose(&listening, &nothing);
        assert_eq!(choose(false), ["/ip4/192.0.2.1/udp/7400/quic-v1", "/ip4/192.0.2.1/tcp/7400"]);
        assert_eq!(choose(true).len(), 3);
        let fixed = vec!["/ip4/192.0.2.7/tcp/7400".parse().unwrap()];
        let announce = Announce { fixed, ..announce(true) };
        assert_eq!(announce.choose(&listening, &nothing), ["/ip4/192.0.2.7/tcp/7400"]);
    }

    #[test]
    fn what_is_proved_is_told_and_relays_only_without_a_direct_address() {
        let address = |text: &str| text.parse::<Multiaddr>().unwrap();
        let listening = [address("/ip4/192.168.1.2/tcp/7400")];
        let direct = vec![address("/ip4/192.0.2.1/tcp/7400")];
        let relay = PeerId::random();
        let circuit = format!("/ip4/192.0.2.9/udp/7400/quic-v1/p2p/{relay}/p2p-circuit");
        let circuits = vec![address(&circuit)];
        let reach = |direct: &[Multiaddr], circuits: &[Multiaddr]| Reach {
            state: Reachability::Private,
            direct: direct.to_vec(),
            circuits: circuits.to_vec(),
            is_shut: false,
        };
        let announce = Announce { fixed: vec![], with_private: false, is_deaf: false };
        let told = |reach: Reach| announce.choose(&listening, &reach);
        assert_eq!(told(reach(&direct, &circuits)), ["/ip4/192.0.2.1/tcp/7400"]);
        assert_eq!(told(reach(&[], &circuits)), std::slice::from_ref(&circuit));
        assert_eq!(told(reach(&[], &[])), ["/ip4/192.168.1.2/tcp/7400"], "nothing better is known");
        let closed = Announce { with_private: true, ..announce.clone() };
        let all = ["/ip4/192.168.1.2/tcp/7400".to_owned(), circuit];
        assert_eq!(closed.choose(&listening, &reach(&direct, &circuits)), all);
        let fixed = Announce { fixed: direct.clone(), ..announce };
        assert_eq!(fixed.choose(&listening, &reach(&[], &circuits)), ["/ip4/192.0.2.1/tcp/7400"]);
    }

    #[test]
    fn a_bootstrap_address_names_its_peer() {
        let peer = PeerId::random();
        let (found, address) = split_peer(&format!("/ip4/192.0.2.1/tcp/7400/p2p/{peer}")).unwrap();
        assert_eq!((found, address.to_string()), (peer, "/ip4/192.0.2.1/tcp/7400".to_owned()));
        assert!(split_peer("/ip4/192.0.2.1/tcp/7400").is_none());
    }
}
