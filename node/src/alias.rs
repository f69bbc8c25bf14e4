//! What the log calls a peer, and the event log an envelope, a node and a device: a hash of the id under a
//! key of the day, which is in memory only. The lines of one day and one process belong together by it;
//! nobody gets from it to an id, nor from one day to the next. The log has no word for a person.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use data_encoding::HEXLOWER;
use tidings_protocol::id::{DeviceId, Eid, NodeId, hash};
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

    /// The alias of an id at a time. What it is the id of is a part of it.
    fn alias(&mut self, now_ms: u64, what: &str, id: &[u8]) -> Alias {
        let number = now_ms / DAY_MS;
        if self.number != number || self.key.is_none() {
            // Without randomness there is no key, and then no name either.
            *self = Self { number, key: draw().ok().map(Zeroizing::new) };
        }
        let Some(key) = &self.key else { return Alias("unnamed".to_owned()) };
        let whole = hash("log alias", &[key.as_slice(), what.as_bytes(), id]).0;
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
    today("peer", &peer.to_bytes())
}

/// Today's alias of an envelope.
pub(crate) fn of_envelope(eid: &Eid) -> Alias {
    today("envelope", eid.as_bytes())
}

/// Today's alias of a node. It is not that of its process, which is a peer of libp2p.
pub(crate) fn of_node(node: &NodeId) -> Alias {
    today("node", node.as_bytes())
}

/// Today's alias of a device.
pub(crate) fn of_device(device: &DeviceId) -> Alias {
    today("device", device.as_bytes())
}

fn today(what: &str, id: &[u8]) -> Alias {
    static TODAY: Mutex<Day> = Mutex::new(Day::NONE);
    let mut today = TODAY.lock().unwrap_or_else(PoisonError::into_inner);
    today.alias(clock::now_ms(), what, id)
}

#[cfg(test)]
mod tests {
    use super::{DAY_MS, Day};

    #[test]
    fn an_alias_holds_for_a_day_and_for_one_process() {
        let (mut here, mut there) = (Day::NONE, Day::NONE);
        let first = here.alias(5 * DAY_MS, "peer", b"globex");
        assert_eq!(here.alias(6 * DAY_MS - 1, "peer", b"globex"), first);
        assert_ne!(here.alias(6 * DAY_MS - 1, "peer", b"hub"), first);
        assert_ne!(there.alias(5 * DAY_MS, "peer", b"globex"), first, "another process");
        assert_ne!(here.alias(6 * DAY_MS, "peer", b"globex"), first, "another day");
        assert_ne!(here.alias(6 * DAY_MS, "node", b"hub"), here.alias(6 * DAY_MS, "peer", b"hub"));
        assert_eq!(first.to_string().len(), 12);
    }
}
