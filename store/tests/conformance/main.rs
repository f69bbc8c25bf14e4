//! One suite that every store passes: in memory, on a file, on the disk with faults.
//! Crashes and torn sectors are in `torture.rs`, random batches in `equal.rs`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bench;
mod lineage;
mod opening;
mod rows;

/// Makes one test for each rule and kind of store.
macro_rules! conformance {
    ($($file:ident :: $rule:ident),* $(,)?) => {
        mod in_memory {
            $(#[test] fn $rule() { super::$file::$rule(&mut super::bench::Memory::default()); })*
        }
        mod on_a_file {
            $(#[test] fn $rule() { super::$file::$rule(&mut super::bench::OnFile::new()); })*
        }
        mod on_faulty_disk {
            $(#[test] fn $rule() { super::$file::$rule(&mut super::bench::OnFaultDisk::default()); })*
        }
    };
}

conformance![
    rows::rows_are_found_again,
    rows::a_batch_reads_its_own_writes,
    rows::ranges_are_ordered_and_bounded,
    rows::last_is_the_greatest_below_the_bound,
    rows::tables_are_apart,
    rows::a_failed_batch_leaves_nothing_and_poisons,
    rows::an_unknown_table_is_refused,
    rows::commits_count_up_by_one,
    rows::a_batch_without_writes_costs_no_commit,
    rows::a_view_sees_the_last_commit,
    rows::work_is_counted,
    rows::large_and_empty_values_return,
    lineage::what_a_peer_saw_stays_contained_across_boots,
    lineage::a_silent_restore_is_noticed,
    lineage::a_restore_within_a_boot_is_noticed,
    lineage::a_new_incarnation_shows_after_its_commit,
    opening::rows_survive_reopening,
    opening::a_newer_schema_is_refused,
    opening::migrations_run_in_order_and_once,
    opening::a_failed_migration_changes_nothing,
    opening::a_new_table_appears_by_version,
];

// A thousand openings of a file take long where fsync is slow, so this rule has no such test.
#[test]
fn old_boots_are_forgotten() {
    lineage::old_boots_are_forgotten(&mut bench::Memory::default());
    lineage::old_boots_are_forgotten(&mut bench::OnFaultDisk::default());
}
