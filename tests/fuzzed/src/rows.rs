//! Rows of the stores: what a disk gives back is read or refused, and never more.

use serde::{Serialize, de::DeserializeOwned};
use tidings_client::{SCHEMA, examine::check_row};
use tidings_core::schema::{
    AccountRow, BodyRow, CachedUser, DeadLetterRow, DeadRow, DeviceRow, InboxRow, InviteRow,
    NameRow, OneTimeRow, OutRow, OutboxRow, PeerRow, ReplacedRow, SeenRow, SubmitRow,
};
use tidings_protocol::{
    bundle::Bundle,
    codec::{decode, encode},
    device_list::DeviceList,
    shape::Shaped,
    signed::Signed,
    statement::Proof,
};

use crate::agree;

/// The first byte says which row.
pub(crate) fn node(bytes: &[u8]) {
    let Some((&first, row)) = bytes.split_first() else { return };
    match first % 17 {
        0 => is::<AccountRow>(row),
        1 => is::<DeviceRow>(row),
        2 => is::<ReplacedRow>(row),
        3 => is::<OneTimeRow>(row),
        4 => is::<InviteRow>(row),
        5 => is::<PeerRow>(row),
        6 => is::<OutboxRow>(row),
        7 => is::<OutRow>(row),
        8 => is::<SubmitRow>(row),
        9 => is::<BodyRow>(row),
        10 => is::<InboxRow>(row),
        11 => is::<SeenRow>(row),
        12 => is::<CachedUser>(row),
        13 => {
            is::<DeadRow>(row);
            is::<DeadLetterRow>(row);
        }
        14 => is::<Signed<DeviceList>>(row),
        15 => is::<NameRow>(row),
        _ => {
            is::<Bundle>(row);
            is::<Proof>(row);
        }
    }
}

fn is<T>(row: &[u8])
where
    T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug + Shaped,
{
    agree::outlined::<T>(row);
    if let Ok(read) = decode::<T>(row) {
        assert_eq!(decode::<T>(&encode(&read)), Ok(read), "a row comes back");
    }
}

/// The first byte says which table, and the key of a single row.
pub(crate) fn client(bytes: &[u8]) {
    let Some((&first, row)) = bytes.split_first() else { return };
    let (table, name) = (usize::from(first) % SCHEMA.tables.len(), usize::from(first >> 4) % 4);
    let key: &[u8] = [b"account".as_slice(), b"node", b"prekeys", b"other"][name];
    // Read or refused; what must not happen is that it ends the process.
    if let Err(error) = check_row(SCHEMA.tables[table], key, row) {
        assert!(!error.to_string().is_empty());
    }
}
