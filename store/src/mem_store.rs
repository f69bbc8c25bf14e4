//! A store in memory, on a disk that can crash. Does no input or output.

use crate::{Counters, Lineage, OpenError, Opening, Schema, Store, StoreError, Txn};

/// What goes wrong at the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power fails before the commit: nothing of the batch is durable.
    CrashBeforeCommit,
    /// Power fails after the commit: all of it is durable, but the caller is not told.
    CrashAfterCommit,
    /// No space: the commit fails, nothing is durable.
    DiskFull,
    /// fsync fails: nobody is told whether the batch is durable; this says whether it is.
    SyncError {
        /// Whether the batch is there after reopening.
        durable: bool,
    },
    /// Power fails during the commit's writes. Commits are atomic, so that reopening finds all of
    /// the batch or nothing of it.
    TornWrite {
        /// Whether the batch is there after reopening.
        durable: bool,
    },
}

/// The durable part; survives every crash. Clones are handles to the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {}

/// A frozen copy of a disk.
#[derive(Clone, Debug)]
pub struct Image {}

/// The store on a [`MemDisk`].
#[derive(Debug)]
pub struct MemStore {
    lineage: Lineage,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms one fault for the next commit.
    pub fn fail_next(&self, _fault: Fault) {}

    /// A cheap copy of what is durable now.
    #[must_use]
    pub fn image(&self) -> Image {
        Image {}
    }

    /// Silently puts an older image back; stores that are open on the disk become stale.
    pub fn restore(&self, _image: &Image) {}
}

impl MemStore {
    /// Opens the store on `disk`, creating it if the disk is empty.
    ///
    /// # Errors
    /// Newer schema, or a migration failed.
    pub fn open(disk: &MemDisk, _schema: Schema, _opening: Opening) -> Result<Self, OpenError> {
        let _: &MemDisk = disk;
        Err(OpenError::Store(StoreError::Poisoned))
    }
}

impl Store for MemStore {
    fn batch(
        &mut self,
        _work: &mut dyn FnMut(&mut dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Poisoned)
    }

    fn view(
        &self,
        _work: &mut dyn FnMut(&dyn Txn) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Poisoned)
    }

    fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    fn commit_number(&self) -> u64 {
        0
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
