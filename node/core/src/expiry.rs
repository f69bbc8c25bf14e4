//! The end of a message's life: bounded sweeps that drop the payload, leave a tombstone and tell the
//! sender. Ids grow with time, so the default life needs no index; shorter ones have their own.

use tidings_protocol::{
    codec,
    envelope::Header,
    id::{DeviceId, Eid},
    limits,
    statement::{Claim, Proof, Reason, Statement},
};
use tidings_store::{StoreError, Table, Txn, prefix_end};

use crate::{
    Core,
    effect::Observed,
    inbox::Hop,
    schema::{
        self, BODIES, DEAD, DEVICES, DeadRow, EXPIRY, Ended, ExpiryKind, INVITES, InviteRow, NOTES,
        OUT, OutRow, SEEN, STATEMENTS, SUBMITS, SeenRow, SubmitRow, device_key,
    },
    step::{Stage, Step},
};

/// Rows that one sweep looks at in each table: about a millisecond of work.
const SWEEP_ROWS: usize = 256;
/// How long a node remembers what it has seen after it expired: a day.
const REMEMBER_MS: u64 = 24 * 3600 * 1000;
/// Invites looked at in one sweep.
const INVITES_MAX: usize = 10_000;

/// Whether an envelope needs a row in the expiry index.
pub(crate) const fn has_short_life(header: &Header) -> bool {
    header.expires_ms - header.created_ms < limits::MESSAGE_LIFE_MS_MAX
}

impl Core {
    /// One bounded sweep. Returns true when there may be more to do at once.
    pub(crate) fn sweep(&mut self, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let mut is_busy = self.sweep_short_lives(txn)?;
        is_busy |= self.sweep_out(txn)?;
        is_busy |= self.sweep_seen(txn)?;
        is_busy |= self.sweep_directory(txn)?;
        self.sweep_submits(txn)?;
        self.sweep_statements(txn)?;
        self.sweep_invites(txn)?;
        Ok(is_busy)
    }

    fn sweep_short_lives(&mut self, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let minute = u32::try_from(self.now_ms / 60_000).unwrap_or(u32::MAX);
        let rows = txn.range(EXPIRY, &[], &(minute + 1).to_be_bytes(), SWEEP_ROWS)?;
        let is_full = rows.len() == SWEEP_ROWS;
        for (key, _) in rows {
            txn.delete(EXPIRY, &key)?;
            let (Some(kind), Some(eid)) = (key.get(4), key.get(5..).and_then(Eid::from_slice))
            else {
                continue;
            };
            if *kind == ExpiryKind::Out as u8 {
                self.expire_out(&eid, txn)?;
            } else {
                self.expire_seen(&eid, txn)?;
            }
        }
        Ok(is_full)
    }

    fn sweep_out(&mut self, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let rows = txn.range(OUT, &[], &self.oldest_living(), SWEEP_ROWS)?;
        let is_full = rows.len() == SWEEP_ROWS;
        let mut done = 0;
        for (key, _) in rows {
            if let Some(eid) = Eid::from_slice(&key) {
                done += usize::from(self.expire_out(&eid, txn)?);
            }
        }
        Ok(is_full && done > 0)
    }

    fn sweep_seen(&mut self, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let from = self.timers.seen_cursor.clone();
        let rows = txn.range(SEEN, &from, &self.oldest_living(), SWEEP_ROWS)?;
        let is_full = rows.len() == SWEEP_ROWS;
        self.timers.seen_cursor = match rows.last() {
            Some((key, _)) if is_full => key.iter().copied().chain([0]).collect(),
            Some(_) | None => Vec::new(),
        };
        for (key, bytes) in rows {
            let Some(eid) = Eid::from_slice(&key) else { continue };
            let row: SeenRow = schema::decode(&bytes)?;
            if row.expires_ms + REMEMBER_MS <= self.now_ms {
                self.expire_seen(&eid, txn)?;
                txn.delete(SEEN, &key)?;
            } else {
                self.expire_seen(&eid, txn)?;
            }
        }
        Ok(is_full)
    }

    /// The first id that may still live: rows below it were made more than a full life ago.
    fn oldest_living(&self) -> [u8; 4] {
        let oldest_ms = self.now_ms.saturating_sub(limits::MESSAGE_LIFE_MS_MAX);
        u32::try_from(oldest_ms / 60_000).unwrap_or(u32::MAX).to_be_bytes()
    }

    /// Ends what is owed to a peer when its time is over.
    fn expire_out(&mut self, eid: &Eid, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? else { return Ok(false) };
        if row.expires_ms > self.now_ms {
            return Ok(false);
        }
        self.fail_out(eid, &row, Reason::Expired, txn)?;
        if row.account.is_some() {
            self.step_out(Stage::Expired, *eid, &row, None, None);
            self.observe(Observed::Expired);
        }
        Ok(true)
    }

    /// Ends what is owed to a peer; the sender is told by our signature.
    pub(crate) fn fail_out(
        &mut self,
        eid: &Eid,
        row: &OutRow,
        reason: Reason,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        // A custodian's duty ends without a word: the origin has its own copy, and its own clock.
        if let Some(account) = row.account {
            let hop = Hop::Device(account);
            for copy in row.copies.iter().filter(|copy| copy.done.is_none()) {
                self.state_own(&hop, Claim::Failed, *eid, Some(copy.copy), Some(reason));
            }
            self.bury(*eid, row.peer, reason, txn)?;
        }
        self.drop_out(eid, txn)
    }

    /// Drops what waits for own devices when its time is over, and leaves a tombstone.
    fn expire_seen(&mut self, eid: &Eid, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let Some(mut row) = schema::get::<SeenRow>(txn, SEEN, eid.as_bytes())? else {
            return Ok(());
        };
        if row.expires_ms > self.now_ms || row.copies.iter().all(|copy| copy.done.is_some()) {
            return Ok(());
        }
        let hop = self.hop_of(&row)?;
        let (lsn, at_ms) = (row.lsn, self.now_ms);
        let (mut orphans, mut ended): (Vec<DeviceId>, _) = (Vec::new(), 0);
        for copy in row.copies.iter_mut().filter(|copy| copy.done.is_none()) {
            let reason = Some(Reason::Expired);
            copy.done = Some(Ended { claim: Claim::Failed, reason, at_ms, proof: None });
            self.state_own(&hop, Claim::Failed, *eid, Some(copy.copy), reason);
            orphans.extend(copy.device);
            ended += 1;
        }
        self.uncount_waiting_from(&row, ended);
        for device in orphans {
            if txn.get(schema::INBOX, &device_key(&device, lsn))?.is_some() {
                self.delete_inbox(&device, lsn, txn)?;
            }
        }
        txn.delete(BODIES, &lsn.to_be_bytes())?;
        schema::put(txn, SEEN, eid.as_bytes(), &row)?;
        self.step(Step::of(Stage::Expired, *eid, None));
        self.observe(Observed::Expired);
        self.bury(*eid, 0, Reason::Expired, txn)
    }

    fn bury(
        &mut self,
        eid: Eid,
        peer: u32,
        reason: Reason,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let lsn = self.next_lsn(txn);
        let row = DeadRow { eid, peer, reason, at_ms: self.now_ms };
        schema::put(txn, DEAD, &lsn.to_be_bytes(), &row)?;
        for (key, bytes) in txn.range(DEAD, &[], &[0xff; 9], 2)? {
            let row: DeadRow = schema::decode(&bytes)?;
            if row.at_ms + limits::MESSAGE_LIFE_MS_MAX <= self.now_ms {
                txn.delete(DEAD, &key)?;
            }
        }
        Ok(())
    }

    /// Forgets answers to submissions that nobody may repeat any more. One device in each sweep,
    /// all of them in turn.
    fn sweep_submits(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let from = self.timers.submits_cursor.clone();
        let Some((device, _)) = txn.range(DEVICES, &from, &[0xff; 17], 1)?.into_iter().next()
        else {
            self.timers.submits_cursor = Vec::new();
            return Ok(());
        };
        self.timers.submits_cursor = prefix_end(&device);
        self.sweep_proofs(NOTES, &device, txn)?;
        let mut rows = txn.range(SUBMITS, &device, &prefix_end(&device), SWEEP_ROWS)?;
        // The newest row stays: it holds the mark by which a rolled-back device is noticed.
        if rows.len() < SWEEP_ROWS {
            rows.pop();
        }
        let oldest = self.now_ms.saturating_sub(limits::MESSAGE_LIFE_MS_MAX + REMEMBER_MS);
        for (key, bytes) in rows {
            let row: SubmitRow = schema::decode(&bytes)?;
            if row.accepted_ms < oldest {
                txn.delete(SUBMITS, &key)?;
            }
        }
        Ok(())
    }

    /// Statements for peers that do not come back, peer by peer.
    fn sweep_statements(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let from = self.timers.statements_cursor;
        let next = self.peers.values().map(|peer| peer.number).filter(|n| *n > from).min();
        self.timers.statements_cursor = next.unwrap_or(0);
        let Some(number) = next else { return Ok(()) };
        let deleted = self.sweep_proofs(STATEMENTS, &number.to_be_bytes(), txn)?;
        let Some(node) = self.numbers.get(&number).copied() else { return Ok(()) };
        if let Some(peer) = self.peers.get_mut(&node).filter(|_| deleted > 0) {
            peer.statements = peer.statements.saturating_sub(deleted);
            self.batch.peer_rows.insert(node);
        }
        Ok(())
    }

    /// Deletes the oldest proofs of one queue whose statements nobody needs any more.
    fn sweep_proofs(
        &self,
        table: Table,
        prefix: &[u8],
        txn: &mut dyn Txn,
    ) -> Result<u64, StoreError> {
        let oldest = self.now_ms.saturating_sub(limits::MESSAGE_LIFE_MS_MAX + REMEMBER_MS);
        let mut deleted = 0;
        for (key, bytes) in txn.range(table, prefix, &prefix_end(prefix), SWEEP_ROWS)? {
            let proof: Proof = schema::decode(&bytes)?;
            let statement = proof.leaves.first().map(|leaf| &leaf.statement);
            let at_ms = statement
                .and_then(|bytes| codec::decode::<Statement>(bytes).ok())
                .map_or(0, |statement| statement.at_ms);
            if at_ms > oldest {
                break;
            }
            txn.delete(table, &key)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn sweep_invites(&self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(INVITES, &[], &[0xff; 33], INVITES_MAX)? {
            let row: InviteRow = schema::decode(&bytes)?;
            if row.uses_left == 0 || row.expires_ms <= self.now_ms {
                txn.delete(INVITES, &key)?;
            }
        }
        Ok(())
    }
}
