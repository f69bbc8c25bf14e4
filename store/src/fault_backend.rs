//! A disk in memory under redb that loses power, tears writes at sectors, fills up and fails to
//! sync. For tests; all chance comes from seeds. Knows nothing of rows; see `mem_disk.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use redb::StorageBackend;

/// What goes wrong at an operation that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The machine stops: this and all later operations fail until [`FaultDisk::power_cut`].
    Crash,
    /// No space: writes and growth fail until [`FaultDisk::heal`].
    DiskFull,
    /// One sync fails. As on Linux, the unsynced sectors then count as clean: they read back, later
    /// syncs do not write them, and a power cut may lose them.
    SyncError,
}

/// The disk; survives everything. Clones are handles to the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultDisk {
    state: Arc<Mutex<DiskState>>,
}

/// A frozen copy of what is durable.
#[derive(Clone, Debug)]
pub struct DiskImage(Vec<u8>);

impl FaultDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A backend for one opening; those handed out earlier stop working, as if their process had
    /// been killed. The page cache stays as it is.
    #[must_use]
    pub fn backend(&self) -> FaultBackend {
        let mut state = self.lock();
        state.generation += 1;
        FaultBackend { disk: self.clone(), generation: state.generation }
    }

    /// Arms `fault` for the first operation of its kind once `operations` more writes, length
    /// changes and syncs have passed.
    pub fn fail_after(&self, operations: u64, fault: DiskFault) {
        self.lock().armed = Some((operations, fault));
    }

    /// Takes an armed fault away and frees space; a crashed machine stays off.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.armed = None;
        state.full = false;
    }

    /// Power fails and returns. Of each sector written since the last sync one version is kept,
    /// drawn by `seed` from all that it went through; the length likewise.
    pub fn power_cut(&self, seed: u64) {
        self.lock().power_cut(seed);
    }

    /// Operations that changed the disk so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What is durable now.
    #[must_use]
    pub fn image(&self) -> DiskImage {
        DiskImage(self.lock().durable.clone())
    }

    /// Silently puts an older image back, with power off and on.
    pub fn restore(&self, image: &DiskImage) {
        self.lock().replace(image.0.clone());
    }

    /// Flips one durable bit, with power off and on; the position wraps at the end of the disk.
    pub fn flip_bit(&self, position: u64) {
        let mut state = self.lock();
        let mut durable = state.durable.clone();
        let bits = durable.len() as u64 * 8;
        let at = position.checked_rem(bits).and_then(|bit| usize::try_from(bit / 8).ok());
        if let Some(byte) = at.and_then(|at| durable.get_mut(at)) {
            *byte ^= 1 << (position % 8);
        }
        state.replace(durable);
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One opening of a [`FaultDisk`].
#[derive(Debug)]
pub struct FaultBackend {
    disk: FaultDisk,
    generation: u64,
}

impl FaultBackend {
    fn lock(&self) -> io::Result<MutexGuard<'_, DiskState>> {
        let state = self.disk.lock();
        if state.off || state.generation != self.generation {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(state)
    }
}

impl StorageBackend for FaultBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock()?.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock()?;
        let span = span(offset, out.len())?;
        let bytes = state.cached.get(span).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.lock()?;
        let len = span(len, 0)?.start;
        let grows = len > state.cached.len();
        let crash = state.pass(grows, false)?;
        state.cached.resize(len, 0);
        state.lengths.push(len);
        crash.map_or(Ok(()), Err)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock()?;
        match state.pass(false, true)? {
            Some(crash) => Err(crash),
            None => state.sync(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock()?;
        let crash = state.pass(true, false)?;
        let span = span(offset, data.len())?;
        let (from, to) = (span.start, span.end);
        state.cached.get_mut(span).ok_or(ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            let now = state.cached_sector(sector);
            state.versions.entry(sector).or_default().push(now);
            state.dirty.insert(sector);
        }
        crash.map_or(Ok(()), Err)
    }
}

/// What a disk writes whole or not at all, in bytes.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct DiskState {
    /// What reads see: the page cache.
    cached: Vec<u8>,
    /// What a power cut leaves, apart from `versions`.
    durable: Vec<u8>,
    /// What may have reached the disk of each sector since it was last surely durable, in order.
    versions: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Sectors that the next sync writes.
    dirty: BTreeSet<usize>,
    /// Lengths since the last sync.
    lengths: Vec<usize>,
    generation: u64,
    operations: u64,
    armed: Option<(u64, DiskFault)>,
    full: bool,
    off: bool,
}

impl DiskState {
    /// Counts an operation and lets an armed fault strike. A crash is handed back, since what was
    /// being written may still reach the disk.
    fn pass(&mut self, needs_space: bool, is_sync: bool) -> io::Result<Option<io::Error>> {
        self.operations += 1;
        let due = match &mut self.armed {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        match due {
            Some(DiskFault::Crash) => {
                self.armed = None;
                self.off = true;
                return Ok(Some(io::Error::other("the machine crashed")));
            }
            Some(DiskFault::SyncError) if is_sync => {
                self.armed = None;
                self.dirty.clear();
                return Err(io::Error::other("fsync failed"));
            }
            Some(DiskFault::DiskFull) => self.full = true,
            Some(DiskFault::SyncError) | None => {}
        }
        if self.full && needs_space {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(None)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.durable.resize(self.cached.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let now = self.cached_sector(sector);
            write_sector(&mut self.durable, sector, &now);
            self.versions.remove(&sector);
        }
        self.lengths.clear();
        Ok(())
    }

    fn power_cut(&mut self, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mood = rng.next_u32() % 4;
        let mut draw = |versions: usize| match mood {
            0 => 0,
            1 => versions,
            _ => below(&mut rng, versions + 1),
        };
        let mut durable = std::mem::take(&mut self.durable);
        let length = draw(self.lengths.len());
        if let Some(length) = length.checked_sub(1).and_then(|at| self.lengths.get(at)) {
            durable.resize(*length, 0);
        }
        for (sector, versions) in std::mem::take(&mut self.versions) {
            let version = draw(versions.len());
            if let Some(kept) = version.checked_sub(1).and_then(|at| versions.get(at)) {
                write_sector(&mut durable, sector, kept);
            }
        }
        self.replace(durable);
    }

    /// The machine comes up with these bytes on its disk.
    fn replace(&mut self, durable: Vec<u8>) {
        self.cached.clone_from(&durable);
        self.durable = durable;
        self.versions.clear();
        self.dirty.clear();
        self.lengths.clear();
        self.armed = None;
        self.off = false;
        self.generation += 1;
    }

    fn cached_sector(&self, sector: usize) -> Vec<u8> {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.cached.len());
        self.cached.get(from..to).unwrap_or_default().to_vec()
    }
}

/// Writes what lies within the disk; a sector past its end is lost.
fn write_sector(durable: &mut [u8], sector: usize, bytes: &[u8]) {
    for (to, from) in durable.iter_mut().skip(sector * SECTOR).zip(bytes) {
        *to = *from;
    }
}

fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    usize::try_from(rng.next_u64() % bound.max(1) as u64).unwrap_or(0)
}

fn span(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
    let from = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
    let to = from.checked_add(len).ok_or(ErrorKind::InvalidInput)?;
    Ok(from..to)
}
