//! The peer link over real sockets on the loopback: two or three nodes in one process.
//!
//! What is decided without sockets is tested beside its code. Every wait is for an event; one
//! generous limit ends a test that hangs.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it waits for")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncWriteExt, StreamExt};
use libp2p::Swarm;
use libp2p::swarm::SwarmEvent;
use tidings_protocol::frame::Frame;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address_filter::AddressFilter;
use super::behaviour::{Behaviour, BehaviourEvent, build_swarm};
use super::lanes::{Happened, LanesEvent, Pair};
use super::*;

pub(super) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(super) const TCP: &str = "/ip4/127.0.0.1/tcp/0";

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("the test hangs")
}

/// A running node and the link that it has.
pub(super) struct Node {
    pub(super) p2p: P2p,
    events: mpsc::Receiver<P2pEvent>,
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) links: BTreeMap<u64, LaneSenders>,
    tasks: JoinSet<()>,
}

impl Node {
    async fn start(listen: &str) -> Self {
        Self::start_with(listen, P2pLimits::default(), Arc::new(judge)).await
    }

    async fn start_with(listen: &str, limits: P2pLimits, validate: Arc<Validate>) -> Self {
        Self::start_as(P2pConfig { limits, ..config(listen) }, validate).await
    }

    pub(super) async fn start_as(config: P2pConfig, validate: Arc<Validate>) -> Self {
        let mut tasks = JoinSet::new();
        let (p2p, events) = start(&config, &mut tasks, validate).expect("the node starts");
        assert_eq!(config.transport_seed.peer_id().expect("a key"), p2p.local_peer());
        let (addresses, links) = (Vec::new(), BTreeMap::new());
        let mut node = Self { p2p, events, addresses, links, tasks };
        for _ in &config.listen {
            let address = node
                .until(|event| match event {
                    P2pEvent::ListenAddress(address) => Some(address),
                    _ => None,
                })
                .await;
            node.addresses.push(address);
        }
        node
    }

    /// The node is gone when this returns, with its sockets.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }

    pub(super) fn id(&self) -> PeerId {
        self.p2p.local_peer()
    }

    pub(super) fn ask(&self, command: Command) {
        self.p2p.command(command).expect("the command is taken");
    }

    pub(super) fn dial(&self, other: &Self) {
        self.ask(Command::Dial { peer: other.id(), addresses: other.addresses.clone() });
    }

    /// The next event; checks that no two links are up at a time.
    async fn next(&mut self) -> P2pEvent {
        let event = within(self.events.recv()).await.expect("the node runs");
        match &event {
            P2pEvent::LinkUp { link, sender, .. } => {
                assert!(self.links.is_empty(), "two links to one peer");
                self.links.insert(*link, sender.clone());
            }
            P2pEvent::LinkDown { link, .. } => {
                self.links.remove(link).expect("only a link that is up goes down");
            }
            P2pEvent::Frame { link, .. } | P2pEvent::Writable { link, .. } => {
                assert!(self.links.contains_key(link), "a frame outside its link's life");
            }
            _ => {}
        }
        event
    }

    pub(super) async fn until<T>(&mut self, mut wanted: impl FnMut(P2pEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }

    /// Waits for a link; gives its number and whether we opened it.
    async fn up(&mut self) -> (u64, bool) {
        self.until(|event| match event {
            P2pEvent::LinkUp { link, dialer, .. } => Some((link, dialer)),
            P2pEvent::DialFailed { why, .. } => panic!("the dial failed: {why}"),
            _ => None,
        })
        .await
    }

    pub(super) async fn down(&mut self) -> String {
        self.until(|event| match event {
            P2pEvent::LinkDown { why, .. } => Some(why),
            _ => None,
        })
        .await
    }

    pub(super) async fn dial_failed(&mut self) -> String {
        self.until(|event| match event {
            P2pEvent::DialFailed { why, .. } => Some(why),
            P2pEvent::LinkUp { .. } => panic!("the dial succeeded"),
            _ => None,
        })
        .await
    }

    pub(super) async fn frame(&mut self) -> (Lane, Frame) {
        self.until(|event| match event {
            P2pEvent::Frame { lane, frame, .. } => Some((lane, frame)),
            _ => None,
        })
        .await
    }

    pub(super) fn send(&self, lane: Lane, frame: Frame) -> Result<(), SendRefused> {
        let (_, sender) = self.links.iter().next().expect("a link is up");
        sender.send(lane, frame)
    }

    async fn look_up(&mut self, key: &[u8]) -> Vec<Vec<u8>> {
        self.ask(Command::Lookup { key: key.to_vec() });
        self.until(|event| match event {
            P2pEvent::Found { key: found, mut values } => {
                assert_eq!(found, key);
                values.sort();
                Some(values)
            }
            _ => None,
        })
        .await
    }

    async fn publish(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.ask(Command::Publish { key: key.to_vec(), value: value.to_vec() });
        self.until(|event| match event {
            P2pEvent::Published { ok, .. } => Some(ok),
            _ => None,
        })
        .await
    }
}

pub(super) fn config(listen: &str) -> P2pConfig {
    P2pConfig {
        transport_seed: TransportSeed::from_bytes(rand_seed()),
        listen: vec![listen.parse().expect("a multiaddr")],
        announce: Vec::new(),
        allow_private_addresses: true,
        relays: Vec::new(),
        relaying: Relaying::default(),
        limits: P2pLimits::default(),
    }
}

pub(super) fn rand_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system gives randomness");
    seed
}

pub(super) fn frame(text: &str, body: usize) -> Frame {
    Frame { header: Bytes::from(text.to_owned()), body: Bytes::from(vec![7; body]) }
}

/// Values `ok:<serial>` are valid under any key.
pub(super) fn judge(_: &[u8], value: &[u8], held: Option<&[u8]>) -> Validity {
    match (value.strip_prefix(b"ok:"), held) {
        (None, _) => Validity::Invalid,
        (Some(_), Some(held)) if held >= value => Validity::NotNewer,
        (Some(_), _) => Validity::Newer,
    }
}

/// What an attacker's node thinks of records.
fn believe(_: &[u8], _: &[u8], _: Option<&[u8]>) -> Validity {
    Validity::Newer
}

async fn linked(listen: &str, limits: P2pLimits) -> [Node; 2] {
    let mut acme = Node::start(listen).await;
    let mut globex = Node::start_with(listen, limits, Arc::new(judge)).await;
    acme.dial(&globex);
    assert!(acme.up().await.1, "acme opened the link");
    assert!(!globex.up().await.1, "globex did not");
    [acme, globex]
}

async fn check_frames(listen: &str) {
    let [mut acme, mut globex] = linked(listen, P2pLimits::default()).await;
    for lane in [Lane::Control, Lane::Bulk] {
        for (text, body) in [("first", 0), ("second", 60_000), ("third", 1)] {
            acme.send(lane, frame(text, body)).expect("there is room");
            assert_eq!(globex.frame().await, (lane, frame(text, body)));
            globex.send(lane, frame(text, body)).expect("there is room");
            assert_eq!(acme.frame().await, (lane, frame(text, body)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_cross_both_lanes_over_quic() {
    check_frames(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_cross_both_lanes_over_tcp() {
    check_frames(TCP).await;
}

async fn check_flood(listen: &str) {
    const FRAMES: usize = 2_000;
    // Globex takes in little at a time and acme may queue little, so both must wait all the way.
    let narrow = P2pLimits { events_max: 2, ..P2pLimits::default() };
    let [mut acme, mut globex] = linked(listen, narrow).await;
    let reader = async {
        for number in 0..FRAMES {
            assert_eq!(globex.frame().await, (Lane::Bulk, frame(&number.to_string(), 20_000)));
        }
    };
    let writer = async {
        let mut refusals = 0;
        for number in 0..FRAMES {
            while let Err(refused) = acme.send(Lane::Bulk, frame(&number.to_string(), 20_000)) {
                assert_eq!(refused, SendRefused::Full);
                refusals += 1;
                acme.until(|event| matches!(event, P2pEvent::Writable { .. }).then_some(())).await;
            }
        }
        assert!(refusals > 0, "the budget was never reached");
    };
    futures::join!(reader, writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_the_writer_and_loses_nothing_over_quic() {
    check_flood(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_the_writer_and_loses_nothing_over_tcp() {
    check_flood(TCP).await;
}

/// One side's part in the rounds: dial, settle, prove that the link carries frames both ways.
async fn settle(node: &mut Node, round: &str) {
    let [mut asked, mut proven, mut answered] = [false; 3];
    while !(proven && answered) {
        match node.next().await {
            P2pEvent::LinkUp { .. } => {
                [proven, answered] = [false; 2];
                // The losing link of two may end before it is used.
                asked = node.send(Lane::Control, frame(&format!("ask {round}"), 0)).is_ok();
            }
            P2pEvent::Frame { frame: got, .. } if got.header.starts_with(b"ask") => {
                answered = node.send(Lane::Control, frame("answer", 0)).is_ok();
            }
            P2pEvent::Frame { .. } => proven = asked,
            P2pEvent::DialFailed { why, .. } => panic!("the dial failed: {why}"),
            _ => {}
        }
    }
}

async fn check_simultaneous(listen: &str) {
    let mut acme = Node::start(listen).await;
    let mut globex = Node::start(listen).await;
    for round in 0..10 {
        let round = round.to_string();
        acme.dial(&globex);
        globex.dial(&acme);
        futures::join!(settle(&mut acme, &round), settle(&mut globex, &round));
        assert_eq!((acme.links.len(), globex.links.len()), (1, 1));
        acme.ask(Command::Close { peer: globex.id() });
        futures::join!(acme.down(), globex.down());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_give_one_link_over_quic() {
    check_simultaneous(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_give_one_link_over_tcp() {
    check_simultaneous(TCP).await;
}

/// Runs a node on a runtime of its own until a frame came over its link, and then lets it stand still:
/// as over QUIC a process that was killed, nothing tells its peer that it is gone.
fn run_until_used(config: P2pConfig, address: oneshot::Sender<Multiaddr>) -> (Runtime, Node) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let node = runtime.block_on(async {
        let mut node = Node::start_as(config, Arc::new(judge)).await;
        address.send(node.addresses[0].clone()).expect("the test waits for it");
        node.up().await;
        node.frame().await;
        node
    });
    (runtime, node)
}

async fn check_crash(listen: &str) {
    // The one with the lower peer id has opened the link, so that its pair would win.
    let mut configs = [config(listen), config(listen)];
    configs.sort_by_key(|config| config.transport_seed.peer_id().expect("a key"));
    let [acme, globex] = configs;
    let peer = globex.transport_seed.peer_id().expect("a key");
    let mut acme = Node::start_as(acme, Arc::new(judge)).await;
    let (tell, told) = oneshot::channel();
    let first = globex.clone();
    let first = tokio::task::spawn_blocking(move || run_until_used(first, tell));
    let addresses = vec![within(told).await.expect("globex runs")];
    acme.ask(Command::Dial { peer, addresses });
    // A process that is killed before it could name itself is told from the next one too late.
    let (mut is_up, mut is_named) = (false, false);
    while !(is_up && is_named) {
        match acme.next().await {
            P2pEvent::LinkUp { .. } => is_up = true,
            P2pEvent::Named => is_named = true,
            _ => {}
        }
    }
    acme.send(Lane::Control, frame("stand still", 0)).expect("a link is up");
    let (frozen, first) = within(first).await.expect("globex was linked");

    let mut globex = Node::start_as(globex, Arc::new(judge)).await;
    globex.dial(&acme);
    globex.up().await;
    globex.send(Lane::Bulk, frame("after the crash", 9)).expect("a link is up");
    assert_eq!(acme.down().await, "the peer was started again");
    acme.up().await;
    assert_eq!(acme.frame().await, (Lane::Bulk, frame("after the crash", 9)));
    acme.send(Lane::Control, frame("welcome back", 0)).expect("a link is up");
    assert_eq!(globex.frame().await, (Lane::Control, frame("welcome back", 0)));
    drop(first);
    frozen.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_crashed_is_linked_again_over_quic() {
    check_crash(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_crashed_is_linked_again_over_tcp() {
    check_crash(TCP).await;
}

async fn check_close(listen: &str) {
    let [mut acme, mut globex] = linked(listen, P2pLimits::default()).await;
    for number in 0..30 {
        acme.send(Lane::Bulk, frame(&number.to_string(), 30_000)).expect("there is room");
    }
    acme.ask(Command::Close { peer: globex.id() });
    for number in 0..30 {
        assert_eq!(globex.frame().await.1.header, number.to_string());
    }
    assert_eq!(acme.down().await, "closed by this node");
    globex.down().await;
    globex.dial(&acme);
    assert_eq!(globex.up().await, (2, true), "a fresh number");
    assert_eq!(acme.up().await, (2, false));
    acme.send(Lane::Control, frame("again", 0)).expect("there is room");
    assert_eq!(globex.frame().await, (Lane::Control, frame("again", 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_delivers_what_was_queued_and_a_new_dial_works_over_quic() {
    check_close(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_delivers_what_was_queued_and_a_new_dial_works_over_tcp() {
    check_close(TCP).await;
}

/// Yamux wakes nobody when its own side closes the connection; the link must end all the same.
async fn check_block(listen: &str) {
    let [mut acme, mut globex] = linked(listen, P2pLimits::default()).await;
    acme.ask(Command::Block { peer: globex.id() });
    acme.down().await;
    globex.down().await;
    acme.dial(&globex);
    let why = acme.dial_failed().await;
    assert!(why.contains("block"), "{why}");
    acme.ask(Command::Unblock { peer: globex.id() });
    acme.dial(&globex);
    acme.up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_the_link_at_once_over_quic() {
    check_block(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_the_link_at_once_over_tcp() {
    check_block(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_link_ends() {
    let quiet = P2pLimits { read_idle: Duration::from_millis(200), ..P2pLimits::default() };
    let [mut acme, mut globex] = linked(QUIC, quiet).await;
    assert_eq!(globex.down().await, "nothing arrived for 200ms");
    acme.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_reaches_nobody_fails_with_the_reason() {
    let mut acme = Node::start(TCP).await;
    let globex = Node::start(TCP).await;
    let stranger = TransportSeed::from_bytes(rand_seed()).peer_id().expect("a key");
    acme.ask(Command::Dial { peer: stranger, addresses: globex.addresses.clone() });
    let why = acme.dial_failed().await;
    assert!(why.contains(&globex.id().to_string()), "names who answered instead: {why}");
    acme.ask(Command::Dial { peer: stranger, addresses: Vec::new() });
    assert!(acme.dial_failed().await.contains("no addresses"));
    acme.ask(Command::Dial { peer: acme.id(), addresses: acme.addresses.clone() });
    assert!(acme.dial_failed().await.contains("itself"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_address_is_dialled_only_when_a_person_configured_it() {
    let public = P2pConfig { allow_private_addresses: false, ..config(TCP) };
    let mut acme = Node::start_as(public, Arc::new(judge)).await;
    let globex = Node::start(TCP).await;
    acme.dial(&globex);
    assert!(acme.dial_failed().await.contains("no addresses"));
    let (peer, addresses) = (globex.id(), globex.addresses.clone());
    acme.ask(Command::AddBootstrap { peer, addresses });
    acme.dial(&globex);
    acme.up().await;
}

/// A peer that speaks the lanes' protocols and then whatever it likes.
struct RawPeer {
    swarm: Swarm<Behaviour>,
}

impl RawPeer {
    fn new() -> Self {
        let key = TransportSeed::from_bytes(rand_seed()).keypair().expect("a key");
        Self {
            swarm: build_swarm(key, AddressFilter::PrivateToo, &Relaying::default(), false)
                .expect("transports"),
        }
    }

    async fn lanes_to(&mut self, node: &Node) -> Box<Pair> {
        let address = node.addresses[0].clone().with_p2p(node.id()).expect("no other peer id");
        self.swarm.dial(address).expect("the dial begins");
        loop {
            match within(self.swarm.select_next_some()).await {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                    self.swarm.behaviour_mut().lanes.open(peer_id, connection_id);
                }
                SwarmEvent::Behaviour(BehaviourEvent::Lanes(LanesEvent {
                    what: Happened::Opened { pair, .. },
                    ..
                })) => return pair,
                _ => {}
            }
        }
    }

    async fn run(mut self) {
        loop {
            self.swarm.select_next_some().await;
        }
    }
}

async fn check_no_frame(bytes: &[u8], reason: &str) {
    let mut acme = Node::start(QUIC).await;
    let mut mallory = RawPeer::new();
    let mut pair = mallory.lanes_to(&acme).await;
    pair.bulk.write_all(bytes).await.expect("acme reads");
    pair.bulk.flush().await.expect("acme reads");
    let mut runs = JoinSet::new();
    runs.spawn(mallory.run());
    assert_eq!(acme.down().await, format!("the peer broke the bulk lane: {reason}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_over_the_limit_ends_the_link() {
    check_no_frame(&[0, 1, 0, 1], "a frame of 65537 bytes is over the limit of 65536").await;
    check_no_frame(&[255; 9], "a frame of 4294967295 bytes is over the limit of 65536").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_longer_than_its_frame_ends_the_link() {
    let why = "a header of 2 bytes does not fit into a frame of 3 bytes";
    check_no_frame(&[0, 0, 0, 3, 0, 2, 9], why).await;
}

async fn network() -> [Node; 3] {
    let strict: Arc<Validate> = Arc::new(judge);
    let acme = Node::start_with(QUIC, P2pLimits::default(), Arc::new(believe)).await;
    let globex = Node::start_with(QUIC, P2pLimits::default(), Arc::clone(&strict)).await;
    let initech = Node::start_with(QUIC, P2pLimits::default(), strict).await;
    for node in [&acme, &globex] {
        let (peer, addresses) = (initech.id(), initech.addresses.clone());
        node.ask(Command::AddBootstrap { peer, addresses });
        node.ask(Command::Bootstrap);
    }
    [acme, globex, initech]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_found_through_a_third_node() {
    let [mut acme, mut globex, initech] = network().await;
    assert!(acme.publish(b"acme", b"ok:1").await);
    assert_eq!(globex.look_up(b"acme").await, [b"ok:1"]);
    assert_eq!(globex.look_up(b"nobody").await, Vec::<Vec<u8>>::new());
    drop(initech);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_record_stays_and_a_forged_one_never_enters() {
    let [mut mallory, mut globex, mut initech] = network().await;
    assert!(mallory.publish(b"acme", b"ok:1").await);
    assert!(globex.publish(b"acme", b"ok:2").await);
    assert!(initech.look_up(b"acme").await.contains(&b"ok:2".to_vec()));
    // Both are acknowledged, which is why an acknowledgement is no proof.
    assert!(mallory.publish(b"acme", b"ok:1").await);
    assert!(mallory.publish(b"forged", b"no").await);
    assert!(initech.look_up(b"acme").await.contains(&b"ok:2".to_vec()));
    assert_eq!(initech.look_up(b"forged").await, Vec::<Vec<u8>>::new());
    // Mallory itself serves the forgery to whoever asks; it is refused on reading too.
    assert_eq!(globex.look_up(b"forged").await, Vec::<Vec<u8>>::new());
    assert!(!globex.publish(b"forged", b"no").await, "an honest node does not publish it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_without_a_network_finds_nothing_and_ends() {
    let mut acme = Node::start(QUIC).await;
    assert_eq!(acme.look_up(b"acme").await, Vec::<Vec<u8>>::new());
    assert!(!acme.publish(b"acme", b"ok:1").await, "nobody else has it");
    assert_eq!(acme.look_up(b"acme").await, [b"ok:1"], "but it is kept");
}

#[tokio::test]
async fn a_node_that_cannot_listen_does_not_start() {
    let mut tasks = JoinSet::new();
    let config = config("/dns4/acme.example/tcp/1");
    let refused = start(&config, &mut tasks, Arc::new(judge));
    assert!(matches!(refused, Err(StartError::Listen { .. })));
    assert!(tasks.is_empty());
    assert_eq!(format!("{:?}", config.transport_seed), "TransportSeed(..)");
}
