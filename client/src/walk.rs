//! A whole conversation in its order, however long it is, and one message by its id. Views for a screen
//! are in `query.rs` and `pages.rs`.

use tidings_protocol::id::MsgId;
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    event::{MessageRef, Peer},
    machine::ClientCore,
    order::{Placed, arrange},
    rows::{MessageKey, MessageRow, PeerRow},
    schema::{MESSAGES, PEERS},
};

/// Rows that one read takes.
const ROWS_PER_READ: usize = 256;

/// Which messages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of the other party that were not displayed.
    Unread,
}

impl<S: Sealer> ClientCore<S> {
    /// The messages of a conversation in the order of [`crate::order::arrange`], by name alone: some
    /// hundred bytes for each while they are put in order. What they say is read one by one, by
    /// [`Self::message`].
    ///
    /// # Errors
    /// Only from the store.
    pub fn in_order(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        which: Which,
    ) -> Result<Vec<MessageRef>, StoreError> {
        let key = self.vault.peer(peer);
        let end = prefix_end(&key.0);
        let mut from = key.0.to_vec();
        let (mut names, mut placed) = (Vec::new(), Vec::new());
        loop {
            let read = txn.range(MESSAGES, &from, &end, ROWS_PER_READ)?;
            let Some((last, _)) = read.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (at, sealed) in &read {
                let row: MessageRow = self.vault.open(MESSAGES, at, sealed)?;
                let Some(message) = MessageKey::read(at).filter(|_| row.shown) else { continue };
                let is_unread = !(row.displayed || message.mine);
                if which == Which::All || is_unread {
                    names.push((message.msg, message.mine));
                    placed.push(Placed::of(message.msg, &row));
                }
            }
        }
        let named = arrange(&placed).into_iter().filter_map(|index| names.get(index));
        Ok(named
            .map(|(msg, mine)| MessageRef { peer: peer.clone(), msg: *msg, mine: *mine })
            .collect())
    }

    /// The message with this id, in whichever conversation it is; an own one first.
    ///
    /// # Errors
    /// Only from the store.
    pub fn find(&self, txn: &dyn Txn, msg: MsgId) -> Result<Option<MessageRef>, StoreError> {
        let mut from = Vec::new();
        loop {
            let peers = txn.range(PEERS, &from, &prefix_end(&[]), ROWS_PER_READ)?;
            let Some((last, _)) = peers.last() else { return Ok(None) };
            from = [last.as_slice(), &[0]].concat();
            for (at, sealed) in &peers {
                let row: PeerRow = self.vault.open(PEERS, at, sealed)?;
                let peer = row.peer();
                for mine in [true, false] {
                    let key = MessageKey { peer: self.vault.peer(&peer), msg, mine };
                    let row: Option<MessageRow> = self.get(txn, MESSAGES, &key.bytes())?;
                    if row.is_some_and(|row| row.shown) {
                        return Ok(Some(MessageRef { peer, msg, mine }));
                    }
                }
            }
        }
    }
}
