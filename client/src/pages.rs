//! Conversations as a screen reads them: a list, a page around a message, a search in steps. No
//! question here reads a whole conversation, however long it is.

use tidings_protocol::id::MsgId;
use tidings_store::{Row, StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    draft::Draft,
    event::{MessageRef, Peer},
    machine::ClientCore,
    query::MessageView,
    rows::{MessageKey, MessageRow, PeerKey, PeerRow},
    schema::{MESSAGES, PEERS, UNREAD},
};

/// Unread messages of one conversation that are counted; above that a person reads "many".
pub const UNREAD_COUNT_MAX: usize = 1_000;
/// Rows that one read takes.
const ROWS_PER_READ: usize = 128;

/// A conversation as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationView {
    /// With whom.
    pub peer: Peer,
    /// The last message by time of writing.
    pub last: Option<MessageView>,
    /// Messages of the other party that were not displayed, counted up to [`UNREAD_COUNT_MAX`].
    pub unread: usize,
    /// The first of them.
    pub first_unread: Option<MsgId>,
    /// What was written and not sent.
    pub draft: Option<Draft>,
    /// Another account key of the other party waits to be accepted.
    pub key_changed: bool,
}

/// Where a page of a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAt {
    /// At the end.
    Newest,
    /// About as many messages before this one as after it, by time of writing.
    Around(MsgId),
}

/// A part of a conversation, in the order of [`crate::order::arrange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageView {
    /// The messages.
    pub messages: Vec<MessageView>,
    /// There are messages before them.
    pub earlier: bool,
    /// There are messages after them.
    pub later: bool,
}

/// Which way a search goes, by time of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the beginning.
    Older,
    /// Towards the end.
    Newer,
}

/// What a step of a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Searched {
    /// This message has it.
    Found(MessageRef),
    /// None so far; go on from this message.
    GoOn(MessageRef),
    /// There are no more messages.
    End,
}

impl<S: Sealer> ClientCore<S> {
    /// Every conversation, those with the newest message first, those without any at the end.
    ///
    /// # Errors
    /// Only from the store.
    pub fn conversations(&self, txn: &dyn Txn) -> Result<Vec<ConversationView>, StoreError> {
        let mut views = Vec::new();
        let mut from = Vec::new();
        loop {
            let rows = txn.range(PEERS, &from, &prefix_end(&[]), ROWS_PER_READ)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, sealed) in &rows {
                let row: PeerRow = self.vault.open(PEERS, key, sealed)?;
                if *key != self.own_key.0 {
                    views.push(self.conversation_view(txn, &row)?);
                }
            }
        }
        let newest = |view: &ConversationView| {
            view.last.as_ref().map(|last| (last.created_ms, last.message.msg))
        };
        views.sort_by(|a, b| newest(b).cmp(&newest(a)).then_with(|| a.peer.cmp(&b.peer)));
        Ok(views)
    }

    /// One conversation; `None` when nothing is known of it.
    ///
    /// # Errors
    /// Only from the store.
    pub fn conversation_with(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
    ) -> Result<Option<ConversationView>, StoreError> {
        let row = self.peer_row(txn, &self.vault.peer(peer))?;
        row.map(|row| self.conversation_view(txn, &row)).transpose()
    }

    fn conversation_view(
        &self,
        txn: &dyn Txn,
        row: &PeerRow,
    ) -> Result<ConversationView, StoreError> {
        let peer = row.peer();
        let key = self.vault.peer(&peer);
        let (newest, _) = self.rows_before(txn, &key, prefix_end(&key.0), 1)?;
        let last = newest.into_iter().next();
        let unread = txn.range(UNREAD, &key.0, &prefix_end(&key.0), UNREAD_COUNT_MAX)?;
        Ok(ConversationView {
            last: last.map(|(key, row)| self.message_view(txn, &peer, key, row)).transpose()?,
            unread: unread.len(),
            first_unread: unread
                .first()
                .and_then(|(key, _)| MessageKey::read(key))
                .map(|key| key.msg),
            draft: self.draft(txn, &peer)?,
            key_changed: row.offered.is_some(),
            peer,
        })
    }

    /// A part of a conversation with at most `max` messages.
    ///
    /// # Errors
    /// Only from the store.
    pub fn page(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        at: PageAt,
        max: usize,
    ) -> Result<PageView, StoreError> {
        let key = self.vault.peer(peer);
        let end = prefix_end(&key.0);
        let (before, after) = match at {
            PageAt::Newest => (end.clone(), None),
            PageAt::Around(msg) => {
                let middle = [key.0.as_slice(), &msg.0].concat();
                (middle.clone(), Some(middle))
            }
        };
        let (mut rows, later) = match after {
            Some(from) => self.rows_after(txn, from, &end, max.div_ceil(2))?,
            None => (Vec::new(), false),
        };
        // What is not needed after the middle is taken from before it.
        let (earlier_rows, earlier) =
            self.rows_before(txn, &key, before, max.saturating_sub(rows.len()))?;
        rows.splice(0..0, earlier_rows.into_iter().rev());
        Ok(PageView { messages: self.arranged(txn, peer, rows)?, earlier, later })
    }

    /// One message.
    ///
    /// # Errors
    /// Only from the store.
    pub fn message(
        &self,
        txn: &dyn Txn,
        message: &MessageRef,
    ) -> Result<Option<MessageView>, StoreError> {
        let peer = self.vault.peer(&message.peer);
        let key = MessageKey { peer, msg: message.msg, mine: message.mine };
        let row: Option<MessageRow> = self.get(txn, MESSAGES, &key.bytes())?;
        let shown = row.filter(|row| row.shown);
        shown.map(|row| self.message_view(txn, &message.peer, key, row)).transpose()
    }

    /// Looks for the next message of a conversation whose text `has` it, beginning behind `from` or,
    /// without it, at the end where the search starts. Reads at most `rows_max` messages, so that a
    /// long search can be taken in steps between which the device does its work.
    ///
    /// # Errors
    /// Only from the store.
    pub fn search(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        from: Option<&MessageRef>,
        direction: Direction,
        has: &dyn Fn(&str) -> bool,
        rows_max: usize,
    ) -> Result<Searched, StoreError> {
        let key = self.vault.peer(peer);
        let at = from.map(|from| MessageKey { peer: key, msg: from.msg, mine: from.mine }.bytes());
        let end = prefix_end(&key.0);
        let mut read: Vec<Row> = Vec::new();
        match direction {
            Direction::Older => {
                let mut before = at.unwrap_or(end);
                while read.len() < rows_max
                    && let Some(row) = txn.last(MESSAGES, &key.0, &before)?
                {
                    before.clone_from(&row.0);
                    read.push(row);
                }
            }
            Direction::Newer => {
                let after = at.map_or(key.0.to_vec(), |at| [at.as_slice(), &[0]].concat());
                read = txn.range(MESSAGES, &after, &end, rows_max)?;
            }
        }
        let is_last = read.len() < rows_max;
        let mut reached = None;
        for (at, sealed) in &read {
            let Some(found) = MessageKey::read(at) else { continue };
            let row: MessageRow = self.vault.open(MESSAGES, at, sealed)?;
            let message = MessageRef { peer: peer.clone(), msg: found.msg, mine: found.mine };
            if row.shown && has(&row.text.text) {
                return Ok(Searched::Found(message));
            }
            reached = Some(message);
        }
        Ok(reached.filter(|_| !is_last).map_or(Searched::End, Searched::GoOn))
    }

    /// The last `max` shown messages before a key, newest first, and whether there are more.
    pub(crate) fn rows_before(
        &self,
        txn: &dyn Txn,
        peer: &PeerKey,
        mut before: Vec<u8>,
        max: usize,
    ) -> Result<(Vec<(MessageKey, MessageRow)>, bool), StoreError> {
        let mut rows = Vec::new();
        while let Some((at, sealed)) = txn.last(MESSAGES, &peer.0, &before)? {
            let row: MessageRow = self.vault.open(MESSAGES, &at, &sealed)?;
            if let Some(key) = MessageKey::read(&at).filter(|_| row.shown) {
                if rows.len() >= max {
                    return Ok((rows, true));
                }
                rows.push((key, row));
            }
            before = at;
        }
        Ok((rows, false))
    }

    /// The first `max` shown messages from a key on, oldest first, and whether there are more.
    fn rows_after(
        &self,
        txn: &dyn Txn,
        mut from: Vec<u8>,
        end: &[u8],
        max: usize,
    ) -> Result<(Vec<(MessageKey, MessageRow)>, bool), StoreError> {
        let mut rows = Vec::new();
        loop {
            let read = txn.range(MESSAGES, &from, end, ROWS_PER_READ)?;
            let Some((last, _)) = read.last() else { return Ok((rows, false)) };
            from = [last.as_slice(), &[0]].concat();
            for (at, sealed) in read {
                let row: MessageRow = self.vault.open(MESSAGES, &at, &sealed)?;
                if let Some(key) = MessageKey::read(&at).filter(|_| row.shown) {
                    if rows.len() >= max {
                        return Ok((rows, true));
                    }
                    rows.push((key, row));
                }
            }
        }
    }
}
