//! A peer that comes back to a backlog gets first what was written last: sender by sender, each one's
//! rows in their order, ahead of the cursor of the outbox. A hint and nothing more: for all that counts, a
//! row that went ahead is unsent until the cursor has come to it. Nothing of this is on disk. What the
//! peer did not take ahead is sent in its turn, and until then nothing else of its sender goes ahead.

use std::collections::BTreeMap;

use tidings_protocol::{
    id::{AccountId, Eid, NodeId},
    limits,
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    outbox::Fresh,
    peer::Peer,
    schema::{self, OUTBOX, OutboxRow, peer_key},
    step::{Stage, Step},
};

/// Senders that are remembered for one peer. Others wait for the cursor.
const SENDERS_MAX: usize = 4_096;
/// Rows of one sender that go ahead together. With more, all of them wait for the cursor.
const ROWS_MAX: usize = 64;

/// Who wrote last to a peer that has not got it yet.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    /// All rows from this one on are known here; `None` while none is.
    from: Option<u64>,
    /// The rows of each sender; empty when there are too many of them.
    senders: BTreeMap<AccountId, Vec<u64>>,
    /// Each sender that may go ahead, by its newest row.
    by_newest: BTreeMap<u64, AccountId>,
    /// There was no room for a sender: of those that are not here nothing is known.
    is_full: bool,
    /// Rows that went ahead.
    ahead: BTreeMap<u64, Ahead>,
    /// With room for one row, it is for these and for the cursor in turn.
    is_odd: bool,
}

/// A row that went ahead.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    sender: AccountId,
    is_taken: bool,
}

impl Newest {
    /// Starts anew: no row from `from` on is unsent.
    pub(crate) fn starting_at(from: u64) -> Self {
        Self { from: Some(from), ..Self::default() }
    }

    /// A row waits for the cursor.
    pub(crate) fn wrote(&mut self, sender: Option<AccountId>, lsn: u64) {
        self.from.get_or_insert(lsn);
        let Some(sender) = sender else { return };
        let is_known = self.senders.contains_key(&sender);
        self.is_full |= !is_known && self.senders.len() >= SENDERS_MAX;
        if self.is_full && !is_known {
            return;
        }
        let rows = self.senders.entry(sender).or_default();
        if let Some(newest) = rows.last() {
            self.by_newest.remove(newest);
        } else if is_known {
            return;
        }
        if rows.len() == ROWS_MAX {
            rows.clear();
            return;
        }
        rows.push(lsn);
        self.by_newest.insert(lsn, sender);
    }

    /// Rows below this one may be unsent and unknown.
    pub(crate) fn is_unknown_below(&mut self, lsn: u64) {
        self.from = self.from.map(|from| from.max(lsn));
    }

    /// The link is gone: what the peer had not taken is sent in its turn.
    pub(crate) fn unlink(&mut self) {
        let open = self.ahead.iter().filter(|(_, row)| !row.is_taken);
        for lsn in open.map(|(lsn, _)| *lsn).collect::<Vec<u64>>() {
            self.refused(lsn);
        }
    }

    /// The peer's store was rolled back: all is sent in its turn.
    pub(crate) fn lost(&mut self) {
        for lsn in self.ahead.keys().copied().collect::<Vec<u64>>() {
            self.refused(lsn);
        }
    }

    /// The peer has not taken a row: it is sent in its turn, and all of its sender's after it.
    fn refused(&mut self, lsn: u64) {
        let Some(Ahead { sender, .. }) = self.ahead.remove(&lsn) else { return };
        if let Some(newest) =
            self.senders.insert(sender, Vec::new()).and_then(|rows| rows.last().copied())
        {
            self.by_newest.remove(&newest);
        }
    }

    /// The sender that wrote last and its rows from the cursor on, if they may go ahead of it.
    fn next(&mut self, cursor: u64) -> Option<(AccountId, Vec<u64>)> {
        if self.from.is_none_or(|from| cursor < from) {
            return None;
        }
        let (_, sender) = self.by_newest.pop_last()?;
        let mut rows = self.senders.remove(&sender)?;
        rows.retain(|lsn| *lsn >= cursor);
        Some((sender, rows))
    }

    /// There was no room for these.
    fn put_back(&mut self, sender: AccountId, rows: Vec<u64>) {
        if let Some(newest) = rows.last() {
            self.by_newest.insert(*newest, sender);
            self.senders.insert(sender, rows);
        }
    }

    fn goes_ahead(&mut self, lsn: u64, sender: AccountId) {
        self.ahead.insert(lsn, Ahead { sender, is_taken: false });
    }

    /// Whether a row went ahead and the cursor has not come to it.
    pub(crate) fn is_ahead(&self, lsn: u64) -> bool {
        self.ahead.contains_key(&lsn)
    }

    /// The cursor has come to a row: whether it went ahead, and if so, whether the peer has taken it.
    pub(crate) fn comes_to(&mut self, lsn: u64) -> Option<bool> {
        self.ahead.remove(&lsn).map(|row| row.is_taken)
    }

    /// The peer has taken a row that went ahead.
    fn took(&mut self, lsn: u64) {
        if let Some(row) = self.ahead.get_mut(&lsn) {
            row.is_taken = true;
        }
    }

    pub(crate) fn forget(&mut self, lsn: u64) {
        self.ahead.remove(&lsn);
    }
}

impl Core {
    /// Sends what was written last ahead of the cursor, in half of the room at most.
    pub(crate) fn send_newest(&mut self, node: &NodeId, txn: &dyn Txn) -> Result<(), StoreError> {
        let may = |peer: &Peer| peer.may_send_ahead(self.now_ms);
        if !self.peers.get(node).is_some_and(may) || self.way_of(node) != *node {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        peer.newest.is_odd = !peer.newest.is_odd;
        let odd = usize::from(peer.newest.is_odd);
        let mut bytes = limits::PEER_WINDOW_BYTES.saturating_sub(peer.inflight.weight()) / 2;
        let mut turn = (self.room_for(node) + odd) / 2;
        while turn > 0
            && let Some(peer) = self.peers.get_mut(node)
            && peer.may_send_ahead(self.now_ms)
            && let Some((sender, rows)) = peer.newest.next(peer.cursor)
        {
            let number = peer.number;
            let mut rows = rows.into_iter();
            for lsn in rows.by_ref() {
                if let Some(row) = txn.get(OUTBOX, &peer_key(number, lsn))?
                    && self.send_ahead(node, lsn, sender, &row)?
                {
                    bytes = bytes.saturating_sub(row.len());
                    turn = if bytes == 0 { 0 } else { turn.saturating_sub(1) };
                    if turn == 0 {
                        break;
                    }
                }
            }
            if let Some(peer) = self.peers.get_mut(node) {
                peer.newest.put_back(sender, rows.collect());
            }
        }
        Ok(())
    }

    /// Sends a row to which the cursor has not come. True when it is on its way.
    fn send_ahead(
        &mut self,
        node: &NodeId,
        lsn: u64,
        sender: AccountId,
        bytes: &[u8],
    ) -> Result<bool, StoreError> {
        let is_open = self.peers.get(node).is_some_and(|peer| !peer.dead.is_set_aside(lsn));
        let Some(link) = self.way_link(node).filter(|_| is_open) else { return Ok(false) };
        let OutboxRow { eid, frame, shared, .. } = schema::decode(bytes)?;
        let frame_bytes = frame.len();
        let frame = schema::decode(&frame)?;
        let envelope = Fresh { lsn, sender: None, eid, frame, frame_bytes, shared };
        let is_sent = self.put_on_link(link, node, envelope);
        if let Some(peer) = self.peers.get_mut(node).filter(|_| is_sent) {
            peer.newest.goes_ahead(lsn, sender);
        }
        Ok(is_sent)
    }

    /// The cursor has come to a row that went ahead.
    pub(crate) fn pass_ahead(&mut self, node: &NodeId, lsn: u64, is_taken: bool) {
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.pass(lsn);
        peer.sent = peer.sent.max(lsn);
        if is_taken {
            peer.owed.remove(&lsn);
            peer.audits.handed(lsn, now_ms);
        }
        self.batch.peer_rows.insert(*node);
    }

    /// The peer has answered an envelope to which the cursor has not come. One that it refuses is sent
    /// again in its turn, and what is blamed for is known then.
    pub(crate) fn on_answer_ahead(
        &mut self,
        node: &NodeId,
        lsn: u64,
        eid: &Eid,
        refusal: Option<RefusalCode>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if refusal.is_none() {
            self.note_answer(node, lsn, eid, None, txn)?;
            self.step(Step::of(Stage::HandedOver, *eid, Some(*node)));
        }
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        peer.refusal = refusal;
        if refusal.is_none() {
            peer.newest.took(lsn);
        } else {
            peer.newest.refused(lsn);
        }
        self.batch.peers.insert(*node);
        Ok(())
    }
}

impl Peer {
    /// Nothing lies at the cursor or behind it.
    pub(crate) fn catch_up(&mut self) {
        self.caught_up = Some(self.cursor);
        self.newest = Newest::starting_at(self.cursor);
    }

    /// Sends from this row on once more, if it lies behind.
    pub(crate) fn go_back(&mut self, lsn: u64) {
        if lsn < self.cursor {
            self.fall_behind();
            self.newest.is_unknown_below(self.cursor);
            self.cursor = lsn;
        }
    }

    fn may_send_ahead(&self, now_ms: u64) -> bool {
        !self.is_caught_up() && self.paused_until_ms <= now_ms
    }
}

#[cfg(test)]
mod tests {
    use tidings_protocol::id::AccountId;

    use super::{Newest, ROWS_MAX, SENDERS_MAX};

    const ALICE: AccountId = AccountId([1; 32]);
    const BOB: AccountId = AccountId([2; 32]);

    #[test]
    fn who_wrote_last_goes_first_and_keeps_the_order() {
        let mut newest = Newest::starting_at(1);
        for (sender, lsn) in [(ALICE, 5), (BOB, 6), (ALICE, 7), (BOB, 8), (ALICE, 9)] {
            newest.wrote(Some(sender), lsn);
        }
        assert_eq!(newest.next(6), Some((ALICE, vec![7, 9])), "the cursor has been at 5");
        newest.put_back(ALICE, vec![9]);
        newest.wrote(Some(BOB), 10);
        assert_eq!(newest.next(6), Some((BOB, vec![6, 8, 10])));
        assert_eq!(newest.next(6), Some((ALICE, vec![9])));
        assert_eq!(newest.next(6), None);
        newest.wrote(Some(ALICE), 11);
        assert_eq!(newest.next(6), Some((ALICE, vec![11])));
    }

    #[test]
    fn whoever_has_more_than_goes_ahead_waits_with_all_of_it() {
        let mut newest = Newest::starting_at(1);
        for lsn in 1..=ROWS_MAX as u64 + 2 {
            newest.wrote(Some(ALICE), lsn);
        }
        assert_eq!(newest.next(1), None);
        for number in 0..SENDERS_MAX as u64 {
            let mut id = [0xff; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            newest.wrote(Some(AccountId(id)), 100 + number);
        }
        let last = 100 + SENDERS_MAX as u64;
        newest.wrote(Some(BOB), last);
        let (first, rows) = newest.next(1).expect("one that is known");
        assert_eq!(rows, [last - 2], "there was no room for the last ones");
        assert_ne!(first, BOB);
        newest.wrote(Some(BOB), last + 1);
        let (second, rows) = newest.next(1).expect("another one");
        assert_eq!(
            (rows, second == BOB),
            (vec![last - 3], false),
            "nor is it known that bob had none"
        );
    }

    #[test]
    fn nothing_goes_ahead_of_what_is_not_known() {
        let mut newest = Newest::default();
        newest.wrote(Some(ALICE), 5);
        assert_eq!(newest.next(4), None, "a row of hers may lie there");
        newest.is_unknown_below(8);
        newest.wrote(Some(ALICE), 9);
        assert_eq!(newest.next(7), None);
        assert_eq!(newest.next(8), Some((ALICE, vec![9])));
    }

    #[test]
    fn what_was_not_taken_goes_in_its_turn_and_its_sender_waits() {
        let mut newest = Newest::starting_at(1);
        for (lsn, sender) in [(3, ALICE), (4, BOB), (5, ALICE), (6, BOB)] {
            newest.goes_ahead(lsn, sender);
        }
        newest.wrote(Some(ALICE), 7);
        newest.refused(3);
        newest.wrote(Some(ALICE), 8);
        newest.wrote(Some(BOB), 9);
        assert_eq!(newest.next(1), Some((BOB, vec![9])), "alice has to wait for 3");
        assert_eq!(newest.next(1), None);
        newest.took(4);
        newest.unlink();
        assert_eq!([3, 4, 5, 6].map(|lsn| newest.comes_to(lsn)), [None, Some(true), None, None]);
        newest.wrote(Some(BOB), 10);
        assert_eq!(newest.next(1), None, "and bob for 6");
    }

    #[test]
    fn what_went_ahead_is_passed_over_once() {
        let mut newest = Newest::starting_at(1);
        newest.goes_ahead(3, ALICE);
        newest.goes_ahead(4, BOB);
        newest.took(3);
        newest.took(9);
        assert_eq!(
            [1, 3, 3, 4, 9].map(|lsn| newest.comes_to(lsn)),
            [None, Some(true), None, Some(false), None]
        );
    }
}
