//! Statements on their way: from own devices and from here to peers, from peers to own devices.
//! Durable at each hop, checked at each hop, and none begets another.

use std::collections::BTreeMap;

use tidings_protocol::{
    client_frame::{NodeFrame, Noted, Notes},
    descriptor::Delegation,
    id::{DeviceId, NodeId},
    limits,
    peer_frame::{PeerFrame, Statements},
    signed::Signed,
    statement::{BatchRoot, Checked, Claim, Proof, Statement},
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Core,
    conduct::Offence,
    effect::Observed,
    event::ConnId,
    schema::{self, NOTES, OUT, OutRow, STATEMENTS, device_key, lsn_of, peer_key, range_from},
    settings::Sabotage,
    step::{Stage, Step, Why},
};

/// Rows read at once: a few disk pages, or some hundred kilobytes when every row is full.
const PUMP_ROWS: usize = 16;
/// Statements that may be unanswered on one link, but for the last read: each is below 700 bytes.
const STATEMENTS_INFLIGHT_MAX: usize = 2_048;
/// Statements that may be unanswered on one connection, but for the last read.
const NOTES_INFLIGHT_MAX: usize = 512;
/// Bytes of proofs in one frame.
const PROOFS_BYTES_MAX: usize = 48 * 1024;

impl Core {
    /// Statements of a peer about envelopes of own devices.
    pub(crate) fn on_statements(
        &mut self,
        node: &NodeId,
        checked: &[Checked],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        for Checked { root, statements } in checked {
            for (statement, proof) in statements {
                self.on_statement(node, root, statement, proof, txn)?;
            }
        }
        Ok(())
    }

    fn on_statement(
        &mut self,
        node: &NodeId,
        root: &BatchRoot,
        statement: &Statement,
        proof: &Proof,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(mut row) = schema::get::<OutRow>(txn, OUT, statement.eid.as_bytes())? else {
            // Final already: said once more after a lost answer.
            return Ok(());
        };
        if row.account.is_none() && statement.claim == Claim::Custody {
            // A next hop says that it has what we pass on: we say that we have it, and that is enough.
            return Ok(());
        }
        let may_claim = match row.account {
            Some(_) => self.may_claim(node, root, statement, &row),
            None => self.may_claim_of_held(node, root, statement, &row),
        };
        if !may_claim && !self.is_sabotaged(Sabotage::BelieveAnyStatement) {
            self.observe(Observed::BadStatement);
            self.blame(node, Offence::BadStatement);
            return Ok(());
        }
        let mut is_news = false;
        if statement.claim.is_terminal() {
            for copy in &mut row.copies {
                if statement.copy.is_none_or(|named| named == copy.copy) && copy.done.is_none() {
                    copy.done = Some(statement.claim);
                    is_news = true;
                }
            }
        } else {
            is_news = row.copies.iter().any(|copy| copy.done.is_none());
        }
        if !is_news {
            return Ok(());
        }
        let is_dropped =
            statement.claim == Claim::Custody && self.is_sabotaged(Sabotage::DropCopyOnCustody);
        if row.account.is_none() && self.is_sabotaged(Sabotage::KeepCustody) {
            return self.pass_back(&row, proof);
        }
        if is_dropped || row.copies.iter().all(|copy| copy.done.is_some()) {
            self.drop_out(&statement.eid, txn)?;
        } else if statement.claim.is_terminal() {
            schema::put(txn, OUT, statement.eid.as_bytes(), &row)?;
        } else if row.account.is_none() && statement.claim == Claim::AtDest {
            self.let_go(&statement.eid, root.incarnation, &mut row, txn)?;
        }
        let Some(account) = row.account else {
            return self.pass_back(&row, proof);
        };
        self.step_stated(root, statement, &row);
        match statement.claim {
            Claim::Delivered => {
                let after_ms = self.now_ms.saturating_sub(row.accepted_ms);
                self.observe(Observed::Ticked { after_ms });
            }
            Claim::Failed | Claim::Undecryptable => self.observe(Observed::Failed),
            Claim::Accepted | Claim::Custody | Claim::AtDest | Claim::Closed | Claim::Read => {}
        }
        // Closed is never shown: no oracle for those who are blocked.
        if statement.claim == Claim::Closed {
            Ok(())
        } else {
            self.put_note(account, proof.clone());
            Ok(())
        }
    }

    /// What a statement that is news means for its envelope. Closed is no step: no oracle.
    fn step_stated(&mut self, root: &BatchRoot, statement: &Statement, row: &OutRow) {
        let stage = match statement.claim {
            Claim::Delivered => Stage::Ticked,
            Claim::Failed | Claim::Undecryptable => Stage::Failed,
            Claim::AtDest => Stage::AtDest,
            Claim::Custody => {
                return self.step(Step::of(Stage::Custody, statement.eid, root.signer.node));
            }
            Claim::Accepted | Claim::Closed | Claim::Read => return,
        };
        let why = statement.reason.map(Why::Reason);
        self.step_out(stage, statement.eid, row, statement.copy, why);
    }

    /// What we hold for others: its statement goes back to where it came from.
    fn pass_back(&mut self, row: &OutRow, proof: &Proof) -> Result<(), StoreError> {
        let Some(hop) = self.numbers.get(&row.hop).copied() else {
            return Err(StoreError::corrupt("an envelope from a peer without a number"));
        };
        self.put_statement(&hop, proof.clone());
        Ok(())
    }

    /// True when the signer may say this of that envelope, whoever brings it: the device about its own
    /// copy, the destination node about the envelope, a custodian of that node that it holds it;
    /// nobody else about anything.
    fn may_claim(
        &self,
        node: &NodeId,
        root: &BatchRoot,
        statement: &Statement,
        row: &OutRow,
    ) -> bool {
        let Some(destination) = self.numbers.get(&row.peer) else { return false };
        match statement.claim {
            Claim::Delivered | Claim::Undecryptable => {
                let device = root.signer.device();
                row.copies
                    .iter()
                    .any(|copy| Some(copy.copy) == statement.copy && copy.device == device)
            }
            Claim::AtDest | Claim::Failed | Claim::Closed => self.is_signed_by(destination, root),
            Claim::Custody => {
                let may_hold = self.custodians_of(destination).contains(node)
                    || self.routes.next_hop(destination) == Some(*node);
                row.account.is_some() && may_hold && self.is_signed_by(node, root)
            }
            Claim::Accepted | Claim::Read => false,
        }
    }

    /// The same for what we hold for another node, whose devices we do not know: what a device says
    /// counts when that node itself brings it, or our next hop to it. The origin checks it again.
    fn may_claim_of_held(
        &self,
        node: &NodeId,
        root: &BatchRoot,
        statement: &Statement,
        row: &OutRow,
    ) -> bool {
        let Some(destination) = self.numbers.get(&row.peer) else { return false };
        match statement.claim {
            Claim::Delivered | Claim::Undecryptable => {
                (node == destination || self.way_of(destination) == *node)
                    && row.copies.iter().any(|copy| Some(copy.copy) == statement.copy)
            }
            Claim::AtDest | Claim::Failed | Claim::Closed => self.is_signed_by(destination, root),
            Claim::Custody | Claim::Accepted | Claim::Read => false,
        }
    }

    fn is_signed_by(&self, node: &NodeId, root: &BatchRoot) -> bool {
        root.signer.node == Some(*node)
            && self.delegation_by(node).is_some_and(|known| known.operational == root.signer.key)
    }

    /// Sends statements that wait for a peer.
    pub(crate) fn pump_statements(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        loop {
            let Some(peer) = self.peers.get(node) else { return Ok(()) };
            let Some(link) = peer.link else { return Ok(()) };
            if peer.statements_inflight.weight() >= STATEMENTS_INFLIGHT_MAX {
                return Ok(());
            }
            let (number, cursor) = (peer.number, peer.statements_cursor);
            let rows = range_from(txn, STATEMENTS, &number.to_be_bytes(), cursor, PUMP_ROWS)?;
            let is_last = rows.len() < PUMP_ROWS;
            for Packed { rows, proofs } in pack(&rows, |_| 0)? {
                if self.is_sabotaged(Sabotage::ForgetStatementOnSend) {
                    for (lsn, _) in &rows {
                        txn.delete(STATEMENTS, &peer_key(number, *lsn))?;
                    }
                }
                let at_ms = self.now_ms;
                let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
                for (lsn, statements) in &rows {
                    peer.statements_inflight.insert(*lsn, at_ms, *statements);
                    peer.statements_cursor = lsn + 1;
                }
                peer.patience.sent(at_ms);
                let rows = rows.into_iter().map(|(lsn, _)| lsn).collect();
                self.tell_peer(link, PeerFrame::Statements(Statements { rows, proofs }));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    pub(crate) fn on_statements_took(
        &mut self,
        node: &NodeId,
        rows: &[u64],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        for row in rows {
            // Only what was sent on this link: another number is not the peer's to name.
            if peer.statements_inflight.remove(row).is_some() {
                peer.retry.answered();
                txn.delete(STATEMENTS, &peer_key(peer.number, *row))?;
                peer.statements = peer.statements.saturating_sub(1);
                self.batch.peer_rows.insert(*node);
            }
        }
        self.batch.peers.insert(*node);
        Ok(())
    }

    /// Sends statements that wait for a device.
    pub(crate) fn pump_notes(
        &mut self,
        conn: ConnId,
        device: &DeviceId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        loop {
            let Some(greeted) = self.greeted(conn) else { return Ok(()) };
            if greeted.noted.weight() >= NOTES_INFLIGHT_MAX {
                return Ok(());
            }
            let cursor = greeted.notes_cursor;
            let rows = range_from(txn, NOTES, device.as_bytes(), cursor, PUMP_ROWS)?;
            let is_last = rows.len() < PUMP_ROWS;
            for Packed { rows, proofs } in pack(&rows, |proof| self.delegation_bytes(proof))? {
                let delegations = self.delegations_of(&proofs);
                let Some(greeted) = self.greeted_mut(conn) else { return Ok(()) };
                for (lsn, statements) in &rows {
                    greeted.noted.insert(*lsn, (), *statements);
                    greeted.notes_cursor = lsn + 1;
                }
                let notes = rows.into_iter().map(|(lsn, _)| lsn).collect();
                self.tell_client(conn, NodeFrame::Notes(Notes { notes, proofs, delegations }));
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// What shows that another node's root key appointed the key under a proof, if that is known.
    fn delegation_of(&self, proof: &Proof) -> Option<(NodeId, &Signed<Delegation>)> {
        let node = proof.claimed_node().filter(|node| *node != self.node)?;
        Some((node, self.signed_delegation_by(&node)?))
    }

    fn delegation_bytes(&self, proof: &Proof) -> usize {
        self.delegation_of(proof).map_or(0, |(_, signed)| signed.signed_bytes().len() + 80)
    }

    /// One for each node that signed.
    fn delegations_of(&self, proofs: &[Proof]) -> Vec<Signed<Delegation>> {
        let known: BTreeMap<_, _> =
            proofs.iter().filter_map(|proof| self.delegation_of(proof)).collect();
        known.into_values().cloned().collect()
    }

    pub(crate) fn on_noted(
        &mut self,
        conn: ConnId,
        noted: Noted,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted_mut(conn) else { return Ok(()) };
        let device = greeted.device;
        let known: Vec<u64> =
            noted.notes.into_iter().filter(|n| greeted.noted.remove(n).is_some()).collect();
        self.batch.marks.insert(device, noted.mine);
        for note in known {
            txn.delete(NOTES, &device_key(&device, note))?;
        }
        self.batch.devices.insert(device);
        Ok(())
    }

    pub(crate) fn drop_notes(
        &mut self,
        device: &DeviceId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let prefix = device.as_bytes();
        for (key, _) in txn.range(NOTES, prefix, &prefix_end(prefix), usize::MAX)? {
            txn.delete(NOTES, &key)?;
        }
        Ok(())
    }
}

/// What goes into one frame.
#[derive(Default)]
struct Packed {
    /// Numbers of rows, with the statements in each.
    rows: Vec<(u64, usize)>,
    /// The proofs in them, merged.
    proofs: Vec<Proof>,
}

/// Rows in as many frames as they need. `beside` says how many bytes may have to go along with a
/// proof.
fn pack(
    rows: &[tidings_store::Row],
    beside: impl Fn(&Proof) -> usize,
) -> Result<Vec<Packed>, StoreError> {
    let mut frames = Vec::new();
    let mut frame = Packed::default();
    let (mut bytes, mut statements) = (0, 0);
    for (key, value) in rows {
        let proof = schema::decode::<Proof>(value)?;
        let more = value.len() + 16 + beside(&proof);
        let is_full = bytes + more > PROOFS_BYTES_MAX
            || statements + proof.leaves.len() > limits::STATEMENTS_PER_FRAME_MAX;
        if is_full && !frame.rows.is_empty() {
            frames.push(core::mem::take(&mut frame));
            (bytes, statements) = (0, 0);
        }
        bytes += more;
        statements += proof.leaves.len();
        frame.rows.push((lsn_of(key), proof.leaves.len()));
        frame.proofs.push(proof);
    }
    if !frame.rows.is_empty() {
        frames.push(frame);
    }
    for frame in &mut frames {
        frame.proofs = Proof::merge(core::mem::take(&mut frame.proofs));
    }
    Ok(frames)
}
