//! What stays: one write transaction at a time over ordered tables of bytes, committed durably.
//! Knows nothing of messages, peers or devices: the owners declare their tables and encode their
//! rows. Expiry is the owners' job too.

pub mod counters;
pub mod error;
pub mod lineage;
pub mod mem_store;
pub mod txn;

pub use counters::Counters;
pub use error::{OpenError, StoreError};
pub use lineage::{Boot, BootId, Lineage, Opening};
pub use mem_store::{Fault, Image, MemDisk, MemStore};
pub use txn::{Migration, Schema, Store, Table, Txn, prefix_end};
