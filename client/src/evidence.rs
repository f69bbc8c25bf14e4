//! What this device can show about a message that it sent. The bundle and its check are
//! `tidings_protocol::evidence`.

use tidings_protocol::{
    evidence::{EVIDENCE_VERSION, Evidence},
    statement::Proof,
};
use tidings_store::{StoreError, Txn};

use crate::{crypto::Sealer, event::MessageRef, machine::ClientCore};

impl<S: Sealer> ClientCore<S> {
    /// Everything that was proved about an own message: statements, and what names their keys as far
    /// as it is known here. The delegations of foreign nodes are not, and may be added.
    ///
    /// # Errors
    /// Only from the store.
    pub fn evidence(&self, txn: &dyn Txn, message: &MessageRef) -> Result<Evidence, StoreError> {
        let mut proofs: Vec<Proof> = Vec::new();
        for view in self.statuses(txn, message)? {
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
        Ok(Evidence {
            version: EVIDENCE_VERSION,
            message: message.msg,
            proofs: Proof::merge(proofs),
            delegations: self.node.delegations.clone(),
            lists,
        })
    }
}
