//! The stateful target: bytes are a short program of what happens to a node, and after every commit
//! the rules of `rules.rs` must hold. Devices and the peer have real keys, so that a program gets
//! anywhere; what they send may also be any bytes, an earlier frame, or one with a byte changed.
//!
//! The simulator (`tests/harness/`) checks more rules, in worlds that make sense; this looks for
//! orders of events that nobody thought of.

use bytes::Bytes;
use tidings_core::{
    event::{AdminCommand, AdminToken, ConnId, Event},
    settings::Sabotage,
};
use tidings_protocol::{
    client_frame::{
        ClientFrame, FetchBundle, NodeFrame, Noted, Ping, Received, ReceivedItem, Submit,
    },
    device_list::list_hash,
    envelope::{Class, EnvelopeHead, Header, Recipient, Target, shared_hash},
    frame::Frame,
    id::{DeviceId, Eid, SubmitId, timed_id},
    limits,
    peer_frame::{
        Answer, Audit, AuditAnswer, FetchUser, KeepAlive, PeerFrame, Statements, StatementsTook,
        Took,
    },
    statement::{Claim, Proof, Signer, Stance, Statement},
};

use crate::frames::NOW_MS;
use crate::world::{Told, World, mark};

/// Steps of one program: enough for every state, few enough for thousands of programs a second.
const STEPS_MAX: usize = 48;

/// Runs a program on a node as it is.
pub(crate) fn program(bytes: &[u8]) {
    run(bytes, None);
}

/// Runs a program on a node that may be broken on purpose.
pub(crate) fn run(bytes: &[u8], sabotage: Option<Sabotage>) {
    let mut tape = Tape(bytes);
    let mut world = World::new(sabotage);
    world.effects.clear();
    for _ in 0..STEPS_MAX {
        let Some(step) = tape.next() else { break };
        let before = world.rows();
        let told = world.step(step, &mut tape);
        world.judge(&before, &told);
    }
    world.judge_restart();
    world.judge_layout();
}

/// The bytes of a program.
struct Tape<'a>(&'a [u8]);

impl Tape<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// As many bytes as the next two say.
    fn bytes(&mut self) -> Bytes {
        let len = usize::from(u16::from_be_bytes([self.byte(), self.byte()])).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }
}

impl World {
    /// One step. What the node was told by it, for the rules.
    fn step(&mut self, step: u8, tape: &mut Tape<'_>) -> Told {
        let marked = self.sent.len();
        match step % 24 {
            0 => self.raw_client(tape),
            1 => self.raw_peer(tape),
            2..=4 => self.submit(tape),
            5 => return self.receive(tape),
            6 => return self.noted(tape),
            7 => self.again(tape),
            8 => self.close(tape),
            9 => self.link_up(tape.byte() & 1 == 1),
            10 => {
                if let Some(link) = self.link.take() {
                    self.give(Event::PeerClosed { link });
                }
            }
            11 | 12 => self.deliver(tape),
            13 => self.took(tape),
            14 => return self.statements(tape),
            15 => return self.statements_took(tape),
            16 => self.audit(tape),
            17 => return self.replay(tape),
            18 => {
                // Up to a month and a half, in powers of two; the node may be slow to notice.
                let how = tape.byte();
                self.now_ms += 1_u64 << (how % 32);
                if how & 128 == 0 {
                    self.give(Event::Tick);
                }
            }
            19 => self.ticks(),
            20 => self.judge_restart(),
            21 => {
                let free = u64::from(tape.byte());
                self.give(Event::Disk { free, size: 256 });
            }
            22 => self.ask(tape),
            _ => self.fetch(tape),
        }
        match self.sent.get(marked) {
            Some((is_client, frame)) => Told::by(*is_client, frame, self.now_ms, &self.opener()),
            None => Told::default(),
        }
    }

    fn conn(&self, tape: &mut Tape<'_>) -> Option<ConnId> {
        let at = usize::from(tape.byte());
        self.conns.keys().nth(at % self.conns.len().max(1)).copied()
    }

    fn raw_client(&mut self, tape: &mut Tape<'_>) {
        let Some(conn) = self.conn(tape) else { return };
        let frame = Frame { header: tape.bytes(), body: tape.bytes() };
        self.client_frame(conn, &frame);
    }

    fn raw_peer(&mut self, tape: &mut Tape<'_>) {
        let frame = Frame { header: tape.bytes(), body: tape.bytes() };
        self.peer_frame(&frame);
    }

    /// A head for a person at acme, or for somebody at globex.
    fn head(&self, number: u8, how: u8, is_from_peer: bool) -> EnvelopeHead {
        let (to_peer, short, late, early) =
            (how & 1 == 1 && !is_from_peer, how & 2 != 0, how & 4 != 0, how & 8 != 0);
        let (origin, destination) = match (is_from_peer, to_peer) {
            (true, _) => (self.globex_id, self.node),
            (false, true) => (self.node, self.globex_id),
            (false, false) => (self.node, self.node),
        };
        let created_ms = match (late, early) {
            (true, _) => self.now_ms.saturating_sub(limits::MESSAGE_LIFE_MS_MAX - 60_000),
            (false, true) => self.now_ms + limits::CLOCK_SKEW_MS_MAX / 2,
            (false, false) => self.now_ms,
        };
        let life_ms = if short { 90_000 } else { limits::MESSAGE_LIFE_MS_MAX };
        let header = Header {
            version: limits::PROTOCOL_VERSION,
            origin,
            destination,
            created_ms,
            expires_ms: created_ms + life_ms,
            class: Class::Message,
        };
        let target = |phone: usize| {
            let phone = &self.phones[phone];
            Target {
                to: Recipient::Device(DeviceId::of(&phone.key.public())),
                auth: None,
                list_version: u64::from(how & 16 != 0),
                list_hash: list_hash(&phone.list),
                part: Bytes::copy_from_slice(&[number, how]),
            }
        };
        let targets = match how >> 5 & 3 {
            0 => vec![target(0)],
            1 => vec![target(1)],
            2 => vec![target(0), target(1)],
            // Somebody whom nobody knows.
            _ => {
                let device = Recipient::Device(DeviceId([number; 16]));
                vec![Target { to: device, ..target(0) }]
            }
        };
        EnvelopeHead { header, targets }
    }

    fn submit(&mut self, tape: &mut Tape<'_>) {
        let Some(conn) = self.conn(tape) else { return };
        let (number, how) = (tape.byte(), tape.byte());
        // The same submission comes again, and a fresh one after any time.
        let at_ms = if number & 8 == 0 { NOW_MS } else { self.now_ms };
        let submit = SubmitId(timed_id(at_ms, [number % 8; 10]));
        let mut heads = vec![self.head(number, how, false)];
        if how & 128 != 0 {
            heads.push(self.head(number, how ^ 1, false));
        }
        let frame = ClientFrame::Submit(Submit { submit, heads, mine: mark(u64::from(number)) });
        self.client(conn, &frame, Bytes::copy_from_slice(&[number]));
    }

    /// A device names everything that it was given since the last time.
    fn receive(&mut self, tape: &mut Tape<'_>) -> Told {
        let (Some(conn), how) = (self.conn(tape), tape.byte()) else { return Told::default() };
        let Some(open) = self.conns.get_mut(&conn) else { return Told::default() };
        let (mut items, mut statements) = (Vec::new(), Vec::new());
        for (frame, body) in &open.said {
            let NodeFrame::Deliver(deliver) = frame else { continue };
            if items.len() == limits::STATEMENTS_PER_FRAME_MAX {
                break;
            }
            let copy = deliver.target.copy_id(&deliver.header.hash(), &shared_hash(body));
            items.push(ReceivedItem { inbox: deliver.inbox, copy });
            let claim = if how & 1 == 1 { Claim::Undecryptable } else { Claim::Delivered };
            statements.push(Statement {
                claim,
                eid: deliver.eid,
                copy: Some(copy),
                at_ms: self.now_ms,
                reason: None,
                until_ms: None,
            });
        }
        open.said.retain(|(frame, _)| !matches!(frame, NodeFrame::Deliver(_)));
        // Another device's word is worth nothing.
        let phone = if how & 2 == 2 { 1 - open.phone } else { open.phone };
        let key = &self.phones[phone].key;
        let signer = Signer { key: key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 1, boot: mark(1).boot };
        let Some(proof) = Proof::sign(&statements, &stance, &[7; 32], key) else {
            return Told::default();
        };
        for item in &items {
            open.pushed.remove(&item.inbox);
        }
        let mut told = Told::default();
        if how & 2 == 0 {
            told.received = items.iter().map(|item| (item.inbox, item.copy)).collect();
            told.stated = statements.iter().map(|statement| statement.eid).collect();
        }
        let frame = ClientFrame::Received(Received { items, proof, mine: mark(1_000) });
        self.client(conn, &frame, Bytes::new());
        told
    }

    fn noted(&mut self, tape: &mut Tape<'_>) -> Told {
        let Some(conn) = self.conn(tape) else { return Told::default() };
        let Some(open) = self.conns.get_mut(&conn) else { return Told::default() };
        let notes: Vec<u64> = open
            .said
            .iter()
            .filter_map(|(frame, _)| match frame {
                NodeFrame::Notes(notes) => Some(notes.notes.clone()),
                _ => None,
            })
            .flatten()
            .collect();
        open.said.retain(|(frame, _)| !matches!(frame, NodeFrame::Notes(_)));
        let told = Told { taken: notes.iter().copied().collect(), ..Told::default() };
        self.client(conn, &ClientFrame::Noted(Noted { notes, mine: mark(1_000) }), Bytes::new());
        told
    }

    /// A device comes, on another connection, and greets or not.
    fn again(&mut self, tape: &mut Tape<'_>) {
        let how = tape.byte();
        if self.conns.len() < 8 {
            let conn = self.connect(usize::from(how & 1));
            if how & 2 == 0 {
                self.greet(conn);
            }
        }
    }

    fn close(&mut self, tape: &mut Tape<'_>) {
        if let Some(conn) = self.conn(tape) {
            self.conns.remove(&conn);
            self.give(Event::ClientClosed { conn });
        }
    }

    fn deliver(&mut self, tape: &mut Tape<'_>) {
        let (number, how) = (tape.byte(), tape.byte());
        let head = self.head(number, how, true);
        self.peer(&PeerFrame::Deliver(head), Bytes::copy_from_slice(&[number]));
    }

    /// Envelopes that the node sent to globex, with their ids.
    fn carried(&self) -> Vec<(Eid, EnvelopeHead, Bytes)> {
        let delivered = self.to_peer.iter().filter_map(|(frame, body)| match frame {
            PeerFrame::Deliver(head) => Some((head.ids(&shared_hash(body)).0, head, body)),
            _ => None,
        });
        delivered.map(|(eid, head, body)| (eid, head.clone(), body.clone())).collect()
    }

    fn took(&mut self, tape: &mut Tape<'_>) {
        let refused = tape.byte();
        let code = tidings_protocol::refusal::RefusalCode::from_code(refused);
        let answers = self.carried().into_iter().take(64).map(|(eid, ..)| Answer {
            eid,
            refusal: code.map(Into::into),
            lists: Vec::new(),
        });
        let took = Took { answers: answers.collect(), mark: mark(2) };
        self.peer(&PeerFrame::Took(took), Bytes::new());
    }

    /// globex says what became of what it was sent, in its own name or in that of a device.
    fn statements(&mut self, tape: &mut Tape<'_>) -> Told {
        let (claim, how) = (tape.byte(), tape.byte());
        let Some(claim) = Claim::from_code(claim % 8 + 1) else { return Told::default() };
        let key = match how % 3 {
            0 => &self.globex,
            1 => &self.phones[0].key,
            _ => &self.phones[1].key,
        };
        let node = (how % 3 == 0).then_some(self.globex_id);
        let of_copy = claim.is_by_device() || how & 64 == 0;
        let mut statements = Vec::new();
        for (eid, head, body) in self.carried() {
            for copy in head.ids(&shared_hash(&body)).1 {
                statements.push(Statement {
                    claim,
                    eid,
                    copy: of_copy.then_some(copy),
                    at_ms: self.now_ms,
                    reason: None,
                    until_ms: None,
                });
            }
        }
        statements.truncate(limits::STATEMENTS_PER_FRAME_MAX);
        let signer = Signer { key: key.public(), node, version: 1 };
        let stance = Stance { signer, incarnation: 1, boot: mark(1).boot };
        let Some(proof) = Proof::sign(&statements, &stance, &[7; 32], key) else {
            return Told::default();
        };
        let told =
            Told { stated: statements.iter().map(|said| said.eid).collect(), ..Told::default() };
        let frame = PeerFrame::Statements(Statements { rows: vec![1], proofs: vec![proof] });
        self.peer(&frame, Bytes::new());
        told
    }

    fn statements_took(&mut self, tape: &mut Tape<'_>) -> Told {
        let skip = usize::from(tape.byte() & 1);
        let rows = self.to_peer.iter().filter_map(|(frame, _)| match frame {
            PeerFrame::Statements(statements) => Some(statements.rows.clone()),
            _ => None,
        });
        let rows: Vec<u64> = rows.flatten().skip(skip).collect();
        let told = Told { taken: rows.iter().copied().collect(), ..Told::default() };
        let frame = PeerFrame::StatementsTook(StatementsTook { rows, mark: mark(2) });
        self.peer(&frame, Bytes::new());
        told
    }

    fn audit(&mut self, tape: &mut Tape<'_>) {
        let how = tape.byte();
        let eids: Vec<Eid> = self.carried().into_iter().map(|(eid, ..)| eid).collect();
        let frame = match how % 4 {
            0 => PeerFrame::AuditAnswer(AuditAnswer { waiting: Vec::new(), unknown: eids }),
            1 => PeerFrame::AuditAnswer(AuditAnswer { waiting: eids, unknown: Vec::new() }),
            2 => {
                let seen = self.rows().seen;
                let eids = seen.keys().filter_map(|key| Eid::from_slice(key)).collect();
                PeerFrame::Audit(Audit { eids })
            }
            // A mark that goes back: globex was restored.
            _ => PeerFrame::KeepAlive(KeepAlive { mark: mark(u64::from(how)) }),
        };
        self.peer(&frame, Bytes::new());
    }

    /// An earlier frame once more, as it was or with one byte changed.
    fn replay(&mut self, tape: &mut Tape<'_>) -> Told {
        let (which, at, change) = (tape.byte(), tape.byte(), tape.byte());
        let count = self.sent.len().max(1);
        let Some((is_client, frame)) = self.sent.get(usize::from(which) % count).cloned() else {
            return Told::default();
        };
        let mut header = frame.header.to_vec();
        let len = header.len().max(1);
        if let Some(byte) = header.get_mut(usize::from(at) * 7 % len) {
            *byte ^= change;
        }
        let frame = Frame { header: header.into(), body: frame.body };
        let told = Told::by(is_client, &frame, self.now_ms, &self.opener());
        if is_client {
            if let Some(conn) = self.conn(tape) {
                self.client_frame(conn, &frame);
            }
        } else {
            self.peer_frame(&frame);
        }
        told
    }

    /// Time goes to each deadline of the node; none may stand still.
    fn ticks(&mut self) {
        for _ in 0..16 {
            let Some(at_ms) = self.core.next_deadline() else { return };
            self.now_ms = self.now_ms.max(at_ms);
            self.give(Event::Tick);
        }
        let mut stands = 0;
        while self.core.next_deadline().is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.give(Event::Tick);
            stands += 1;
            assert!(stands < 64, "the node wants a tick at once, for ever");
        }
    }

    fn ask(&mut self, tape: &mut Tape<'_>) {
        let command = match tape.byte() % 3 {
            0 => AdminCommand::Peers,
            1 => AdminCommand::Queue { node: None },
            _ => AdminCommand::Queue { node: Some(self.globex_id) },
        };
        self.give(Event::Admin { token: AdminToken(1), command });
        if tape.byte() == 0xdd {
            self.give(Event::Drain);
        }
    }

    fn fetch(&mut self, tape: &mut Tape<'_>) {
        let how = tape.byte();
        let Ok(name) = self.phones[usize::from(how & 1)].list.peek().map(|list| list.name) else {
            return;
        };
        if how & 2 == 0 {
            let frame = FetchUser { request: 1, name, known_version: None, with_bundles: true };
            self.peer(&PeerFrame::FetchUser(frame), Bytes::new());
        } else if let Some(conn) = self.conn(tape) {
            let node = if how & 4 == 0 { self.node } else { self.globex_id };
            let (known_version, with_bundles) = ((how & 8 != 0).then_some(0), how & 16 == 0);
            let frame = FetchBundle { request: 1, node, name, known_version, with_bundles };
            self.client(conn, &ClientFrame::FetchBundle(frame), Bytes::new());
            self.client(conn, &ClientFrame::Ping(Ping { number: 1 }), Bytes::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::settings::Sabotage;

    use super::run;

    /// carol is written to from globex; the copy is pushed; later she answers, late in the month.
    const FROM_GLOBEX: &[u8] = &[9, 0, 11, 1, 32, 19, 5, 1, 0, 6, 0, 15, 0, 20];
    /// alice writes to carol and to globex; globex takes it and carol's word comes back.
    const TO_BOTH: &[u8] = &[9, 0, 2, 0, 1, 128 + 32, 13, 0, 14, 3, 2, 5, 1, 0, 6, 0, 20];

    #[test]
    fn a_sound_node_passes() {
        for program in [FROM_GLOBEX, TO_BOTH, &[]] {
            run(program, None);
        }
    }

    fn is_caught(program: &'static [u8], sabotage: Sabotage) -> bool {
        std::panic::catch_unwind(|| run(program, Some(sabotage))).is_err()
    }

    #[test]
    fn a_node_that_is_broken_on_purpose_is_caught() {
        assert!(is_caught(FROM_GLOBEX, Sabotage::DeleteOnPush));
        assert!(is_caught(TO_BOTH, Sabotage::DropCopyOnHopAck));
        // carol answers while globex is away, which then comes.
        let late = &[9, 0, 11, 1, 32, 10, 5, 1, 0, 9, 0];
        assert!(is_caught(late, Sabotage::ForgetStatementOnSend));
        // Pushed, then over: what is expired is handed out at the next greeting.
        assert!(is_caught(&[8, 1, 9, 0, 11, 1, 34, 18, 145, 7, 1], Sabotage::PushExpired));
    }
}
