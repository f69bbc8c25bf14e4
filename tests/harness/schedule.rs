//! Virtual time: what happens when. One thread, one queue; ties are broken by the order of planning.

use std::collections::BTreeMap;

/// Things to come, in order of time.
#[derive(Debug)]
pub struct Schedule<T> {
    now_ms: u64,
    planned: u64,
    queue: BTreeMap<(u64, u64), T>,
}

impl<T> Schedule<T> {
    /// Nothing planned; it is `now_ms`, in Unix ms.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { now_ms, planned: 0, queue: BTreeMap::new() }
    }

    /// The true time, in Unix ms. Machines see it through their own offset.
    #[must_use]
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Plans something in `in_ms` from now.
    pub fn plan(&mut self, in_ms: u64, what: T) {
        self.plan_at(self.now_ms.saturating_add(in_ms), what);
    }

    /// Plans something at a time; at once if that is past.
    pub fn plan_at(&mut self, at_ms: u64, what: T) {
        self.planned += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.planned), what);
    }

    /// The next thing up to `until_ms`; time moves to it, or to `until_ms` when there is none.
    pub fn next_until(&mut self, until_ms: u64) -> Option<T> {
        let due = self.queue.first_entry().filter(|entry| entry.key().0 <= until_ms);
        if let Some(entry) = due {
            self.now_ms = entry.key().0;
            return Some(entry.remove());
        }
        self.now_ms = until_ms.max(self.now_ms);
        None
    }
}
