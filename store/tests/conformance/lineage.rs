//! Rules about boots, commit numbers and restores.

use tidings_store::lineage::BOOTS_MAX;
use tidings_store::{BootId, Lineage, Opening, Store};

use crate::bench::{Bench, INBOX, SCHEMA, put, rows, texts};

fn seen(store: &dyn Store) -> (BootId, u64) {
    (store.lineage().boot, store.commit_number())
}

fn knows(store: &dyn Store, (boot, commit): (BootId, u64)) -> bool {
    store.lineage().contains(boot, commit, store.commit_number())
}

pub(crate) fn what_a_peer_saw_stays_contained_across_boots(bench: &mut dyn Bench) {
    let mut all_seen = Vec::new();
    for boot in 1..5 {
        let mut store = bench.open(boot);
        all_seen.push(seen(&*store));
        put(&mut *store, INBOX, &[("a", "1")]);
        put(&mut *store, INBOX, &[("b", "2")]);
        all_seen.push(seen(&*store));
        assert!(all_seen.iter().all(|peer| knows(&*store, *peer)));
        assert!(!knows(&*store, (BootId([boot; 16]), store.commit_number() + 1)));
        assert!(!knows(&*store, (BootId([99; 16]), 1)));
        assert_eq!(store.lineage().boots.len(), usize::from(boot));
        assert_eq!(store.lineage().incarnation, 101, "drawn once, at creation");
    }
}

pub(crate) fn a_silent_restore_is_noticed(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    put(&mut *store, INBOX, &[("a", "1")]);
    let before = seen(&*store);
    drop(store);
    bench.save_image();
    let mut store = bench.open(2);
    let at_second_boot = seen(&*store);
    put(&mut *store, INBOX, &[("b", "2")]);
    let after = seen(&*store);
    drop(store);
    bench.restore_image();
    let mut store = bench.open(3);
    assert_eq!(rows(&*store, INBOX), texts(&[("a", "1")]));
    assert!(knows(&*store, before));
    assert!(!knows(&*store, at_second_boot));
    assert!(!knows(&*store, after));
    // The numbers come round again, but not under the same boot.
    put(&mut *store, INBOX, &[("c", "3")]);
    assert_eq!(store.commit_number(), after.1);
    assert!(!knows(&*store, after));
}

pub(crate) fn a_restore_within_a_boot_is_noticed(bench: &mut dyn Bench) {
    // The image knows the boot, so only the commit number tells.
    let mut store = bench.open(1);
    bench.save_image();
    put(&mut *store, INBOX, &[("a", "1")]);
    let (boot, commit) = seen(&*store);
    drop(store);
    bench.restore_image();
    let store = bench.open(2);
    assert_eq!(rows(&*store, INBOX), []);
    assert!(knows(&*store, (boot, commit - 1)));
    assert!(!knows(&*store, (boot, commit)), "acknowledged after the image was taken");
}

pub(crate) fn a_new_incarnation_shows_after_its_commit(bench: &mut dyn Bench) {
    let mut store = bench.open(1);
    assert_eq!(store.lineage().incarnation, 101);
    store.batch(&mut |txn| Lineage::renew(txn, 7)).unwrap();
    assert_eq!(store.lineage().incarnation, 7);
    assert_eq!(store.lineage().boots.len(), 1);
    drop(store);
    assert_eq!(bench.open(2).lineage().incarnation, 7);
}

pub(crate) fn old_boots_are_forgotten(bench: &mut dyn Bench) {
    let id = |boot: usize| BootId((boot as u128).to_be_bytes());
    let mut open = |boot: usize| {
        let opening = Opening { boot: id(boot), incarnation: 1 };
        bench.open_as(SCHEMA, opening).unwrap()
    };
    for boot in 0..BOOTS_MAX {
        drop(open(boot));
    }
    let store = open(BOOTS_MAX);
    assert_eq!(store.lineage().boots.len(), BOOTS_MAX);
    assert!(!knows(&*store, (id(0), 1)), "the oldest is forgotten");
    assert!(knows(&*store, (id(1), 2)));
    assert_eq!(store.lineage().boot, id(BOOTS_MAX));
}
