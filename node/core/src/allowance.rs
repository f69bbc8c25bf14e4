//! How much one peer may ask for: one-time pre-keys of own users, which it would use up for everybody,
//! and users of others, whose names it would try. A bucket that refills with time. Pure; kept in memory
//! only.

/// At once: one-time pre-keys of five accounts with all their devices.
const AT_ONCE_MAX: u64 = 60;
/// One-time pre-keys, one more each ten seconds: first contacts of a large node, and 8,640 a day at most.
pub(crate) type OneTimeAllowance = Allowance<10_000>;
/// Questions for users of others, one more each second: they cost us little.
pub(crate) type QuestionAllowance = Allowance<1_000>;

/// What one peer has taken lately, and one more is granted each `REFILL_MS`. Starts with nothing taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowance<const REFILL_MS: u64> {
    taken: u64,
    /// Refilled up to this time, in Unix ms.
    refilled_ms: u64,
}

impl<const REFILL_MS: u64> Allowance<REFILL_MS> {
    /// How many may be handed out now.
    pub(crate) fn left(&mut self, now_ms: u64) -> u64 {
        // A clock that was set back must not stop the refill until it has caught up.
        self.refilled_ms = self.refilled_ms.min(now_ms);
        let refills = (now_ms - self.refilled_ms) / REFILL_MS;
        self.taken = self.taken.saturating_sub(refills);
        self.refilled_ms += refills * REFILL_MS;
        AT_ONCE_MAX - self.taken
    }

    /// So many were handed out, at most what was [`Self::left`].
    pub(crate) fn take(&mut self, count: u64) {
        self.taken = self.taken.saturating_add(count).min(AT_ONCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::{AT_ONCE_MAX, OneTimeAllowance};

    const REFILL_MS: u64 = 10_000;

    const NOW_MS: u64 = 1_790_000_000_000;

    #[test]
    fn it_is_used_up_and_refills_one_by_one() {
        let mut allowance = OneTimeAllowance::default();
        assert_eq!(allowance.left(NOW_MS), AT_ONCE_MAX);
        allowance.take(AT_ONCE_MAX);
        assert_eq!(allowance.left(NOW_MS), 0);
        let begun_ms = NOW_MS - NOW_MS % REFILL_MS;
        assert_eq!(allowance.left(begun_ms + REFILL_MS - 1), 0);
        assert_eq!(allowance.left(begun_ms + REFILL_MS), 1);
        allowance.take(1);
        assert_eq!(allowance.left(begun_ms + REFILL_MS), 0);
        assert_eq!(allowance.left(begun_ms + 4 * REFILL_MS), 3);
        assert_eq!(allowance.left(begun_ms + 1_000 * REFILL_MS), AT_ONCE_MAX);
    }

    #[test]
    fn no_clock_gives_more_than_the_bucket_holds_or_stops_it_for_good() {
        let mut allowance = OneTimeAllowance::default();
        assert_eq!(allowance.left(u64::MAX), AT_ONCE_MAX);
        allowance.take(u64::MAX);
        assert_eq!(allowance.left(0), 0);
        assert_eq!(allowance.left(REFILL_MS), 1);
    }
}
