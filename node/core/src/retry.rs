//! When to try a peer again. One schedule for each destination, never one for each message. Pure.

/// Heard within this time, a peer is expected back soon: ten minutes.
const RECENT_MS: u64 = 10 * 60 * 1000;
/// Shortest delay.
const DELAY_MS_MIN: u64 = 1_000;
/// Longest delay for a peer that was heard lately.
const DELAY_MS_RECENT_MAX: u64 = 60_000;
/// Longest delay for a peer that was heard within a day.
const DELAY_MS_AWAY_MAX: u64 = 15 * 60 * 1000;
/// Longest delay at all: a node back from a holiday should not wait a day.
const DELAY_MS_MAX: u64 = 60 * 60 * 1000;
/// Failures after which a peer that was not heard for a day is tried hourly.
const FAILURES_UNTIL_HOURLY: u32 = 16;

/// Attempts to reach one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    /// Attempts that failed in a row.
    pub(crate) failures: u32,
    /// When the next one is due, in Unix ms.
    pub(crate) next_ms: Option<u64>,
    /// Until when an attempt is under way.
    pub(crate) dialing_until_ms: Option<u64>,
    /// Links in a row on which the peer greeted and then left something unanswered.
    unanswered: u32,
}

impl Retry {
    /// The delay after so many failures, before jitter.
    fn ceiling_ms(&self, silent_ms: u64) -> u64 {
        let doubled = DELAY_MS_MIN.saturating_mul(1 << self.failures.min(30));
        let max = if silent_ms < RECENT_MS {
            DELAY_MS_RECENT_MAX
        } else if self.failures < FAILURES_UNTIL_HOURLY {
            DELAY_MS_AWAY_MAX
        } else {
            DELAY_MS_MAX
        };
        doubled.min(max)
    }

    /// An attempt failed. `chance` is uniform; full jitter spreads the peers of a node that went
    /// away, with a floor so that a refusal at once does not become a busy loop.
    pub(crate) fn failed(&mut self, now_ms: u64, silent_ms: u64, chance: u32) {
        let ceiling = self.ceiling_ms(silent_ms);
        let jittered = ceiling * u64::from(chance) / u64::from(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        self.next_ms = Some(now_ms + jittered.max(DELAY_MS_MIN / 4));
        self.dialing_until_ms = None;
    }

    /// The peer is there.
    pub(crate) fn greeted(&mut self) {
        *self = Self { unanswered: self.unanswered, ..Self::default() };
    }

    /// The peer refuses this node for good: it is tried a few times an hour, in case it thinks better.
    pub(crate) fn refused(&mut self, now_ms: u64, chance: u32) {
        let jittered = DELAY_MS_AWAY_MAX / 2 * u64::from(chance) / u64::from(u32::MAX);
        self.next_ms = Some(now_ms + DELAY_MS_AWAY_MAX / 2 + jittered);
    }

    /// The peer says when it may be tried again.
    pub(crate) fn put_off(&mut self, now_ms: u64, after_ms: u64) {
        let at_ms = now_ms + after_ms.min(DELAY_MS_MAX);
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.max(at_ms)));
    }

    /// The peer does its work.
    pub(crate) const fn answered(&mut self) {
        self.unanswered = 0;
    }

    /// The link ended because the peer did not answer. Its greeting is worth little after that, so
    /// these links count in place of attempts.
    pub(crate) fn unanswered(&mut self, now_ms: u64, chance: u32) {
        self.failures = self.unanswered;
        self.failed(now_ms, 0, chance);
        self.unanswered = self.unanswered.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::Retry;

    #[test]
    fn the_delay_doubles_to_its_ceiling_and_never_reaches_zero() {
        let mut retry = Retry::default();
        let mut last = 0;
        for _ in 0..40 {
            retry.failed(0, 0, u32::MAX);
            let delay = retry.next_ms.unwrap();
            assert!(delay >= last && delay <= 60_000);
            last = delay;
        }
        assert_eq!(last, 60_000);
        retry.failed(0, u64::MAX, u32::MAX);
        assert_eq!(retry.next_ms, Some(3_600_000));
        retry.failed(0, 0, 0);
        assert_eq!(retry.next_ms, Some(250));
    }

    #[test]
    fn a_peer_that_only_greets_is_tried_ever_more_rarely_until_it_answers() {
        let mut retry = Retry::default();
        let mut delays = Vec::new();
        for _ in 0..8 {
            retry.greeted();
            assert_eq!((retry.failures, retry.next_ms), (0, None));
            retry.unanswered(0, u32::MAX);
            delays.push(retry.next_ms.unwrap() / 1_000);
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        retry.greeted();
        retry.answered();
        retry.unanswered(0, u32::MAX);
        assert_eq!(retry.next_ms, Some(1_000));
    }
}
