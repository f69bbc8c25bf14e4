//! Typed rows in and out of a transaction, each value sealed at rest. Knows no table's meaning.

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use serde::{Serialize, de::DeserializeOwned};
use tidings_protocol::{
    codec,
    id::{NodeId, hash},
};
use tidings_store::{StoreError, Table, Txn};
use zeroize::Zeroizing;

use crate::{
    crypto::at_rest::{open_row, seal_row},
    event::Peer,
    rows::PeerKey,
};

/// The key of a device's store.
pub(crate) struct Vault {
    key: Zeroizing<[u8; 32]>,
    peer_key: [u8; 32],
}

impl Vault {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        let peer_key = hash("peer row key", &[&key]).0;
        Self { key: Zeroizing::new(key), peer_key }
    }

    /// The key of a peer's rows.
    pub(crate) fn peer(&self, peer: &Peer) -> PeerKey {
        PeerKey(hash("peer row", &[&self.peer_key, &peer.node.0, peer.name.as_str().as_bytes()]).0)
    }

    /// What the keys of names are hashed with, so that a stolen file names no domain.
    pub(crate) const fn names_key(&self) -> [u8; 32] {
        self.peer_key
    }

    /// The key of a node's rows.
    pub(crate) fn node(&self, node: &NodeId) -> [u8; 32] {
        hash("node row", &[&self.peer_key, &node.0]).0
    }

    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        txn: &dyn Txn,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        match txn.get(table, key)? {
            Some(sealed) => self.open(table, key, &sealed).map(Some),
            None => Ok(None),
        }
    }

    /// Opens a row that a range has read.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<T, StoreError> {
        let plain =
            Zeroizing::new(open_row(&self.key, table.name, key, sealed).map_err(StoreError::work)?);
        codec::decode(&plain)
            .map_err(|error| StoreError::corrupt(format!("{}: {error}", table.name)))
    }

    pub(crate) fn put<T: Serialize>(
        &self,
        rng: &mut ChaCha20Rng,
        txn: &mut dyn Txn,
        table: Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StoreError> {
        let plain = Zeroizing::new(codec::encode(value));
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let sealed =
            seal_row(&self.key, nonce, table.name, key, &plain).map_err(StoreError::work)?;
        txn.put(table, key, &sealed)
    }
}

impl core::fmt::Debug for Vault {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str("Vault { .. }")
    }
}
