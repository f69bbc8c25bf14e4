//! Who may sign for other nodes: the delegations that came with their statements. Those of the own
//! node stand in its row; see `link.rs`.

use tidings_protocol::{
    client_frame::Notes,
    descriptor::Delegation,
    id::NodeId,
    limits::STATEMENTS_PER_FRAME_MAX,
    signed::Signed,
    statement::{BatchRoot, Statement},
};
use tidings_store::{Row, StoreError, Txn, prefix_end};

use crate::{crypto::Sealer, machine::ClientCore, schema::DELEGATIONS};

/// Delegations kept of one node: those of a year with a rotation each quarter.
const PER_NODE_MAX: usize = 4;
/// Delegations kept in all. When there is no room, statements stay unproved: the same as when the
/// own node had withheld them, so it gains nothing by filling the table.
const ALL_MAX: usize = 1_024;

/// What the known delegations say about the key under a statement of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The node's root key appointed it for that time.
    Proved,
    /// Nothing is known either way.
    Open,
    /// The delegation that the statement names gives another key, or had run out.
    Contradicted,
}

impl<S: Sealer> ClientCore<S> {
    /// Keeps the delegations that came with notes, if their nodes signed any of these.
    pub(crate) fn keep_delegations(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        notes: &Notes,
    ) -> Result<(), StoreError> {
        let time_ms = self.node_time(now_ms);
        for signed in notes.delegations.iter().take(STATEMENTS_PER_FRAME_MAX) {
            let Ok(claimed) = signed.peek() else { continue };
            let node = claimed.node;
            let has_signed = notes.proofs.iter().any(|proof| proof.claimed_node() == Some(node));
            let key = [self.vault.node(&node).as_slice(), &claimed.serial.to_be_bytes()].concat();
            // The first of a serial stays: it was checked, and there should be no second.
            if !has_signed || node == self.settings.node || txn.get(DELEGATIONS, &key)?.is_some() {
                continue;
            }
            let is_valid = signed.open(&node.root_key()).is_ok_and(|d| d.not_after_ms > time_ms);
            if is_valid && self.make_room(txn, &node)? {
                self.put(txn, DELEGATIONS, &key, signed)?;
            }
        }
        Ok(())
    }

    /// True when there is room for one more delegation of a node; its oldest may have to go.
    fn make_room(&self, txn: &mut dyn Txn, node: &NodeId) -> Result<bool, StoreError> {
        let of_node = self.delegation_rows(txn, node)?;
        if let Some((oldest, _)) = of_node.first().filter(|_| of_node.len() >= PER_NODE_MAX) {
            txn.delete(DELEGATIONS, oldest)?;
            return Ok(true);
        }
        let all = txn.range(DELEGATIONS, &[], &prefix_end(&[]), ALL_MAX)?;
        Ok(all.len() < ALL_MAX)
    }

    fn delegation_rows(&self, txn: &dyn Txn, node: &NodeId) -> Result<Vec<Row>, StoreError> {
        let prefix = self.vault.node(node);
        txn.range(DELEGATIONS, &prefix, &prefix_end(&prefix), PER_NODE_MAX)
    }

    /// What is known of who signed for another node, oldest first.
    pub(crate) fn delegations_of(
        &self,
        txn: &dyn Txn,
        node: &NodeId,
    ) -> Result<Vec<Signed<Delegation>>, StoreError> {
        let rows = self.delegation_rows(txn, node)?;
        rows.iter().map(|(key, sealed)| self.vault.open(DELEGATIONS, key, sealed)).collect()
    }

    /// Compares the key under a statement of another node with what is known of that node.
    pub(crate) fn standing(
        &self,
        txn: &dyn Txn,
        root: &BatchRoot,
        statement: &Statement,
    ) -> Result<Standing, StoreError> {
        let Some(node) = root.signer.node else { return Ok(Standing::Open) };
        let mut standing = Standing::Open;
        for signed in self.delegations_of(txn, &node)? {
            let Ok(delegation) = signed.peek() else { continue };
            let is_in_time = delegation.not_after_ms > statement.at_ms;
            if delegation.operational == root.signer.key && is_in_time {
                return Ok(Standing::Proved);
            }
            // Another serial may be a rotation that was not shown here; this one leaves no way out.
            if delegation.serial == root.signer.version {
                standing = Standing::Contradicted;
            }
        }
        Ok(standing)
    }
}
