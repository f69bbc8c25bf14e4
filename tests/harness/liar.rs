//! A node that lies to its peers: the production core, and around it somebody who swallows what he
//! says that he took, withholds statements, forges others, repeats old frames and sends nonsense.
//! A mute one takes everything and answers nothing of it, while its links stay alive.
//! It holds its own keys only. In the healed phase it is honest, and all must mend.

use bytes::Bytes;
use tidings_core::event::{LinkId, PeerInput};
use tidings_protocol::{
    codec,
    frame::Frame,
    hello::Mark,
    id::{BootId, CopyId, Eid},
    key::SecretKey,
    peer_frame::{Answer, PeerFrame, Statements, StatementsTook, Took},
    statement::{Claim, Proof, Reason, Signer, Stance, Statement},
};

use crate::network::Machine;
use crate::world::World;

impl World {
    /// Swallows an envelope and says that it was taken, or statements likewise.
    pub fn liar_swallows(&mut self, node: usize, link: LinkId, input: &PeerInput) -> bool {
        if !self.nodes[node].lies {
            return false;
        }
        if let PeerInput::Deliver(envelope) = input {
            self.oracle.overheard(envelope.eid, &envelope.copies);
            if let (Some(copy), true) = (envelope.copies.first(), self.lie_chance.happens(250)) {
                self.forge(node, link, (envelope.eid, *copy));
            }
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
            PeerInput::Hello(_)
            | PeerInput::Took { .. }
            | PeerInput::StatementsTook { .. }
            | PeerInput::Audit { .. }
            | PeerInput::AuditAnswer { .. }
            | PeerInput::FetchUser(_)
            | PeerInput::User(_)
            | PeerInput::KeepAlive { .. }
            | PeerInput::Farewell { .. } => return false,
        };
        self.liar_sends(node, link, &answer);
        true
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

    fn mark_of(&self, node: usize) -> Option<Mark> {
        let store = &self.nodes[node].process.as_ref()?.store;
        let boot = BootId(store.lineage().boot.0);
        Some(Mark { boot, commit: store.commit_number() })
    }

    fn liar_sends(&mut self, node: usize, link: LinkId, frame: &PeerFrame) {
        let encoded = Frame { header: codec::encode(frame).into(), body: Bytes::new() }.encode();
        let name = self.name(Machine::Node(node));
        let line = crate::node_steps::brief(frame);
        self.trace.say(self.schedule.now_ms(), || format!("{name} lies: {line}"));
        if let Ok(bytes) = encoded {
            self.node_sends(node, link.0, 0, bytes);
        }
    }
}
