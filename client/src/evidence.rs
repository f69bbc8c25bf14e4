//! What this device can show about a message that it sent. The bundle and its check are
//! `tidings_protocol::evidence`.

use std::collections::BTreeSet;

use tidings_protocol::{
    descriptor::Delegation,
    evidence::{EVIDENCE_VERSION, Evidence},
    id::DeviceId,
    statement::{Proof, Signer},
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
        // What supports none of the statements stays here: it would only say more of its account.
        let signers: Vec<Signer> =
            proofs.iter().filter_map(|proof| Some(proof.check().ok()?.root.signer)).collect();
        let devices: BTreeSet<DeviceId> =
            signers.iter().filter(|s| s.node.is_none()).map(|s| DeviceId::of(&s.key)).collect();
        let mut lists = Vec::new();
        for key in [self.own_key, self.vault.peer(&message.peer)] {
            let Some(peer) = self.peer_row(txn, &key)? else { continue };
            let is_needed = peer
                .lists
                .iter()
                .filter_map(|list| list.peek().ok())
                .any(|list| list.devices.iter().any(|device| devices.contains(&device.id())));
            if is_needed {
                lists.extend(peer.lists);
            }
        }
        let mut delegations = self.node.delegations.clone();
        for node in nodes.iter().filter(|node| **node != self.settings.node) {
            delegations.extend(self.delegations_of(txn, node)?);
        }
        delegations.retain(|signed| {
            let is_needed = |it: &Delegation| {
                signers.iter().any(|s| s.node == Some(it.node) && s.key == it.operational)
            };
            signed.peek().is_ok_and(|delegation| is_needed(&delegation))
        });
        Ok(Evidence {
            version: EVIDENCE_VERSION,
            message: message.msg,
            proofs: Proof::merge(proofs),
            delegations,
            lists,
        })
    }
}
