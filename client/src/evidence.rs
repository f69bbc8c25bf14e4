//! What this device can show about a message that it sent. The bundle and its check are
//! `tidings_protocol::evidence`.

use std::collections::BTreeSet;

use tidings_protocol::{
    evidence::{EVIDENCE_VERSION, Evidence},
    statement::Proof,
};
use tidings_store::{StoreError, Txn};

use crate::{crypto::Sealer, event::MessageRef, machine::ClientCore};

impl<S: Sealer> ClientCore<S> {
    /// Everything that was proved about an own message: statements, and what names their keys as far
    /// as it is known here.
    ///
    /// # Errors
    /// Only from the store.
    pub fn evidence(&self, txn: &dyn Txn, message: &MessageRef) -> Result<Evidence, StoreError> {
        let mut proofs: Vec<Proof> = Vec::new();
        let mut nodes = BTreeSet::new();
        for view in self.statuses(txn, message)? {
            nodes.extend(view.events.iter().filter_map(|event| event.node));
            for proof in view.events.into_iter().filter_map(|event| event.proof) {
                // One acceptance speaks for all devices at a node.
                if !proofs.contains(&proof) {
                    proofs.push(proof);
                }
            }
        }
        let mut lists = self.account.lists.clone();
        if let Some(peer) = self.peer_row(txn, &self.vault.peer(&message.peer))? {
            lists.extend(peer.lists);
        }
        let mut delegations = self.node.delegations.clone();
        for node in nodes.iter().filter(|node| **node != self.settings.node) {
            delegations.extend(self.delegations_of(txn, node)?);
        }
        Ok(Evidence {
            version: EVIDENCE_VERSION,
            message: message.msg,
            proofs: Proof::merge(proofs),
            delegations,
            lists,
        })
    }
}
