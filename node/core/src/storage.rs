//! How old the rows of a node's store are, for tools that report on it. The node never looks here.

use serde::de::DeserializeOwned;
use tidings_protocol::codec;
use tidings_protocol::id::Eid;

use crate::schema::{
    self, CachedUser, DeadLetterRow, DeadRow, InboxRow, NameRow, OutRow, OutboxRow, SeenRow,
    SubmitRow,
};

/// When a row came to be, in Unix ms, where the row says so: the time of its arrival if it is kept,
/// else the minute in which its envelope says that it was created.
#[must_use]
pub fn born_ms(table: &str, key: &[u8], value: &[u8]) -> Option<u64> {
    fn row<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
        codec::decode(value).ok()
    }
    let created = |eid: &Eid| u64::from(eid.created_minute()) * 60_000;
    if table == schema::OUT.name {
        let arrived = row::<OutRow>(value).map(|row| row.accepted_ms);
        arrived.or_else(|| Eid::from_slice(key).as_ref().map(created))
    } else if table == schema::SEEN.name {
        let arrived = row::<SeenRow>(value).map(|row| row.stored_ms);
        arrived.or_else(|| Eid::from_slice(key).as_ref().map(created))
    } else if table == schema::OUTBOX.name {
        row::<OutboxRow>(value).map(|row| created(&row.eid))
    } else if table == schema::INBOX.name {
        row::<InboxRow>(value).map(|row| created(&row.eid))
    } else if table == schema::SUBMITS.name {
        row::<SubmitRow>(value).map(|row| row.accepted_ms)
    } else if table == schema::DEAD.name {
        row::<DeadRow>(value).map(|row| row.at_ms)
    } else if table == schema::DEAD_LETTERS.name {
        row::<DeadLetterRow>(value).map(|row| row.since_ms)
    } else if table == schema::USERS.name {
        row::<CachedUser>(value).map(|row| row.fetched_ms)
    } else if table == schema::NAMES.name {
        row::<NameRow>(value).map(|row| row.since_ms)
    } else {
        None
    }
}
