//! Why a store could not be opened, and why a batch failed.
//! Names no engine's error types: the cause is attached as a source.

use std::error::Error;
use std::path::{Path, PathBuf};

/// The cause that an engine reported.
pub type Cause = Box<dyn Error + Send + Sync>;

/// A batch or a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The table is not in the schema that the store was opened with. A mistake of ours.
    #[error("table {name} is not in the schema")]
    UnknownTable {
        /// The table asked for.
        name: &'static str,
    },
    /// There is no space left. The process ends, and gives the ballast up for its next start.
    #[error("{doing}: the disk is full")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: Cause,
    },
    /// The engine failed otherwise (fsync error, broken file, input or output error).
    #[error("{doing}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        source: Cause,
    },
    /// A page, or a row of this crate or of an owner, cannot be read back.
    #[error("reading back what was written: {what}")]
    Corrupt {
        /// Which, and what is wrong with it.
        what: String,
    },
    /// The same, in a file: it is not what this program has written.
    #[error("{} is damaged: check the disk, then put the file back from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Cause,
    },
    /// An earlier batch failed; nothing more is done until the store is opened again.
    #[error("the store was poisoned by an earlier failed batch")]
    Poisoned,
    /// The same disk was opened again, or restored, while this store was still in use.
    #[error("the store was opened again elsewhere")]
    Stale,
    /// The simulated machine crashed; the caller is dead from here on.
    #[error("the simulated machine crashed")]
    Crashed,
    /// The owner's own reason to give a batch up.
    #[error("the batch was given up")]
    Work(#[source] Cause),
}

impl StoreError {
    /// The owner's own reason to give a batch up.
    pub fn work(cause: impl Into<Cause>) -> Self {
        Self::Work(cause.into())
    }

    /// A row that cannot be read back.
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    /// The error as whoever knows the file tells it.
    #[cfg(feature = "redb")]
    pub(crate) fn in_file(self, path: &Path) -> Self {
        if matches!(self, Self::Corrupt { .. }) {
            return Self::Damaged { path: path.into(), source: self.into() };
        }
        self
    }
}

/// A store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was not closed when it was last used; only opening it for writing mends that.
    #[error("{} was not closed when it was last used: start its owner once", .path.display())]
    NeedsRepair {
        /// The file.
        path: PathBuf,
    },
    /// The file is something else, or broken beyond its header.
    #[error("{} is not a store", .path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        source: Cause,
    },
    /// The file or its folder cannot be created, read or written.
    #[error("{} cannot be opened for writing", .path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Cause,
    },
    /// It is a store, but not as this program has written it.
    #[error("{} is damaged: check the disk, then put the file back from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Cause,
    },
    /// There is no space for the opening transaction.
    #[error("opening {}: the disk is full", .path.display())]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        source: Cause,
    },
    /// The store was last written by a newer program.
    #[error(
        "the store has schema version {found}, this program knows {known}: use a newer program"
    )]
    NewerSchema {
        /// In the store.
        found: u32,
        /// In this program.
        known: u32,
    },
    /// A migration failed; nothing was changed.
    #[error("migrating the store to schema version {to}")]
    Migration {
        /// The version aimed at.
        to: u32,
        /// Why.
        source: StoreError,
    },
    /// The opening transaction failed otherwise.
    #[error("opening the store")]
    Store(#[source] StoreError),
}

impl OpenError {
    /// The opening transaction of the store at `path` failed.
    pub(crate) fn failed(path: &Path, error: StoreError) -> Self {
        match error {
            StoreError::DiskFull { source, .. } => Self::DiskFull { path: path.into(), source },
            StoreError::Damaged { path, source } => Self::Damaged { path, source },
            StoreError::Corrupt { .. } => Self::Damaged { path: path.into(), source: error.into() },
            StoreError::UnknownTable { .. }
            | StoreError::Engine { .. }
            | StoreError::Poisoned
            | StoreError::Stale
            | StoreError::Crashed
            | StoreError::Work(_) => Self::Store(error),
        }
    }
}
