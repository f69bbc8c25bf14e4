//! What one peer may cost in a second: envelopes, their bytes, statements, questions. GCRA by
//! `governor`, whose clock is the core's: time stays an argument. What is over a limit is refused for
//! now, with a time at which there is room for it; nothing is queued for whoever is too fast.

use core::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::sync::Arc;

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tidings_protocol::{
    id::NodeId,
    peer_frame::{PeerFrame, User, Wanted},
    refusal::{Refusal, RefusalCode},
};

use crate::{
    Core,
    effect::Observed,
    event::{LinkId, PeerInput},
    policy::Standing,
    schema::LimitsRow,
};

/// Longest time after which whoever was too fast is told to come back.
const AFTER_MS_MAX: u64 = 60_000;
/// So many seconds' worth may come at once: what gathered while a link was away.
const BURST_SECONDS: u64 = 4;
const NANOS_PER_MS: u64 = 1_000_000;

/// What every peer may cost when nothing else was said of it: in a second, and of what is from it at
/// any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Envelopes.
    pub envelopes: u64,
    /// Their bytes, in KiB.
    pub kib: u64,
    /// Statements.
    pub statements: u64,
    /// Questions: for users, audits, offers.
    pub questions: u64,
    /// Copies from it that may wait here for devices.
    pub inbox_rows: u64,
    /// Bytes of their envelopes.
    pub inbox_bytes: u64,
}

impl Default for Limits {
    /// Three times what one node has been seen to carry; what waits is bounded by inboxes and disk
    /// alone.
    fn default() -> Self {
        Self {
            envelopes: 100_000,
            kib: 1 << 20,
            statements: 200_000,
            questions: 10_000,
            inbox_rows: u64::MAX,
            inbox_bytes: u64::MAX,
        }
    }
}

impl Limits {
    /// With what was said of one peer in their place.
    #[must_use]
    pub fn with(self, own: Option<&LimitsRow>) -> Self {
        let Some(own) = own else { return self };
        Self {
            envelopes: own.envelopes.unwrap_or(self.envelopes),
            kib: own.kib.unwrap_or(self.kib),
            statements: own.statements.unwrap_or(self.statements),
            questions: own.questions.unwrap_or(self.questions),
            inbox_rows: own.inbox_rows.unwrap_or(self.inbox_rows),
            inbox_bytes: own.inbox_bytes.unwrap_or(self.inbox_bytes),
        }
    }
}

/// The core's time, for the library.
#[derive(Clone, Debug, Default)]
pub(crate) struct CoreClock(Arc<AtomicU64>);

impl CoreClock {
    pub(crate) fn set(&self, now_ms: u64) {
        // Far enough from the end that what is added to it does not overflow.
        let nanos = now_ms.saturating_mul(NANOS_PER_MS).min(u64::MAX / 2);
        self.0.store(nanos, Ordering::Relaxed);
    }
}

impl Clock for CoreClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

/// One limit of one peer.
#[derive(Debug)]
struct Gate {
    limiter: RateLimiter<NotKeyed, InMemoryState, CoreClock, NoOpMiddleware<Nanos>>,
    clock: CoreClock,
    per_second: u64,
    burst: u32,
    /// What was put off and has not come again.
    put_off: u64,
}

impl Gate {
    fn new(per_second: u64, clock: &CoreClock) -> Self {
        let rate = NonZeroU32::new(u32::try_from(per_second).unwrap_or(u32::MAX));
        let rate = rate.unwrap_or(NonZeroU32::MIN);
        let burst = u64::from(rate.get()).saturating_mul(BURST_SECONDS);
        let burst = NonZeroU32::new(u32::try_from(burst).unwrap_or(u32::MAX)).unwrap_or(rate);
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock: clock.clone(),
            per_second: u64::from(rate.get()),
            burst: burst.get(),
            put_off: 0,
        }
    }

    /// Takes so many, or says after how many ms there is room for them. Those that were put off before
    /// come first: so each is told a time of its own, and few come in vain.
    fn take(&mut self, count: u64) -> Result<(), u64> {
        // More than fits at once passes when all that fits is there.
        let counted = u32::try_from(count).unwrap_or(u32::MAX).clamp(1, self.burst);
        let Some(cells) = NonZeroU32::new(counted) else { return Ok(()) };
        match self.limiter.check_n(cells) {
            Ok(Ok(())) => {
                self.put_off = self.put_off.saturating_sub(count);
                Ok(())
            }
            Ok(Err(not_yet)) => {
                let wait: Duration = not_yet.wait_time_from(self.clock.now());
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(AFTER_MS_MAX);
                let before_ms = self.put_off.saturating_mul(1_000) / self.per_second;
                self.put_off = self.put_off.saturating_add(count);
                Err((wait_ms + 1).saturating_add(before_ms).min(AFTER_MS_MAX))
            }
            // More than fits at all: `counted` is at most that.
            Err(_) => Err(AFTER_MS_MAX),
        }
    }
}

/// All limits of one peer.
#[derive(Debug)]
pub(crate) struct Rates {
    envelopes: Gate,
    kib: Gate,
    statements: Gate,
    questions: Gate,
}

/// What is asked of a peer's share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cost {
    Statements(u64),
    Question,
}

impl Rates {
    fn new(limits: Limits, clock: &CoreClock) -> Self {
        let gate = |per_second| Gate::new(per_second, clock);
        Self {
            envelopes: gate(limits.envelopes),
            kib: gate(limits.kib),
            statements: gate(limits.statements),
            questions: gate(limits.questions),
        }
    }
}

impl Core {
    /// What a peer may cost.
    pub(crate) fn limits_of(&self, node: &NodeId) -> Limits {
        let own = self.policy.rows.get(node).and_then(|row| row.limits.as_ref());
        self.settings.limits.with(own)
    }

    fn rates_of(&mut self, node: &NodeId) -> Option<&mut Rates> {
        let limits = self.limits_of(node);
        let clock = self.clock.clone();
        let peer = self.peers.get_mut(node)?;
        Some(peer.rates.get_or_insert_with(|| Rates::new(limits, &clock)))
    }

    /// After how many ms there is room for an envelope of a peer, if there is none now.
    pub(crate) fn envelope_wait(&mut self, node: &NodeId, bytes: u64) -> Option<u64> {
        let kib = 1 + (bytes >> 10);
        let rates = self.rates_of(node)?;
        let taken = rates.envelopes.take(1).and_then(|()| rates.kib.take(kib));
        let peer = self.peers.get_mut(node)?;
        match taken {
            Ok(()) => {
                peer.conduct.counts.envelopes_in += 1;
                peer.conduct.counts.bytes_in += bytes;
                None
            }
            Err(after_ms) => {
                peer.conduct.counts.limited += 1;
                Some(after_ms)
            }
        }
    }

    /// The same for what is no envelope.
    pub(crate) fn cost_wait(&mut self, node: &NodeId, cost: Cost) -> Option<u64> {
        let rates = self.rates_of(node)?;
        let taken = match cost {
            Cost::Statements(count) => rates.statements.take(count.max(1)),
            Cost::Question => rates.questions.take(1),
        };
        let after_ms = taken.err()?;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.conduct.counts.limited += 1;
        }
        Some(after_ms)
    }

    /// What a peer sends beyond its share is refused for now. Envelopes are counted where they are
    /// answered.
    pub(crate) fn is_too_fast(&mut self, link: LinkId, node: &NodeId, input: &PeerInput) -> bool {
        let cost = match input {
            PeerInput::Statements { checked, .. } => {
                Cost::Statements(checked.iter().map(|proof| proof.statements.len() as u64).sum())
            }
            PeerInput::Audit { .. }
            | PeerInput::FetchUser(_)
            | PeerInput::FetchFor(_)
            | PeerInput::Directory(_)
            | PeerInput::Offer { .. } => Cost::Question,
            PeerInput::Hello(_)
            | PeerInput::Deliver(_)
            | PeerInput::Took { .. }
            | PeerInput::StatementsTook { .. }
            | PeerInput::AuditAnswer { .. }
            | PeerInput::User(_)
            | PeerInput::KeepAlive { .. }
            | PeerInput::Consent(_)
            | PeerInput::Wanted { .. }
            | PeerInput::Forward(_)
            | PeerInput::DirectoryWanted(_)
            | PeerInput::DirectoryEntry(_)
            | PeerInput::Announce(_)
            | PeerInput::NewerListsFor(_)
            | PeerInput::Farewell { .. } => return false,
        };
        let Some(after_ms) = self.cost_wait(node, cost) else { return false };
        let refusal = Refusal { code: RefusalCode::Busy, after_ms: Some(after_ms) };
        self.observe(Observed::Refused(RefusalCode::Busy));
        if let PeerInput::FetchUser(asked) = input {
            let (lists, bundles) = (Vec::new(), Vec::new());
            let user = User {
                request: asked.request,
                refusal: Some(refusal),
                lists,
                bundles,
                listing: None,
                delegation: None,
            };
            self.tell_peer(link, PeerFrame::User(user));
        } else if let PeerInput::Offer { destination, .. } = input {
            let (destination, eids) = (*destination, Vec::new());
            let wanted = Wanted { destination, refusal: Some(refusal), eids, delegation: None };
            self.tell_peer(link, PeerFrame::Wanted(wanted));
        } else if matches!(input, PeerInput::Statements { .. }) {
            // They stay with the peer until it is back. Who is not answered to an audit asks again.
            self.refuse_peer_with(link, refusal);
        }
        true
    }

    /// The limits have changed, or the clock was set back.
    pub(crate) fn forget_rates(&mut self) {
        for peer in self.peers.values_mut() {
            peer.rates = None;
        }
    }

    /// True when no more may wait for a peer here.
    pub(crate) fn is_peer_queue_full(&self, node: &NodeId) -> bool {
        let own = self.policy.rows.get(node).and_then(|row| row.limits.as_ref());
        let rows_max = own.and_then(|own| own.rows).unwrap_or(self.settings.peer_rows_max);
        let bytes_max = own.and_then(|own| own.bytes).unwrap_or(u64::MAX);
        self.peers
            .get(node)
            .is_some_and(|peer| peer.queued >= rows_max || peer.queued_bytes >= bytes_max)
    }

    /// Who stands in no list is told to stay away for a while when it behaves badly.
    pub(crate) fn is_unlisted(&self, node: &NodeId) -> bool {
        matches!(self.standing(node), Standing::Unlisted | Standing::Requested)
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreClock, Gate};

    const NOW_MS: u64 = 1_790_000_000_000;

    #[test]
    fn what_is_over_the_limit_is_told_a_time_at_which_it_passes() {
        let clock = CoreClock::default();
        clock.set(NOW_MS);
        let mut gate = Gate::new(10, &clock);
        let at_once = (0..100).take_while(|_| gate.take(1).is_ok()).count();
        assert_eq!(at_once, 40, "four seconds' worth");
        // Whoever keeps to the times that it is told comes in vain once.
        let mut waiting: Vec<u64> = (0..50).map(|_| NOW_MS + gate.take(1).unwrap_err()).collect();
        assert!(waiting.is_sorted() && waiting[49] > NOW_MS + 4_000, "{waiting:?}");
        let mut refused = 0;
        while let Some(at_ms) = waiting.first().copied() {
            waiting.remove(0);
            clock.set(at_ms);
            if let Err(after_ms) = gate.take(1) {
                refused += 1;
                waiting.push(at_ms + after_ms);
                waiting.sort_unstable();
            }
        }
        assert!(refused <= 10, "{refused} came in vain more than once");
    }

    #[test]
    fn more_than_fits_at_once_passes_all_the_same_and_no_clock_panics() {
        let clock = CoreClock::default();
        let mut gate = Gate::new(1, &clock);
        assert!(gate.take(u64::MAX).is_ok(), "or it would never pass");
        assert!(gate.take(1).is_err());
        for now_ms in [u64::MAX, 0, NOW_MS] {
            clock.set(now_ms);
            gate.take(7).unwrap_or_default();
        }
        let mut endless = Gate::new(u64::MAX, &clock);
        assert!((0..1_000).all(|_| endless.take(1_000).is_ok()));
    }
}
