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
    effect::Observed,
    event::ConnId,
    schema::{self, NOTES, OUT, OutRow, STATEMENTS, device_key, lsn_of, peer_key, range_from},
    settings::Sabotage,
};

/// Statements that may be unanswered on one link: each is below 700 bytes.
const STATEMENTS_INFLIGHT_MAX: usize = 2_048;
/// Notes that may be unanswered on one connection.
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
        if !self.is_sabotaged(Sabotage::BelieveAnyStatement)
            && !self.may_claim(node, root, statement, &row)
        {
            self.observe(Observed::BadStatement);
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
        if row.copies.iter().all(|copy| copy.done.is_some()) {
            self.drop_out(&statement.eid, txn)?;
        } else if statement.claim.is_terminal() {
            schema::put(txn, OUT, statement.eid.as_bytes(), &row)?;
        }
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
            self.put_note(&row.account, proof, txn)
        }
    }

    /// True when the signer may say this of that envelope: the device about its own copy, the
    /// destination node about the envelope; nobody else about anything.
    fn may_claim(
        &self,
        node: &NodeId,
        root: &BatchRoot,
        statement: &Statement,
        row: &OutRow,
    ) -> bool {
        if self.numbers.get(&row.peer) != Some(node) {
            return false;
        }
        match statement.claim {
            Claim::Delivered | Claim::Undecryptable => {
                let device = root.signer.device();
                row.copies
                    .iter()
                    .any(|copy| Some(copy.copy) == statement.copy && copy.device == device)
            }
            Claim::AtDest | Claim::Failed | Claim::Closed => {
                let key = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref());
                root.signer.node == Some(*node)
                    && key.is_some_and(|(_, d)| d.delegation.operational == root.signer.key)
            }
            Claim::Accepted | Claim::Custody | Claim::Read => false,
        }
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
            let room = STATEMENTS_INFLIGHT_MAX.saturating_sub(peer.statements_inflight.len());
            let max = room.min(limits::STATEMENTS_PER_FRAME_MAX);
            if max == 0 {
                return Ok(());
            }
            let (number, cursor) = (peer.number, peer.statements_cursor);
            let rows = range_from(txn, STATEMENTS, &number.to_be_bytes(), cursor, max)?;
            let Some((numbers, proofs)) = pack(&rows, |_| 0)? else { return Ok(()) };
            if self.is_sabotaged(Sabotage::ForgetStatementOnSend) {
                for lsn in &numbers {
                    txn.delete(STATEMENTS, &peer_key(number, *lsn))?;
                }
            }
            let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
            peer.statements_cursor = numbers.last().map_or(cursor, |last| last + 1);
            let at_ms = self.now_ms;
            peer.statements_inflight.extend(numbers.iter().map(|lsn| (*lsn, at_ms)));
            peer.patience.sent(at_ms);
            self.tell_peer(link, PeerFrame::Statements(Statements { rows: numbers, proofs }));
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
            let room = NOTES_INFLIGHT_MAX.saturating_sub(greeted.noted.len());
            let max = room.min(limits::STATEMENTS_PER_FRAME_MAX);
            if max == 0 {
                return Ok(());
            }
            let cursor = greeted.notes_cursor;
            let rows = range_from(txn, NOTES, device.as_bytes(), cursor, max)?;
            let mut named = BTreeMap::new();
            let packed = pack(&rows, |proof| self.name_signer(proof, &mut named))?;
            let Some((notes, proofs)) = packed else { return Ok(()) };
            let delegations = named.into_values().collect();
            let Some(greeted) = self.greeted_mut(conn) else { return Ok(()) };
            greeted.notes_cursor = notes.last().map_or(cursor, |last| last + 1);
            greeted.noted.extend(&notes);
            self.tell_client(conn, NodeFrame::Notes(Notes { notes, proofs, delegations }));
        }
    }

    /// Adds what shows that another node's root key appointed the key under a proof, if that is known.
    /// The bytes that it takes.
    fn name_signer(
        &self,
        proof: &Proof,
        named: &mut BTreeMap<NodeId, Signed<Delegation>>,
    ) -> usize {
        let Some(node) = proof.claimed_node().filter(|node| *node != self.node) else { return 0 };
        let known = self.peers.get(&node).and_then(|peer| peer.descriptor.as_ref());
        let Some((descriptor, _)) = known.filter(|_| !named.contains_key(&node)) else { return 0 };
        let bytes = descriptor.delegation.signed_bytes().len() + 80;
        named.insert(node, descriptor.delegation.clone());
        bytes
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
            noted.notes.into_iter().filter(|note| greeted.noted.remove(note)).collect();
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

/// Numbers of rows, and the proofs in them.
type Packed = (Vec<u64>, Vec<Proof>);

/// Numbers and merged proofs of as many rows as fit into a frame; `None` for no rows. `beside` says
/// how many bytes must go along with a proof.
fn pack(
    rows: &[tidings_store::Row],
    mut beside: impl FnMut(&Proof) -> usize,
) -> Result<Option<Packed>, StoreError> {
    let mut numbers = Vec::with_capacity(rows.len());
    let mut proofs = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for (key, value) in rows {
        let proof = schema::decode::<Proof>(value)?;
        bytes += value.len() + 16 + beside(&proof);
        if bytes > PROOFS_BYTES_MAX && !numbers.is_empty() {
            break;
        }
        numbers.push(lsn_of(key));
        proofs.push(proof);
    }
    Ok((!numbers.is_empty()).then(|| (numbers, Proof::merge(proofs))))
}
