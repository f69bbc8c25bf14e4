//! How rows are put, found and named: the keys of `schema.rs`, in the order of their bytes. Says nothing
//! of what a row means.

use tidings_protocol::{
    address::UserName,
    codec,
    id::{AccountId, DeviceId, Eid, NodeId, SubmitId},
};
use tidings_store::{StoreError, Table, Txn, prefix_end};

use super::ExpiryKind;

/// Puts a row.
///
/// # Errors
/// From the store.
pub fn put<T: serde::Serialize>(
    txn: &mut dyn Txn,
    table: Table,
    key: &[u8],
    row: &T,
) -> Result<(), StoreError> {
    txn.put(table, key, &codec::encode(row))
}

/// Gets a row.
///
/// # Errors
/// From the store, or [`StoreError`] for a row that does not decode.
pub fn get<T: serde::de::DeserializeOwned>(
    txn: &dyn Txn,
    table: Table,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    txn.get(table, key)?.map(|bytes| decode(&bytes)).transpose()
}

/// Decodes a row.
///
/// # Errors
/// [`StoreError`] for a row that does not decode.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    codec::decode(bytes).map_err(|error| StoreError::corrupt(error.to_string()))
}

/// Joins the parts of a key.
#[must_use]
pub fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Key of [`LISTS`](super::LISTS).
#[must_use]
pub fn list_key(account: &AccountId, version: u64) -> Vec<u8> {
    key(&[account.as_bytes(), &version.to_be_bytes()])
}

/// Key of [`OUTBOX`](super::OUTBOX), [`STATEMENTS`](super::STATEMENTS) and
/// [`DEAD_LETTERS`](super::DEAD_LETTERS).
#[must_use]
pub fn peer_key(peer: u32, lsn: u64) -> Vec<u8> {
    key(&[&peer.to_be_bytes(), &lsn.to_be_bytes()])
}

/// Key of [`INBOX`](super::INBOX) and [`NOTES`](super::NOTES).
#[must_use]
pub fn device_key(device: &DeviceId, lsn: u64) -> Vec<u8> {
    key(&[device.as_bytes(), &lsn.to_be_bytes()])
}

/// Key of [`SUBMITS`](super::SUBMITS).
#[must_use]
pub fn submit_key(device: &DeviceId, submit: &SubmitId) -> Vec<u8> {
    key(&[device.as_bytes(), submit.as_bytes()])
}

/// Key of [`USERS`](super::USERS) and [`DIRECTORY`](super::DIRECTORY).
#[must_use]
pub fn user_key(node: &NodeId, name: &UserName) -> Vec<u8> {
    key(&[node.as_bytes(), name.as_str().as_bytes()])
}

/// Key of [`EXPIRY`](super::EXPIRY).
#[must_use]
pub fn expiry_key(expires_ms: u64, kind: ExpiryKind, eid: &Eid) -> Vec<u8> {
    let minute = u32::try_from(expires_ms / 60_000 + 1).unwrap_or(u32::MAX);
    key(&[&minute.to_be_bytes(), &[kind as u8], eid.as_bytes()])
}

/// The lsn at the end of a key.
#[must_use]
pub fn lsn_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Rows of one device or peer from `lsn` on.
///
/// # Errors
/// From the store.
pub fn range_from(
    txn: &dyn Txn,
    table: Table,
    prefix: &[u8],
    lsn: u64,
    max: usize,
) -> Result<Vec<tidings_store::Row>, StoreError> {
    txn.range(table, &key(&[prefix, &lsn.to_be_bytes()]), &prefix_end(prefix), max)
}
