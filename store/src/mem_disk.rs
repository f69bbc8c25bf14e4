//! A disk in memory that outlives crashes: what is durable, faults to come, older images.
//! Holds rows, not sectors, since commits are atomic on it; `fault_backend.rs` tears sectors.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong at the next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Power fails before the commit: nothing of the batch is durable.
    CrashBeforeCommit,
    /// Power fails after the commit: all of it is durable, but the caller is not told.
    CrashAfterCommit,
    /// No space: the commit fails, nothing is durable.
    DiskFull,
    /// fsync fails: the caller is not told whether the batch is durable; this says whether it is.
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
///
/// Its methods wait for a batch that is under way, so a batch must not call them.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<DiskState>>,
}

/// A frozen copy of a disk.
#[derive(Clone, Debug)]
pub struct Image {
    tables: Tables,
    bytes: usize,
}

impl MemDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms one fault for the next commit (the opening is a commit too), replacing an armed one.
    pub fn fail_next(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// Takes an armed fault away.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// Lets the disk hold at most this many bytes of keys and values: a commit that grows it
    /// beyond fails as full; one that shrinks it always passes.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<usize>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// Bytes of keys and values on the disk.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// What is durable now. Cheap: tables are shared until the next write to them.
    #[must_use]
    pub fn image(&self) -> Image {
        let state = self.lock();
        Image { tables: state.tables.clone(), bytes: state.bytes }
    }

    /// Silently puts an older image back; stores that are open on the disk become stale.
    pub fn restore(&self, image: &Image) {
        let mut state = self.lock();
        state.tables = image.tables.clone();
        state.bytes = image.bytes;
        state.history.clear();
        state.generation += 1;
    }

    /// Keeps the undo logs of the newest `commits` commits for [`MemDisk::rewind`].
    pub fn keep_history(&self, commits: usize) {
        let mut state = self.lock();
        state.history_max = commits;
        let excess = state.history.len().saturating_sub(commits);
        state.history.drain(..excess);
    }

    /// Silently takes back the newest `commits` commits, or as many as are kept; says how many.
    /// Stores that are open on the disk become stale.
    pub fn rewind(&self, commits: usize) -> usize {
        let mut state = self.lock();
        state.generation += 1;
        for done in 0..commits {
            let Some(undo) = state.history.pop_back() else {
                return done;
            };
            state.undo(undo);
        }
        commits
    }

    /// The state, for a batch. A panic inside a batch rolls it back, so its mark is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Rows = BTreeMap<Arc<[u8]>, Arc<[u8]>>;
type Tables = BTreeMap<&'static str, Arc<Rows>>;

/// One write, and what stood there before.
#[derive(Debug)]
pub(crate) struct Undo {
    table: &'static str,
    key: Arc<[u8]>,
    before: Option<Arc<[u8]>>,
}

/// The durable rows. A batch writes in place and keeps an undo log, which costs less than keeping
/// two maps apart; until it commits nobody else can look.
#[derive(Debug, Default)]
pub(crate) struct DiskState {
    tables: Tables,
    bytes: usize,
    pub(crate) capacity_bytes: Option<usize>,
    pub(crate) fault: Option<Fault>,
    /// Grows when an open store must no longer write.
    pub(crate) generation: u64,
    history: VecDeque<Vec<Undo>>,
    history_max: usize,
}

impl DiskState {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn rows(&self, table: &'static str) -> Option<&Rows> {
        self.tables.get(table).map(Arc::as_ref)
    }

    /// Sets or removes a row and says how to take that back.
    pub(crate) fn set(
        &mut self,
        table: &'static str,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Option<Undo> {
        let rows = Arc::make_mut(self.tables.entry(table).or_default());
        let (key, before) = match value {
            Some(value) => {
                let key: Arc<[u8]> = key.into();
                let before = rows.insert(Arc::clone(&key), value.into());
                self.bytes += key.len() + value.len();
                (key, before)
            }
            None => {
                let (key, before) = rows.remove_entry(key)?;
                (key, Some(before))
            }
        };
        if let Some(before) = &before {
            self.bytes -= key.len() + before.len();
        }
        Some(Undo { table, key, before })
    }

    pub(crate) fn undo(&mut self, log: Vec<Undo>) {
        for Undo { table, key, before } in log.into_iter().rev() {
            let rows = Arc::make_mut(self.tables.entry(table).or_default());
            let now = match before {
                Some(before) => {
                    self.bytes += key.len() + before.len();
                    rows.insert(Arc::clone(&key), before)
                }
                None => rows.remove(&key),
            };
            if let Some(now) = now {
                self.bytes -= key.len() + now.len();
            }
        }
    }

    /// Makes a batch durable: its undo log is forgotten, or kept for a rewind.
    pub(crate) fn keep(&mut self, log: &mut Vec<Undo>) {
        if self.history_max == 0 {
            log.clear();
            return;
        }
        if self.history.len() == self.history_max {
            self.history.pop_front();
        }
        self.history.push_back(mem::take(log));
    }
}
