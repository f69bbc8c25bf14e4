//! Whether a device's store can be read: every row opened under its key and decoded as what stands in
//! its table. Changes nothing and keeps nothing; for `tidings doctor`, and for tests with odd bytes.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tidings_protocol::{
    codec::{self, DecodeError},
    descriptor::Delegation,
    id::DeviceId,
    signed::Signed,
    statement::Proof,
};
use tidings_store::{StoreError, Table, Txn, prefix_end};
use zeroize::Zeroizing;

use crate::{
    crypto::{at_rest::open_row, prekeys::PrekeySecrets},
    draft::Draft,
    machine::{ACCOUNT, NODE, PREKEYS},
    names::NameRow,
    rows::{
        AccountRow, CopyRow, DeviceRow, EnvelopeRow, MessageKey, MessageRow, NodeRow, OutboxRow,
        PeerRow, SealedRow, SeenRow, SenderRow, StatusRow,
    },
    schema::{
        COPIES, DELEGATIONS, DEVICES, DRAFTS, ENVELOPES, HELD, MESSAGES, NAMES, ORPHANS, OUTBOX,
        PEERS, SCHEMA, SEALED, SEEN, SELF, SENDERS, STATUS, TAGS, UNREAD,
    },
};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// Rows that were read.
    pub rows: usize,
    /// Whether every row was looked at, or a table has more.
    pub is_all: bool,
    /// Messages and marks that wait to be sent or proved.
    pub waiting: usize,
    /// Whether the account was made at its node.
    pub is_joined: bool,
}

/// Reads at most `max` rows of each table, the oldest first.
///
/// # Errors
/// The first row that does not open under this key, or is not what it should be.
pub fn examine(txn: &dyn Txn, store_key: &[u8; 32], max: usize) -> Result<Examined, StoreError> {
    let mut examined = Examined { is_all: true, ..Examined::default() };
    for table in SCHEMA.tables {
        let rows = txn.range(*table, &[], &prefix_end(&[]), max)?;
        examined.is_all &= rows.len() < max;
        examined.rows += rows.len();
        for (key, sealed) in &rows {
            if *table == UNREAD {
                check_row(*table, key, sealed)?;
                continue;
            }
            let plain = open_row(store_key, table.name, key, sealed).map_err(StoreError::work)?;
            let plain = Zeroizing::new(plain);
            check_row(*table, key, &plain)?;
            if (*table, key.as_slice()) == (SELF, ACCOUNT) {
                let account: Result<AccountRow, _> = codec::decode(&plain);
                examined.is_joined = account.is_ok_and(|account| account.joined);
            }
        }
        if *table == OUTBOX {
            examined.waiting = rows.len();
        }
    }
    Ok(examined)
}

/// Checks the value of one row, opened.
///
/// # Errors
/// It is not what stands in this table.
pub fn check_row(table: Table, key: &[u8], plain: &[u8]) -> Result<(), StoreError> {
    let checked = match table {
        SELF if key == ACCOUNT => is::<AccountRow>(plain),
        SELF if key == NODE => is::<NodeRow>(plain),
        SELF if key == PREKEYS => return check_prekeys(plain),
        PEERS => is::<PeerRow>(plain),
        DEVICES => is::<DeviceRow>(plain),
        TAGS => is::<DeviceId>(plain),
        SENDERS => is::<SenderRow>(plain),
        MESSAGES => is::<MessageRow>(plain),
        STATUS => is::<StatusRow>(plain),
        OUTBOX => is::<OutboxRow>(plain),
        SEALED => is::<SealedRow>(plain),
        COPIES => is::<CopyRow>(plain),
        ENVELOPES => is::<EnvelopeRow>(plain),
        ORPHANS => is::<Proof>(plain),
        SEEN => is::<SeenRow>(plain),
        HELD => is::<MessageKey>(plain),
        DRAFTS => is::<Draft>(plain),
        // The key says all.
        UNREAD if plain.is_empty() && MessageKey::read(key).is_some() => return Ok(()),
        NAMES => is::<NameRow>(plain),
        DELEGATIONS => is::<Signed<Delegation>>(plain),
        Table { name } => return Err(StoreError::corrupt(format!("{name}: an unknown row"))),
    };
    checked.map_err(|error| StoreError::corrupt(format!("{}: {error}", table.name)))
}

fn is<T: DeserializeOwned>(plain: &[u8]) -> Result<(), DecodeError> {
    codec::decode::<T>(plain).map(drop)
}

fn check_prekeys(plain: &[u8]) -> Result<(), StoreError> {
    let broken = |why: String| StoreError::corrupt(format!("self: {why}"));
    let bytes: Bytes = codec::decode(plain).map_err(|error| broken(error.to_string()))?;
    PrekeySecrets::from_bytes(&bytes).map(drop).map_err(|error| broken(error.to_string()))
}
