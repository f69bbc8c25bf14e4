//! What is owed to other nodes: sent in order within a window, kept until the end is proved.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidings_protocol::{
    envelope::{EnvelopeHead, Header},
    id::{AccountId, Eid, NodeId},
    limits,
    peer_frame::{Answer, PeerFrame},
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    custody::ROUTE_AFTER_MS,
    effect::Effect,
    event::LinkId,
    peer::{Peer, Sent},
    policy::{Act, Verdict},
    schema::{
        self, DEAD_LETTERS, OUT, OUTBOX, OutRow, OutboxRow, WAYS, lsn_of, peer_key, range_from,
    },
    settings::Sabotage,
    step::{Stage, Step},
};

/// Rows read at once: about a megabyte at most, so that no batch stands still for long.
const PUMP_ROWS: usize = 128;
/// Rows sent in one batch to one peer, so that peers take turns.
const TURN_ROWS: usize = 1_024;
/// Envelopes that a peer may have told us to send again later; at more, nothing new is sent to it.
pub(crate) const RESEND_MAX: usize = 4_096;
/// How long to wait when a peer gives no time itself.
const RESEND_AFTER_MS: u64 = 5_000;

/// Why an envelope was refused, and when to try again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    pub(crate) code: RefusalCode,
    pub(crate) after_ms: u64,
    pub(crate) is_for_now: bool,
}

/// An own envelope on its way to a next hop.
#[derive(Debug)]
pub(crate) struct Unsealed {
    link: LinkId,
    lsn: u64,
    eid: Eid,
    head: EnvelopeHead,
    shared: Bytes,
}

/// An envelope whose row is written in this batch: sent without reading it back.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) lsn: u64,
    /// Who wrote it, where it is just being written.
    pub(crate) sender: Option<AccountId>,
    pub(crate) eid: Eid,
    /// `Deliver`, or `Forward` when another node handed it over.
    pub(crate) frame: PeerFrame,
    pub(crate) frame_bytes: usize,
    pub(crate) shared: Bytes,
}

impl Peer {
    /// True when no row of the outbox lies at the cursor or behind it, but for the fresh ones.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up == Some(self.cursor)
    }

    /// From now on the rows on disk count, not those in memory.
    pub(crate) fn fall_behind(&mut self) {
        self.caught_up = None;
        for Fresh { sender, lsn, .. } in self.fresh.drain(..) {
            self.newest.wrote(sender, lsn);
        }
    }

    /// Envelopes that wait to be handed over: the peer holds the others that are not final.
    pub(crate) fn waiting(&self) -> u64 {
        self.unsent + self.owed.len() as u64
    }

    /// A row is sent, or not worth it any more. True when that is new.
    pub(crate) fn pass(&mut self, lsn: u64) -> bool {
        if lsn < self.passed {
            return false;
        }
        self.passed = lsn + 1;
        self.unsent = self.unsent.saturating_sub(1);
        self.owed.insert(lsn);
        true
    }

    /// A row is gone. True when it was a dead letter.
    fn drop_row(&mut self, lsn: u64) -> bool {
        self.queued = self.queued.saturating_sub(1);
        if !self.owed.remove(&lsn) && lsn >= self.passed {
            self.unsent = self.unsent.saturating_sub(1);
        }
        self.resend.remove(&lsn);
        self.newest.forget(lsn);
        if lsn >= self.cursor {
            self.fall_behind();
        }
        self.dead.forget(lsn)
    }

    /// What the window of its link has room for.
    pub(crate) fn room(&self) -> usize {
        if self.dead.wants_quiet(self.inflight.len()) { 0 } else { self.window() }
    }

    fn window(&self) -> usize {
        if self.inflight.weight() >= limits::PEER_WINDOW_BYTES {
            return 0;
        }
        limits::PEER_WINDOW_ENVELOPES.saturating_sub(self.inflight.len())
    }
}

impl Core {
    /// An envelope for a peer is on disk.
    pub(crate) fn note_queued(&mut self, node: &NodeId, fresh: Fresh) {
        let bytes = (fresh.frame_bytes + fresh.shared.len()) as u64;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.queued += 1;
            peer.queued_bytes += bytes;
            peer.unsent += 1;
            if peer.is_caught_up() {
                peer.fresh.push(fresh);
            } else {
                peer.newest.wrote(fresh.sender, fresh.lsn);
            }
        }
        self.batch.peer_rows.insert(*node);
        self.batch.peers.insert(*node);
    }

    /// How many envelopes for a node may be sent on the link of its way.
    pub(crate) fn room_for(&self, node: &NodeId) -> usize {
        let way = self.way_of(node);
        let Some(through) = self.peers.get(&way) else { return 0 };
        if !self.routes.is_hop(&way) {
            return through.room();
        }
        let inflight = through.inflight.len();
        let troubled = self.peers.iter().filter(|(_, peer)| !peer.dead.is_calm());
        let wants_quiet = troubled
            .filter(|(behind, _)| self.way_of(behind) == way)
            .any(|(_, peer)| peer.dead.wants_quiet(inflight));
        if wants_quiet { 0 } else { through.window() }
    }

    /// When something has to be sent again. With a full window an answer comes first.
    pub(crate) fn resend_deadline(&self, node: &NodeId, peer: &Peer) -> Option<u64> {
        let paused = (peer.paused_until_ms > 0).then_some(peer.paused_until_ms);
        let next = peer.resend.values().copied().chain(paused).min()?;
        (self.room_for(node) > 0).then_some(next)
    }

    /// Sends what waits for these peers, each within the window of its way, or tries to reach them.
    pub(crate) fn pump_peers(
        &mut self,
        nodes: BTreeSet<NodeId>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let mut through: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in nodes {
            let way = self.way_of(&node);
            if self.routes.is_hop(&way) {
                through.entry(way).or_default().push(node);
            } else {
                self.pump_peer(&node, txn)?;
            }
        }
        for (hop, nodes) in through {
            self.pump_through(&hop, nodes, txn)?;
        }
        Ok(())
    }

    /// Sends what waits for a next hop and for those behind it, who share its window: the one after
    /// the one whose turn it was last begins.
    fn pump_through(
        &mut self,
        hop: &NodeId,
        mut nodes: Vec<NodeId>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        for node in &nodes {
            // Who greets us gets its statements itself, wherever its envelopes go.
            if self.may(node, Act::Answer) == Verdict::Yes {
                self.pump_statements(node, txn)?;
            }
        }
        nodes.retain(|node| self.may_send(node));
        if !self.may_send(hop) {
            return Ok(());
        }
        let Some(peer) = self.peers.get(hop).filter(|peer| peer.link.is_some()) else {
            self.reach(hop);
            return if nodes.contains(hop) { self.pump_custody(hop, txn) } else { Ok(()) };
        };
        let served = nodes.partition_point(|node| Some(*node) <= peer.turn);
        nodes.rotate_left(served);
        for node in nodes {
            let room = self.room_for(&node);
            self.pump_queue(&node, txn)?;
            let has_sent = self.room_for(&node) < room;
            if let Some(peer) = self.peers.get_mut(hop).filter(|_| has_sent) {
                peer.turn = Some(node);
            }
        }
        Ok(())
    }

    fn pump_peer(&mut self, node: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        if !self.may_send(node) {
            self.end_handing(node);
            // A node that is gone for good may still come for what was said of its own.
            if self.may(node, Act::Answer) == Verdict::Yes {
                self.pump_statements(node, txn)?;
            }
            return Ok(());
        }
        if self.peers.get(node).is_none_or(|peer| peer.link.is_none()) {
            self.pushes.remove(node);
            self.reach(node);
            return self.pump_custody(node, txn);
        }
        self.pump_statements(node, txn)?;
        self.pump_queue(node, txn)
    }

    fn pump_queue(&mut self, node: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.send_again(node, txn)?;
        if self.is_sabotaged(Sabotage::HoldBehindRefused)
            && let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.dead.blames_any())
        {
            peer.fall_behind();
            return self.pump_audit(node, txn);
        }
        self.send_fresh(node);
        self.send_newest(node, txn)?;
        let mut turn = TURN_ROWS;
        while let Some(peer) = self.peers.get(node).filter(|peer| !peer.is_caught_up()) {
            let max = self.room_for(node).min(PUMP_ROWS).min(turn);
            if max == 0 || peer.paused_until_ms > self.now_ms {
                break;
            }
            let prefix = peer.number.to_be_bytes();
            let rows = range_from(txn, OUTBOX, &prefix, peer.cursor, max)?;
            let is_last = rows.len() < max;
            turn -= rows.len();
            for (key, bytes) in rows {
                let lsn = lsn_of(&key);
                let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
                peer.cursor = lsn + 1;
                match peer.newest.comes_to(lsn) {
                    Some(is_taken) => self.pass_ahead(node, lsn, is_taken),
                    None if peer.dead.is_set_aside(lsn) => {}
                    None => self.send_row(node, lsn, &bytes)?,
                }
            }
            if is_last {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.catch_up();
                }
                break;
            }
        }
        self.pump_suspect(node, txn)?;
        self.send_sealed(node, txn)?;
        self.pump_directory(node, txn)?;
        self.pump_audit(node, txn)
    }

    /// Sends what this batch has written, if nothing older waits.
    fn send_fresh(&mut self, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        if !peer.is_caught_up() {
            return;
        }
        let mut fresh = core::mem::take(&mut peer.fresh).into_iter();
        while let Some(envelope) = fresh.next() {
            let room = self.room_for(node);
            let Some(peer) = self.peers.get_mut(node) else { return };
            if room == 0 || peer.paused_until_ms > self.now_ms {
                peer.fresh.push(envelope);
                peer.fresh.extend(fresh);
                peer.fall_behind();
                return;
            }
            peer.cursor = envelope.lsn + 1;
            peer.caught_up = Some(peer.cursor);
            self.send_envelope(node, envelope);
        }
    }

    pub(crate) fn send_row(
        &mut self,
        node: &NodeId,
        lsn: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let OutboxRow { eid, frame, shared, .. } = schema::decode(bytes)?;
        let frame_bytes = frame.len();
        let frame = schema::decode(&frame)?;
        self.send_envelope(node, Fresh { lsn, sender: None, eid, frame, frame_bytes, shared });
        Ok(())
    }

    fn send_envelope(&mut self, node: &NodeId, envelope: Fresh) {
        let Some(link) = self.way_link(node) else { return };
        let Some(peer) = self.peers.get_mut(node) else { return };
        let lsn = envelope.lsn;
        if peer.pass(lsn) {
            self.batch.peer_rows.insert(*node);
        }
        if !self.put_on_link(link, node, envelope) {
            return;
        }
        let Some(peer) = self.peers.get_mut(node) else { return };
        if lsn > peer.sent {
            peer.sent = lsn;
            self.batch.peer_rows.insert(*node);
        }
    }

    /// Sends an envelope, unless its time is over or it is on its way. True when it was sent.
    pub(crate) fn put_on_link(&mut self, link: LinkId, node: &NodeId, envelope: Fresh) -> bool {
        let Fresh { lsn, eid, frame, frame_bytes, shared, .. } = envelope;
        let (way, at_ms) = (self.way_of(node), self.now_ms);
        let is_over = header_of(&frame).is_none_or(|header| header.expires_ms <= at_ms);
        let Some(through) = self.peers.get_mut(&way) else { return false };
        if is_over || through.inflight.contains(&eid) {
            return false;
        }
        let is_routed = way != *node;
        let sent = Sent { lsn, at_ms, absent: is_routed.then_some(*node), is_routed };
        through.inflight.insert(eid, sent, frame_bytes + shared.len());
        through.patience.sent(at_ms);
        through.conduct.counts.envelopes_out += 1;
        through.conduct.counts.bytes_out += shared.len() as u64;
        if is_routed && let PeerFrame::Deliver(head) = frame {
            let own = self.batch.to_seal.entry(*node).or_default();
            own.push(Unsealed { link, lsn, eid, head, shared });
        } else {
            self.effects.push_back(Effect::ToPeer { link, frame, body: shared });
        }
        true
    }

    /// Sends own envelopes to a next hop: their targets sealed to the destination, and with the proof
    /// that they are ours, under one signature.
    fn send_sealed(&mut self, node: &NodeId, txn: &dyn Txn) -> Result<(), StoreError> {
        let Some(unsealed) = self.batch.to_seal.remove(node) else { return Ok(()) };
        let mut rows = Vec::with_capacity(unsealed.len());
        for own in unsealed {
            if let Some(out) = schema::get::<OutRow>(txn, OUT, own.eid.as_bytes())? {
                rows.push((own, out));
            }
        }
        let (way, now_ms) = (self.way_of(node), self.now_ms);
        for chunk in rows.chunks(limits::STATEMENTS_PER_BATCH_MAX) {
            let accepted = chunk.iter().map(|(own, out)| (own.eid, out.accepted_ms));
            for ((own, out), origin) in chunk.iter().zip(self.prove_origin(accepted)) {
                let copies = out.copies.iter().map(|copy| copy.copy).collect();
                let head = own.head.clone();
                let sealed = self.seal(head, &own.eid, copies, origin, limits::HOPS_MAX);
                if let Some(forward) = sealed {
                    let (link, body) = (own.link, own.shared.clone());
                    let frame = PeerFrame::Forward(forward);
                    self.effects.push_back(Effect::ToPeer { link, frame, body });
                    continue;
                }
                // Nobody has told us its key yet: the hop is asked for it, a little later.
                if let Some(through) = self.peers.get_mut(&way) {
                    through.inflight.remove(&own.eid);
                }
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.audits.handed(own.lsn, now_ms);
                }
            }
        }
        Ok(())
    }

    fn send_again(&mut self, node: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let (now_ms, room) = (self.now_ms, self.room_for(node));
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        if peer.paused_until_ms <= now_ms {
            peer.paused_until_ms = 0;
        }
        let number = peer.number;
        let due: Vec<u64> = peer
            .resend
            .iter()
            .filter(|(_, at_ms)| **at_ms <= now_ms)
            .map(|(lsn, _)| *lsn)
            .take(room)
            .collect();
        for lsn in due {
            if let Some(peer) = self.peers.get_mut(node) {
                peer.resend.remove(&lsn);
            }
            if let Some(bytes) = txn.get(OUTBOX, &peer_key(number, lsn))? {
                self.send_row(node, lsn, &bytes)?;
            }
        }
        Ok(())
    }

    /// A peer has envelopes on disk, or says why not. That moves the duty to try, and nothing else:
    /// the copy stays until the end is proved.
    pub(crate) fn on_took(
        &mut self,
        node: &NodeId,
        answers: Vec<Answer>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        for answer in answers {
            let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
            let Some(sent) = peer.inflight.remove(&answer.eid) else {
                continue;
            };
            peer.retry.answered();
            let Some(owner) = sent.owner(node) else {
                if let Some(absent) = sent.absent {
                    self.on_forwarded(node, &absent, sent.lsn, answer.refusal.as_ref());
                }
                continue;
            };
            let code = answer.refusal.as_ref().map(|refusal| refusal.code);
            if let Some(code) = code
                && self.drop_unopened(&answer.eid, code, txn)?
            {
                continue;
            }
            if let Some(code) = code
                && self.give_back(&owner, &answer.eid, code, txn)?
            {
                continue;
            }
            self.on_answer(&owner, &sent, &answer, txn)?;
            if self.is_sabotaged(Sabotage::DropCopyOnHopAck) {
                self.drop_out(&answer.eid, txn)?;
            } else {
                self.pass_lists(&answer.eid, answer.lists, txn)?;
            }
        }
        self.batch.peers.insert(*node);
        if self.routes.is_hop(node) {
            // Its window has room again, for all who share it.
            let behind = self.sent_through(node).into_iter();
            let waits = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.queued > 0);
            let waiting: Vec<NodeId> = behind.filter(waits).collect();
            self.batch.peers.extend(waiting);
        }
        Ok(())
    }

    /// What the way of a node answers about an envelope in that node's outbox.
    fn on_answer(
        &mut self,
        node: &NodeId,
        sent: &Sent,
        answer: &Answer,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let (now_ms, lsn) = (self.now_ms, sent.lsn);
        let refusal = answer.refusal.as_ref().map(|refusal| Refused {
            code: refusal.code,
            after_ms: refusal.after_ms.unwrap_or(RESEND_AFTER_MS).max(1),
            is_for_now: refusal.code.may_retry(),
        });
        // A next hop that does not pass on for us may be told to by its administrator.
        let may_change = sent.is_routed && refusal.is_some_and(|r| r.code == RefusalCode::Refused);
        let refusal = if may_change {
            let (code, after_ms) = (RefusalCode::Refused, ROUTE_AFTER_MS);
            Some(Refused { code, after_ms, is_for_now: true })
        } else {
            refusal
        };
        if self.peers.get(node).is_some_and(|peer| peer.newest.is_ahead(lsn)) {
            let code = refusal.map(|refusal| refusal.code);
            return self.on_answer_ahead(node, lsn, &answer.eid, code, txn);
        }
        let is_dead = self.note_answer(node, lsn, &answer.eid, refusal.as_ref(), txn)?;
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        peer.refusal = refusal.as_ref().map(|refusal| refusal.code);
        match refusal {
            Some(_) if is_dead => {}
            Some(Refused { after_ms, is_for_now: true, .. }) => {
                if peer.resend.len() < RESEND_MAX {
                    peer.resend.insert(lsn, now_ms + after_ms);
                } else {
                    peer.go_back(lsn);
                    peer.paused_until_ms = now_ms + after_ms;
                }
            }
            // A final refusal on a hop proves nothing: the audits ask again, ever more rarely,
            // until the destination's signature or the end of the envelope's life.
            refusal @ (Some(_) | None) => {
                peer.owed.remove(&lsn);
                peer.audits.handed(lsn, now_ms);
                if refusal.is_none() {
                    self.step(Step::of(Stage::HandedOver, answer.eid, Some(*node)));
                }
            }
        }
        self.batch.peers.insert(*node);
        Ok(())
    }

    /// Ends the duty for an envelope: every copy is final.
    pub(crate) fn drop_out(&mut self, eid: &Eid, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? else { return Ok(()) };
        txn.delete(OUT, eid.as_bytes())?;
        if row.let_go.is_some() {
            txn.delete(WAYS, &peer_key(row.peer, row.lsn))
        } else {
            self.drop_outbox_row(eid, &row, txn)
        }
    }

    /// Drops header and body of what is owed to a peer, and counts.
    pub(crate) fn drop_outbox_row(
        &mut self,
        eid: &Eid,
        row: &OutRow,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let key = peer_key(row.peer, row.lsn);
        let is_held = row.account.is_none();
        let held: Option<OutboxRow> = if is_held { schema::get(txn, OUTBOX, &key)? } else { None };
        txn.delete(OUTBOX, &key)?;
        if let Some(held) = &held
            && let Some(by) = self.numbers.get(&row.agreed).copied()
            && let Some(peer) = self.peers.get_mut(&by)
        {
            peer.passing = peer.passing.saturating_sub(1);
            peer.passing_bytes = peer.passing_bytes.saturating_sub(held.bytes());
            self.batch.peer_rows.insert(by);
        }
        if let Some(node) = self.numbers.get(&row.peer).copied()
            && let Some(peer) = self.peers.get_mut(&node)
        {
            peer.queued_bytes = peer.queued_bytes.saturating_sub(row.bytes);
            if peer.drop_row(row.lsn) {
                txn.delete(DEAD_LETTERS, &key)?;
            }
            if let Some(held) = held {
                peer.held = peer.held.saturating_sub(1);
                peer.held_bytes = peer.held_bytes.saturating_sub(held.bytes());
            }
            self.batch.peer_rows.insert(node);
            self.batch.peers.insert(node);
            let way = self.way_of(&node);
            if let Some(through) = self.peers.get_mut(&way) {
                through.inflight.remove(eid);
            }
        }
        Ok(())
    }

    /// The envelope at a place of the outbox.
    pub(crate) fn outbox_eids(
        txn: &dyn Txn,
        number: u32,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, Eid)>, StoreError> {
        range_from(txn, OUTBOX, &number.to_be_bytes(), from, max)?
            .into_iter()
            .map(|(key, bytes)| Ok((lsn_of(&key), schema::decode::<OutboxRow>(&bytes)?.eid)))
            .collect()
    }
}

const fn header_of(frame: &PeerFrame) -> Option<&Header> {
    if let PeerFrame::Deliver(head) = frame {
        Some(&head.header)
    } else if let PeerFrame::Forward(forward) = frame {
        Some(&forward.header)
    } else {
        None
    }
}
