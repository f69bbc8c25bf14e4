//! How many copies wait for each own device. A counter on disk would cost a row per message, so the
//! rows are counted once after a start, in bounded steps, and the counts are kept from then on.

use std::collections::BTreeMap;

use tidings_protocol::id::DeviceId;
use tidings_store::{StoreError, Txn, prefix_end};

use crate::schema::INBOX;

/// Rows that one step reads: some milliseconds of work, and a megabyte of small texts.
const STEP_ROWS: usize = 2_048;
/// Pause between two steps, which leaves the writer to the messages: 100,000 rows take a second.
const STEP_MS: u64 = 20;
/// Behind every key of the inbox.
const END: [u8; 64] = [0xff; 64];

/// The counts, and how far the first counting has come.
#[derive(Debug)]
pub(crate) struct Tally {
    rows: BTreeMap<DeviceId, u64>,
    walk: Option<Walk>,
}

#[derive(Debug)]
struct Walk {
    /// First key that was not read.
    from: Vec<u8>,
    /// The device whose rows are being read, and those so far.
    device: Option<(DeviceId, u64)>,
    next_ms: u64,
}

impl Tally {
    /// Nothing is counted yet; the first step is due.
    pub(crate) const fn starting_at(now_ms: u64) -> Self {
        let walk = Walk { from: Vec::new(), device: None, next_ms: now_ms };
        Self { rows: BTreeMap::new(), walk: Some(walk) }
    }

    /// How many copies wait for a device. One that was not counted yet is counted now, up to `max`;
    /// so this comes before its rows are changed, and the count is changed with them.
    pub(crate) fn of(
        &mut self,
        device: &DeviceId,
        max: u64,
        txn: &dyn Txn,
    ) -> Result<&mut u64, StoreError> {
        use std::collections::btree_map::Entry;
        match self.rows.entry(*device) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => Ok(unknown.insert(count(device, max, txn)?)),
        }
    }

    /// The same for a device that a stranger names: what has no rows is not remembered.
    pub(crate) fn look(
        &mut self,
        device: &DeviceId,
        max: u64,
        txn: &dyn Txn,
    ) -> Result<u64, StoreError> {
        if let Some(known) = self.rows.get(device) {
            return Ok(*known);
        }
        let rows = count(device, max, txn)?;
        if rows > 0 {
            self.rows.insert(*device, rows);
        }
        Ok(rows)
    }

    /// All rows of a device were deleted.
    pub(crate) fn forget(&mut self, device: &DeviceId) {
        self.rows.remove(device);
        if let Some(walk) = &mut self.walk {
            walk.device.take_if(|(read, _)| read == device);
        }
    }

    /// Copies that wait for all devices together; while it is counting, those that were found.
    pub(crate) fn total(&self) -> u64 {
        let reading = self.walk.as_ref().and_then(|walk| walk.device);
        let reading = reading.filter(|(device, _)| !self.rows.contains_key(device));
        self.rows.values().sum::<u64>() + reading.map_or(0, |(_, rows)| rows)
    }

    /// True until everything was counted once.
    pub(crate) const fn is_counting(&self) -> bool {
        self.walk.is_some()
    }

    /// When the next step is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.walk.as_ref().map(|walk| walk.next_ms)
    }

    /// One step, if it is due.
    pub(crate) fn step(&mut self, now_ms: u64, txn: &dyn Txn) -> Result<(), StoreError> {
        let Some(walk) = self.walk.as_mut().filter(|walk| walk.next_ms <= now_ms) else {
            return Ok(());
        };
        let rows = txn.range(INBOX, &walk.from, &END, STEP_ROWS)?;
        for (key, _) in &rows {
            let device = key.split_last_chunk::<8>().and_then(|(id, _)| DeviceId::from_slice(id));
            let device = device.ok_or_else(|| StoreError::corrupt("the key of an inbox row"))?;
            match &mut walk.device {
                Some((reading, count)) if *reading == device => *count += 1,
                other => {
                    if let Some((done, count)) = other.replace((device, 1)) {
                        // What traffic has counted meanwhile is newer.
                        self.rows.entry(done).or_insert(count);
                    }
                }
            }
        }
        match rows.last() {
            Some((last, _)) if rows.len() == STEP_ROWS => {
                walk.from = [last.as_slice(), &[0]].concat();
                walk.next_ms = now_ms + STEP_MS;
            }
            Some(_) | None => {
                if let Some((done, count)) = walk.device {
                    self.rows.entry(done).or_insert(count);
                }
                self.walk = None;
            }
        }
        Ok(())
    }
}

/// Counts in steps, since rows may hold bodies: no more than a step is in memory at a time.
fn count(device: &DeviceId, max: u64, txn: &dyn Txn) -> Result<u64, StoreError> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let (mut from, end) = (device.as_bytes().to_vec(), prefix_end(device.as_bytes()));
    let mut count = 0;
    while count < max {
        let step = STEP_ROWS.min(max - count);
        let rows = txn.range(INBOX, &from, &end, step)?;
        count += rows.len();
        match rows.last() {
            Some((last, _)) if rows.len() == step => from = [last.as_slice(), &[0]].concat(),
            Some(_) | None => break,
        }
    }
    Ok(count as u64)
}

#[cfg(test)]
mod tests {
    use tidings_protocol::id::DeviceId;
    use tidings_store::{BootId, MemDisk, MemStore, Opening, Store as _};

    use super::{STEP_MS, STEP_ROWS, Tally};
    use crate::schema::{INBOX, SCHEMA, device_key};

    const DEVICES: [DeviceId; 3] = [DeviceId([1; 16]), DeviceId([2; 16]), DeviceId([3; 16])];

    /// A store in which so many copies wait for each device.
    fn store(rows: [usize; 3]) -> MemStore {
        let opening = Opening { boot: BootId([1; 16]), incarnation: 1 };
        let mut store = MemStore::open(&MemDisk::new(), SCHEMA, opening).unwrap();
        store
            .batch(&mut |txn| {
                for (device, rows) in DEVICES.iter().zip(rows) {
                    for lsn in 1..=rows {
                        txn.put(INBOX, &device_key(device, lsn as u64), &[])?;
                    }
                }
                Ok(())
            })
            .unwrap();
        store
    }

    /// Steps until it is done; the totals that it shows on the way.
    fn count_all(tally: &mut Tally, store: &mut MemStore) -> Vec<u64> {
        let mut totals = Vec::new();
        while let Some(due_ms) = tally.deadline() {
            store.batch(&mut |txn| tally.step(due_ms, txn)).unwrap();
            totals.push(tally.total());
        }
        totals
    }

    #[test]
    fn an_inbox_of_any_size_is_counted_in_steps() {
        let step = STEP_ROWS as u64;
        for rows in [[0, 0, 0], [3, 0, 2], [STEP_ROWS, 0, 0], [2 * STEP_ROWS + 5, 1, STEP_ROWS]] {
            let total = rows.iter().sum::<usize>() as u64;
            let totals = count_all(&mut Tally::starting_at(0), &mut store(rows));
            let expected: Vec<u64> = (1..=total / step).map(|n| n * step).chain([total]).collect();
            assert_eq!(totals, expected, "{rows:?}");
        }
    }

    #[test]
    fn a_device_without_rows_that_somebody_names_is_not_remembered() {
        let mut store = store([2, 0, 0]);
        let mut tally = Tally::starting_at(0);
        for (device, rows) in DEVICES.iter().zip([2, 0, 0]) {
            store
                .batch(&mut |txn| {
                    assert_eq!(tally.look(device, 9, txn)?, rows);
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(tally.rows.len(), 1);
    }

    #[test]
    fn a_step_waits_for_its_time() {
        let mut store = store([STEP_ROWS, 1, 0]);
        let mut tally = Tally::starting_at(0);
        store.batch(&mut |txn| tally.step(0, txn)).unwrap();
        store.batch(&mut |txn| tally.step(STEP_MS - 1, txn)).unwrap();
        assert!(tally.is_counting());
        store.batch(&mut |txn| tally.step(STEP_MS, txn)).unwrap();
        assert!(!tally.is_counting());
    }

    #[test]
    fn what_changes_while_counting_is_counted_once() {
        let [alice, bob, carol] = DEVICES;
        let mut store = store([STEP_ROWS + 9, 4, 7]);
        let mut tally = Tally::starting_at(0);
        store.batch(&mut |txn| tally.step(0, txn)).unwrap();
        store
            .batch(&mut |txn| {
                // Half read, not read at all, and removed before it is read.
                for (device, lsn) in [(alice, u64::MAX), (bob, 0)] {
                    *tally.of(&device, u64::MAX, txn)? += 1;
                    txn.put(INBOX, &device_key(&device, lsn), &[])?;
                }
                for lsn in 1..=7 {
                    txn.delete(INBOX, &device_key(&carol, lsn))?;
                }
                tally.forget(&carol);
                Ok(())
            })
            .unwrap();
        count_all(&mut tally, &mut store);
        assert_eq!(tally.total(), STEP_ROWS as u64 + 9 + 4 + 2);
    }

    #[test]
    fn a_device_that_is_removed_while_it_is_read_is_not_counted() {
        let [alice, ..] = DEVICES;
        let mut store = store([STEP_ROWS + 9, 4, 0]);
        let mut tally = Tally::starting_at(0);
        store.batch(&mut |txn| tally.step(0, txn)).unwrap();
        store
            .batch(&mut |txn| {
                for lsn in 1..=STEP_ROWS as u64 + 9 {
                    txn.delete(INBOX, &device_key(&alice, lsn))?;
                }
                Ok(())
            })
            .unwrap();
        tally.forget(&alice);
        count_all(&mut tally, &mut store);
        assert_eq!(tally.total(), 4);
    }
}
