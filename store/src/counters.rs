//! What a store did, counted, so that rows and commits per message can be measured.
//! Knows nothing of time or of metric formats.

use std::ops::Sub;

/// Work done since a store was opened; the opening transaction itself is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Rows read by key.
    pub gets: u64,
    /// Range and last reads.
    pub ranges: u64,
    /// Rows written.
    pub puts: u64,
    /// Deletes asked for, also of absent keys.
    pub deletes: u64,
    /// Durable commits.
    pub commits: u64,
    /// Batches that wrote nothing and so cost no commit.
    pub idle_batches: u64,
    /// Bytes of keys and values written.
    pub bytes_put: u64,
}

impl Counters {
    pub(crate) fn count_put(&mut self, key: &[u8], value: &[u8]) {
        self.puts += 1;
        self.bytes_put += (key.len() + value.len()) as u64;
    }
}

impl Sub for Counters {
    type Output = Self;

    /// What was done between `earlier` and `self`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            gets: self.gets.saturating_sub(earlier.gets),
            ranges: self.ranges.saturating_sub(earlier.ranges),
            puts: self.puts.saturating_sub(earlier.puts),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            commits: self.commits.saturating_sub(earlier.commits),
            idle_batches: self.idle_batches.saturating_sub(earlier.idle_batches),
            bytes_put: self.bytes_put.saturating_sub(earlier.bytes_put),
        }
    }
}
