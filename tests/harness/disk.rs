//! The disk of one simulated machine, under either store. Survives every crash of its machine.

use tidings_store::{
    DiskFault, DiskImage, Fault, FaultDisk, Image, MemDisk, MemStore, OpenError, Opening,
    RedbOptions, RedbStore, Schema, Store,
};

/// Which store runs on the disks of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// In memory; commits are atomic.
    Mem,
    /// redb on a disk that tears sectors.
    Redb,
}

/// A disk.
#[derive(Clone, Debug)]
pub enum SimDisk {
    /// Under a `MemStore`.
    Mem(MemDisk),
    /// Under a `RedbStore`.
    Redb(FaultDisk),
}

/// A frozen copy of a disk.
#[derive(Clone, Debug)]
pub enum SimImage {
    /// Of a `MemStore`.
    Mem(Image),
    /// Of a `RedbStore`.
    Redb(DiskImage),
}

/// What goes wrong at the next commit. A crash after the commit is the machine's own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Power fails before or within the commit; `after_ops` disk operations still happen.
    Crash {
        /// Disk operations that still happen, where the store has such.
        after_ops: u64,
    },
    /// No space.
    Full,
    /// fsync fails.
    Sync {
        /// Whether the batch is durable all the same, where the store leaves the choice.
        durable: bool,
    },
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(kind: StoreKind) -> Self {
        match kind {
            StoreKind::Mem => Self::Mem(MemDisk::new()),
            StoreKind::Redb => Self::Redb(FaultDisk::new()),
        }
    }

    /// Opens the store on it.
    ///
    /// # Errors
    /// As the store says.
    pub fn open(&self, schema: Schema, opening: Opening) -> Result<Box<dyn Store>, OpenError> {
        Ok(match self {
            Self::Mem(disk) => Box::new(MemStore::open(disk, schema, opening)?),
            Self::Redb(disk) => {
                let options = RedbOptions { cache_bytes: 1 << 20, check_integrity: false };
                Box::new(RedbStore::open_on(disk.backend(), schema, opening, options)?)
            }
        })
    }

    /// Arms a fault for the next commit.
    pub fn fail_next(&self, fault: CommitFault) {
        match (self, fault) {
            (Self::Mem(disk), CommitFault::Crash { .. }) => {
                disk.fail_next(Fault::CrashBeforeCommit);
            }
            (Self::Mem(disk), CommitFault::Full) => disk.fail_next(Fault::DiskFull),
            (Self::Mem(disk), CommitFault::Sync { durable }) => {
                disk.fail_next(Fault::SyncError { durable });
            }
            (Self::Redb(disk), CommitFault::Crash { after_ops }) => {
                disk.fail_after(after_ops, DiskFault::Crash);
            }
            (Self::Redb(disk), CommitFault::Full) => disk.fail_after(0, DiskFault::DiskFull),
            (Self::Redb(disk), CommitFault::Sync { .. }) => {
                disk.fail_after(0, DiskFault::SyncError);
            }
        }
    }

    /// The machine is off and comes back: armed faults are gone, torn sectors settle by `seed`.
    pub fn power_cut(&self, seed: u64) {
        match self {
            Self::Mem(disk) => disk.heal(),
            Self::Redb(disk) => {
                disk.power_cut(seed);
                disk.heal();
            }
        }
    }

    /// Takes an armed fault away.
    pub fn heal(&self) {
        match self {
            Self::Mem(disk) => disk.heal(),
            Self::Redb(disk) => disk.heal(),
        }
    }

    /// A store on a copy of what is durable now, for looking at.
    ///
    /// # Errors
    /// As the store says.
    pub fn peek(&self, schema: Schema) -> Result<Box<dyn Store>, OpenError> {
        self.image().peek(schema)
    }

    /// What is durable now.
    #[must_use]
    pub fn image(&self) -> SimImage {
        match self {
            Self::Mem(disk) => SimImage::Mem(disk.image()),
            Self::Redb(disk) => SimImage::Redb(disk.image()),
        }
    }

    /// Silently puts an older image back. The machine must be off.
    pub fn restore(&self, image: &SimImage) {
        match (self, image) {
            (Self::Mem(disk), SimImage::Mem(image)) => disk.restore(image),
            (Self::Redb(disk), SimImage::Redb(image)) => disk.restore(image),
            (Self::Mem(_), SimImage::Redb(_)) | (Self::Redb(_), SimImage::Mem(_)) => {}
        }
    }
}

impl SimImage {
    /// A store on a copy of the image, for looking at.
    ///
    /// # Errors
    /// As the store says.
    pub fn peek(&self, schema: Schema) -> Result<Box<dyn Store>, OpenError> {
        let kind = match self {
            Self::Mem(_) => StoreKind::Mem,
            Self::Redb(_) => StoreKind::Redb,
        };
        let disk = SimDisk::new(kind);
        disk.restore(self);
        disk.open(schema, Opening { boot: tidings_store::BootId([0; 16]), incarnation: 0 })
    }
}
