//! What a peer leaves unanswered for too long ends its link. One that only keeps its links alive
//! would else hold what is in flight until it is over. Silence of the link itself is `peer.rs`'s.

use tidings_protocol::limits;

use crate::{Core, peer::Peer, settings::Sabotage};

/// When to look after what was sent on a link. Looking costs a walk through all of it, so the time
/// is that of the oldest item when last looked, and what was answered meanwhile only makes the next
/// look vain.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    look_ms: Option<u64>,
}

impl Patience {
    /// Something was sent.
    pub(crate) fn sent(&mut self, now_ms: u64) {
        self.look_ms.get_or_insert(now_ms + limits::PEER_ANSWER_MS_MAX);
    }

    /// The link is gone, and with it what was unanswered.
    pub(crate) fn unlink(&mut self) {
        self.look_ms = None;
    }

    /// When to look next.
    pub(crate) const fn deadline(&self) -> Option<u64> {
        self.look_ms
    }
}

impl Peer {
    /// Looks, when it is time. True when something is unanswered for too long.
    fn is_owed_too_long(&mut self, now_ms: u64) -> bool {
        if self.patience.look_ms.is_none_or(|look_ms| look_ms > now_ms) {
            return false;
        }
        let envelopes = self.inflight.values().map(|sent| sent.at_ms);
        let statements = self.statements_inflight.values().copied();
        self.patience.look_ms =
            envelopes.chain(statements).min().map(|at_ms| at_ms + limits::PEER_ANSWER_MS_MAX);
        self.patience.look_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }
}

impl Core {
    /// Ends the links on which an answer is overdue. What was sent there goes back to the queue.
    pub(crate) fn tick_patience(&mut self) {
        if self.is_sabotaged(Sabotage::EndlessPatience) {
            return self.peers.values_mut().for_each(|peer| peer.patience.unlink());
        }
        let now_ms = self.now_ms;
        let owing: Vec<_> = self
            .peers
            .values_mut()
            .filter_map(|peer| {
                let link = peer.link?;
                peer.is_owed_too_long(now_ms).then_some(link)
            })
            .collect();
        for link in owing {
            self.give_up_link(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_protocol::{id::Eid, limits::PEER_ANSWER_MS_MAX};

    use crate::peer::{Peer, Sent};

    impl Peer {
        fn is_sent(&mut self, name: u8, at_ms: u64) {
            self.inflight.insert(
                Eid([name; 24]),
                Sent { lsn: name.into(), at_ms, absent: None, is_routed: false },
                1,
            );
            self.patience.sent(at_ms);
        }
    }

    #[test]
    fn one_envelope_without_an_answer_is_not_outweighed_by_others_that_have_one() {
        let mut peer = Peer::default();
        peer.is_sent(1, 0);
        for at_ms in (1_000..PEER_ANSWER_MS_MAX).step_by(1_000) {
            assert!(!peer.is_owed_too_long(at_ms));
            peer.is_sent(2, at_ms);
            peer.inflight.remove(&Eid([2; 24]));
        }
        assert!(peer.is_owed_too_long(PEER_ANSWER_MS_MAX));
    }

    #[test]
    fn a_look_that_was_vain_is_followed_by_one_for_what_is_oldest_then() {
        let mut peer = Peer::default();
        peer.is_sent(1, 0);
        peer.is_sent(2, 7_000);
        peer.statements_inflight.insert(3, 9_000, 1);
        peer.inflight.remove(&Eid([1; 24]));
        assert!(!peer.is_owed_too_long(PEER_ANSWER_MS_MAX));
        assert_eq!(peer.patience.deadline(), Some(7_000 + PEER_ANSWER_MS_MAX));
        peer.inflight.clear();
        assert!(!peer.is_owed_too_long(7_000 + PEER_ANSWER_MS_MAX));
        assert_eq!(peer.patience.deadline(), Some(9_000 + PEER_ANSWER_MS_MAX));
        assert!(peer.is_owed_too_long(9_000 + PEER_ANSWER_MS_MAX));
        peer.statements_inflight.clear();
        assert!(!peer.is_owed_too_long(9_000 + PEER_ANSWER_MS_MAX));
        assert_eq!(peer.patience.deadline(), None, "nothing is owed, so nothing is looked for");
    }
}
