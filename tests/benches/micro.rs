//! What each step of a message costs by itself: codec, statement tree, commit, core step, and the
//! core step with ever more rows queued and ever more users. Whole nodes are `tidings bench`'s.
//!
//! `cargo bench -p tidings-tests`; `-- step` for those with that in their name.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark may end")]

use bytes::Bytes;
use divan::{Bencher, black_box, counter::ItemsCount};
use tempfile::TempDir;
use tidings_core::{
    Core,
    effect::Effect,
    event::{AdminCommand, AdminToken, ClientInput, ConnId, Event},
    ingress::{Opener, Read, read_client_frame, read_peer_frame},
    schema::SCHEMA,
    settings::Settings,
};
use tidings_protocol::{
    address::UserName,
    client_frame::{ClientFrame, InviteSecret, Join, NodeFrame, Submit},
    codec,
    descriptor::Delegation,
    device_list::{CheckedList, Device, DeviceList},
    envelope::{Class, EnvelopeHead, Header, Recipient, Target},
    frame::Frame,
    hello::{Challenge, ClientHello, Mark, client_transcript},
    id::{BootId, CopyId, DeviceId, Eid, Hash, NodeId, Nonce, SubmitId, timed_id},
    key::{Purpose, SecretKey, Signature, X25519Key},
    limits,
    peer_frame::PeerFrame,
    sealed::SealingSecret,
    signed::Signed,
    statement::{Claim, Proof, Signer, Stance, Statement},
};
use tidings_store::{Opening, RedbOptions, RedbStore, Store as _, Table};

const NOW_MS: u64 = 1_790_000_000_000;
/// Messages in one batch of the loop: what a busy node gathers.
const BATCH: u64 = 256;

fn main() {
    divan::main();
}

fn head(number: u64, origin: NodeId, destination: NodeId, device: DeviceId) -> EnvelopeHead {
    let created_ms = NOW_MS + number / 8;
    let header = Header {
        version: limits::PROTOCOL_VERSION,
        origin,
        destination,
        created_ms,
        expires_ms: created_ms + limits::MESSAGE_LIFE_MS_MAX,
        class: Class::Message,
    };
    let mut part = vec![7; 160];
    part.splice(..8, number.to_be_bytes());
    let target = Target {
        to: Recipient::Device(device),
        auth: None,
        list_version: 0,
        list_hash: Hash([1; 32]),
        part: part.into(),
    };
    EnvelopeHead { header, targets: vec![target] }
}

fn mark(commit: u64) -> Mark {
    Mark { boot: BootId([3; 16]), commit }
}

fn submit(number: u64, origin: NodeId, destination: NodeId) -> Frame {
    let [.., a, b, c, d] = number.to_be_bytes();
    let submit = SubmitId(timed_id(NOW_MS + number / 8, [a, b, c, d, 0, 0, 0, 0, 0, 0]));
    let heads = vec![head(number, origin, destination, DeviceId([5; 16]))];
    let frame = ClientFrame::Submit(Submit { submit, heads, mine: mark(number + 1) });
    Frame { header: codec::encode(&frame).into(), body: Bytes::from(vec![9; 128]) }
}

fn statements(count: u32) -> Vec<Statement> {
    (0..count)
        .map(|number| Statement {
            claim: Claim::Delivered,
            eid: Eid([number.to_le_bytes()[0]; 24]),
            copy: Some(CopyId([number.to_le_bytes()[0]; 32])),
            at_ms: NOW_MS,
            reason: None,
            until_ms: None,
        })
        .collect()
}

fn signed(count: u32) -> Proof {
    let key = SecretKey::from_seed(&[1; 32]);
    let signer = Signer { key: key.public(), node: None, version: 0 };
    let stance = Stance { signer, incarnation: 7, boot: BootId([2; 16]) };
    Proof::sign(&statements(count), &stance, &[3; 32], &key).unwrap()
}

mod codecs {
    use super::*;

    /// A device's submission: decoded, checked, hashed to its copy id and eid.
    #[divan::bench]
    fn read_submit(bencher: Bencher<'_, '_>) {
        let frame = submit(1, NodeId([1; 32]), NodeId([2; 32]));
        bencher.bench_local(|| read_client_frame(black_box(&frame)));
    }

    /// The same envelope from a peer.
    #[divan::bench]
    fn read_deliver(bencher: Bencher<'_, '_>) {
        let frame =
            PeerFrame::Deliver(head(1, NodeId([1; 32]), NodeId([2; 32]), DeviceId([5; 16])));
        let frame = Frame { header: codec::encode(&frame).into(), body: Bytes::from(vec![9; 128]) };
        let secret = SealingSecret::from_bytes(&[3; 32]);
        let opener = Opener { node: NodeId([2; 32]), secret };
        bencher.bench_local(|| read_peer_frame(black_box(&frame), NOW_MS, &opener));
    }

    /// A frame on its way out.
    #[divan::bench]
    fn write_deliver(bencher: Bencher<'_, '_>) {
        let frame =
            PeerFrame::Deliver(head(1, NodeId([1; 32]), NodeId([2; 32]), DeviceId([5; 16])));
        let body = Bytes::from(vec![9; 128]);
        bencher.bench_local(|| {
            Frame { header: codec::encode(black_box(&frame)).into(), body: body.clone() }.encode()
        });
    }
}

mod statement_tree {
    use super::*;

    /// One signature over so many statements.
    #[divan::bench(args = [1, 16, 64, 1024])]
    fn sign(bencher: Bencher<'_, '_>, count: u32) {
        let key = SecretKey::from_seed(&[1; 32]);
        let signer = Signer { key: key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 7, boot: BootId([2; 16]) };
        let all = statements(count);
        bencher
            .counter(ItemsCount::new(count))
            .bench_local(|| Proof::sign(black_box(&all), &stance, &[3; 32], &key));
    }

    /// Signature and every path.
    #[divan::bench(args = [1, 16, 64, 1024])]
    fn check(bencher: Bencher<'_, '_>, count: u32) {
        let proof = signed(count);
        bencher.counter(ItemsCount::new(count)).bench_local(|| black_box(&proof).check());
    }
}

mod commits {
    use super::*;

    const ROWS: Table = Table::new("rows");
    static ROWS_ONLY: tidings_store::Schema =
        tidings_store::Schema { version: 1, tables: &[ROWS], migrations: &[] };

    /// One durable commit of so many new rows of 400 bytes, in the order of their keys.
    #[divan::bench(args = [1, 16, 256, 1024])]
    fn rows(bencher: Bencher<'_, '_>, count: u64) {
        let dir = TempDir::new().unwrap();
        let opening = Opening { boot: tidings_store::BootId([1; 16]), incarnation: 1 };
        let path = dir.path().join("bench.redb");
        let mut store = RedbStore::open(&path, ROWS_ONLY, opening, RedbOptions::default()).unwrap();
        let mut next = 0_u64;
        bencher.counter(ItemsCount::new(count)).bench_local(|| {
            store
                .batch(&mut |txn| {
                    for _ in 0..count {
                        next += 1;
                        txn.put(ROWS, &next.to_be_bytes(), &[7; 400])?;
                    }
                    Ok(())
                })
                .unwrap();
        });
    }
}

/// A node on redb with one greeted device.
struct Node {
    core: Core,
    store: RedbStore,
    id: NodeId,
    _dir: TempDir,
    submitted: u64,
}

const ALICE: ConnId = ConnId(1);
const INVITE: InviteSecret = InviteSecret([9; 16]);

fn hello(challenge: &Challenge, key: &SecretKey) -> ClientHello {
    let mut hello = ClientHello {
        version: limits::PROTOCOL_VERSION,
        node: challenge.node,
        device: DeviceId::of(&key.public()),
        nonce: Nonce([9; 32]),
        yours: None,
        mine: mark(1),
        signature: Signature([0; 64]),
    };
    let transcript = client_transcript(challenge, &hello);
    hello.signature = key.sign(Purpose::ClientHello, transcript.as_bytes());
    hello
}

impl Node {
    fn open() -> Self {
        let root = SecretKey::from_seed(&[10; 32]);
        let operational = SecretKey::from_seed(&[11; 32]);
        let sealing = SealingSecret::from_bytes(&[12; 32]);
        let id = NodeId::of(&root.public());
        let delegation = Delegation {
            node: id,
            serial: 1,
            operational: operational.public(),
            sealing: sealing.public(),
            custodians: Vec::new(),
            domains: Vec::new(),
            not_after_ms: NOW_MS * 2,
        };
        let settings = Settings::new(operational, sealing, Signed::new(&delegation, &root));
        let dir = TempDir::new().unwrap();
        let opening = Opening { boot: tidings_store::BootId([1; 16]), incarnation: 1 };
        let path = dir.path().join("node.redb");
        let mut store = RedbStore::open(&path, SCHEMA, opening, RedbOptions::default()).unwrap();
        let lineage = store.lineage().clone();
        let mut core = None;
        store
            .batch(&mut |txn| {
                let mut opened =
                    Core::open(settings.clone(), &lineage, [1; 32], NOW_MS, txn).unwrap();
                opened.finish(NOW_MS, txn)?;
                core = Some(opened);
                Ok(())
            })
            .unwrap();
        let mut node = Self { core: core.unwrap(), store, id, _dir: dir, submitted: 0 };
        let (peer_id, multiaddrs) = (Bytes::from(vec![1; 34]), vec!["/memory/1".to_owned()]);
        node.give(vec![Event::Listening { peer_id, multiaddrs }]);
        node.join(ALICE.0..ALICE.0 + 1, true);
        node
    }

    /// One batch; the frames to devices.
    fn give(&mut self, events: Vec<Event>) -> Vec<NodeFrame> {
        let core = &mut self.core;
        let mut events = events.into_iter();
        self.store
            .batch(&mut |txn| {
                for event in events.by_ref() {
                    core.handle(event, NOW_MS, txn)?;
                }
                core.finish(NOW_MS, txn)
            })
            .unwrap();
        let effects = std::iter::from_fn(|| self.core.poll_effect());
        effects
            .filter_map(|effect| match effect {
                Effect::ToClient { frame, .. } => Some(frame),
                Effect::CloseClient { .. }
                | Effect::ToPeer { .. }
                | Effect::ClosePeer { .. }
                | Effect::Dial { .. }
                | Effect::Lookup { .. }
                | Effect::Pin { .. }
                | Effect::Meet { .. }
                | Effect::Bar { .. }
                | Effect::Resolve { .. }
                | Effect::Publish { .. }
                | Effect::AdminReply { .. }
                | Effect::Observed(_)
                | Effect::Step(_) => None,
            })
            .collect()
    }

    /// Makes accounts, a batch at a time; their devices stay connected only when they greet.
    fn join(&mut self, numbers: std::ops::Range<u64>, greets: bool) {
        let uses = u32::try_from(numbers.end - numbers.start).unwrap();
        let command = AdminCommand::Invite { secret: INVITE, uses, life_ms: 60_000 };
        self.give(vec![Event::Admin { token: AdminToken(0), command }]);
        let conns = || numbers.clone().map(ConnId);
        let frames = self.give(conns().map(|conn| Event::ClientConnected { conn }).collect());
        let (mut events, mut then) = (Vec::new(), Vec::new());
        for (frame, conn) in frames.iter().zip(conns()) {
            let NodeFrame::Challenge(challenge) = frame else { panic!("no challenge") };
            let mut seed = [3; 32];
            seed[..8].copy_from_slice(&conn.0.to_be_bytes());
            let account = SecretKey::from_seed(&seed);
            seed[31] = 4;
            let key = SecretKey::from_seed(&seed);
            let device = Device {
                key: key.public(),
                identity: X25519Key([3; 32]),
                added_ms: NOW_MS,
                label: "phone".into(),
            };
            let list = DeviceList {
                identity: account.public(),
                node: self.id,
                name: UserName::parse(&format!("user{}", conn.0)).unwrap(),
                version: 0,
                previous: None,
                devices: vec![device],
                issued_ms: NOW_MS,
                signer: None,
            };
            let list = Signed::new(&list, &account);
            let checked = CheckedList::first_seen(&list).unwrap();
            let proof = key.sign(Purpose::Join, challenge.nonce.as_bytes());
            let join = Join { request: 1, invite: INVITE, list, proof };
            let input = ClientInput::Join(Box::new((join, checked)));
            events.push(Event::Client { conn, input });
            then.push(if greets {
                let input = ClientInput::Hello(hello(challenge, &key));
                Event::Client { conn, input }
            } else {
                Event::ClientClosed { conn }
            });
        }
        let frames = self.give(events);
        let made = frames.iter().filter(|f| matches!(f, NodeFrame::Joined(_))).count();
        assert_eq!(made as u64, numbers.end - numbers.start, "every account is made");
        self.give(then);
    }

    /// The next submissions, to a node that is away.
    fn submissions(&mut self, count: u64) -> Vec<Event> {
        let numbers = self.submitted..self.submitted + count;
        self.submitted += count;
        numbers
            .map(|number| match read_client_frame(&submit(number, self.id, NodeId([2; 32]))) {
                Read::Input(input) => Event::Client { conn: ALICE, input },
                Read::Unknown | Read::Broken(_) => panic!("the frame was not taken"),
            })
            .collect()
    }
}

mod step {
    use super::*;

    fn bench(bencher: Bencher<'_, '_>, mut node: Node) {
        bencher.counter(ItemsCount::new(BATCH)).with_inputs(|| ()).bench_local_values(|()| {
            let events = node.submissions(BATCH);
            let frames = node.give(events);
            let taken = frames.iter().filter(|f| matches!(f, NodeFrame::Accepted(_))).count();
            assert_eq!(taken as u64, BATCH, "every submission is accepted");
        });
    }

    /// A batch of submissions, read, handled and committed, while so many envelopes are queued.
    #[divan::bench(args = [10, 10_000, 1_000_000], sample_count = 20, sample_size = 1)]
    fn submit_with_queued(bencher: Bencher<'_, '_>, queued: u64) {
        let mut node = Node::open();
        while node.submitted < queued {
            let events = node.submissions(4_096.min(queued - node.submitted));
            node.give(events);
        }
        bench(bencher, node);
    }

    /// The same, while the node has so many users.
    #[divan::bench(args = [10, 1_000, 100_000], sample_count = 20, sample_size = 1)]
    fn submit_with_users(bencher: Bencher<'_, '_>, users: u64) {
        let mut node = Node::open();
        let mut made = ALICE.0 + 1;
        while made < users {
            let next = users.min(made + 1_024);
            node.join(made..next, false);
            made = next;
        }
        bench(bencher, node);
    }
}
