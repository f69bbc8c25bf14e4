//! Which messages of a session were received: tells a duplicate from a message whose key was thrown
//! away, which vodozemac's one error does not. No keys; it mirrors vodozemac's limits.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use super::session::Header;

/// Receiving chains that still open messages.
pub const CHAINS_MAX: usize = 5;
/// Keys of skipped messages kept per chain.
pub const SKIPPED_PER_CHAIN_MAX: usize = 40;
/// Most messages that may be missing before the next one.
pub const GAP_MAX: u64 = 2_000;

/// Older chains remembered, so that their duplicates are known as such.
const RETIRED_MAX: usize = 16;
/// Lost ranges remembered per chain; beyond, the two oldest become one, at the price that a
/// duplicate between them is taken for a lost message, which costs a resend.
const LOST_RANGES_MAX: usize = 16;

/// The receiving chains of one session, oldest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Chains {
    live: Vec<Chain>,
    retired: Vec<Chain>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chain {
    key: ByteArray<32>,
    next: u64,
    /// Indices whose keys vodozemac keeps, in its order of throwing away.
    skipped: Vec<u64>,
    /// Indices whose keys are gone unused: first, last.
    lost: Vec<(u64, u64)>,
}

/// What is known about a message before it is decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its key can be had.
    Open,
    /// It was opened before.
    Duplicate,
    /// Its key was thrown away.
    Lost,
    /// So many are missing before it.
    Gap(u64),
}

impl Chains {
    pub(crate) fn knows(&self, chain: &[u8; 32]) -> bool {
        self.find(chain).is_some()
    }

    /// Chains that the other side has opened so far.
    pub(crate) fn count(&self) -> usize {
        self.live.len() + self.retired.len()
    }

    pub(crate) fn place(&self, header: Header) -> Place {
        match self.find(&header.chain) {
            Some((chain, true)) => chain.place(header.index),
            Some((chain, false)) => match chain.place(header.index) {
                Place::Duplicate => Place::Duplicate,
                Place::Open | Place::Lost | Place::Gap(_) => Place::Lost,
            },
            None if header.index > GAP_MAX => Place::Gap(header.index),
            None => Place::Open,
        }
    }

    /// Records a message that was decrypted.
    pub(crate) fn received(&mut self, header: Header) {
        if let Some(chain) = self.live.iter_mut().find(|chain| *chain.key == header.chain) {
            chain.received(header.index);
            return;
        }
        let key = ByteArray::new(header.chain);
        let mut chain = Chain { key, next: 0, skipped: Vec::new(), lost: Vec::new() };
        chain.received(header.index);
        self.live.push(chain);
        if self.live.len() > CHAINS_MAX {
            self.retired.push(self.live.remove(0));
        }
        if self.retired.len() > RETIRED_MAX {
            self.retired.remove(0);
        }
    }

    fn find(&self, key: &[u8; 32]) -> Option<(&Chain, bool)> {
        let is_it = |chain: &&Chain| *chain.key == *key;
        let live = self.live.iter().find(is_it).map(|chain| (chain, true));
        live.or_else(|| self.retired.iter().find(is_it).map(|chain| (chain, false)))
    }
}

impl Chain {
    fn place(&self, index: u64) -> Place {
        if index >= self.next {
            let gap = index - self.next;
            return if gap > GAP_MAX { Place::Gap(gap) } else { Place::Open };
        }
        if self.skipped.contains(&index) {
            Place::Open
        } else if self.lost.iter().any(|(first, last)| (*first..=*last).contains(&index)) {
            Place::Lost
        } else {
            Place::Duplicate
        }
    }

    fn received(&mut self, index: u64) {
        if index < self.next {
            self.skipped.retain(|skipped| *skipped != index);
            return;
        }
        let kept_from = index.saturating_sub(SKIPPED_PER_CHAIN_MAX as u64).max(self.next);
        if kept_from > self.next {
            self.lose(self.next, kept_from - 1);
        }
        for skipped in kept_from..index {
            if self.skipped.len() == SKIPPED_PER_CHAIN_MAX {
                let oldest = self.skipped.remove(0);
                self.lose(oldest, oldest);
            }
            self.skipped.push(skipped);
        }
        self.next = index + 1;
    }

    fn lose(&mut self, first: u64, last: u64) {
        match self.lost.iter_mut().find(|range| range.1 + 1 == first) {
            Some(range) => range.1 = last,
            None => self.lost.push((first, last)),
        }
        if self.lost.len() > LOST_RANGES_MAX {
            self.lost.sort_unstable();
            let (first, _) = self.lost.remove(0);
            if let Some(oldest) = self.lost.first_mut() {
                oldest.0 = first;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(index: u64) -> Header {
        Header { chain: [1; 32], index }
    }

    #[test]
    fn a_reversed_delivery_keeps_forty_one_of_sixty() {
        let mut chains = Chains::default();
        let mut opened = 0;
        for index in (0..60).rev() {
            match chains.place(header(index)) {
                Place::Open => {
                    chains.received(header(index));
                    opened += 1;
                }
                place @ (Place::Duplicate | Place::Lost | Place::Gap(_)) => {
                    assert_eq!(place, Place::Lost);
                }
            }
        }
        assert_eq!(opened, 41);
        assert_eq!(chains.place(header(59)), Place::Duplicate);
        assert_eq!(chains.place(header(19)), Place::Duplicate);
        assert_eq!(chains.place(header(18)), Place::Lost);
    }

    #[test]
    fn gaps_end_at_two_thousand() {
        let mut chains = Chains::default();
        assert_eq!(chains.place(header(2_001)), Place::Gap(2_001));
        assert_eq!(chains.place(header(2_000)), Place::Open);
        chains.received(header(0));
        assert_eq!(chains.place(header(2_001)), Place::Open);
        assert_eq!(chains.place(header(2_002)), Place::Gap(2_001));
    }

    #[test]
    fn retired_chains_still_know_their_duplicates() {
        let mut chains = Chains::default();
        for chain in 0..7 {
            chains.received(Header { chain: [chain; 32], index: 1 });
        }
        let place = |chain, index| chains.place(Header { chain: [chain; 32], index });
        assert_eq!(place(0, 1), Place::Duplicate);
        assert_eq!(place(0, 0), Place::Lost);
        assert_eq!(place(0, 2), Place::Lost);
        assert_eq!(place(2, 0), Place::Open);
    }

    #[test]
    fn many_lost_ranges_stay_few_and_stay_lost() {
        let mut chains = Chains::default();
        for step in 1..100 {
            chains.received(header(step * 50));
        }
        assert!(chains.live[0].lost.len() <= LOST_RANGES_MAX);
        assert_eq!(chains.place(header(0)), Place::Lost);
        assert_eq!(chains.place(header(4_901)), Place::Lost);
        assert_eq!(chains.place(header(4_950)), Place::Duplicate);
    }
}
