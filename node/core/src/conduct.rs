//! What a peer has done, as far as this node saw it: counts, and a score of what no honest peer does.
//! Kept in memory only: a start forgives. Names nobody else, and judges no envelope.

use tidings_protocol::{
    id::NodeId,
    refusal::{Refusal, RefusalCode},
};

use crate::{Core, effect::Observed};

/// Points are counted in thousandths.
const POINT: u64 = 1_000;
/// After this time half of the points are forgotten.
const HALF_LIFE_MS: u64 = 10 * 60 * 1000;
/// At so many points the link ends, and comes again.
const DISCONNECT: u64 = 20 * POINT;
/// At so many a peer that stands in no list is left alone for a while; of any other one, the
/// administrator is told.
const BACK_OFF: u64 = 50 * POINT;
/// For how long: by then half of the points are forgotten.
const BACK_OFF_MS: u64 = HALF_LIFE_MS;

/// What no honest peer does, or does rarely.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Offence {
    /// A frame that is none.
    Malformed,
    /// A statement that is not the signer's to make: fifty weigh a point, since statements that were
    /// queued across a change of keys are such.
    BadStatement,
    /// It has no more what it had taken.
    AuditUnknown,
    /// It left something unanswered until its link was ended.
    Timeout,
    /// It asked for what it may not: another's envelope, another node.
    NotItsOwn,
}

impl Offence {
    const fn points(self) -> u64 {
        match self {
            Self::Malformed => 10 * POINT,
            Self::BadStatement => POINT / 50,
            Self::AuditUnknown => POINT / 10,
            Self::Timeout => 2 * POINT,
            Self::NotItsOwn => POINT,
        }
    }
}

/// Counts since the node has started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Envelopes that came from it.
    pub envelopes_in: u64,
    /// Their bodies' bytes.
    pub bytes_in: u64,
    /// Envelopes that were sent to it.
    pub envelopes_out: u64,
    /// Their bodies' bytes.
    pub bytes_out: u64,
    /// Envelopes that had come before.
    pub duplicates: u64,
    /// What was refused for now because it came too fast.
    pub limited: u64,
    /// Frames that are none.
    pub malformed: u64,
    /// Statements that were not the signer's to make.
    pub bad_statements: u64,
    /// Envelopes that it had taken, and does not know.
    pub audits_unknown: u64,
    /// Links that were ended because it did not answer.
    pub timeouts: u64,
    /// What it may not ask.
    pub not_its_own: u64,
    /// Attempts to reach it that failed.
    pub dials_failed: u64,
}

/// What one peer has done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conduct {
    pub(crate) counts: Counts,
    score: u64,
    scored_ms: u64,
    /// Left alone until then.
    pub(crate) until_ms: u64,
}

impl Conduct {
    /// The score now, in thousandths of a point.
    pub(crate) fn score(&self, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.scored_ms);
        let halvings = u32::try_from(passed_ms / HALF_LIFE_MS).unwrap_or(u32::MAX);
        let score = self.score.checked_shr(halvings).unwrap_or(0);
        // Between two halvings in a straight line.
        score - score * (passed_ms % HALF_LIFE_MS) / (2 * HALF_LIFE_MS)
    }

    /// Adds an offence; the score before and after.
    fn add(&mut self, offence: Offence, now_ms: u64) -> (u64, u64) {
        let count = match offence {
            Offence::Malformed => &mut self.counts.malformed,
            Offence::BadStatement => &mut self.counts.bad_statements,
            Offence::AuditUnknown => &mut self.counts.audits_unknown,
            Offence::Timeout => &mut self.counts.timeouts,
            Offence::NotItsOwn => &mut self.counts.not_its_own,
        };
        *count += 1;
        let before = self.score(now_ms);
        // Bounded, so that the worst is forgotten within an hour or so.
        self.score = (before + offence.points()).min(8 * BACK_OFF);
        self.scored_ms = now_ms;
        (before, self.score)
    }
}

impl Core {
    /// A peer has done what it should not. Its link may end with that.
    pub(crate) fn blame(&mut self, node: &NodeId, offence: Offence) {
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return };
        let (before, after) = peer.conduct.add(offence, now_ms);
        let link = peer.link;
        let crosses = |bound| before < bound && bound <= after;
        if crosses(BACK_OFF) {
            self.observe(Observed::Misbehaves);
            if self.is_unlisted(node)
                && let Some(peer) = self.peers.get_mut(node)
            {
                peer.conduct.until_ms = now_ms + BACK_OFF_MS;
                peer.retry.put_off(now_ms, BACK_OFF_MS);
            }
        }
        if (crosses(BACK_OFF) || crosses(DISCONNECT))
            && let Some(link) = link
        {
            let until_ms = self.peers.get(node).map_or(0, |peer| peer.conduct.until_ms);
            let after_ms = until_ms.saturating_sub(now_ms).max(1_000);
            let refusal = Refusal { code: RefusalCode::Busy, after_ms: Some(after_ms) };
            self.refuse_peer_with(link, refusal);
            if let Some(peer) = self.peers.get_mut(node) {
                peer.retry.put_off(now_ms, after_ms);
            }
        }
    }

    /// For how long a peer is still left alone.
    pub(crate) fn left_alone_ms(&self, node: &NodeId) -> u64 {
        let until_ms = self.peers.get(node).map_or(0, |peer| peer.conduct.until_ms);
        if self.is_left_alone(node) { until_ms.saturating_sub(self.now_ms) } else { 0 }
    }

    /// True while a peer is left alone for what it did.
    pub(crate) fn is_left_alone(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.conduct.until_ms > self.now_ms)
            && self.is_unlisted(node)
    }
}

#[cfg(test)]
mod tests {
    use super::{BACK_OFF, Conduct, DISCONNECT, HALF_LIFE_MS, Offence};

    const NOW_MS: u64 = 1_790_000_000_000;

    #[test]
    fn half_is_forgotten_after_ten_minutes_and_all_after_hours() {
        let mut conduct = Conduct::default();
        for _ in 0..4 {
            conduct.add(Offence::Malformed, NOW_MS);
        }
        assert_eq!(conduct.score(NOW_MS), 40_000);
        assert_eq!(conduct.score(NOW_MS + HALF_LIFE_MS / 2), 30_000);
        assert_eq!(conduct.score(NOW_MS + HALF_LIFE_MS), 20_000);
        assert_eq!(conduct.score(NOW_MS + 3 * HALF_LIFE_MS), 5_000);
        assert_eq!(conduct.score(NOW_MS + 100 * HALF_LIFE_MS), 0);
        assert_eq!(conduct.score(0), 40_000, "a clock that was set back forgets nothing");
        assert_eq!(conduct.score(u64::MAX), 0);
    }

    #[test]
    fn a_few_slips_are_nothing_and_a_flood_is_bounded() {
        let mut conduct = Conduct::default();
        for _ in 0..500 {
            conduct.add(Offence::BadStatement, NOW_MS);
        }
        assert!(conduct.score(NOW_MS) < DISCONNECT);
        for _ in 0..1_000_000 {
            conduct.add(Offence::Malformed, NOW_MS);
        }
        assert!(conduct.score(NOW_MS + 4 * HALF_LIFE_MS) < BACK_OFF);
        assert_eq!(conduct.counts.malformed, 1_000_000);
    }
}
