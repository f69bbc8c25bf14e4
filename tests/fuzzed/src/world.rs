//! One node, acme, with two people's devices, and everything around it played by whoever holds the
//! other keys: those of the devices, and of the peer globex. No rules here; see `rules.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tidings_core::{
    Core,
    effect::{AdminReply, Effect, NodeStatus},
    event::{AdminCommand, AdminToken, ClientInput, ConnId, Event, LinkId, PeerInput},
    ingress::{Opener, Read, read_client_frame, read_peer_frame},
    schema::{INBOX, InboxRow, NOTES, OUT, OutRow, SCHEMA, SEEN, STATEMENTS, SUBMITS, SeenRow},
    settings::{Sabotage, Settings},
};
use tidings_protocol::{
    address::UserName,
    client_frame::{ClientFrame, InviteSecret, Join, NodeFrame},
    codec,
    descriptor::{Addresses, Delegation, Descriptor, NodeState, Transport},
    device_list::{Device, DeviceList},
    frame::Frame,
    hello::{Challenge, ClientHello, Mark, PeerHello, client_transcript},
    id::{BootId, CopyId, DeviceId, Eid, NodeId, Nonce},
    key::{Purpose, SecretKey, Signature, X25519Key},
    limits,
    peer_frame::PeerFrame,
    sealed::SealingSecret,
    signed::Signed,
};
use tidings_store::{MemDisk, MemStore, Opening, Store, prefix_end};

use crate::frames::NOW_MS;

/// Somebody's device.
pub(crate) struct Phone {
    pub(crate) key: SecretKey,
    pub(crate) list: Signed<DeviceList>,
    invite: InviteSecret,
    name: &'static str,
}

/// A connection, as the outside sees it.
#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) phone: usize,
    pub(crate) challenge: Option<Challenge>,
    /// What the node said and nobody has taken.
    pub(crate) said: VecDeque<(NodeFrame, Bytes)>,
    /// Copies that were pushed and not named since.
    pub(crate) pushed: BTreeSet<u64>,
}

/// Rows that must not go without a reason.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) inbox: BTreeMap<Vec<u8>, InboxRow>,
    pub(crate) out: BTreeMap<Vec<u8>, OutRow>,
    pub(crate) seen: BTreeMap<Vec<u8>, SeenRow>,
    pub(crate) queued: BTreeSet<Vec<u8>>,
    pub(crate) submits: BTreeSet<Vec<u8>>,
}

/// What a batch was told, as far as rules need it.
#[derive(Default)]
pub(crate) struct Told {
    /// Numbers and copies that a device named.
    pub(crate) received: Vec<(u64, CopyId)>,
    /// Rows of notes and statements that were named.
    pub(crate) taken: BTreeSet<u64>,
    /// Copies and envelopes of which a statement spoke.
    pub(crate) stated: BTreeSet<Eid>,
    /// A list of devices was published, so that a device may be gone.
    pub(crate) lists: bool,
}

pub(crate) struct World {
    pub(crate) disk: MemDisk,
    pub(crate) store: MemStore,
    pub(crate) core: Core,
    pub(crate) settings: Settings,
    pub(crate) now_ms: u64,
    boots: u8,
    pub(crate) node: NodeId,
    pub(crate) phones: Vec<Phone>,
    pub(crate) conns: BTreeMap<ConnId, Conn>,
    next_conn: u64,
    pub(crate) globex: SecretKey,
    pub(crate) globex_id: NodeId,
    globex_delegation: Signed<Delegation>,
    pub(crate) link: Option<LinkId>,
    next_link: u64,
    pub(crate) to_peer: VecDeque<(PeerFrame, Bytes)>,
    /// What was sent to the node, to be sent again or changed.
    pub(crate) sent: Vec<(bool, Frame)>,
    pub(crate) effects: Vec<Effect>,
}

pub(crate) const PEER_ID: &[u8] = &[9; 34];

fn sealing_secret(root: u8) -> SealingSecret {
    SealingSecret::from_bytes(&[root + 1; 32])
}

fn delegation(root: u8, operational: &SecretKey) -> (NodeId, Signed<Delegation>) {
    let sealing = sealing_secret(root).public();
    let root = SecretKey::from_seed(&[root; 32]);
    let node = NodeId::of(&root.public());
    let delegation = Delegation {
        node,
        serial: 1,
        operational: operational.public(),
        sealing,
        custodians: Vec::new(),
        domains: Vec::new(),
        not_after_ms: u64::MAX / 2,
    };
    (node, Signed::new(&delegation, &root))
}

fn phone(node: NodeId, name: &'static str, seed: u8) -> Phone {
    let account = SecretKey::from_seed(&[seed; 32]);
    let key = SecretKey::from_seed(&[seed + 1; 32]);
    let device = Device {
        key: key.public(),
        identity: X25519Key([seed; 32]),
        added_ms: NOW_MS,
        label: name.to_owned(),
    };
    let list = DeviceList {
        identity: account.public(),
        node,
        name: UserName::parse(name).expect("a name"),
        version: 0,
        previous: None,
        devices: vec![device],
        issued_ms: NOW_MS,
        signer: None,
    };
    let list = Signed::new(&list, &account);
    Phone { key, list, invite: InviteSecret([seed; 16]), name }
}

pub(crate) fn mark(commit: u64) -> Mark {
    Mark { boot: BootId([3; 16]), commit }
}

impl World {
    /// A node at which alice and carol have joined and are connected.
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Self {
        let operational = SecretKey::from_seed(&[2; 32]);
        let (node, signed) = delegation(1, &operational);
        let mut settings = Settings::new(operational, sealing_secret(1), signed);
        settings.sabotage = sabotage;
        // Small, so that a short program reaches them.
        settings.device_rows_max = 6;
        settings.peer_rows_max = 8;
        let globex = SecretKey::from_seed(&[21; 32]);
        let (globex_id, globex_delegation) = delegation(20, &globex);
        let disk = MemDisk::new();
        let (store, core) = open(&disk, &settings, 1, NOW_MS);
        let mut world = Self {
            disk,
            store,
            core,
            settings,
            now_ms: NOW_MS,
            boots: 1,
            node,
            phones: vec![phone(node, "alice", 40), phone(node, "carol", 50)],
            conns: BTreeMap::new(),
            next_conn: 1,
            globex,
            globex_id,
            globex_delegation,
            link: None,
            next_link: 1,
            to_peer: VecDeque::new(),
            sent: Vec::new(),
            effects: Vec::new(),
        };
        world.listen();
        for phone in 0..world.phones.len() {
            let secret = world.phones[phone].invite;
            let command = AdminCommand::Invite { secret, uses: 1, life_ms: 60_000 };
            world.give(Event::Admin { token: AdminToken(0), command });
            let conn = world.connect(phone);
            let challenge = world.conns[&conn].challenge.clone().expect("a challenge");
            let Phone { key, list, .. } = &world.phones[phone];
            let proof = key.sign(Purpose::Join, challenge.nonce.as_bytes());
            let join = Join { request: 1, invite: secret, list: list.clone(), proof };
            let joined = world.client(conn, &ClientFrame::Join(join), Bytes::new());
            assert!(joined, "{} joins", world.phones[phone].name);
            world.greet(conn);
        }
        world
    }

    fn listen(&mut self) {
        let peer_id = Bytes::from_static(&[8; 34]);
        self.give(Event::Listening {
            peer_id,
            multiaddrs: vec!["/ip4/192.0.2.1/tcp/1".to_owned()],
        });
    }

    /// The process is gone and another starts on what is on the disk.
    pub(crate) fn restart(&mut self) {
        self.boots = self.boots.wrapping_add(1);
        self.conns.clear();
        self.to_peer.clear();
        self.link = None;
        (self.store, self.core) = open(&self.disk, &self.settings, self.boots, self.now_ms);
        self.listen();
    }

    /// Gives the core one event, commits, and keeps its effects.
    pub(crate) fn give(&mut self, event: Event) {
        let (core, now) = (&mut self.core, self.now_ms);
        let mut event = Some(event);
        self.store
            .batch(&mut |txn| {
                if let Some(event) = event.take() {
                    core.handle(event, now, txn)?;
                }
                core.finish(now, txn)
            })
            .expect("a disk that does not fail takes every commit");
        while let Some(effect) = self.core.poll_effect() {
            self.effects.push(effect);
        }
        self.outside();
    }

    /// The outside takes in what it was sent.
    fn outside(&mut self) {
        for effect in &self.effects {
            match effect {
                Effect::ToClient { conn, frame, body } => {
                    let Some(conn) = self.conns.get_mut(conn) else { continue };
                    if let NodeFrame::Challenge(challenge) = frame {
                        conn.challenge = Some(challenge.clone());
                    }
                    conn.said.push_back((frame.clone(), body.clone()));
                }
                Effect::ToPeer { frame, body, .. } => {
                    self.to_peer.push_back((frame.clone(), body.clone()));
                }
                Effect::CloseClient { .. }
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
                | Effect::Step(_) => {}
            }
        }
    }

    /// Sends bytes that are a frame, or are none, as a device would. Whether they were an input.
    pub(crate) fn client_frame(&mut self, conn: ConnId, frame: &Frame) -> bool {
        self.remember(true, frame);
        match read_client_frame(frame) {
            Read::Input(input) => {
                self.give(Event::Client { conn, input });
                true
            }
            Read::Unknown => false,
            Read::Broken(code) => {
                self.give(Event::ClientBroke { conn, code });
                false
            }
        }
    }

    pub(crate) fn opener(&self) -> Opener {
        Opener { node: self.node, secret: self.settings.sealing.clone() }
    }

    /// The same as globex.
    pub(crate) fn peer_frame(&mut self, frame: &Frame) {
        let Some(link) = self.link else { return };
        self.remember(false, frame);
        match read_peer_frame(frame, self.now_ms, &self.opener()) {
            Read::Input(input) => self.give(Event::Peer { link, input }),
            Read::Unknown => {}
            Read::Broken(code) => self.give(Event::PeerBroke { link, code }),
        }
    }

    fn remember(&mut self, is_client: bool, frame: &Frame) {
        // Enough to choose from.
        if self.sent.len() < 64 {
            self.sent.push((is_client, frame.clone()));
        }
    }

    pub(crate) fn client(&mut self, conn: ConnId, frame: &ClientFrame, body: Bytes) -> bool {
        self.client_frame(conn, &Frame { header: codec::encode(frame).into(), body })
    }

    pub(crate) fn peer(&mut self, frame: &PeerFrame, body: Bytes) {
        self.peer_frame(&Frame { header: codec::encode(frame).into(), body });
    }

    pub(crate) fn connect(&mut self, phone: usize) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, Conn { phone, ..Conn::default() });
        self.give(Event::ClientConnected { conn });
        conn
    }

    /// A device proves itself on a connection.
    pub(crate) fn greet(&mut self, conn: ConnId) {
        let Some(Conn { phone, challenge: Some(challenge), .. }) = self.conns.get(&conn) else {
            return;
        };
        let (key, challenge) = (&self.phones[*phone].key, challenge.clone());
        let mut hello = ClientHello {
            version: limits::PROTOCOL_VERSION,
            node: self.node,
            device: DeviceId::of(&key.public()),
            nonce: Nonce([9; 32]),
            yours: None,
            mine: mark(1),
            signature: Signature([0; 64]),
        };
        let transcript = client_transcript(&challenge, &hello);
        hello.signature = key.sign(Purpose::ClientHello, transcript.as_bytes());
        self.client(conn, &ClientFrame::Hello(hello), Bytes::new());
    }

    /// A link to globex, greeted.
    pub(crate) fn link_up(&mut self, is_dialer: bool) {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.link = Some(link);
        self.to_peer.clear();
        let transport = Bytes::from_static(PEER_ID);
        self.give(Event::PeerConnected { link, transport, dialer: is_dialer });
        let hello = PeerHello {
            version: limits::PROTOCOL_VERSION,
            descriptor: self.descriptor().encode().into(),
            incarnation: 1,
            mine: mark(1),
            yours: None,
            introductions: Vec::new(),
        };
        self.peer(&PeerFrame::Hello(hello), Bytes::new());
    }

    /// Where globex is.
    pub(crate) fn descriptor(&self) -> Descriptor {
        let transport = Transport {
            peer_id: Bytes::from_static(PEER_ID),
            multiaddrs: vec!["/ip4/192.0.2.2/tcp/1".to_owned()],
        };
        let addresses = Addresses {
            node: self.globex_id,
            serial: self.now_ms,
            transports: vec![transport],
            state: NodeState::Serving,
            expires_ms: self.now_ms.saturating_add(limits::ADDRESSES_LIFE_MS_MAX),
        };
        Descriptor::sign(self.globex_delegation.clone(), &addresses, &self.globex)
    }

    pub(crate) fn status(&mut self) -> NodeStatus {
        let token = AdminToken(7);
        self.effects.clear();
        self.give(Event::Admin { token, command: AdminCommand::Status });
        let status = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::AdminReply { reply: AdminReply::Status(status), .. } => Some(status),
            _ => None,
        });
        (**status.expect("a status")).clone()
    }

    /// The rows as they are on the disk.
    pub(crate) fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        self.store
            .view(&mut |txn| {
                let all = |table| txn.range(table, &[], &prefix_end(&[]), usize::MAX);
                let read = |bytes: &[u8]| bytes.to_vec();
                for (key, value) in all(INBOX)? {
                    rows.inbox.insert(key, tidings_core::schema::decode(&value)?);
                }
                for (key, value) in all(OUT)? {
                    rows.out.insert(key, tidings_core::schema::decode(&value)?);
                }
                for (key, value) in all(SEEN)? {
                    rows.seen.insert(key, tidings_core::schema::decode(&value)?);
                }
                for (table, name) in [(NOTES, b"n"), (STATEMENTS, b"s")] {
                    let keys = all(table)?.into_iter();
                    rows.queued
                        .extend(keys.map(|(key, _)| [name.as_slice(), &read(&key)].concat()));
                }
                rows.submits = all(SUBMITS)?.into_iter().map(|(key, _)| key).collect();
                Ok(())
            })
            .expect("rows that the node wrote can be read");
        rows
    }
}

impl Told {
    /// What a frame tells, whoever sends it.
    pub(crate) fn by(is_client: bool, frame: &Frame, now_ms: u64, opener: &Opener) -> Self {
        let mut told = Self::default();
        if is_client {
            if let Read::Input(input) = read_client_frame(frame) {
                match input {
                    ClientInput::Received { items, checked, .. } => {
                        told.received = items;
                        told.stated = checked.statements.iter().map(|(said, _)| said.eid).collect();
                    }
                    ClientInput::Noted { notes } => told.taken = notes.notes.into_iter().collect(),
                    ClientInput::PublishList(_) | ClientInput::ShowLists(_) => told.lists = true,
                    ClientInput::Hello(_)
                    | ClientInput::Join(_)
                    | ClientInput::Submit { .. }
                    | ClientInput::FetchBundle(_)
                    | ClientInput::PublishPrekeys(_)
                    | ClientInput::Resolve(_)
                    | ClientInput::Ping { .. } => {}
                }
            }
        } else if let Read::Input(input) = read_peer_frame(frame, now_ms, opener) {
            match input {
                PeerInput::Statements { checked, .. } => {
                    let statements = checked.iter().flat_map(|checked| &checked.statements);
                    told.stated = statements.map(|(said, _)| said.eid).collect();
                }
                PeerInput::StatementsTook { rows, .. } => told.taken = rows.into_iter().collect(),
                _ => {}
            }
        }
        told
    }
}

fn open(disk: &MemDisk, settings: &Settings, boot: u8, now_ms: u64) -> (MemStore, Core) {
    let opening = Opening { boot: tidings_store::BootId([boot; 16]), incarnation: 1 };
    let mut store = MemStore::open(disk, SCHEMA, opening).expect("what was committed opens");
    let lineage = store.lineage().clone();
    let mut core = None;
    store
        .batch(&mut |txn| {
            let opened = Core::open(settings.clone(), &lineage, [boot; 32], now_ms, txn);
            let mut opened = opened.map_err(tidings_store::StoreError::work)?;
            opened.finish(now_ms, txn)?;
            core = Some(opened);
            Ok(())
        })
        .expect("a core opens on what it wrote");
    (store, core.expect("a core"))
}
