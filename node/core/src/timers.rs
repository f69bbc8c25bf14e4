//! Named deadlines: why the core wants a tick, and when. What happens then is in other files.

use tidings_protocol::id::NodeId;
use tidings_store::{StoreError, Txn};

use crate::Core;

/// How often expired rows are looked for: once a minute.
const SWEEP_MS: u64 = 60 * 1000;
/// A sweep that found as much as it may goes on after this time.
const SWEEP_AGAIN_MS: u64 = 50;

/// Deadlines of the node itself.
#[derive(Debug)]
pub(crate) struct Timers {
    sweep_ms: u64,
    /// Where the sweep of [`crate::schema::SEEN`] goes on.
    pub(crate) seen_cursor: Vec<u8>,
    /// Where the sweep of [`crate::schema::SUBMITS`] goes on.
    pub(crate) submits_cursor: Vec<u8>,
    /// Number of the peer whose statements were swept last.
    pub(crate) statements_cursor: u32,
}

impl Timers {
    pub(crate) const fn starting_at(now_ms: u64) -> Self {
        Self {
            sweep_ms: now_ms + SWEEP_MS,
            seen_cursor: Vec::new(),
            submits_cursor: Vec::new(),
            statements_cursor: 0,
        }
    }
}

impl Core {
    pub(crate) fn on_tick(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.tick_descriptor(txn)?;
        self.tick_fetches(txn)?;
        self.tick_peers(txn);
        self.tick_handings();
        self.tick_pushes();
        self.tally.step(self.now_ms, txn)?;
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(node, peer)| {
                peer.link.is_some()
                    && self.may_send(node)
                    && peer
                        .resend_deadline()
                        .into_iter()
                        .chain(peer.audits.deadline())
                        .any(|deadline| deadline <= self.now_ms)
            })
            .map(|(node, _)| *node)
            .collect();
        self.batch.peers.extend(due);
        if self.timers.sweep_ms <= self.now_ms {
            let is_busy = self.sweep(txn)?;
            self.timers.sweep_ms = self.now_ms + if is_busy { SWEEP_AGAIN_MS } else { SWEEP_MS };
        }
        Ok(())
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        [
            Some(self.timers.sweep_ms),
            self.own.deadline(),
            self.fetches.deadline(),
            self.peers_deadline(),
            self.handings_deadline(),
            self.pushes_deadline(),
            self.tally.deadline(),
            self.parting_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
