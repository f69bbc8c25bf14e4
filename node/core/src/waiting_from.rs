//! What waits here for own devices *from* one other node: counted in its row, with the rows of the
//! inbox, so that it holds after a restart and after a restore; bounded for each node, so that one alone
//! cannot fill inboxes and disk. What a device or the disk holds at most is elsewhere (`inbox.rs`,
//! `space.rs`).
//!
//! The node is the origin, whoever brought the envelope.

use tidings_protocol::id::NodeId;

use crate::{Core, schema::SeenRow};

impl Core {
    /// True when a node has to wait until devices here have taken more of what is from it. The last
    /// envelope that is taken may go over the bound by itself: else a large one would never be taken.
    pub(crate) fn is_too_much_from(&self, origin: &NodeId) -> bool {
        let limits = self.limits_of(origin);
        self.peers.get(origin).is_some_and(|peer| {
            peer.inbox >= limits.inbox_rows || peer.inbox_bytes >= limits.inbox_bytes
        })
    }

    /// An envelope waits for its devices from now on.
    pub(crate) fn count_waiting_from(&mut self, seen: &SeenRow) {
        let rows = seen.copies.iter().filter(|copy| copy.done.is_none()).count() as u64;
        let Some(node) = self.numbers.get(&seen.origin).copied().filter(|_| rows > 0) else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.inbox += rows;
            peer.inbox_bytes += seen.bytes;
            self.batch.peer_rows.insert(node);
        }
    }

    /// So many of its copies have just ended, in whatever way; its bytes end with the last one.
    pub(crate) fn uncount_waiting_from(&mut self, seen: &SeenRow, ended: u64) {
        let Some(node) = self.numbers.get(&seen.origin).copied().filter(|_| ended > 0) else {
            return;
        };
        let is_over = seen.copies.iter().all(|copy| copy.done.is_some());
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.inbox = peer.inbox.saturating_sub(ended);
            if is_over {
                peer.inbox_bytes = peer.inbox_bytes.saturating_sub(seen.bytes);
            }
            self.batch.peer_rows.insert(node);
        }
    }
}
