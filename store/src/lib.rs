//! What stays: one write transaction at a time over ordered tables of bytes, committed durably.
//! Knows nothing of messages, peers or devices: the owners declare their tables and encode their
//! rows. Expiry is the owners' job too.

#[cfg(all(feature = "redb", unix))]
pub mod ballast;
#[cfg(feature = "redb")]
mod counted_backend;
pub mod counters;
pub mod error;
#[cfg(feature = "faults")]
pub mod fault_backend;
#[cfg(feature = "redb")]
mod guard;
pub mod lineage;
pub mod mem_disk;
pub mod mem_store;
mod opening;
#[cfg(feature = "redb")]
pub mod page_check;
#[cfg(feature = "redb")]
pub mod redb_copy;
#[cfg(feature = "redb")]
pub mod redb_file;
#[cfg(feature = "redb")]
pub mod redb_store;
#[cfg(feature = "redb")]
mod redb_txn;
pub mod row_stream;
pub mod txn;

#[cfg(all(feature = "redb", unix))]
pub use ballast::{Ballast, BallastError, free_bytes};
pub use counters::Counters;
pub use error::{OpenError, StoreError};
#[cfg(feature = "faults")]
pub use fault_backend::{DiskFault, DiskImage, FaultBackend, FaultDisk};
pub use lineage::{Boot, BootId, Lineage, Opening};
pub use mem_disk::{Fault, Image, MemDisk};
pub use mem_store::MemStore;
#[cfg(feature = "redb")]
pub use page_check::check_pages;
#[cfg(feature = "redb")]
pub use redb_copy::{LoadError, load_rows};
#[cfg(feature = "redb")]
pub use redb_file::{FileState, RedbFile, TableSize, compact};
#[cfg(feature = "redb")]
pub use redb_store::{RedbOptions, RedbReader, RedbStore};
pub use row_stream::{Item, RowWriter, StreamError, read_rows};
pub use txn::{Migration, Row, Schema, Store, Table, Txn, prefix_end};
