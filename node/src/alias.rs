//! What the log calls a peer: a hash of its id under a key of the day, which is in memory only. The lines
//! of one day and one process belong together by it; nobody gets from it to a peer, nor from one day
//! to the next. Names no device and no person: the log has no word for those.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use tidings_protocol::id::hash;
use zeroize::Zeroizing;

use crate::chance::draw;
use crate::clock;
use crate::p2p::PeerId;

const DAY_MS: u64 = 24 * 3600 * 1000;
/// Bytes of an alias: enough to tell a node's peers apart.
const ALIAS_BYTES: usize = 6;

/// A day, and its key once one could be drawn.
struct Day {
    number: u64,
    key: Option<Zeroizing<[u8; 32]>>,
}

impl Day {
    const NONE: Self = Self { number: 0, key: None };

    /// The alias of an id at a time.
    fn alias(&mut self, now_ms: u64, id: &[u8]) -> Alias {
        let number = now_ms / DAY_MS;
        if self.number != number || self.key.is_none() {
            // Without randomness there is no key, and then no name either.
            *self = Self { number, key: draw().ok().map(Zeroizing::new) };
        }
        let Some(key) = &self.key else { return Alias("unnamed".to_owned()) };
        let whole = hash("log alias", &[key.as_slice(), id]).0;
        Alias(HEXLOWER.encode(whole.get(..ALIAS_BYTES).unwrap_or_default()))
    }
}

/// What stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias(String);

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Today's alias of a peer.
pub(crate) fn alias(peer: &PeerId) -> Alias {
    static TODAY: Mutex<Day> = Mutex::new(Day::NONE);
    let mut today = TODAY.lock().unwrap_or_else(PoisonError::into_inner);
    today.alias(clock::now_ms(), &peer.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Day};

    #[test]
    fn an_alias_holds_for_a_day_and_for_one_process() {
        let (mut here, mut there) = (Day::NONE, Day::NONE);
        let first = here.alias(5 * DAY_MS, b"globex");
        assert_eq!(here.alias(6 * DAY_MS - 1, b"globex"), first);
        assert_ne!(here.alias(6 * DAY_MS - 1, b"hub"), first);
        assert_ne!(there.alias(5 * DAY_MS, b"globex"), first, "another process");
        assert_ne!(here.alias(6 * DAY_MS, b"globex"), first, "another day");
        assert_eq!(first.to_string().len(), 12);
    }
}
