//! redb on a disk that loses power, tears sectors, fills up and fails to sync, against a model.
//! After each life: what was acknowledged is there; the one batch in doubt is whole or absent.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, RefUnwindSafe};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tidings_store::{
    BootId, DiskFault, FaultDisk, OpenError, Opening, RedbOptions, RedbStore, Row, Schema, Store,
    StoreError, Table,
};

const QUEUE: Table = Table::new("queue");
const BODY: Table = Table::new("body");
const SCHEMA: Schema = Schema { version: 1, tables: &[QUEUE, BODY], migrations: &[] };

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// A store's life after life, and what must be found in it.
struct Torture {
    rng: ChaCha8Rng,
    disk: FaultDisk,
    boots: u64,
    acked: Rows,
    /// The last (boot, commit) of which a peer could know.
    seen: Option<(BootId, u64)>,
    /// What the store holds as well if the batch in doubt became durable.
    in_doubt: Option<Rows>,
    /// How often the batch in doubt was found whole, and absent.
    doubts: Doubts,
}

#[derive(Clone, Copy, Default)]
struct Doubts {
    whole: u32,
    absent: u32,
}

impl Torture {
    fn new(seed: u64) -> Self {
        let mut torture = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            disk: FaultDisk::new(),
            boots: 0,
            acked: Rows::new(),
            seen: None,
            in_doubt: None,
            doubts: Doubts::default(),
        };
        // A file gets its name only when it is whole, so no crash happens in its first writes.
        drop(torture.open().unwrap());
        torture
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound
    }

    fn open(&mut self) -> Result<RedbStore, OpenError> {
        self.boots += 1;
        let boot = BootId(u128::from(self.boots).to_be_bytes());
        let options = RedbOptions { cache_bytes: 1 << 20, check_integrity: false };
        RedbStore::open_on(self.disk.backend(), SCHEMA, Opening { boot, incarnation: 1 }, options)
    }

    /// Opens, checks, and writes until the fault strikes or the batches are used up.
    fn live(&mut self, fault: DiskFault) {
        let after = self.below(120);
        self.disk.fail_after(after, fault);
        let Ok(mut store) = self.open() else {
            return;
        };
        self.check(&store);
        for _ in 0..12 {
            self.batch(&mut store);
            if self.in_doubt.is_some() {
                return;
            }
        }
    }

    fn batch(&mut self, store: &mut RedbStore) {
        let mut next = self.acked.clone();
        let count = 1 + self.below(24);
        let outcome = store.batch(&mut |txn| {
            for _ in 0..count {
                let table = if self.below(2) == 0 { QUEUE } else { BODY };
                let key = self.below(200).to_be_bytes().to_vec();
                if self.below(3) == 0 {
                    txn.delete(table, &key)?;
                    next.remove(&(table, key));
                } else {
                    let length = usize::try_from(self.below(2_000)).unwrap();
                    let value = self.rng.next_u32().to_be_bytes().repeat(length / 4);
                    txn.put(table, &key, &value)?;
                    next.insert((table, key), value);
                }
            }
            Ok(())
        });
        match outcome {
            Ok(()) => {
                self.acked = next;
                self.seen = Some((store.lineage().boot, store.commit_number()));
            }
            Err(_) => {
                self.in_doubt = Some(next);
                let again = store.batch(&mut |txn| txn.put(QUEUE, b"", b""));
                assert!(matches!(again, Err(StoreError::Poisoned)));
            }
        }
    }

    fn check(&mut self, store: &RedbStore) {
        let found = rows(store);
        match self.in_doubt.take() {
            Some(in_doubt) if in_doubt == found => {
                self.doubts.whole += 1;
                self.acked = in_doubt;
            }
            Some(_) => self.doubts.absent += 1,
            None => {}
        }
        assert!(found == self.acked, "neither what was acknowledged nor that with the last batch");
        if let Some((boot, commit)) = self.seen {
            let (lineage, now) = (store.lineage(), store.commit_number());
            assert!(lineage.contains(boot, commit, now), "an acknowledged commit is unknown");
        }
    }

    /// The machine is well again: everything must be there and stay writable.
    fn recover(&mut self) {
        self.disk.heal();
        let mut store = self.open().unwrap();
        self.check(&store);
        self.batch(&mut store);
        assert!(self.in_doubt.is_none());
        assert!(rows(&store) == self.acked);
    }
}

fn rows(store: &RedbStore) -> Rows {
    let mut found = Rows::new();
    store
        .view(&mut |txn| {
            for table in [QUEUE, BODY] {
                let rows: Vec<Row> = txn.range(table, b"", &[0xff; 9], usize::MAX)?;
                found.extend(rows.into_iter().map(|(key, value)| ((table, key), value)));
            }
            Ok(())
        })
        .unwrap();
    found
}

/// Runs seeds and names the one that fails.
fn for_seeds(seeds: Range<u64>, run: impl Fn(&mut Torture) + RefUnwindSafe) -> Doubts {
    let mut doubts = Doubts::default();
    for seed in seeds {
        let outcome = panic::catch_unwind(|| {
            let mut torture = Torture::new(seed);
            run(&mut torture);
            torture.doubts
        });
        assert!(outcome.is_ok(), "seed {seed} failed");
        let found = outcome.unwrap_or_default();
        doubts.whole += found.whole;
        doubts.absent += found.absent;
    }
    doubts
}

#[test]
fn power_cuts_lose_nothing_acknowledged() {
    let doubts = for_seeds(0..2_000, |torture| {
        for _ in 0..3 {
            torture.live(DiskFault::Crash);
            let cut = torture.rng.next_u64();
            torture.disk.power_cut(cut);
        }
        torture.recover();
    });
    assert!(doubts.whole > 20 && doubts.absent > 20, "the power failed at dull moments only");
}

#[test]
fn a_second_crash_within_recovery_loses_nothing() {
    for_seeds(1_000..1_200, |torture| {
        torture.live(DiskFault::Crash);
        for _ in 0..3 {
            let cut = torture.rng.next_u64();
            torture.disk.power_cut(cut);
            let after = torture.below(8);
            torture.disk.fail_after(after, DiskFault::Crash);
            // A boot that nobody was told of may or may not be in the history.
            drop(torture.open());
        }
        let cut = torture.rng.next_u64();
        torture.disk.power_cut(cut);
        torture.recover();
    });
}

#[test]
fn a_full_disk_loses_nothing_and_takes_writes_again_when_space_returns() {
    for_seeds(2_000..2_100, |torture| {
        torture.live(DiskFault::DiskFull);
        if torture.below(2) == 0 {
            let cut = torture.rng.next_u64();
            torture.disk.power_cut(cut);
        }
        torture.recover();
    });
}

#[test]
fn a_failed_sync_ends_the_store_and_a_power_cut_after_it_loses_nothing() {
    for_seeds(3_000..3_100, |torture| {
        torture.live(DiskFault::SyncError);
        let cut = torture.rng.next_u64();
        torture.disk.power_cut(cut);
        torture.recover();
    });
}

#[test]
fn a_full_disk_is_called_full() {
    let mut torture = Torture::new(1);
    let mut store = torture.open().unwrap();
    torture.disk.fail_after(0, DiskFault::DiskFull);
    let error = store.batch(&mut |txn| txn.put(QUEUE, b"a", &[1; 5_000])).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    drop(store);
    torture.disk.heal();
    torture.disk.fail_after(0, DiskFault::DiskFull);
    assert!(matches!(torture.open(), Err(OpenError::DiskFull { .. })));
}

#[test]
fn a_flipped_bit_is_found_at_opening_or_harms_nothing() {
    let mut found_out = 0;
    for seed in 4_000..4_100 {
        let mut torture = Torture::new(seed);
        let mut store = torture.open().unwrap();
        for _ in 0..4 {
            torture.batch(&mut store);
        }
        drop(store);
        let position = torture.rng.next_u64();
        torture.disk.flip_bit(position);
        let opening = Opening { boot: BootId([9; 16]), incarnation: 1 };
        let options = RedbOptions { cache_bytes: 1 << 20, check_integrity: true };
        match RedbStore::open_on(torture.disk.backend(), SCHEMA, opening, options) {
            Ok(store) => assert!(rows(&store) == torture.acked, "seed {seed}"),
            Err(_) => found_out += 1,
        }
    }
    assert!(found_out > 0, "no flip hit a page in use");
}
