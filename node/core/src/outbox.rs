//! What is owed to other nodes: sent in order within a window, kept until the end is proved.

use bytes::Bytes;
use tidings_protocol::{
    envelope::Header,
    id::{Eid, NodeId},
    limits,
    peer_frame::{Answer, PeerFrame},
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    peer::{Peer, Sent},
    policy::{Act, Verdict},
    schema::{self, DEAD_LETTERS, OUT, OUTBOX, OutRow, OutboxRow, lsn_of, peer_key, range_from},
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

/// An envelope whose row is written in this batch: sent without reading it back.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) lsn: u64,
    pub(crate) eid: Eid,
    /// `Deliver`, or `Forward` when another node handed it over.
    pub(crate) frame: PeerFrame,
    pub(crate) frame_bytes: usize,
    pub(crate) shared: Bytes,
}

impl Peer {
    /// True when no row of the outbox lies at the cursor or behind it, but for the fresh ones.
    fn is_caught_up(&self) -> bool {
        self.caught_up == Some(self.cursor)
    }

    /// From now on the rows on disk count, not those in memory.
    pub(crate) fn fall_behind(&mut self) {
        self.caught_up = None;
        self.fresh.clear();
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
        if lsn >= self.cursor {
            self.fall_behind();
        }
        self.dead.forget(lsn)
    }

    /// When something has to be sent again. With a full window an answer comes first.
    pub(crate) fn resend_deadline(&self) -> Option<u64> {
        if self.room() == 0 {
            return None;
        }
        let paused = (self.paused_until_ms > 0).then_some(self.paused_until_ms);
        self.resend.values().copied().chain(paused).min()
    }

    pub(crate) fn room(&self) -> usize {
        if self.inflight.weight() >= limits::PEER_WINDOW_BYTES {
            return 0;
        }
        if self.dead.wants_quiet(self.inflight.len()) {
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
            }
        }
        self.batch.peer_rows.insert(*node);
        self.batch.peers.insert(*node);
    }

    /// Sends what waits for a peer, within its window, or tries to reach it.
    pub(crate) fn pump_peer(&mut self, node: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
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
        self.send_again(node, txn)?;
        if self.is_sabotaged(Sabotage::HoldBehindRefused)
            && let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.dead.blames_any())
        {
            peer.fall_behind();
            return self.pump_audit(node, txn);
        }
        self.send_fresh(node);
        let mut turn = TURN_ROWS;
        while let Some(peer) = self.peers.get(node).filter(|peer| !peer.is_caught_up()) {
            let max = peer.room().min(PUMP_ROWS).min(turn);
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
                if !peer.dead.is_set_aside(lsn) {
                    self.send_row(node, lsn, &bytes)?;
                }
            }
            if is_last {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.caught_up = Some(peer.cursor);
                }
                break;
            }
        }
        self.pump_suspect(node, txn)?;
        self.pump_directory(node, txn)?;
        self.pump_audit(node, txn)
    }

    /// Sends what this batch has written, if nothing older waits.
    fn send_fresh(&mut self, node: &NodeId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let fresh = core::mem::take(&mut peer.fresh);
        if !peer.is_caught_up() {
            return;
        }
        for envelope in fresh {
            let Some(peer) = self.peers.get_mut(node) else { return };
            if peer.room() == 0 || peer.paused_until_ms > self.now_ms {
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
        self.send_envelope(node, Fresh { lsn, eid, frame, frame_bytes, shared });
        Ok(())
    }

    fn send_envelope(&mut self, node: &NodeId, envelope: Fresh) {
        let Fresh { lsn, eid, frame, frame_bytes, shared } = envelope;
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(link) = peer.link else { return };
        if peer.pass(lsn) {
            self.batch.peer_rows.insert(*node);
        }
        let is_over = header_of(&frame).is_none_or(|header| header.expires_ms <= self.now_ms);
        if is_over || peer.inflight.contains(&eid) {
            return;
        }
        let at_ms = self.now_ms;
        peer.inflight.insert(eid, Sent { lsn, at_ms, absent: None }, frame_bytes + shared.len());
        peer.patience.sent(at_ms);
        peer.conduct.counts.envelopes_out += 1;
        peer.conduct.counts.bytes_out += shared.len() as u64;
        if lsn > peer.sent {
            peer.sent = lsn;
            self.batch.peer_rows.insert(*node);
        }
        self.effects.push_back(Effect::ToPeer { link, frame, body: shared });
    }

    fn send_again(&mut self, node: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        if peer.paused_until_ms <= now_ms {
            peer.paused_until_ms = 0;
        }
        let (number, room) = (peer.number, peer.room());
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
        let now_ms = self.now_ms;
        for answer in answers {
            let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
            let Some(Sent { lsn, absent, .. }) = peer.inflight.remove(&answer.eid) else {
                continue;
            };
            peer.retry.answered();
            if let Some(absent) = absent {
                self.on_forwarded(node, &absent, lsn, answer.refusal.as_ref());
                continue;
            }
            let code = answer.refusal.as_ref().map(|refusal| refusal.code);
            if code == Some(RefusalCode::StaleKey) && self.drop_stale(&answer.eid, txn)? {
                continue;
            }
            let is_dead = self.note_answer(node, lsn, &answer.eid, code, txn)?;
            let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
            match answer.refusal {
                Some(_) if is_dead => {}
                Some(refusal) if refusal.code.may_retry() => {
                    let after_ms = refusal.after_ms.unwrap_or(RESEND_AFTER_MS).max(1);
                    if peer.resend.len() < RESEND_MAX {
                        peer.resend.insert(lsn, now_ms + after_ms);
                    } else {
                        peer.cursor = peer.cursor.min(lsn);
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
            if self.is_sabotaged(Sabotage::DropCopyOnHopAck) {
                self.drop_out(&answer.eid, txn)?;
            } else if !answer.lists.is_empty()
                && let Some(row) = schema::get::<OutRow>(txn, OUT, answer.eid.as_bytes())?
                && let Some(account) = row.account
            {
                self.tell_newer_lists(&account, answer.lists, txn)?;
            }
        }
        self.batch.peers.insert(*node);
        Ok(())
    }

    /// Ends the duty for an envelope: every copy is final.
    pub(crate) fn drop_out(&mut self, eid: &Eid, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? else { return Ok(()) };
        txn.delete(OUT, eid.as_bytes())?;
        if row.let_go.is_some() { Ok(()) } else { self.drop_outbox_row(eid, &row, txn) }
    }

    /// What is held is sealed to a key that the destination has replaced: nobody can open it any more.
    /// The origin finds it missing at its next offer, and seals it again. False for an own envelope.
    fn drop_stale(&mut self, eid: &Eid, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
        let is_held = row.is_some_and(|row| row.account.is_none());
        if is_held {
            self.drop_out(eid, txn)?;
        }
        Ok(is_held)
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
            peer.inflight.remove(eid);
            self.batch.peer_rows.insert(node);
            self.batch.peers.insert(node);
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
