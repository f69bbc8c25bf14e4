//! What a person has begun to write in a conversation and not sent yet. Kept here, sealed like
//! everything else, so that a client that ends loses nothing. Never leaves the device.

use serde::{Deserialize, Serialize};
use tidings_protocol::id::MsgId;
use tidings_store::{StoreError, Txn};

use crate::{crypto::Sealer, event::Peer, machine::ClientCore, schema::DRAFTS};

/// A text that was begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// What stands there so far.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<MsgId>,
}

impl<S: Sealer> ClientCore<S> {
    /// What was begun in a conversation.
    ///
    /// # Errors
    /// Only from the store.
    pub fn draft(&self, txn: &dyn Txn, peer: &Peer) -> Result<Option<Draft>, StoreError> {
        self.get(txn, DRAFTS, &self.vault.peer(peer).0)
    }

    /// Keeps what was begun in a conversation, or forgets it. The other party is known from then on,
    /// so that the conversation is among [`Self::conversations`].
    ///
    /// # Errors
    /// Only from the store.
    pub fn save_draft(
        &mut self,
        txn: &mut dyn Txn,
        peer: &Peer,
        draft: Option<&Draft>,
    ) -> Result<(), StoreError> {
        let Some(draft) = draft else { return txn.delete(DRAFTS, &self.vault.peer(peer).0) };
        let (key, _) = self.know_peer(txn, peer)?;
        self.put(txn, DRAFTS, &key.0, draft)
    }
}
