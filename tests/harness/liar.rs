//! A node that lies to its peers: the production core, and around it somebody who swallows what he
//! says that he took, withholds statements, forges others, repeats old frames and sends nonsense.
//! A mute one takes everything and answers nothing of it, while its links stay alive.
//! It holds its own keys only. What worse liars do is in `artful.rs`. In the healed phase it is honest, and all must mend.

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tidings_core::event::{LinkId, PeerInput};
use tidings_protocol::{
    codec,
    custody::Origin,
    device_list::{Device, DeviceList, list_hash},
    directory::Listing,
    envelope::{Class, EnvelopeHead, Header, Recipient, Target, shared_hash},
    frame::Frame,
    hello::Mark,
    id::{AccountId, BootId, CopyId, Eid, Hash},
    key::{SecretKey, X25519Key},
    limits,
    peer_frame::{
        Answer, FetchFor, Forward, PeerFrame, Statements, StatementsTook, Took, User, Wanted,
    },
    sealed::SealedTargets,
    signed::Signed,
    statement::{Claim, Proof, Reason, Signer, Stance, Statement},
};

use crate::device::SimDevice;
use crate::network::Machine;
use crate::world::World;

impl World {
    /// Swallows an envelope and says that it was taken, or statements likewise.
    pub fn liar_swallows(&mut self, node: usize, link: LinkId, input: &PeerInput) -> bool {
        if self.hoards(node) && self.hoarder_swallows(node, link, input) {
            return true;
        }
        if !self.nodes[node].lies {
            return false;
        }
        if self.artful_swallows(node, link, input) {
            return true;
        }
        if let PeerInput::Deliver(envelope) = input {
            self.oracle.overheard(envelope.eid, &envelope.copies);
            if let (Some(copy), true) = (envelope.copies.first(), self.lie_chance.happens(250)) {
                self.forge(node, link, (envelope.eid, *copy));
            }
        }
        // For its own users its word counts, and who believed it would do so for ever.
        if let PeerInput::FetchFor(fetch) = input
            && fetch.node != self.nodes[node].id
            && self.lie_chance.happens(600)
        {
            let answer = self.made_up_user(node, fetch);
            self.liar_sends(node, link, &answer);
            return true;
        }
        if !self.lie_chance.happens(150) {
            return false;
        }
        let Some(mark) = self.mark_of(node) else { return false };
        let answer = match input {
            PeerInput::Deliver(envelope) => {
                let answers = vec![Answer { eid: envelope.eid, refusal: None, lists: Vec::new() }];
                PeerFrame::Took(Took { answers, mark })
            }
            PeerInput::Statements { rows, .. } => {
                PeerFrame::StatementsTook(StatementsTook { rows: rows.clone(), mark })
            }
            PeerInput::Forward(forward) => {
                let eid = forward.eid;
                let answers = vec![Answer { eid, refusal: None, lists: Vec::new() }];
                PeerFrame::Took(Took { answers, mark })
            }
            PeerInput::Hello(_)
            | PeerInput::Consent(_)
            | PeerInput::Offer { .. }
            | PeerInput::Wanted { .. }
            | PeerInput::FetchFor(_)
            | PeerInput::NewerListsFor(_)
            | PeerInput::Directory(_)
            | PeerInput::DirectoryWanted(_)
            | PeerInput::DirectoryEntry(_)
            | PeerInput::Took { .. }
            | PeerInput::StatementsTook { .. }
            | PeerInput::Audit { .. }
            | PeerInput::AuditAnswer { .. }
            | PeerInput::FetchUser(_)
            | PeerInput::User(_)
            | PeerInput::KeepAlive { .. }
            | PeerInput::Announce(_)
            | PeerInput::Farewell { .. } => return false,
        };
        self.liar_sends(node, link, &answer);
        true
    }

    /// The last nodes, where the options say so: also in the healed world.
    fn hoards(&self, node: usize) -> bool {
        node + self.options.hoarders >= self.nodes.len()
    }

    /// A custodian says that it holds what it drops. Its core is not told.
    fn hoarder_swallows(&mut self, node: usize, link: LinkId, input: &PeerInput) -> bool {
        match input {
            PeerInput::Offer { destination, .. } if self.lie_chance.happens(500) => {
                let (destination, eids) = (*destination, Vec::new());
                let wanted = Wanted { destination, refusal: None, eids, delegation: None };
                let frame = PeerFrame::Wanted(wanted);
                self.liar_sends(node, link, &frame);
                true
            }
            PeerInput::Forward(forward)
                if forward.forward.header.destination != self.nodes[node].id =>
            {
                let Some(mark) = self.mark_of(node) else { return false };
                let eid = forward.eid;
                let answers = vec![Answer { eid, refusal: None, lists: Vec::new() }];
                self.liar_sends(node, link, &PeerFrame::Took(Took { answers, mark }));
                let me = &self.nodes[node];
                let key = me.operational.clone();
                let signer = Signer { key: key.public(), node: Some(me.id), version: 2 };
                let boot = BootId(self.lie_chance.bytes());
                let stance = Stance { signer, incarnation: self.lie_chance.number(), boot };
                let statement = Statement {
                    claim: Claim::Custody,
                    eid,
                    copy: None,
                    at_ms: self.now_ms(),
                    reason: None,
                    until_ms: Some(forward.forward.header.expires_ms),
                };
                let salt = self.lie_chance.bytes();
                let rows = vec![self.lie_chance.number()];
                let proofs = Proof::sign(&[statement], &stance, &salt, &key).into_iter().collect();
                let frame = PeerFrame::Statements(Statements { rows, proofs });
                self.liar_sends(node, link, &frame);
                true
            }
            _ => false,
        }
    }

    /// A user of another node, with keys of nobody and the liar's own word for them.
    fn made_up_user(&mut self, node: usize, fetch: &FetchFor) -> PeerFrame {
        let [account, device] = [(); 2].map(|()| SecretKey::from_seed(&self.lie_chance.bytes()));
        let device = Device {
            key: device.public(),
            identity: X25519Key(self.lie_chance.bytes()),
            added_ms: self.now_ms(),
            label: String::new(),
        };
        let list = DeviceList {
            identity: account.public(),
            node: fetch.node,
            name: fetch.name.clone(),
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: self.now_ms(),
            signer: None,
        };
        let list = Signed::new(&list, &account);
        let listing = Listing {
            node: fetch.node,
            name: fetch.name.clone(),
            account: AccountId::of(&account.public()),
            list_version: 0,
            list_hash: list_hash(&list),
            issued_ms: self.now_ms(),
            expires_ms: u64::MAX,
            serial: 1,
        };
        PeerFrame::User(User {
            request: fetch.request,
            refusal: None,
            lists: vec![list],
            bundles: Vec::new(),
            listing: Some(Signed::new(&listing, &self.nodes[node].operational)),
            delegation: None,
        })
    }

    /// Swaps the targets of an envelope that it hands on for one of its own making: anybody can seal
    /// something to the destination.
    pub fn liar_swaps(&mut self, node: usize, frame: &PeerFrame) -> Option<PeerFrame> {
        let PeerFrame::Forward(forward) = frame else { return None };
        let is_own = forward.header.origin == self.nodes[node].id;
        if !self.faults_on || !self.nodes[node].lies || is_own || !self.lie_chance.happens(700) {
            return None;
        }
        let (ix, destination) = self
            .nodes
            .iter()
            .enumerate()
            .find(|(_, node)| node.id == forward.header.destination)?;
        let to = self.devices.iter().find(|device| device.node == ix).and_then(SimDevice::id)?;
        let target = Target {
            to: Recipient::Device(to),
            auth: None,
            list_version: 0,
            list_hash: Hash([0; 32]),
            part: Bytes::from_static(b"swapped"),
        };
        let mut rng = ChaCha20Rng::from_seed(self.lie_chance.bytes());
        let (header, key) = (&forward.header, destination.sealing.public());
        let targets =
            SealedTargets::seal(&[target], header, &forward.eid(), &key, &mut rng).ok()?;
        self.trace.say(self.schedule.now_ms(), || "a liar swaps targets".to_owned());
        Some(PeerFrame::Forward(Forward { targets, ..forward.clone() }))
    }

    /// Makes up an envelope in another node's name, for a device of the peer.
    fn forge_origin(&mut self, node: usize, other: usize, link: LinkId) {
        // In its own name it may say what it likes.
        let third = (node + 1 + self.lie_chance.index(self.nodes.len() - 1)) % self.nodes.len();
        let of_other = |device: &&SimDevice| device.node == other;
        let Some(to) = self.devices.iter().find(of_other).and_then(SimDevice::id) else { return };
        let (me, victim) = (&self.nodes[node], &self.nodes[third]);
        let now_ms = self.now_ms();
        let header = Header {
            version: limits::PROTOCOL_VERSION,
            origin: victim.id,
            destination: self.nodes[other].id,
            created_ms: now_ms,
            expires_ms: now_ms + limits::MESSAGE_LIFE_MS_MAX,
            class: Class::Message,
        };
        let target = Target {
            to: Recipient::Device(to),
            auth: None,
            list_version: 0,
            list_hash: Hash([0; 32]),
            part: Bytes::from_static(b"made up"),
        };
        let body = Bytes::copy_from_slice(&self.lie_chance.bytes::<16>());
        let head = EnvelopeHead { header, targets: vec![target] };
        let (eid, copies) = head.ids(&shared_hash(&body));
        let mut rng = ChaCha20Rng::from_seed(self.lie_chance.bytes());
        let to = self.nodes[other].sealing.public();
        let EnvelopeHead { header, targets } = head;
        let Ok(targets) = SealedTargets::seal(&targets, &header, &eid, &to, &mut rng) else {
            return;
        };
        let (key, delegation) = (me.operational.clone(), victim.delegation.clone());
        let signer = Signer { key: key.public(), node: Some(victim.id), version: 2 };
        let stance = Stance { signer, incarnation: 1, boot: BootId([1; 16]) };
        let statement = Statement {
            claim: Claim::Accepted,
            eid,
            copy: None,
            at_ms: now_ms,
            reason: None,
            until_ms: None,
        };
        let Some(accepted) = Proof::sign(&[statement], &stance, &[7; 32], &key) else { return };
        let origin = Origin { accepted, delegation };
        let forward = Forward { header, copies, targets, origin, hops_left: 0 };
        let header = codec::encode(&PeerFrame::Forward(forward)).into();
        self.trace.say(now_ms, || "a liar makes up an envelope".to_owned());
        if let Ok(bytes) = (Frame { header, body }).encode() {
            self.node_sends(node, link.0, 1, bytes);
        }
    }

    /// Withholds a frame that the core wanted to send.
    pub fn liar_withholds(&mut self, node: usize, frame: &PeerFrame) -> bool {
        if !self.nodes[node].lies || matches!(frame, PeerFrame::Hello(_)) {
            return false;
        }
        let is_answer = matches!(frame, PeerFrame::Took(_) | PeerFrame::StatementsTook(_));
        (is_answer && self.options.mute) || self.lie_chance.happens(60)
    }

    /// Adds something to a frame that the core sent: a forgery, an old frame, or nonsense. Honest
    /// nodes add nothing but, where the options say so, an old frame of their own.
    pub fn liar_adds(&mut self, node: usize, link: LinkId) {
        if !self.faults_on {
            return;
        }
        let own = Machine::Node(node);
        let Some(side) = self.side_of(link.0, own) else { return };
        let Machine::Node(other) = self.net.links[&link.0].ends[1 - side] else { return };
        if !self.nodes[node].lies {
            if self.lie_chance.happens(self.options.replays) {
                self.replay(node, link, &[(node, other)]);
            }
            return;
        }
        self.artful_adds(node, other, link);
        match self.lie_chance.below(30) {
            0 => {
                let all: Vec<_> = self.net.recorded.keys().copied().collect();
                self.replay(node, link, &all);
            }
            1 | 2 => {
                if let Some(about) = self.some_overheard() {
                    self.forge(node, link, about);
                }
            }
            3 => self.babble(node, link),
            4 if self.options.custody => self.forge_origin(node, other, link),
            _ => {}
        }
    }

    fn replay(&mut self, node: usize, link: LinkId, ways: &[(usize, usize)]) {
        if ways.is_empty() {
            return;
        }
        let way = *self.lie_chance.pick(ways);
        let Some(frames) = self.net.recorded.get(&way) else { return };
        let bytes = self.lie_chance.pick(frames).clone();
        let name = self.name(Machine::Node(node));
        self.trace.say(self.schedule.now_ms(), || format!("{name} repeats an old frame"));
        self.node_sends(node, link.0, 0, bytes);
    }

    /// Statements about envelopes that were overheard, by the liar's own key or by an invented one.
    fn forge(&mut self, node: usize, link: LinkId, (eid, copy): (Eid, CopyId)) {
        let claim = *self.lie_chance.pick(Claim::ALL);
        let statement = Statement {
            claim,
            eid,
            copy: self.lie_chance.happens(700).then_some(copy),
            at_ms: self.now_ms(),
            reason: (claim == Claim::Failed).then_some(Reason::Policy),
            until_ms: None,
        };
        let me = &self.nodes[node];
        let (key, node_id) = if claim.is_by_device() {
            (SecretKey::from_seed(&self.lie_chance.bytes()), None)
        } else {
            (me.operational.clone(), Some(me.id))
        };
        let signer = Signer { key: key.public(), node: node_id, version: 1 };
        let boot = BootId(self.lie_chance.bytes());
        let stance = Stance { signer, incarnation: self.lie_chance.number(), boot };
        let salt = self.lie_chance.bytes();
        // About what is for its own users a node may say that it ends, true or not.
        let is_its_own =
            self.oracle.sent.get(&eid).is_some_and(|sent| sent.destination == self.nodes[node].id);
        if is_its_own && node_id.is_some() && claim.is_terminal() {
            self.oracle.node_words.insert((eid, statement.copy), claim);
            if claim == Claim::Closed {
                self.oracle.closed.insert(eid);
            }
        }
        let Some(proof) = Proof::sign(&[statement], &stance, &salt, &key) else { return };
        let rows = vec![self.lie_chance.number()];
        let frame = PeerFrame::Statements(Statements { rows, proofs: vec![proof] });
        self.liar_sends(node, link, &frame);
    }

    /// What is no frame, or one of a type that nobody knows.
    fn babble(&mut self, node: usize, link: LinkId) {
        let noise: [u8; 24] = self.lie_chance.bytes();
        let header = match self.lie_chance.below(3) {
            0 => noise.to_vec(),
            1 => vec![0x82, 0x18, 0x63, 0x00],
            _ => {
                let too_long = u32::MAX.to_be_bytes();
                self.node_sends(node, link.0, 0, Bytes::copy_from_slice(&too_long));
                return;
            }
        };
        if let Ok(bytes) = (Frame { header: header.into(), body: Bytes::new() }).encode() {
            self.node_sends(node, link.0, 0, bytes);
        }
    }

    fn some_overheard(&mut self) -> Option<(Eid, CopyId)> {
        let known = self.oracle.all_overheard();
        (!known.is_empty()).then(|| *self.lie_chance.pick(known))
    }

    pub(crate) fn mark_of(&self, node: usize) -> Option<Mark> {
        let store = &self.nodes[node].process.as_ref()?.store;
        let boot = BootId(store.lineage().boot.0);
        Some(Mark { boot, commit: store.commit_number() })
    }

    pub(crate) fn liar_sends(&mut self, node: usize, link: LinkId, frame: &PeerFrame) {
        let encoded = Frame { header: codec::encode(frame).into(), body: Bytes::new() }.encode();
        let name = self.name(Machine::Node(node));
        let line = crate::node_steps::brief(frame);
        self.trace.say(self.schedule.now_ms(), || format!("{name} lies: {line}"));
        if let Ok(bytes) = encoded {
            self.node_sends(node, link.0, 0, bytes);
        }
    }
}
