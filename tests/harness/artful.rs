//! A lying node of the worse kind, beside what `liar.rs` does: it sends late, so that what follows comes
//! first; it says "delivered" of what it drops, and that it has what it has not; and it sends more than
//! a frame, an envelope or a list may hold. It has a chance of its own, so that other liars stay as they
//! were.

use bytes::Bytes;
use tidings_core::event::{LinkId, PeerInput};
use tidings_protocol::{
    codec,
    envelope::{Class, EnvelopeHead, Header, Recipient, Target},
    frame::Frame,
    id::{BootId, CopyId, Eid, Hash},
    key::SecretKey,
    limits,
    peer_frame::{
        Answer, Audit, AuditAnswer, Offer, PeerFrame, Statements, StatementsTook, Took, Wanted,
    },
    statement::{Claim, Proof, Signer, Stance, Statement},
};

use crate::device::SimDevice;
use crate::world::{Action, World};

/// How late a frame may be, in ms: less than it takes to give up a link.
const LATE_MS_MAX: u64 = 20_000;

impl World {
    fn is_artful(&self, node: usize) -> bool {
        self.nodes[node].lies && self.options.artful
    }

    /// Keeps a frame back that the core wanted to send now.
    pub fn artful_delays(
        &mut self,
        node: usize,
        link: LinkId,
        frame: &PeerFrame,
        bytes: &Bytes,
    ) -> bool {
        let may = self.is_artful(node) && !matches!(frame, PeerFrame::Hello(_));
        if !may || !self.artful_chance.happens(100) {
            return false;
        }
        self.oracle.count("frames in the wrong order");
        let in_ms = self.artful_chance.between(1, LATE_MS_MAX);
        let (boot, lane) = (self.nodes[node].boot, usize::from(frame.is_bulk()));
        let (link, bytes) = (link.0, bytes.clone());
        self.schedule.plan(in_ms, Action::Late { node, boot, link, lane, bytes });
        true
    }

    /// Answers in the place of the core, which is not told.
    pub fn artful_swallows(&mut self, node: usize, link: LinkId, input: &PeerInput) -> bool {
        if !self.is_artful(node) {
            return false;
        }
        match input {
            PeerInput::Deliver(envelope) => {
                self.says_delivered(node, link, envelope.eid, &envelope.copies)
            }
            PeerInput::Forward(forward) => {
                self.says_delivered(node, link, forward.eid, &forward.forward.copies)
            }
            PeerInput::Audit { eids } => self.answers_an_audit(node, link, eids),
            _ => false,
        }
    }

    fn says_delivered(&mut self, node: usize, link: LinkId, eid: Eid, copies: &[CopyId]) -> bool {
        if !self.artful_chance.happens(300) {
            return false;
        }
        self.oracle.overheard(eid, copies);
        self.made_up_delivery(node, link, eid, copies);
        if self.artful_chance.happens(500) {
            return false;
        }
        let Some(mark) = self.mark_of(node) else { return false };
        let answers = vec![Answer { eid, refusal: None, lists: Vec::new() }];
        self.liar_sends(node, link, &PeerFrame::Took(Took { answers, mark }));
        true
    }

    /// "It waits here", or "it has ended, you will hear": both keep the origin from sending again.
    fn answers_an_audit(&mut self, node: usize, link: LinkId, eids: &[Eid]) -> bool {
        if !self.artful_chance.happens(300) {
            return false;
        }
        let waits = self.artful_chance.happens(500);
        let waiting = if waits { eids.to_vec() } else { Vec::new() };
        let answer = AuditAnswer { waiting, unknown: Vec::new() };
        self.liar_sends(node, link, &PeerFrame::AuditAnswer(answer));
        for eid in eids {
            let copies: Vec<CopyId> =
                self.oracle.sent.get(eid).map_or_else(Vec::new, |sent| {
                    sent.copies.iter().map(|(copy, _)| *copy).collect()
                });
            self.made_up_delivery(node, link, *eid, &copies);
        }
        true
    }

    /// `Delivered` or `Read` of each copy: by a key that nobody has, or by its own, which is no device's.
    fn made_up_delivery(&mut self, node: usize, link: LinkId, eid: Eid, copies: &[CopyId]) {
        self.oracle.count("deliveries that are made up");
        let claim = if self.artful_chance.happens(800) { Claim::Delivered } else { Claim::Read };
        let at_ms = self.now_ms();
        let statements: Vec<Statement> = copies
            .iter()
            .map(|copy| {
                let copy = Some(*copy);
                Statement { claim, eid, copy, at_ms, reason: None, until_ms: None }
            })
            .collect();
        let me = &self.nodes[node];
        let (own, id) = (me.operational.clone(), me.id);
        let (key, signs_as) = match self.artful_chance.below(3) {
            0 => (SecretKey::from_seed(&self.artful_chance.bytes()), None),
            1 => (own, None),
            _ => (own, Some(id)),
        };
        let signer = Signer { key: key.public(), node: signs_as, version: 1 };
        self.state(node, link, &statements, signer, &key);
    }

    fn state(
        &mut self,
        node: usize,
        link: LinkId,
        statements: &[Statement],
        signer: Signer,
        key: &SecretKey,
    ) {
        let boot = BootId(self.artful_chance.bytes());
        let stance = Stance { signer, incarnation: self.artful_chance.number(), boot };
        let salt = self.artful_chance.bytes();
        let proofs = Proof::sign(statements, &stance, &salt, key).into_iter().collect();
        let rows = vec![self.artful_chance.number()];
        self.liar_sends(node, link, &PeerFrame::Statements(Statements { rows, proofs }));
    }

    /// Adds what is too large to what the core sent.
    pub fn artful_adds(&mut self, node: usize, other: usize, link: LinkId) {
        if self.is_artful(node) && self.artful_chance.happens(50) {
            self.oracle.count("frames that are too large");
            self.sends_too_much(node, other, link);
        }
    }

    fn sends_too_much(&mut self, node: usize, other: usize, link: LinkId) {
        let destination = self.nodes[other].id;
        let frame = match self.artful_chance.below(10) {
            0 => return self.sends_too_long_a_frame(node, link),
            1 => PeerFrame::Audit(Audit { eids: self.eids(limits::AUDIT_EIDS_MAX + 1) }),
            2 => {
                let eids = self.eids(limits::OFFER_EIDS_MAX + 1);
                PeerFrame::Offer(Offer { destination, eids })
            }
            3 => return self.states_too_much(node, link),
            // The largest that fit into a frame: nobody asked for these.
            4 => PeerFrame::Wanted(Wanted {
                destination,
                refusal: None,
                eids: self.eids(2_000),
                delegation: None,
            }),
            5 => PeerFrame::AuditAnswer(AuditAnswer {
                waiting: self.eids(1_000),
                unknown: self.eids(1_000),
            }),
            6 => {
                let Some(mark) = self.mark_of(node) else { return };
                let answer = |eid| Answer { eid, refusal: None, lists: Vec::new() };
                let answers = self.eids(1_500).into_iter().map(answer).collect();
                PeerFrame::Took(Took { answers, mark })
            }
            7 => {
                let Some(mark) = self.mark_of(node) else { return };
                PeerFrame::StatementsTook(StatementsTook { rows: self.rows(64), mark })
            }
            8 => PeerFrame::Statements(Statements { rows: self.rows(16), proofs: Vec::new() }),
            _ => return self.sends_too_large_an_envelope(node, other, link),
        };
        self.liar_sends(node, link, &frame);
    }

    fn eids(&mut self, count: usize) -> Vec<Eid> {
        (0..count).map(|_| Eid(self.artful_chance.bytes())).collect()
    }

    /// As many numbers as fit into a frame beside so many bytes.
    fn rows(&mut self, beside: usize) -> Vec<u64> {
        const ROW_BYTES: usize = 9;
        let count = (limits::FRAME_BYTES_MAX - beside) / ROW_BYTES;
        (0..count).map(|_| self.artful_chance.number() | 1 << 63).collect()
    }

    fn sends_too_long_a_frame(&mut self, node: usize, link: LinkId) {
        let len = limits::FRAME_BYTES_MAX + 1;
        let mut bytes = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.resize(bytes.len() + len, 0);
        self.node_sends(node, link.0, 0, bytes.into());
    }

    fn states_too_much(&mut self, node: usize, link: LinkId) {
        let at_ms = self.now_ms();
        let eids = self.eids(limits::STATEMENTS_PER_FRAME_MAX + 1);
        let claim = Claim::AtDest;
        let state = |eid| Statement { claim, eid, copy: None, at_ms, reason: None, until_ms: None };
        let statements: Vec<Statement> = eids.into_iter().map(state).collect();
        let me = &self.nodes[node];
        let (key, node_id) = (me.operational.clone(), me.id);
        let signer = Signer { key: key.public(), node: Some(node_id), version: 1 };
        self.state(node, link, &statements, signer, &key);
    }

    /// An envelope in its own name that has too large a body, too many targets, or lives for too long.
    fn sends_too_large_an_envelope(&mut self, node: usize, other: usize, link: LinkId) {
        let of_other = |device: &&SimDevice| device.node == other;
        let Some(to) = self.devices.iter().find(of_other).and_then(SimDevice::id) else { return };
        let (mut bytes, mut targets, mut life_ms) = (16, 1, limits::MESSAGE_LIFE_MS_MAX);
        match self.artful_chance.below(3) {
            0 => bytes = limits::ENVELOPE_BYTES_MAX + 1,
            1 => targets = limits::TARGETS_MAX + 1,
            _ => life_ms += 1,
        }
        let now_ms = self.now_ms();
        let header = Header {
            version: limits::PROTOCOL_VERSION,
            origin: self.nodes[node].id,
            destination: self.nodes[other].id,
            created_ms: now_ms,
            expires_ms: now_ms + life_ms,
            class: Class::Message,
        };
        let target = |to| Target {
            to: Recipient::Device(to),
            auth: None,
            list_version: 0,
            list_hash: Hash([0; 32]),
            part: Bytes::from_static(b"made up"),
        };
        let mut all = vec![target(to)];
        while all.len() < targets {
            all.push(target(tidings_protocol::id::DeviceId(self.artful_chance.bytes())));
        }
        let frame = PeerFrame::Deliver(EnvelopeHead { header, targets: all });
        let frame = Frame { header: codec::encode(&frame).into(), body: vec![0; bytes].into() };
        if let Ok(bytes) = frame.encode() {
            self.node_sends(node, link.0, 1, bytes);
        }
    }
}
