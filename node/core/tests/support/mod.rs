//! Two real cores on memory stores, carried by hand, and devices that are nothing but keys. Tests
//! nothing.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidings_core::{
    Core,
    effect::{AdminReply, Effect, Observed},
    event::{AdminCommand, AdminToken, ConnId, Event, LinkId, PeerInput},
    ingress::{Opener, Read, read_client_frame, read_peer_frame},
    schema::SCHEMA,
    settings::Settings,
};
use tidings_protocol::{
    address::UserName,
    client_frame::{
        ClientFrame, InviteSecret, Join, NodeFrame, Noted, PublishList, Received, ReceivedItem,
        Submit,
    },
    codec,
    descriptor::{Delegation, Transport},
    device_list::{Device, DeviceList, list_hash},
    domain::Domain,
    envelope::{Class, EnvelopeHead, Header, Recipient, Target, shared_hash},
    frame::Frame,
    hello::{Challenge, ClientHello, Mark, Welcome, client_transcript},
    id::{BootId, CopyId, DeviceId, Eid, NodeId, Nonce, SubmitId, timed_id},
    key::{Purpose, SecretKey, Signature, X25519Key},
    limits,
    sealed::SealingSecret,
    signed::Signed,
    statement::{Claim, Proof, Reason, Signer, Stance, Statement},
};
use tidings_store::{Counters, MemDisk, MemStore, Opening, Store};

pub(crate) const NOW_MS: u64 = 1_790_000_000_000;

pub(crate) struct Node {
    pub(crate) core: Core,
    pub(crate) store: MemStore,
    pub(crate) id: NodeId,
    pub(crate) opener: Opener,
    pub(crate) now_ms: u64,
    pub(crate) to_clients: BTreeMap<ConnId, VecDeque<(NodeFrame, Bytes)>>,
    pub(crate) to_peer: VecDeque<Frame>,
    /// The same with the link, for tests with several.
    pub(crate) to_links: Vec<(LinkId, Frame)>,
    /// The links of `to_peer`, in its order.
    pub(crate) on_link: VecDeque<LinkId>,
    pub(crate) dials: Vec<NodeId>,
    pub(crate) lookups: Vec<NodeId>,
    pub(crate) closed: Vec<LinkId>,
    pub(crate) replies: Vec<AdminReply>,
    pub(crate) published_serial: u64,
    pub(crate) own_id_seen: usize,
    pub(crate) bars: Vec<(Bytes, bool)>,
    pub(crate) met: Vec<Transport>,
    /// Envelopes that were taken, as destination or as custodian.
    pub(crate) taken: usize,
    /// Domains that the DNS was asked for.
    pub(crate) resolves: Vec<Domain>,
    pub(crate) names_changed: usize,
}

/// A node's id and settings, from a seed.
pub(crate) fn identity(seed: u8) -> (NodeId, Settings) {
    identity_with(seed, Vec::new())
}

/// The same, with domains.
pub(crate) fn identity_claiming(seed: u8, domains: &[&str]) -> (NodeId, Settings) {
    let (id, mut settings) = identity(seed);
    let claim = Delegation {
        domains: domains.iter().map(ToString::to_string).collect(),
        ..settings.delegation.peek().unwrap()
    };
    settings.delegation = Signed::new(&claim, &SecretKey::from_seed(&[seed; 32]));
    (id, settings)
}

/// The same, with custodians.
pub(crate) fn identity_with(seed: u8, custodians: Vec<NodeId>) -> (NodeId, Settings) {
    identity_again(seed, custodians, 1, seed + 2)
}

/// The same, by a later delegation, perhaps with another sealing key.
pub(crate) fn identity_again(
    seed: u8,
    custodians: Vec<NodeId>,
    serial: u64,
    sealing: u8,
) -> (NodeId, Settings) {
    let root = SecretKey::from_seed(&[seed; 32]);
    let operational = SecretKey::from_seed(&[seed + 1; 32]);
    let sealing = SealingSecret::from_bytes(&[sealing; 32]);
    let id = NodeId::of(&root.public());
    let delegation = Delegation {
        node: id,
        serial,
        operational: operational.public(),
        sealing: sealing.public(),
        custodians,
        domains: Vec::new(),
        not_after_ms: NOW_MS * 2,
    };
    (id, Settings::new(operational, sealing, Signed::new(&delegation, &root)))
}

impl Node {
    pub(crate) fn open(seed: u8, disk: &MemDisk, boot: u8) -> Self {
        Self::open_at(seed, disk, boot, NOW_MS)
    }

    pub(crate) fn open_at(seed: u8, disk: &MemDisk, boot: u8, now_ms: u64) -> Self {
        Self::open_as(seed, identity(seed), disk, boot, now_ms)
    }

    pub(crate) fn open_as(
        seed: u8,
        (id, settings): (NodeId, Settings),
        disk: &MemDisk,
        boot: u8,
        now_ms: u64,
    ) -> Self {
        let opening =
            Opening { boot: tidings_store::BootId([boot; 16]), incarnation: u64::from(seed) };
        let mut store = MemStore::open(disk, SCHEMA, opening).unwrap();
        let lineage = store.lineage().clone();
        let mut core = None;
        store
            .batch(&mut |txn| {
                let mut opened =
                    Core::open(settings.clone(), &lineage, [boot; 32], now_ms, txn).unwrap();
                opened.finish(now_ms, txn)?;
                core = Some(opened);
                Ok(())
            })
            .unwrap();
        let opener = Opener { node: id, secret: settings.sealing.clone() };
        let (to_clients, to_peer, on_link) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        let (dials, lookups, closed, replies) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (core, own_id_seen, published_serial) = (core.unwrap(), 0, 0);
        let mut node = Self {
            core,
            store,
            id,
            opener,
            now_ms,
            to_clients,
            to_peer,
            to_links: Vec::new(),
            bars: Vec::new(),
            met: Vec::new(),
            taken: 0,
            on_link,
            dials,
            lookups,
            closed,
            replies,
            own_id_seen,
            published_serial,
            resolves: Vec::new(),
            names_changed: 0,
        };
        let peer_id = Bytes::from(vec![seed; 34]);
        node.give([Event::Listening { peer_id, multiaddrs: vec![format!("/memory/{seed}")] }]);
        node
    }

    pub(crate) fn give(&mut self, events: impl IntoIterator<Item = Event>) {
        let events: Vec<Event> = events.into_iter().collect();
        let (core, now_ms) = (&mut self.core, self.now_ms);
        self.store
            .batch(&mut |txn| {
                for event in events.clone() {
                    core.handle(event, now_ms, txn)?;
                }
                core.finish(now_ms, txn)
            })
            .unwrap();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::ToClient { conn, frame, body } => {
                    self.to_clients.entry(conn).or_default().push_back((frame, body));
                }
                Effect::ToPeer { link, frame, body } => {
                    let header = codec::encode(&frame).into();
                    // Who takes frames without their links leaves these behind.
                    if self.on_link.len() > self.to_peer.len() {
                        self.on_link.clear();
                    }
                    self.on_link.push_back(link);
                    let frame = Frame { header, body };
                    self.to_links.push((link, frame.clone()));
                    self.to_peer.push_back(frame);
                }
                Effect::Dial { node, .. } => self.dials.push(node),
                Effect::Lookup { node } => self.lookups.push(node),
                Effect::ClosePeer { link } => self.closed.push(link),
                Effect::AdminReply { reply, .. } => self.replies.push(reply),
                Effect::Observed(Observed::OwnIdElsewhere) => self.own_id_seen += 1,
                Effect::Resolve { domain } => self.resolves.push(domain),
                Effect::Observed(Observed::NameChanged) => self.names_changed += 1,
                Effect::Publish { descriptor } => {
                    self.published_serial = descriptor.addresses.peek().unwrap().serial;
                }
                Effect::Bar { transport, is_barred } => self.bars.push((transport, is_barred)),
                Effect::Pin { .. } => {}
                Effect::Meet { transport } => self.met.push(transport),
                Effect::Observed(Observed::Stored | Observed::Held) => self.taken += 1,
                Effect::CloseClient { .. } | Effect::Observed(_) | Effect::Step(_) => {}
            }
        }
    }

    /// Time goes on, by as many ticks as the core asks for. The peer keeps its link alive with a frame
    /// that means nothing.
    pub(crate) fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            let deadline_ms = self.core.next_deadline().unwrap_or(until_ms);
            self.now_ms = deadline_ms.clamp(self.now_ms + 1, until_ms);
            let input = PeerInput::AuditAnswer { waiting: Vec::new(), unknown: Vec::new() };
            self.give([Event::Peer { link: LinkId(1), input }, Event::Tick]);
        }
    }

    pub(crate) fn send(&mut self, conn: ConnId, frame: &ClientFrame, body: Bytes) {
        let frame = Frame { header: codec::encode(frame).into(), body };
        match read_client_frame(&frame) {
            Read::Input(input) => self.give([Event::Client { conn, input }]),
            other => panic!("the frame was not taken: {other:?}"),
        }
    }

    pub(crate) fn next(&mut self, conn: ConnId) -> (NodeFrame, Bytes) {
        self.to_clients.get_mut(&conn).and_then(VecDeque::pop_front).expect("a frame")
    }
}

/// Carries frames both ways until none is left.
pub(crate) fn settle(one: &mut Node, other: &mut Node) {
    let link = LinkId(1);
    loop {
        let events = |frames: &mut VecDeque<Frame>, opener: &Opener| -> Vec<Event> {
            frames
                .drain(..)
                .map(|frame| match read_peer_frame(&frame, NOW_MS, opener) {
                    Read::Input(input) => Event::Peer { link, input },
                    other => panic!("the frame was not taken: {other:?}"),
                })
                .collect()
        };
        let to_other = events(&mut one.to_peer, &other.opener);
        let to_one = events(&mut other.to_peer, &one.opener);
        if to_other.is_empty() && to_one.is_empty() {
            return;
        }
        other.give(to_other);
        one.give(to_one);
    }
}

pub(crate) fn connect(one: &mut Node, one_seed: u8, other: &mut Node, other_seed: u8) {
    let transport = |seed: u8| Bytes::from(vec![seed; 34]);
    let link = LinkId(1);
    one.give([Event::PeerConnected { link, transport: transport(other_seed), dialer: true }]);
    other.give([Event::PeerConnected { link, transport: transport(one_seed), dialer: false }]);
    settle(one, other);
}

pub(crate) struct Phone {
    pub(crate) key: SecretKey,
    pub(crate) conn: ConnId,
    pub(crate) list: Signed<DeviceList>,
}

impl Phone {
    pub(crate) fn join(node: &mut Node, name: &str, seed: u8) -> Self {
        let account = SecretKey::from_seed(&[seed; 32]);
        let key = SecretKey::from_seed(&[seed + 1; 32]);
        let device = Device {
            key: key.public(),
            identity: X25519Key([seed; 32]),
            added_ms: NOW_MS,
            label: "phone".into(),
        };
        let list = DeviceList {
            identity: account.public(),
            node: node.id,
            name: UserName::parse(name).unwrap(),
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: NOW_MS,
            signer: None,
        };
        let list = Signed::new(&list, &account);
        let secret = InviteSecret([seed; 16]);
        let command = AdminCommand::Invite { secret, uses: 1, life_ms: 60_000 };
        node.give([Event::Admin { token: AdminToken(0), command }]);
        let conn = ConnId(u64::from(seed));
        node.give([Event::ClientConnected { conn }]);
        let (NodeFrame::Challenge(challenge), _) = node.next(conn) else { panic!("no challenge") };
        let proof = key.sign(Purpose::Join, challenge.nonce.as_bytes());
        let join = Join { request: 1, invite: secret, list: list.clone(), proof };
        node.send(conn, &ClientFrame::Join(join), Bytes::new());
        assert!(matches!(node.next(conn).0, NodeFrame::Joined(_)));
        let phone = Self { key, conn, list };
        assert_eq!(phone.hello(node, &challenge).yours, None);
        phone
    }

    /// Greets again, on another connection.
    pub(crate) fn again(self, node: &mut Node, conn: ConnId) -> (Self, Welcome) {
        node.give([Event::ClientConnected { conn }]);
        let (NodeFrame::Challenge(challenge), _) = node.next(conn) else { panic!("no challenge") };
        let phone = Self { conn, ..self };
        let welcome = phone.hello(node, &challenge);
        (phone, welcome)
    }

    pub(crate) fn hello(&self, node: &mut Node, challenge: &Challenge) -> Welcome {
        let (NodeFrame::Welcome(welcome), _) = self.answer_to_hello(node, challenge) else {
            panic!("no welcome")
        };
        welcome
    }

    pub(crate) fn answer_to_hello(
        &self,
        node: &mut Node,
        challenge: &Challenge,
    ) -> (NodeFrame, Bytes) {
        let mut hello = ClientHello {
            version: limits::PROTOCOL_VERSION,
            node: node.id,
            device: DeviceId::of(&self.key.public()),
            nonce: Nonce([9; 32]),
            yours: None,
            mine: mark(1),
            signature: Signature([0; 64]),
        };
        let transcript = client_transcript(challenge, &hello);
        hello.signature = self.key.sign(Purpose::ClientHello, transcript.as_bytes());
        node.send(self.conn, &ClientFrame::Hello(hello), Bytes::new());
        node.next(self.conn)
    }

    /// The account's next list, with these devices; answered.
    pub(crate) fn publish(
        &mut self,
        node: &mut Node,
        account: &SecretKey,
        keys: &[&SecretKey],
    ) -> NodeFrame {
        let before = self.list.peek().unwrap();
        let list = DeviceList {
            version: before.version + 1,
            previous: Some(list_hash(&self.list)),
            devices: keys.iter().map(|key| listed(key)).collect(),
            ..before
        };
        self.list = Signed::new(&list, account);
        let frame = PublishList { request: 7, list: self.list.clone() };
        node.send(self.conn, &ClientFrame::PublishList(frame), Bytes::new());
        node.next(self.conn).0
    }

    pub(crate) fn envelope(&self, from: NodeId, to: NodeId, number: u64) -> EnvelopeHead {
        let header = Header {
            version: limits::PROTOCOL_VERSION,
            origin: from,
            destination: to,
            created_ms: NOW_MS,
            expires_ms: NOW_MS + limits::MESSAGE_LIFE_MS_MAX,
            class: Class::Message,
        };
        let target = Target {
            to: Recipient::Device(DeviceId::of(&self.key.public())),
            auth: None,
            list_version: 0,
            list_hash: list_hash(&self.list),
            part: Bytes::from(number.to_be_bytes().to_vec()),
        };
        EnvelopeHead { header, targets: vec![target] }
    }

    pub(crate) fn submit(&self, from: &mut Node, head: EnvelopeHead, number: u64) {
        from.send(self.conn, &submission(head, number), Bytes::from_static(b"sealed"));
    }

    /// Takes everything that was delivered and acknowledges it in one frame.
    pub(crate) fn receive(&self, node: &mut Node) -> usize {
        self.receive_numbers(node).len()
    }

    /// The same; the numbers of the envelopes.
    pub(crate) fn receive_numbers(&self, node: &mut Node) -> Vec<u64> {
        let mut numbers = Vec::new();
        let (mut items, mut statements) = (Vec::new(), Vec::new());
        while let Some((frame, body)) =
            node.to_clients.get_mut(&self.conn).and_then(VecDeque::pop_front)
        {
            let NodeFrame::Deliver(deliver) = frame else { continue };
            let number = deliver.target.part.as_ref().try_into().map(u64::from_be_bytes);
            numbers.push(number.expect("a number"));
            let copy = deliver.target.copy_id(&deliver.header.hash(), &shared_hash(&body));
            items.push(ReceivedItem { inbox: deliver.inbox, copy });
            statements.push(Statement {
                claim: Claim::Delivered,
                eid: deliver.eid,
                copy: Some(copy),
                at_ms: NOW_MS,
                reason: None,
                until_ms: None,
            });
        }
        let signer = Signer { key: self.key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 1, boot: BootId([1; 16]) };
        if let Some(proof) = Proof::sign(&statements, &stance, &[7; 32], &self.key) {
            let frame = ClientFrame::Received(Received { items, proof, mine: mark(1_000) });
            node.send(self.conn, &frame, Bytes::new());
        }
        numbers
    }

    /// Takes and acknowledges every note; returns the claims.
    pub(crate) fn notes(&self, node: &mut Node) -> Vec<Claim> {
        let mut claims = Vec::new();
        while let Some((frame, _)) =
            node.to_clients.get_mut(&self.conn).and_then(VecDeque::pop_front)
        {
            let NodeFrame::Notes(notes) = frame else { continue };
            for proof in &notes.proofs {
                claims.extend(proof.check().unwrap().statements.iter().map(|(s, _)| s.claim));
            }
            let noted = ClientFrame::Noted(Noted { notes: notes.notes, mine: mark(1_000) });
            node.send(self.conn, &noted, Bytes::new());
        }
        claims
    }
}

pub(crate) fn submission(head: EnvelopeHead, number: u64) -> ClientFrame {
    let [.., a, b] = number.to_be_bytes();
    let submit = SubmitId(timed_id(NOW_MS, [a, b, 0, 0, 0, 0, 0, 0, 0, 0]));
    ClientFrame::Submit(Submit { submit, heads: vec![head], mine: mark(number) })
}

pub(crate) fn mark(commit: u64) -> Mark {
    Mark { boot: BootId([3; 16]), commit }
}

pub(crate) struct Pair {
    pub(crate) acme: Node,
    pub(crate) globex: Node,
    pub(crate) globex_disk: MemDisk,
    pub(crate) alice: Phone,
    pub(crate) bob: Phone,
}

pub(crate) fn pair() -> Pair {
    let globex_disk = MemDisk::new();
    let mut acme = Node::open(10, &MemDisk::new(), 1);
    let mut globex = Node::open(20, &globex_disk, 2);
    let alice = Phone::join(&mut acme, "alice", 30);
    let bob = Phone::join(&mut globex, "bob", 40);
    Pair { acme, globex, globex_disk, alice, bob }
}

pub(crate) fn pending(node: &Node) -> Counters {
    node.store.counters()
}

pub(crate) fn listed(key: &SecretKey) -> Device {
    Device {
        key: key.public(),
        identity: X25519Key([1; 32]),
        added_ms: NOW_MS,
        label: String::new(),
    }
}

/// A statement about a whole envelope, or with `node` absent about a copy that is made up.
pub(crate) fn claim(claim: Claim, eid: Eid, key: &SecretKey, node: Option<NodeId>) -> Proof {
    let copy = claim.is_by_device().then_some(CopyId([4; 32]));
    let reason = (claim == Claim::Failed).then_some(Reason::Policy);
    let statement = Statement { claim, eid, copy, at_ms: NOW_MS, reason, until_ms: None };
    let signer = Signer { key: key.public(), node, version: 1 };
    let stance = Stance { signer, incarnation: 1, boot: BootId([1; 16]) };
    Proof::sign(&[statement], &stance, &[7; 32], key).expect("one statement")
}
