//! A device's messages in steps of a bounded size, however many there are: a conversation from its
//! beginning to its end, and one message by its id. Views for a screen are in `query.rs`.

use tidings_protocol::id::MsgId;
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    event::{MessageRef, Peer},
    machine::ClientCore,
    query::MessageView,
    rows::{MessageKey, MessageRow, PeerRow},
    schema::{MESSAGES, PEERS},
};

/// Rows that one read takes.
const ROWS_PER_READ: usize = 256;

/// Which messages a walk is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of the other party that were not displayed.
    Unread,
}

/// A step of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The messages, in the order of [`crate::order::arrange`].
    pub messages: Vec<MessageView>,
    /// Where the next step begins; `None` at the end.
    pub next: Option<MessageRef>,
}

impl<S: Sealer> ClientCore<S> {
    /// At most `max` messages of a conversation by time of writing, behind `after` or, without it,
    /// from the first one on.
    ///
    /// # Errors
    /// Only from the store.
    pub fn walk(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        which: Which,
        after: Option<&MessageRef>,
        max: usize,
    ) -> Result<Step, StoreError> {
        let key = self.vault.peer(peer);
        let end = prefix_end(&key.0);
        let behind = |at: &[u8]| [at, &[0]].concat();
        let mut from = after.map_or_else(
            || key.0.to_vec(),
            |at| behind(&MessageKey { peer: key, msg: at.msg, mine: at.mine }.bytes()),
        );
        let mut rows: Vec<(MessageKey, MessageRow)> = Vec::new();
        let mut next = None;
        while next.is_none() {
            let read = txn.range(MESSAGES, &from, &end, ROWS_PER_READ)?;
            let Some((last, _)) = read.last() else { break };
            from = behind(last);
            for (at, sealed) in &read {
                let row: MessageRow = self.vault.open(MESSAGES, at, sealed)?;
                let Some(message) = MessageKey::read(at).filter(|_| row.shown) else { continue };
                let is_unread = !(row.displayed || message.mine);
                if which == Which::All || is_unread {
                    rows.push((message, row));
                }
                if rows.len() >= max {
                    next = Some(MessageRef {
                        peer: peer.clone(),
                        msg: message.msg,
                        mine: message.mine,
                    });
                    break;
                }
            }
        }
        Ok(Step { messages: self.arranged(txn, peer, rows)?, next })
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
