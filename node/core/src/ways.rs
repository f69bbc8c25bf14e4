//! Ways back: what a custodian keeps of an envelope once its destination has signed that it has it. The
//! body is gone; the row of [`OUT`] stays, for what the destination's devices will say. A destination
//! whose store was rolled back may know such an envelope no more, and a custodian that was put back may
//! have missed the end: so ways are audited, too. Holds no content, and no duty.

use tidings_protocol::id::{Eid, NodeId};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    schema::{self, OUT, OutRow, WAYS, lsn_of, peer_key, range_from},
};

impl Core {
    /// The destination has signed that it has the envelope: its body need not stand here as well. The
    /// way back stays.
    pub(crate) fn let_go(
        &mut self,
        eid: &Eid,
        incarnation: u64,
        row: &mut OutRow,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let peer = self.numbers.get(&row.peer).and_then(|node| self.peers.get(node));
        let is_its_store = peer.is_some_and(|peer| peer.incarnation == Some(incarnation));
        if row.let_go.is_some() || !is_its_store {
            return Ok(());
        }
        self.drop_outbox_row(eid, row, txn)?;
        row.let_go = Some(incarnation);
        schema::put(txn, WAYS, &peer_key(row.peer, row.lsn), eid)?;
        schema::put(txn, OUT, eid.as_bytes(), row)
    }

    /// The ways back from a peer, in order.
    pub(crate) fn ways(
        txn: &dyn Txn,
        number: u32,
        from: u64,
        max: usize,
    ) -> Result<Vec<(u64, Eid)>, StoreError> {
        range_from(txn, WAYS, &number.to_be_bytes(), from, max)?
            .into_iter()
            .map(|(key, bytes)| Ok((lsn_of(&key), schema::decode(&bytes)?)))
            .collect()
    }

    /// The destination does not know an envelope that was let go. Nothing is to come back this way: the
    /// origin finds it missing by its own audit, and brings it anew.
    pub(crate) fn forget_ways(
        &mut self,
        node: &NodeId,
        unknown: impl Iterator<Item = Eid>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let number = self.peers.get(node).map(|peer| peer.number);
        for eid in unknown {
            let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
            if row.is_some_and(|row| row.let_go.is_some() && Some(row.peer) == number) {
                self.drop_out(&eid, txn)?;
            }
        }
        Ok(())
    }
}
