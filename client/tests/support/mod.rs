//! Devices of `ClientCore` around nodes that only do what the protocol asks of a node: they keep
//! everything in memory, answer at once, and can be told to withhold, forget or lie.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a failure here is a failed test"
)]

mod nodes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidings_client::{
    ClientCore, ClientEffect, ClientEvent, Identity, Opening, SCHEMA,
    crypto::Sealer,
    event::{
        CloseWhy, MessageRef, NameError, Peer, SendText, Settings, ShownMessage, Status, StopWhy,
        Warning,
    },
};
use tidings_protocol::{
    address::UserName,
    bundle::{Bundle, OneTimePrekey},
    client_frame::{
        Accepted, Bundles, ClientFrame, Deliver, Done, InviteSecret, Joined, NewerLists, NodeFrame,
        Notes, Refusable, Refused, ShowLists, Submit,
    },
    descriptor::{Addresses, Delegation, Descriptor, NodeState},
    device_list::{CheckedList, DeviceList},
    envelope::shared_hash,
    hello::{Challenge, ClientHello, Mark, Welcome, node_transcript},
    id::{BootId, DeviceId, Eid, NodeId, Nonce, SubmitId},
    key::{Purpose, SecretKey, Signature, X25519Key},
    limits::{ADDRESSES_LIFE_MS_MAX, PROTOCOL_VERSION},
    refusal::RefusalCode,
    signed::Signed,
    statement::{Claim, Proof, Reason, Signer, Stance, Statement},
};
use tidings_store::{MemDisk, MemStore, Opening as StoreOpening, Store as _};

pub(crate) const START_MS: u64 = 1_800_000_000_000;
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) trait TestSealer: Sealer + Sized {
    fn seeded(seed: [u8; 32]) -> Self;
}

impl TestSealer for tidings_client::crypto::StubSealer {
    fn seeded(seed: [u8; 32]) -> Self {
        Self::from_seed(seed)
    }
}

impl TestSealer for tidings_client::crypto::PqSealer {
    fn seeded(seed: [u8; 32]) -> Self {
        Self::from_seed(seed)
    }
}

pub(crate) struct FakeNode {
    pub(crate) id: NodeId,
    root: SecretKey,
    op: SecretKey,
    pub(crate) incarnation: u64,
    boot: BootId,
    commit: u64,
    pub(crate) users: BTreeMap<String, Vec<Signed<DeviceList>>>,
    bundles: BTreeMap<DeviceId, Bundle>,
    one_time: BTreeMap<DeviceId, Vec<OneTimePrekey>>,
    marks: BTreeMap<DeviceId, Mark>,
    pub(crate) inbox: BTreeMap<DeviceId, BTreeMap<u64, (Deliver, Bytes)>>,
    notes: BTreeMap<DeviceId, BTreeMap<u64, Proof>>,
    submits: BTreeMap<SubmitId, Vec<Eid>>,
    next: u64,
    /// Refuse submissions with this code.
    pub(crate) refuse: Option<RefusalCode>,
    /// Do not push what arrives.
    pub(crate) hold_inbox: bool,
    pub(crate) hold_notes: bool,
    /// Tell other devices of an account that it has a newer list, before they ask.
    pub(crate) tells_of_lists: bool,
    /// Be one that knows no `ShowLists`: it passes over it.
    pub(crate) skips_lists: bool,
    /// Say in acceptances that another store made them.
    pub(crate) wrong_incarnation: bool,
    pub(crate) accepted: usize,
}

pub(crate) struct Device<S: Sealer> {
    pub(crate) peer: Peer,
    pub(crate) disk: MemDisk,
    pub(crate) store: MemStore,
    pub(crate) core: ClientCore<S>,
    pub(crate) online: bool,
    challenge: Option<Challenge>,
    hello: Option<ClientHello>,
    to_node: VecDeque<(ClientFrame, Bytes)>,
    events: VecDeque<ClientEvent>,
    pub(crate) shown: Vec<ShownMessage>,
    pub(crate) statuses: BTreeMap<MessageRef, BTreeMap<Option<DeviceId>, Status>>,
    pub(crate) composed: Vec<MessageRef>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) read_elsewhere: Vec<MessageRef>,
    pub(crate) stopped: Option<StopWhy>,
    pub(crate) closed: Vec<CloseWhy>,
    pub(crate) sent: Vec<ClientFrame>,
    pub(crate) resolved: Vec<(u64, Result<NodeId, NameError>)>,
}

pub(crate) struct World<S: Sealer> {
    pub(crate) now_ms: u64,
    /// How far the nodes' clocks are ahead of those of the devices.
    pub(crate) nodes_ahead_ms: u64,
    seed: u8,
    pub(crate) nodes: BTreeMap<NodeId, FakeNode>,
    pub(crate) devices: Vec<Device<S>>,
    origins: BTreeMap<Eid, (NodeId, BTreeSet<DeviceId>)>,
}

fn delegation(node: &FakeNode) -> Signed<Delegation> {
    let value = Delegation {
        node: node.id,
        serial: 1,
        operational: node.op.public(),
        sealing: X25519Key([1; 32]),
        custodians: Vec::new(),
        domains: Vec::new(),
        not_after_ms: START_MS + 1_000 * DAY_MS,
    };
    Signed::new(&value, &node.root)
}

impl FakeNode {
    fn new(seed: u8) -> Self {
        let root = SecretKey::from_seed(&[seed; 32]);
        Self {
            id: NodeId::of(&root.public()),
            op: SecretKey::from_seed(&[seed ^ 0x80; 32]),
            root,
            incarnation: u64::from(seed),
            boot: BootId([seed; 16]),
            commit: 1,
            users: BTreeMap::new(),
            bundles: BTreeMap::new(),
            one_time: BTreeMap::new(),
            marks: BTreeMap::new(),
            inbox: BTreeMap::new(),
            notes: BTreeMap::new(),
            submits: BTreeMap::new(),
            next: 1,
            refuse: None,
            hold_inbox: false,
            hold_notes: false,
            tells_of_lists: false,
            skips_lists: false,
            wrong_incarnation: false,
            accepted: 0,
        }
    }

    fn mark(&mut self) -> Mark {
        self.commit += 1;
        Mark { boot: self.boot, commit: self.commit }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn sign(&self, statements: &[Statement]) -> Proof {
        self.sign_for(self.id, statements)
    }

    /// Signs with the own key in the name of a node.
    pub(crate) fn sign_for(&self, node: NodeId, statements: &[Statement]) -> Proof {
        let key = self.op.public();
        let signer = Signer { key, node: Some(node), version: 1 };
        let incarnation = self.incarnation + u64::from(self.wrong_incarnation);
        let stance = Stance { signer, incarnation, boot: self.boot };
        Proof::sign(statements, &stance, &[7; 32], &self.op).unwrap()
    }

    fn lists_of(&self, device: &DeviceId) -> Option<&Vec<Signed<DeviceList>>> {
        self.users.values().find(|lists| {
            let list = CheckedList::first_seen(lists.last().unwrap()).unwrap();
            list.device(device).is_some()
        })
    }

    pub(crate) fn devices_of(&self, name: &str) -> BTreeSet<DeviceId> {
        let list = self.users.get(name).and_then(|lists| lists.last());
        let list = list.map(|list| CheckedList::first_seen(list).unwrap());
        list.into_iter().flat_map(|l| l.list.devices).map(|d| d.id()).collect()
    }

    fn account_devices(&self, device: &DeviceId) -> BTreeSet<DeviceId> {
        let lists = self.lists_of(device).unwrap();
        let list = CheckedList::first_seen(lists.last().unwrap()).unwrap();
        list.list.devices.iter().map(tidings_protocol::device_list::Device::id).collect()
    }

    /// The store of this node falls back to before everything that it accepted.
    pub(crate) fn roll_back(&mut self) {
        self.incarnation += 100;
        self.boot = BootId([self.boot.0[0] + 1; 16]);
        self.submits.clear();
        self.inbox.clear();
        self.one_time.clear();
    }
}

fn statement(claim: Claim, eid: Eid, at_ms: u64, reason: Option<Reason>) -> Statement {
    Statement { claim, eid, copy: None, at_ms, reason, until_ms: None }
}

impl<S: TestSealer> World<S> {
    pub(crate) fn new() -> Self {
        let nodes = [1, 2].map(FakeNode::new).into_iter().map(|node| (node.id, node)).collect();
        let (devices, origins) = (Vec::new(), BTreeMap::new());
        Self { now_ms: START_MS, nodes_ahead_ms: 0, seed: 0, nodes, devices, origins }
    }

    pub(crate) fn node(&self, seed: u8) -> NodeId {
        NodeId::of(&SecretKey::from_seed(&[seed; 32]).public())
    }

    pub(crate) fn fresh(&mut self) -> [u8; 32] {
        self.seed += 1;
        [self.seed; 32]
    }

    fn settings(peer: &Peer) -> Settings {
        Settings {
            node: peer.node,
            name: peer.name.clone(),
            read_receipts: true,
            message_life_ms: 30 * DAY_MS,
        }
    }

    fn opening(&mut self, peer: &Peer) -> Opening {
        let seed = self.fresh();
        Opening { settings: Self::settings(peer), store_key: [9; 32], seed }
    }

    fn open_store(&mut self, disk: &MemDisk) -> MemStore {
        let [boot, ..] = self.fresh();
        let boot = tidings_store::BootId([boot; 16]);
        MemStore::open(disk, SCHEMA, StoreOpening { boot, incarnation: 5 }).unwrap()
    }

    pub(crate) fn add(&mut self, peer: &Peer, identity: &Identity) -> usize {
        let disk = MemDisk::new();
        let mut store = self.open_store(&disk);
        let opening = self.opening(peer);
        let sealer = S::seeded(self.fresh());
        let lineage = store.lineage().clone();
        let now_ms = self.now_ms;
        let mut sealer = Some(sealer);
        let mut core = None;
        store
            .batch(&mut |txn| {
                let sealer = sealer.take().unwrap();
                core = Some(
                    ClientCore::create(txn, &lineage, sealer, &opening, identity, now_ms).unwrap(),
                );
                Ok(())
            })
            .unwrap();
        self.devices.push(Device {
            peer: peer.clone(),
            disk,
            store,
            core: core.unwrap(),
            online: false,
            challenge: None,
            hello: None,
            to_node: VecDeque::new(),
            events: VecDeque::new(),
            shown: Vec::new(),
            statuses: BTreeMap::new(),
            composed: Vec::new(),
            warnings: Vec::new(),
            read_elsewhere: Vec::new(),
            stopped: None,
            closed: Vec::new(),
            sent: Vec::new(),
            resolved: Vec::new(),
        });
        self.devices.len() - 1
    }

    /// A new account that joins.
    pub(crate) fn join(&mut self, name: &str, node: u8) -> usize {
        let peer = Peer { node: self.node(node), name: UserName::parse(name).unwrap() };
        let identity = self.identity(&peer);
        let index = self.add(&peer, &identity);
        self.event(index, ClientEvent::Join { invite: InviteSecret([1; 16]) });
        self.connect(index);
        self.run();
        index
    }

    pub(crate) fn identity(&mut self, peer: &Peer) -> Identity {
        use rand_core::SeedableRng as _;
        let mut rng = rand_chacha::ChaCha20Rng::from_seed(self.fresh());
        Identity::new_account(&mut rng, &Self::settings(peer), "first", self.now_ms)
    }

    /// A second device of the account of `first`.
    pub(crate) fn link(&mut self, first: usize) -> usize {
        let now_ms = self.now_ms;
        let device = &mut self.devices[first];
        let mut identity = None;
        let core = &mut device.core;
        device
            .store
            .batch(&mut |txn| {
                identity = core.link_device(txn, "second", now_ms)?;
                core.finish(txn)
            })
            .unwrap();
        let peer = device.peer.clone();
        self.drain(first);
        self.run();
        let index = self.add(&peer, &identity.unwrap());
        self.connect(index);
        self.run();
        index
    }

    /// The device's process ends and starts again on the same disk.
    pub(crate) fn restart(&mut self, index: usize) {
        let device = &mut self.devices[index];
        device.online = false;
        device.hello = None;
        device.to_node.clear();
        let disk = device.disk.clone();
        let mut store = self.open_store(&disk);
        let peer = self.devices[index].peer.clone();
        let opening = self.opening(&peer);
        let mut sealer = Some(S::seeded(self.fresh()));
        let lineage = store.lineage().clone();
        let now_ms = self.now_ms;
        let mut core = None;
        store
            .batch(&mut |txn| {
                let sealer = sealer.take().unwrap();
                core = Some(ClientCore::open(txn, &lineage, sealer, &opening, now_ms).unwrap());
                Ok(())
            })
            .unwrap();
        let device = &mut self.devices[index];
        device.store = store;
        device.core = core.unwrap();
        device.events.clear();
    }

    pub(crate) fn connect(&mut self, index: usize) {
        let device = &mut self.devices[index];
        device.online = true;
        let node = self.nodes.get(&device.peer.node).unwrap().id;
        let challenge = Challenge { version: PROTOCOL_VERSION, node, nonce: Nonce([3; 32]) };
        device.challenge = Some(challenge.clone());
        device.hello = None;
        device.to_node.clear();
        self.event(index, ClientEvent::Connected);
        self.frame(index, NodeFrame::Challenge(challenge), Bytes::new());
    }

    pub(crate) fn disconnect(&mut self, index: usize) {
        let device = &mut self.devices[index];
        device.online = false;
        device.to_node.clear();
        device.events.clear();
        device.hello = None;
        self.event(index, ClientEvent::Disconnected);
    }

    pub(crate) fn frame(&mut self, index: usize, frame: NodeFrame, body: Bytes) {
        self.event(index, ClientEvent::Frame { frame, body });
    }

    /// One event in a batch of its own.
    pub(crate) fn event(&mut self, index: usize, event: ClientEvent) {
        self.events(index, vec![event]);
    }

    /// Some events in one batch.
    pub(crate) fn events(&mut self, index: usize, events: Vec<ClientEvent>) {
        let now_ms = self.now_ms;
        let device = &mut self.devices[index];
        let core = &mut device.core;
        device
            .store
            .batch(&mut |txn| {
                for event in &events {
                    core.handle(event.clone(), now_ms, txn)?;
                }
                core.finish(txn)
            })
            .unwrap();
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        let device = &mut self.devices[index];
        while let Some(effect) = device.core.poll_effect() {
            match effect {
                ClientEffect::ToNode { frame, body } => {
                    device.sent.push(frame.clone());
                    if device.online {
                        device.to_node.push_back((frame, body));
                    }
                }
                ClientEffect::Show(shown) => device.shown.push(shown),
                ClientEffect::StatusChanged { message, device: at, status } => {
                    let known = device.statuses.entry(message).or_default();
                    let before = known.insert(at, status);
                    assert!(before.is_none_or(|before| before.rank() < status.rank()));
                }
                ClientEffect::Composed { message, .. } => device.composed.push(message),
                ClientEffect::Warn(warning) => device.warnings.push(warning),
                ClientEffect::ReadElsewhere { messages } => {
                    device.read_elsewhere.extend(messages);
                }
                ClientEffect::Stopped(why) => device.stopped = Some(why),
                ClientEffect::CloseLink(why) => {
                    device.closed.push(why);
                    device.online = false;
                    device.to_node.clear();
                }
                ClientEffect::Resolved { token, found } => device.resolved.push((token, found)),
                ClientEffect::Linked | ClientEffect::Joined => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, text: &str) -> MessageRef {
        let to = self.devices[to].peer.clone();
        self.send_to(from, to, text)
    }

    pub(crate) fn send_to(&mut self, from: usize, to: Peer, text: &str) -> MessageRef {
        let send = SendText { to, text: text.to_owned(), reply_to: None, token: 1 };
        self.event(from, ClientEvent::Send(send));
        self.devices[from].composed.last().unwrap().clone()
    }

    pub(crate) fn display(&mut self, at: usize, messages: Vec<MessageRef>) {
        self.event(at, ClientEvent::Displayed { messages });
    }

    pub(crate) fn texts(&self, index: usize) -> Vec<String> {
        self.devices[index].shown.iter().map(|shown| shown.text.clone()).collect()
    }

    pub(crate) fn status(&self, index: usize, message: &MessageRef) -> Vec<Status> {
        let known = self.devices[index].statuses.get(message);
        known.map(|known| known.values().copied().collect()).unwrap_or_default()
    }

    /// Time passes; timers that fall due run at their time.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            let due = self.devices.iter().filter_map(|d| d.core.next_deadline()).min();
            let Some(at) = due.filter(|at| *at <= end) else { break };
            self.now_ms = self.now_ms.max(at);
            for index in 0..self.devices.len() {
                if self.devices[index].core.next_deadline().is_some_and(|at| at <= self.now_ms) {
                    self.event(index, ClientEvent::Tick);
                    let next = self.devices[index].core.next_deadline();
                    assert!(next.is_none_or(|next| next > self.now_ms), "a timer that never rests");
                }
            }
            self.run();
        }
        self.now_ms = end;
    }

    /// Lets nodes and devices talk until there is nothing more to say.
    pub(crate) fn run(&mut self) {
        for _ in 0..20_000 {
            let mut busy = false;
            for index in 0..self.devices.len() {
                if let Some((frame, body)) = self.devices[index].to_node.pop_front() {
                    busy = true;
                    self.at_node(index, frame, body);
                }
            }
            if !busy && !self.push() {
                return;
            }
        }
        panic!("the world never rests");
    }

    /// Pushes inboxes and notes to devices that have greeted.
    fn push(&mut self) -> bool {
        let mut busy = false;
        for index in 0..self.devices.len() {
            let device = &self.devices[index];
            if device.hello.is_none() || !device.online {
                continue;
            }
            let id = device.hello.as_ref().unwrap().device;
            let home = device.peer.node;
            let foreign: Vec<_> =
                self.nodes.values().filter(|node| node.id != home).map(delegation).collect();
            let node = self.nodes.get_mut(&home).unwrap();
            let mut frames = Vec::new();
            if !node.hold_inbox {
                for (deliver, body) in node.inbox.entry(id).or_default().values() {
                    frames.push((NodeFrame::Deliver(deliver.clone()), body.clone()));
                }
            }
            if !node.hold_notes {
                let notes = node.notes.entry(id).or_default();
                if !notes.is_empty() {
                    let proofs = Proof::merge(notes.values().cloned().collect());
                    let notes = notes.keys().copied().collect();
                    let notes = Notes { notes, proofs, delegations: foreign.clone() };
                    frames.push((NodeFrame::Notes(notes), Bytes::new()));
                }
            }
            if frames.is_empty() {
                continue;
            }
            busy = true;
            let frames = frames.into_iter();
            let events = frames.map(|(frame, body)| ClientEvent::Frame { frame, body }).collect();
            self.events(index, events);
        }
        busy
    }
}
