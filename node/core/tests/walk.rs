//! One message from alice at acme to bob at globex, through two real cores on memory stores, with
//! devices that are nothing but keys. Faults, time and the real clients are the simulator's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "helpers of tests; the rows are printed for whoever asks"
)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidings_core::{
    Core,
    effect::{AdminReply, Effect},
    event::{AdminCommand, AdminToken, ConnId, Event, LinkId, PeerInput},
    ingress::{Read, read_client_frame, read_peer_frame},
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
    descriptor::Delegation,
    device_list::{Device, DeviceList, list_hash},
    envelope::{Class, EnvelopeHead, Header, Recipient, Target, shared_hash},
    frame::Frame,
    hello::{Challenge, ClientHello, Mark, Welcome, client_transcript},
    id::{BootId, DeviceId, NodeId, Nonce, SubmitId, timed_id},
    key::{Purpose, SecretKey, Signature, X25519Key},
    limits,
    peer_frame::PeerFrame,
    signed::Signed,
    statement::{Claim, Proof, Signer, Stance, Statement},
};
use tidings_store::{Counters, MemDisk, MemStore, Opening, Store};

const NOW_MS: u64 = 1_790_000_000_000;

struct Node {
    core: Core,
    store: MemStore,
    id: NodeId,
    now_ms: u64,
    to_clients: BTreeMap<ConnId, VecDeque<(NodeFrame, Bytes)>>,
    to_peer: VecDeque<Frame>,
    dials: Vec<NodeId>,
    closed: Vec<LinkId>,
    replies: Vec<AdminReply>,
}

impl Node {
    fn open(seed: u8, disk: &MemDisk, boot: u8) -> Self {
        let root = SecretKey::from_seed(&[seed; 32]);
        let operational = SecretKey::from_seed(&[seed + 1; 32]);
        let id = NodeId::of(&root.public());
        let delegation = Delegation {
            node: id,
            serial: 1,
            operational: operational.public(),
            sealing: X25519Key([0; 32]),
            custodians: Vec::new(),
            domains: Vec::new(),
            not_after_ms: NOW_MS * 2,
        };
        let settings = Settings::new(operational, Signed::new(&delegation, &root));
        let opening =
            Opening { boot: tidings_store::BootId([boot; 16]), incarnation: u64::from(seed) };
        let mut store = MemStore::open(disk, SCHEMA, opening).unwrap();
        let lineage = store.lineage().clone();
        let mut core = None;
        store
            .batch(&mut |txn| {
                let mut opened =
                    Core::open(settings.clone(), &lineage, [boot; 32], NOW_MS, txn).unwrap();
                opened.finish(NOW_MS, txn)?;
                core = Some(opened);
                Ok(())
            })
            .unwrap();
        let (to_clients, to_peer) = (BTreeMap::new(), VecDeque::new());
        let (dials, closed, replies) = (Vec::new(), Vec::new(), Vec::new());
        let (core, now_ms) = (core.unwrap(), NOW_MS);
        let mut node =
            Self { core, store, id, now_ms, to_clients, to_peer, dials, closed, replies };
        let peer_id = Bytes::from(vec![seed; 34]);
        node.give([Event::Listening { peer_id, multiaddrs: vec![format!("/memory/{seed}")] }]);
        node
    }

    fn give(&mut self, events: impl IntoIterator<Item = Event>) {
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
                Effect::ToPeer { frame, body, .. } => {
                    let header = codec::encode(&frame).into();
                    self.to_peer.push_back(Frame { header, body });
                }
                Effect::Dial { node, .. } | Effect::Lookup { node } => self.dials.push(node),
                Effect::ClosePeer { link } => self.closed.push(link),
                Effect::AdminReply { reply, .. } => self.replies.push(reply),
                Effect::CloseClient { .. } | Effect::Publish { .. } | Effect::Observed(_) => {}
            }
        }
    }

    /// Time goes on, by as many ticks as the core asks for. The peer keeps its link alive with a frame
    /// that means nothing.
    fn wait(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            let deadline_ms = self.core.next_deadline().unwrap_or(until_ms);
            self.now_ms = deadline_ms.clamp(self.now_ms + 1, until_ms);
            let input = PeerInput::AuditAnswer { waiting: Vec::new(), unknown: Vec::new() };
            self.give([Event::Peer { link: LinkId(1), input }, Event::Tick]);
        }
    }

    fn send(&mut self, conn: ConnId, frame: &ClientFrame, body: Bytes) {
        let frame = Frame { header: codec::encode(frame).into(), body };
        match read_client_frame(&frame) {
            Read::Input(input) => self.give([Event::Client { conn, input }]),
            other => panic!("the frame was not taken: {other:?}"),
        }
    }

    fn next(&mut self, conn: ConnId) -> (NodeFrame, Bytes) {
        self.to_clients.get_mut(&conn).and_then(VecDeque::pop_front).expect("a frame")
    }
}

/// Carries frames both ways until none is left.
fn settle(one: &mut Node, other: &mut Node) {
    let link = LinkId(1);
    loop {
        let events = |frames: &mut VecDeque<Frame>| -> Vec<Event> {
            frames
                .drain(..)
                .map(|frame| match read_peer_frame(&frame, NOW_MS) {
                    Read::Input(input) => Event::Peer { link, input },
                    other => panic!("the frame was not taken: {other:?}"),
                })
                .collect()
        };
        let (to_other, to_one) = (events(&mut one.to_peer), events(&mut other.to_peer));
        if to_other.is_empty() && to_one.is_empty() {
            return;
        }
        other.give(to_other);
        one.give(to_one);
    }
}

fn connect(one: &mut Node, one_seed: u8, other: &mut Node, other_seed: u8) {
    let transport = |seed: u8| Bytes::from(vec![seed; 34]);
    let link = LinkId(1);
    one.give([Event::PeerConnected { link, transport: transport(other_seed), dialer: true }]);
    other.give([Event::PeerConnected { link, transport: transport(one_seed), dialer: false }]);
    settle(one, other);
}

struct Phone {
    key: SecretKey,
    conn: ConnId,
    list: Signed<DeviceList>,
}

impl Phone {
    fn join(node: &mut Node, name: &str, seed: u8) -> Self {
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
    fn again(self, node: &mut Node, conn: ConnId) -> (Self, Welcome) {
        node.give([Event::ClientConnected { conn }]);
        let (NodeFrame::Challenge(challenge), _) = node.next(conn) else { panic!("no challenge") };
        let phone = Self { conn, ..self };
        let welcome = phone.hello(node, &challenge);
        (phone, welcome)
    }

    fn hello(&self, node: &mut Node, challenge: &Challenge) -> Welcome {
        let (NodeFrame::Welcome(welcome), _) = self.answer_to_hello(node, challenge) else {
            panic!("no welcome")
        };
        welcome
    }

    fn answer_to_hello(&self, node: &mut Node, challenge: &Challenge) -> (NodeFrame, Bytes) {
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
    fn publish(&mut self, node: &mut Node, account: &SecretKey, keys: &[&SecretKey]) -> NodeFrame {
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

    fn envelope(&self, from: NodeId, to: NodeId, number: u64) -> EnvelopeHead {
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

    fn submit(&self, from: &mut Node, head: EnvelopeHead, number: u64) {
        from.send(self.conn, &submission(head, number), Bytes::from_static(b"sealed"));
    }

    /// Takes everything that was delivered and acknowledges it in one frame.
    fn receive(&self, node: &mut Node) -> usize {
        self.receive_numbers(node).len()
    }

    /// The same; the numbers of the envelopes.
    fn receive_numbers(&self, node: &mut Node) -> Vec<u64> {
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
    fn notes(&self, node: &mut Node) -> Vec<Claim> {
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

fn submission(head: EnvelopeHead, number: u64) -> ClientFrame {
    let [.., a, b] = number.to_be_bytes();
    let submit = SubmitId(timed_id(NOW_MS, [a, b, 0, 0, 0, 0, 0, 0, 0, 0]));
    ClientFrame::Submit(Submit { submit, heads: vec![head], mine: mark(number) })
}

fn mark(commit: u64) -> Mark {
    Mark { boot: BootId([3; 16]), commit }
}

struct Pair {
    acme: Node,
    globex: Node,
    globex_disk: MemDisk,
    alice: Phone,
    bob: Phone,
}

fn pair() -> Pair {
    let globex_disk = MemDisk::new();
    let mut acme = Node::open(10, &MemDisk::new(), 1);
    let mut globex = Node::open(20, &globex_disk, 2);
    let alice = Phone::join(&mut acme, "alice", 30);
    let bob = Phone::join(&mut globex, "bob", 40);
    Pair { acme, globex, globex_disk, alice, bob }
}

fn pending(node: &Node) -> Counters {
    node.store.counters()
}

#[test]
fn a_message_walks_there_and_its_tick_walks_back() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    assert!(matches!(acme.next(alice.conn).0, NodeFrame::Accepted(_)));
    assert_eq!(acme.dials, [globex.id], "an unknown node is looked up");
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    assert_eq!(bob.receive(&mut globex), 0, "nothing is left");
}

#[test]
fn the_same_submission_gets_the_same_answer_and_another_one_a_conflict() {
    let Pair { mut acme, globex, alice, bob, .. } = pair();
    for _ in 0..2 {
        let head = bob.envelope(acme.id, globex.id, 1);
        alice.submit(&mut acme, head, 1);
        assert!(matches!(acme.next(alice.conn).0, NodeFrame::Accepted(_)));
    }
    let head = bob.envelope(acme.id, globex.id, 2);
    alice.submit(&mut acme, head, 1);
    assert!(matches!(acme.next(alice.conn).0, NodeFrame::Refused(_)));
}

#[test]
fn a_node_that_was_rolled_back_gets_everything_again() {
    let Pair { mut acme, mut globex, globex_disk, alice, bob } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let image = globex_disk.image();
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    drop(globex);
    globex_disk.restore(&image);
    let mut globex = Node::open(20, &globex_disk, 5);
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    // Acme's mark tells globex that it was rolled back; it breaks the link and starts afresh.
    connect(&mut acme, 10, &mut globex, 20);
    acme.to_peer.clear();
    globex.to_peer.clear();
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    connect(&mut acme, 10, &mut globex, 20);
    let (bob, welcome) = bob.again(&mut globex, ConnId(77));
    assert_ne!(welcome.incarnation, 20, "a new incarnation");
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert!(alice.notes(&mut acme).contains(&Claim::Delivered));
}

#[test]
fn a_peer_that_answers_nothing_loses_its_link_and_gets_everything_on_the_next() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    // Nothing of it reaches globex' core; the link itself is well.
    acme.wait(limits::PEER_ANSWER_MS_MAX - 1);
    assert_eq!(acme.closed, []);
    acme.to_peer.clear();
    acme.wait(1);
    assert_eq!(acme.closed, [LinkId(1)]);
    let last: PeerFrame = codec::decode(&acme.to_peer.pop_back().unwrap().header).unwrap();
    assert!(matches!(last, PeerFrame::Farewell(_)), "{last:?}");
    acme.wait(249);
    assert_eq!(acme.dials, [], "not at once");
    acme.wait(1_000);
    assert_eq!(acme.dials, [globex.id]);
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    acme.to_peer.clear();
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
}

#[test]
fn a_peer_that_answers_no_statement_loses_its_link_and_gets_them_on_the_next() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), 1);
    globex.to_peer.clear();
    globex.wait(limits::PEER_ANSWER_MS_MAX);
    assert_eq!(globex.closed, [LinkId(1)]);
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    globex.to_peer.clear();
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    acme.wait(2 * limits::PEER_ANSWER_MS_MAX);
    globex.wait(2 * limits::PEER_ANSWER_MS_MAX);
    assert_eq!((acme.closed.len(), globex.closed.len()), (0, 1), "nothing is owed any more");
}

#[test]
fn a_node_that_starts_again_counts_what_waits_for_devices() {
    let Pair { mut acme, mut globex, globex_disk, alice, bob } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    for number in 1..=3 {
        let head = bob.envelope(acme.id, globex.id, number);
        alice.submit(&mut acme, head, number);
    }
    settle(&mut acme, &mut globex);
    drop(globex);
    let mut globex = Node::open(20, &globex_disk, 5);
    globex.give([Event::Admin { token: AdminToken(1), command: AdminCommand::Status }]);
    let Some(AdminReply::Status(status)) = globex.replies.pop() else { panic!("no status") };
    assert_eq!((status.inbox, status.counting), (3, false));
}

#[test]
fn a_device_learns_the_mark_of_what_it_received_and_noted() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    let (_, welcome) = bob.again(&mut globex, ConnId(77));
    assert_eq!(welcome.yours, Some(mark(1_000)));
    let (_, welcome) = alice.again(&mut acme, ConnId(78));
    assert_eq!(welcome.yours, Some(mark(1_000)));
}

#[test]
fn rows_and_commits_per_message_stay_within_the_budget() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let (acme_before, globex_before) = (pending(&acme), pending(&globex));
    let messages = 50;
    for number in 1..=messages {
        let head = bob.envelope(acme.id, globex.id, number);
        alice.submit(&mut acme, head, number);
    }
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), usize::try_from(messages).unwrap());
    settle(&mut acme, &mut globex);
    let _claims = alice.notes(&mut acme);
    settle(&mut acme, &mut globex);
    let (acme, globex) = (pending(&acme) - acme_before, pending(&globex) - globex_before);
    // The rows are the cost of a node; this is the schema's budget, batch overhead included.
    println!("origin: {acme:?}\ndestination: {globex:?}");
    assert!(acme.puts <= 5 * messages && acme.deletes <= 3 * messages);
    assert!(globex.puts <= 4 * messages && globex.deletes <= 2 * messages);
}

#[test]
fn a_batch_beyond_every_window_arrives_once_and_in_order() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    // More than is in flight between nodes, and far more than to a device: what was written in this
    // batch and fits is sent from memory, the rest is read from the store.
    let messages = limits::PEER_WINDOW_ENVELOPES as u64 + 500;
    let submissions = (1..=messages).map(|number| {
        let header = codec::encode(&submission(bob.envelope(acme.id, globex.id, number), number));
        let frame = Frame { header: header.into(), body: Bytes::from_static(b"sealed") };
        match read_client_frame(&frame) {
            Read::Input(input) => Event::Client { conn: alice.conn, input },
            other => panic!("the frame was not taken: {other:?}"),
        }
    });
    acme.give(submissions.collect::<Vec<_>>());
    let (mut numbers, mut claims) = (Vec::new(), Vec::new());
    loop {
        settle(&mut acme, &mut globex);
        claims.extend(alice.notes(&mut acme));
        let more = bob.receive_numbers(&mut globex);
        if more.is_empty() {
            break;
        }
        assert!(more.len() <= limits::CLIENT_WINDOW_ENVELOPES, "no more than the window");
        numbers.extend(more);
    }
    assert_eq!(numbers, (1..=messages).collect::<Vec<_>>());
    let delivered = claims.iter().filter(|claim| **claim == Claim::Delivered).count();
    assert_eq!(delivered as u64, messages, "one tick for each");
}

fn listed(key: &SecretKey) -> Device {
    Device {
        key: key.public(),
        identity: X25519Key([1; 32]),
        added_ms: NOW_MS,
        label: String::new(),
    }
}

#[test]
fn nobody_lists_or_removes_a_device_of_somebody_else() {
    let Pair { mut globex, bob, .. } = pair();
    let (account, own) = (SecretKey::from_seed(&[90; 32]), SecretKey::from_seed(&[91; 32]));
    let mut phone = Phone::join(&mut globex, "mallory", 90);
    let answer = phone.publish(&mut globex, &account, &[&own, &bob.key]);
    assert!(matches!(answer, NodeFrame::Refused(_)));
}

#[test]
fn a_device_that_put_another_in_its_place_may_only_do_so_again() {
    let Pair { mut globex, .. } = pair();
    let [account, first, second, third, other] =
        [90, 91, 92, 93, 94].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let mut phone = Phone::join(&mut globex, "carol", 90);
    assert!(matches!(phone.publish(&mut globex, &account, &[&second]), NodeFrame::Done(_)));
    // Rolled back to before that, it may put a third in the place of the second,
    let (mut phone, welcome) = phone.again(&mut globex, ConnId(200));
    assert_eq!(welcome.list_version, 1);
    assert!(matches!(phone.publish(&mut globex, &account, &[&third]), NodeFrame::Done(_)));
    // and nothing else.
    let (phone, _) = phone.again(&mut globex, ConnId(201));
    let noted = Noted { notes: Vec::new(), mine: mark(1) };
    globex.send(phone.conn, &ClientFrame::Noted(noted), Bytes::new());
    assert!(matches!(globex.next(phone.conn).0, NodeFrame::Refused(_) | NodeFrame::Goaway(_)));
    // Once another device has removed the third, the first has no place to take.
    let list = phone.list;
    let at = |key: &SecretKey, conn, list| Phone { key: key.clone(), conn, list };
    let (mut third_phone, _) = at(&third, ConnId(0), list).again(&mut globex, ConnId(202));
    let answer = third_phone.publish(&mut globex, &account, &[&third, &other]);
    assert!(matches!(answer, NodeFrame::Done(_)));
    let (mut other_phone, _) =
        at(&other, ConnId(0), third_phone.list).again(&mut globex, ConnId(203));
    let answer = other_phone.publish(&mut globex, &account, &[&other]);
    assert!(matches!(answer, NodeFrame::Done(_)));
    for key in [&first, &second, &third] {
        let conn = ConnId(204);
        globex.give([Event::ClientConnected { conn }]);
        let (NodeFrame::Challenge(challenge), _) = globex.next(conn) else { panic!("silence") };
        let (answer, _) =
            at(key, conn, other_phone.list.clone()).answer_to_hello(&mut globex, &challenge);
        assert!(!matches!(answer, NodeFrame::Welcome(_)), "a removed device is not greeted");
        globex.give([Event::ClientClosed { conn }]);
        globex.to_clients.remove(&conn);
    }
}
