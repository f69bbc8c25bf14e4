//! What a node and a device need of their machine: a clock, a disk that keeps what it is told, and
//! files that others cannot read.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tidings_node::examine;
use tidings_protocol::limits::CLOCK_SKEW_MS_MAX;

use super::report::Report;
use crate::bench::usage::fsync_ms;

/// An fsync that takes longer makes people wait: `docs/operate.md` looks at commits from 50 ms on.
const FSYNC_SLOW_MS: f64 = 50.0;
/// Differences of clocks below this are the way and the second's end.
const CLOCK_NEAR_MS: u64 = 60_000;

/// Something that told a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Whose time, for people.
    pub(crate) who: String,
    /// The time, in Unix ms.
    pub(crate) at_ms: u64,
    /// Whether it is the time of just now, or a date that only must not be ahead.
    pub(crate) is_now: bool,
}

/// Compares the machine's clock with those who told theirs.
pub(crate) fn clock(report: &mut Report, witnesses: &[Witness], now_ms: u64) {
    let limit_min = CLOCK_SKEW_MS_MAX / 60_000;
    let next = "set the clock of whichever is wrong, and keep it by NTP";
    let mut agreed = Vec::new();
    for Witness { who, at_ms, is_now } in witnesses {
        let behind = at_ms.saturating_sub(now_ms);
        let ahead = if *is_now { now_ms.saturating_sub(*at_ms) } else { 0 };
        let (off, word) = if behind >= ahead { (behind, "behind") } else { (ahead, "ahead of") };
        let found = format!("this machine's clock is {} s {word} {who}", off / 1000);
        if off > CLOCK_SKEW_MS_MAX {
            let found = format!("{found}; above {limit_min} min, messages are refused");
            report.failed("clock", found, next);
        } else if off > CLOCK_NEAR_MS {
            report.warning("clock", found, next);
        } else {
            agreed.push(who.as_str());
        }
    }
    if witnesses.is_empty() {
        report.ok("clock", "nobody told another time: compare it yourself");
    } else if agreed.len() == witnesses.len() {
        report.ok("clock", format!("in agreement with {}", agreed.join(", ")));
    }
}

/// Space, and whether fsync works and how long it takes.
pub(crate) fn disk(report: &mut Report, folder: &Path, percent_max: u64) {
    match examine::space(folder) {
        Ok((free, size)) => {
            let used = (size.saturating_sub(free)).saturating_mul(100) / size.max(1);
            let found = format!("{used} % used, {} MiB free", free >> 20);
            let next = "make space on the disk that holds it, or move it to a larger one";
            if used >= percent_max {
                report.failed("disk", format!("{found}; nothing new is taken"), next);
            } else if used + 5 >= percent_max {
                report.warning("disk", found, next);
            } else {
                report.ok("disk", found);
            }
        }
        Err(error) => report.failed("disk", error.to_string(), "look at the disk and its mount"),
    }
    match fsync_ms(folder) {
        Ok(ms) if ms > FSYNC_SLOW_MS => report.warning(
            "fsync",
            format!("it takes {ms:.1} ms (median of 101)"),
            "use a disk that syncs faster: every message waits for it",
        ),
        Ok(ms) => report.ok("fsync", format!("it takes {ms:.2} ms (median of 101)")),
        Err(error) => report.failed(
            "fsync",
            format!("{error:#}"),
            "the disk must take a file and sync it: check space, mount options and owner",
        ),
    }
}

/// Whether others may read or change a file or folder. One that is not there is another check's.
pub(crate) fn permissions(report: &mut Report, paths: &[(&Path, u32)]) {
    let me = rustix::process::geteuid().as_raw();
    let mut bad = 0;
    for (path, forbidden) in paths {
        let Ok(found) = fs::metadata(path) else { continue };
        let mode = found.mode() & 0o777;
        let shown = path.display();
        if mode & forbidden != 0 {
            bad += 1;
            let wanted = if found.is_dir() { "700" } else { "600" };
            let what = if mode & forbidden & 0o044 != 0 { "read" } else { "change" };
            report.warning(
                "permissions",
                format!("others may {what} {shown} (mode {mode:o})"),
                format!("run `chmod {wanted} {shown}`"),
            );
        }
        if found.uid() != me && me != 0 {
            bad += 1;
            report.warning(
                "permissions",
                format!("{shown} belongs to another user than you"),
                "run this as the user that it belongs to",
            );
        }
    }
    if bad == 0 {
        report.ok("permissions", "files belong to their user, and others cannot read them");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Witness, clock, disk, permissions};
    use crate::doctor::report::{Outcome, Report};

    const NOW: u64 = 1_790_000_000_000;

    fn outcomes(witnesses: &[(u64, bool)]) -> Vec<Outcome> {
        let witness = |(at_ms, is_now): &(u64, bool)| Witness {
            who: "a peer".to_owned(),
            at_ms: *at_ms,
            is_now: *is_now,
        };
        let mut report = Report::default();
        clock(&mut report, &witnesses.iter().map(witness).collect::<Vec<_>>(), NOW);
        report.findings.iter().map(|finding| finding.outcome).collect()
    }

    #[test]
    fn a_clock_is_judged_by_ten_minutes() {
        assert_eq!(outcomes(&[]), [Outcome::Ok]);
        assert_eq!(outcomes(&[(NOW, true), (NOW - 5_000, true)]), [Outcome::Ok]);
        assert_eq!(outcomes(&[(NOW + 120_000, true)]), [Outcome::Warning]);
        assert_eq!(outcomes(&[(NOW - 120_000, true), (NOW, true)]), [Outcome::Warning]);
        assert_eq!(outcomes(&[(NOW + 601_000, true)]), [Outcome::Failed]);
        assert_eq!(outcomes(&[(NOW - 601_000, true)]), [Outcome::Failed]);
        // What was signed some time ago says nothing unless it lies ahead.
        assert_eq!(outcomes(&[(NOW - 601_000, false)]), [Outcome::Ok]);
        assert_eq!(outcomes(&[(NOW + 601_000, false)]), [Outcome::Failed]);
    }

    #[test]
    fn a_disk_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::default();
        disk(&mut report, folder.path(), 100);
        assert_eq!(report.findings.len(), 2, "{report:?}");
        assert_ne!(report.findings[1].outcome, Outcome::Failed, "{report:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut report = Report::default();
        disk(&mut report, &folder.path().join("absent"), 100);
        assert!(report.findings.iter().all(|finding| finding.outcome == Outcome::Failed));
    }

    #[test]
    fn a_file_that_others_may_read_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.key");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut report = Report::default();
        permissions(&mut report, &[(&path, 0o077)]);
        assert!(report.findings[0].next.as_ref().unwrap().contains("chmod 600"), "{report:?}");
        let mut report = Report::default();
        permissions(&mut report, &[(&path, 0o022)]);
        assert_eq!(report.findings[0].outcome, Outcome::Ok);
    }
}
