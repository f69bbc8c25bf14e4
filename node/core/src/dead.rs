//! Dead letters: envelopes that a peer refuses again and again, or over which its links break. They
//! leave the ordinary sending, so that what stands behind them flows, and stay duties: the audits look
//! for their end, and send them again a few times a day. What an administrator does about them is in
//! `admin_dead.rs`; an envelope that has ended is `expiry.rs`'s.

use std::collections::BTreeMap;

use tidings_protocol::{
    id::{Eid, NodeId},
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Observed,
    event::LinkId,
    outbox::Refused,
    peer::Peer,
    schema::{self, DEAD_LETTERS, DeadLetterRow, OUTBOX, OutboxRow, peer_key},
    step::{Stage, Step, Why},
};

/// What an envelope may be blamed for before it is a dead letter.
const BLAME_MAX: u32 = 256;
/// A final refusal, or a link that broke over it alone while the peer takes others: sixteen of them
/// are enough.
const BLAME_HARD: u32 = 16;
/// A refusal for now while the peer takes others: four hours of them, one a minute, are enough. While
/// it takes none, that says nothing of the envelope. Likewise a link that broke over it alone while the
/// peer takes none: it may well be the peer that is ill, and only a day of that is enough.
const BLAME_SOFT: u32 = 1;
/// Envelopes of one peer that are blamed for something, or are dead letters. More than that are not
/// the fault of envelopes.
const LETTERS_MAX: usize = 1_024;
/// A dead letter is sent again when an audit misses it so long after the last time.
const AGAIN_MS: u64 = 6 * 3600 * 1000;
/// Links in a row that broke without an answer, until what was on them is suspected.
const BREAKS_MAX: u32 = 3;
/// So many others are taken at most before a suspect has its turn.
const SUSPECT_TURN: u64 = 256;

/// A dead letter as the core remembers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter {
    pub(crate) since_ms: u64,
    last_ms: u64,
}

/// What one envelope is blamed for.
#[derive(Clone, Copy, Debug, Default)]
struct Blame {
    weight: u32,
    attempts: u32,
    /// What the peer had taken by then.
    taken: u64,
    /// Why it was refused the last time.
    refusal: Option<RefusalCode>,
    /// Links broke over it, or over what was sent with it: it is sent alone, after all others.
    is_suspect: bool,
}

/// The dead letters of one peer, and those that may become one. Empty in peace.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    letters: BTreeMap<u64, Letter>,
    blamed: BTreeMap<u64, Blame>,
    /// Envelopes that the peer has taken in this process.
    taken: u64,
    breaks: u32,
    /// The suspect that is on its way, alone.
    alone: Option<u64>,
}

impl DeadLetters {
    pub(crate) fn contains(&self, lsn: u64) -> bool {
        self.letters.contains_key(&lsn)
    }

    /// True for a row that is not sent in its turn.
    pub(crate) fn is_set_aside(&self, lsn: u64) -> bool {
        self.contains(lsn) || self.is_suspect(lsn)
    }

    pub(crate) fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    /// When the oldest became one.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        self.letters.values().map(|letter| letter.since_ms).min()
    }

    /// Their places in the outbox.
    pub(crate) fn places(&self) -> Vec<u64> {
        self.letters.keys().copied().collect()
    }

    pub(crate) fn is_suspect(&self, lsn: u64) -> bool {
        self.blamed.get(&lsn).is_some_and(|blame| blame.is_suspect)
    }

    /// True when nothing may be sent beside what is on its way: a suspect is, or has its turn next.
    pub(crate) fn wants_quiet(&self, inflight: usize) -> bool {
        let has_turn = |blame: &Blame| blame.taken + SUSPECT_TURN <= self.taken;
        self.alone.is_some()
            || inflight > 0 && self.blamed.values().any(|blame| blame.is_suspect && has_turn(blame))
    }

    /// The suspect whose turn is next: the one that is blamed for least.
    pub(crate) fn next_suspect(&self) -> Option<u64> {
        let suspects = self.blamed.iter().filter(|(_, blame)| blame.is_suspect);
        suspects.min_by_key(|(lsn, blame)| (blame.weight, **lsn)).map(|(lsn, _)| *lsn)
    }

    /// True when the peer has refused something, or links broke over it, and it has not taken it since.
    pub(crate) fn blames_any(&self) -> bool {
        !self.blamed.is_empty()
    }

    /// Why a row that is no dead letter was refused the last time.
    pub(crate) fn refusal_of(&self, lsn: u64) -> Option<RefusalCode> {
        self.blamed.get(&lsn).and_then(|blame| blame.refusal)
    }

    /// True when no row is blamed for anything.
    pub(crate) fn is_calm(&self) -> bool {
        self.alone.is_none() && self.blamed.is_empty()
    }

    /// What was blamed on rows was the way's fault.
    pub(crate) fn pardon(&mut self) {
        self.blamed.clear();
        (self.breaks, self.alone) = (0, None);
    }

    pub(crate) const fn sends_alone(&mut self, lsn: u64) {
        self.alone = Some(lsn);
    }

    /// The row is no dead letter any more. True when it was one.
    pub(crate) fn forget(&mut self, lsn: u64) -> bool {
        self.blamed.remove(&lsn);
        self.alone.take_if(|alone| *alone == lsn);
        self.letters.remove(&lsn).is_some()
    }

    /// True when an audit may send the row again: always, unless it is a dead letter before its time,
    /// or a suspect, which has its own turn.
    pub(crate) fn may_send(&mut self, lsn: u64, now_ms: u64) -> bool {
        if self.is_suspect(lsn) {
            return false;
        }
        let Some(letter) = self.letters.get_mut(&lsn) else { return true };
        let is_due = letter.last_ms + AGAIN_MS <= now_ms;
        if is_due {
            letter.last_ms = now_ms;
        }
        is_due
    }

    /// The peer has answered: whatever links break over, it was not this.
    fn answered(&mut self, lsn: u64) {
        self.breaks = 0;
        self.alone.take_if(|alone| *alone == lsn);
        if let Some(blame) = self.blamed.get_mut(&lsn) {
            blame.is_suspect = false;
        }
    }

    fn took(&mut self, lsn: u64) {
        self.taken += 1;
        if !self.blamed.is_empty() {
            self.blamed.remove(&lsn);
        }
    }

    fn refused(&mut self, lsn: u64, Refused { code, is_for_now, .. }: &Refused) -> Blame {
        let taken = self.taken;
        let is_full = self.blamed.len() >= LETTERS_MAX;
        let blame = match self.blamed.get_mut(&lsn) {
            Some(blame) => blame,
            None if is_full => return Blame::default(),
            None => self.blamed.entry(lsn).or_default(),
        };
        blame.attempts = blame.attempts.saturating_add(1);
        let weight = match is_for_now {
            true if blame.taken == taken => 0,
            true => BLAME_SOFT,
            false => BLAME_HARD,
        };
        blame.weight = blame.weight.saturating_add(weight);
        blame.taken = taken;
        blame.refusal = Some(*code);
        *blame
    }

    /// The link broke with these envelopes on it, unanswered.
    fn broke(&mut self, unanswered: &[u64], is_alone: bool) {
        self.alone = None;
        if unanswered.is_empty() {
            return;
        }
        self.breaks = self.breaks.saturating_add(1);
        let mut room = LETTERS_MAX.saturating_sub(self.blamed.len());
        for lsn in unanswered {
            let taken = self.taken;
            let blame = match self.blamed.get_mut(lsn) {
                Some(blame) => blame,
                None if self.breaks < BREAKS_MAX || room == 0 => continue,
                None => {
                    room -= 1;
                    self.blamed.entry(*lsn).or_insert(Blame { taken, ..Blame::default() })
                }
            };
            blame.is_suspect |= self.breaks >= BREAKS_MAX;
            if is_alone {
                let weight = if blame.taken == taken { BLAME_SOFT } else { BLAME_HARD };
                blame.attempts = blame.attempts.saturating_add(1);
                blame.weight = blame.weight.saturating_add(weight);
                blame.taken = taken;
            }
        }
    }

    /// What an envelope is blamed for, if that is too much and there is room for one more.
    fn verdict(&self, lsn: u64) -> Option<Blame> {
        let blame = self.blamed.get(&lsn)?;
        (blame.weight >= BLAME_MAX && self.letters.len() < LETTERS_MAX).then_some(*blame)
    }
}

impl Core {
    pub(crate) fn load_dead_letters(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(DEAD_LETTERS, &[], &[0xff; 13], usize::MAX)? {
            let row: DeadLetterRow = schema::decode(&bytes)?;
            let number = key.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let peer = self.numbers.get(&number).and_then(|node| self.peers.get_mut(node));
            if let Some(peer) = peer {
                let letter = Letter { since_ms: row.since_ms, last_ms: row.last_ms };
                peer.dead.letters.insert(schema::lsn_of(&key), letter);
            }
        }
        Ok(())
    }

    /// A peer has answered an envelope. True when that is a dead letter, and nothing more is done.
    pub(crate) fn note_answer(
        &mut self,
        node: &NodeId,
        lsn: u64,
        eid: &Eid,
        refusal: Option<&Refused>,
        txn: &mut dyn Txn,
    ) -> Result<bool, StoreError> {
        let Some(peer) = self.peers.get_mut(node) else { return Ok(false) };
        peer.dead.answered(lsn);
        let Some(refused) = refusal else {
            peer.dead.took(lsn);
            if peer.dead.contains(lsn) {
                self.revive(node, lsn, txn)?;
            }
            return Ok(false);
        };
        let was_dead = peer.dead.contains(lsn);
        let blame = peer.dead.refused(lsn, refused);
        if was_dead || peer.dead.verdict(lsn).is_some() {
            self.set_aside(node, lsn, eid, blame.attempts.max(1), Some(refused.code), txn)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Sends the suspect whose turn it is, when nothing else is on its way; or sets it aside, when it
    /// is blamed for too much.
    pub(crate) fn pump_suspect(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let way = self.way_of(node);
        while self.peers.get(&way).is_some_and(|through| through.inflight.is_empty())
            && let Some(peer) = self.peers.get_mut(node)
            && peer.paused_until_ms <= self.now_ms
            && let Some(lsn) = peer.dead.next_suspect()
        {
            let number = peer.number;
            let verdict = peer.dead.verdict(lsn);
            let Some(bytes) = txn.get(OUTBOX, &peer_key(number, lsn))? else {
                peer.dead.forget(lsn);
                continue;
            };
            if let Some(blame) = verdict {
                let row: OutboxRow = schema::decode(&bytes)?;
                self.set_aside(node, lsn, &row.eid, blame.attempts, None, txn)?;
                continue;
            }
            peer.dead.sends_alone(lsn);
            self.send_row(node, lsn, &bytes)?;
            let is_sent = self.peers.get(&way).is_some_and(|through| !through.inflight.is_empty());
            if let Some(peer) = self.peers.get_mut(node).filter(|_| !is_sent) {
                // Its time is over.
                peer.dead.forget(lsn);
            }
        }
        Ok(())
    }

    /// The link broke without a word, or the peer did not do its work on it. To be called before the
    /// link is forgotten.
    pub(crate) fn blame_unanswered(&mut self, link: LinkId) {
        let Some(node) = self.links.get(&link).and_then(|link| link.node) else { return };
        let Some(peer) = self.peers.get(&node).filter(|peer| peer.link == Some(link)) else {
            return;
        };
        let owned = peer.inflight.values().filter(|sent| sent.owner(&node).is_some()).count();
        for behind in self.sent_through(&node) {
            let unanswered = self.unanswered_of(&behind);
            if let Some(peer) = self.peers.get_mut(&behind) {
                peer.dead.broke(&unanswered, owned == 1);
            }
        }
    }

    fn set_aside(
        &mut self,
        node: &NodeId,
        lsn: u64,
        eid: &Eid,
        attempts: u32,
        refusal: Option<RefusalCode>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        let key = peer_key(peer.number, lsn);
        let before: Option<DeadLetterRow> = schema::get(txn, DEAD_LETTERS, &key)?;
        let (since_ms, earlier) = before.map_or((now_ms, 0), |row| (row.since_ms, row.attempts));
        let attempts = earlier.saturating_add(attempts);
        let row = DeadLetterRow { eid: *eid, since_ms, attempts, last_ms: now_ms, refusal };
        schema::put(txn, DEAD_LETTERS, &key, &row)?;
        peer.dead.blamed.remove(&lsn);
        peer.dead.letters.insert(lsn, Letter { since_ms, last_ms: now_ms });
        peer.owed.remove(&lsn);
        peer.resend.remove(&lsn);
        self.batch.peer_rows.insert(*node);
        if earlier == 0 {
            let why = refusal.map(Why::Refusal);
            self.step(Step { why, ..Step::of(Stage::DeadLetter, *eid, Some(*node)) });
            self.observe(Observed::DeadLetter);
        }
        Ok(())
    }

    /// A dead letter is a usual envelope again.
    pub(crate) fn revive(
        &mut self,
        node: &NodeId,
        lsn: u64,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        peer.dead.forget(lsn);
        txn.delete(DEAD_LETTERS, &peer_key(peer.number, lsn))
    }
}

impl Peer {
    /// What was sent and not answered on a link that is gone, but for dead letters and suspects: those
    /// are sent again in their own time.
    pub(crate) fn oldest_unanswered(&self, sent: &[u64]) -> Option<u64> {
        // Also what was to be sent again later: forgotten here, nobody would come back to it.
        let unanswered = sent.iter().copied().chain(self.resend.keys().copied());
        unanswered.filter(|lsn| !self.dead.is_set_aside(*lsn)).min()
    }
}
