//! What an administrator sees of dead letters, and does about them: send them again, or drop them. How
//! an envelope becomes one is in `dead.rs`.

use tidings_protocol::{
    id::{Eid, NodeId},
    statement::Reason,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, DeadLetter, Observed},
    event::DeadPick,
    schema::{self, DEAD_LETTERS, DeadLetterRow, OUT, OutRow, peer_key},
    step::{Stage, Why},
};

/// Dead letters listed at once.
const LIST_MAX: usize = 200;

impl Core {
    /// Dead letters for one peer, or for all.
    pub(crate) fn dead_letters(
        &self,
        only: Option<NodeId>,
        txn: &dyn Txn,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let mut found = Vec::new();
        for (node, peer) in &self.peers {
            if only.is_some_and(|only| only != *node) {
                continue;
            }
            for lsn in peer.dead.places() {
                if found.len() == LIST_MAX {
                    return Ok(found);
                }
                let key = peer_key(peer.number, lsn);
                let Some(letter) = schema::get::<DeadLetterRow>(txn, DEAD_LETTERS, &key)? else {
                    continue;
                };
                let Some(row) = schema::get::<OutRow>(txn, OUT, letter.eid.as_bytes())? else {
                    continue;
                };
                found.push(DeadLetter {
                    node: *node,
                    eid: letter.eid,
                    accepted_ms: row.accepted_ms,
                    expires_ms: row.expires_ms,
                    since_ms: letter.since_ms,
                    attempts: letter.attempts,
                    last_ms: letter.last_ms,
                    refusal: letter.refusal,
                });
            }
        }
        Ok(found)
    }

    /// Sends dead letters again, each as if it were new to blame.
    pub(crate) fn redrive(
        &mut self,
        pick: DeadPick,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let picked = self.pick(pick, txn)?;
        for (node, lsn) in &picked {
            self.revive(node, *lsn, txn)?;
            if let Some(peer) = self.peers.get_mut(node) {
                peer.owed.insert(*lsn);
                peer.resend.insert(*lsn, self.now_ms);
            }
            self.batch.peer_rows.insert(*node);
            self.batch.peers.insert(*node);
        }
        Ok(changed(pick, picked.len()))
    }

    /// Ends the duty for dead letters. The senders are told by our signature.
    pub(crate) fn drop_dead(
        &mut self,
        pick: DeadPick,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let picked = self.pick(pick, txn)?;
        for (node, lsn) in &picked {
            let number = self.peers.get(node).map_or(0, |peer| peer.number);
            let row: Option<DeadLetterRow> =
                schema::get(txn, DEAD_LETTERS, &peer_key(number, *lsn))?;
            let Some(DeadLetterRow { eid, .. }) = row else { continue };
            if let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? {
                self.fail_out(&eid, &row, Reason::Dropped, txn)?;
                self.step_out(Stage::Failed, eid, &row, None, Some(Why::Reason(Reason::Dropped)));
                self.observe(Observed::Failed);
            }
        }
        Ok(changed(pick, picked.len()))
    }

    fn pick(&self, pick: DeadPick, txn: &dyn Txn) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let only = match pick {
            DeadPick::One(eid) => return self.pick_one(&eid, txn),
            DeadPick::Peer(node) => Some(node),
            DeadPick::All => None,
        };
        let peers = self.peers.iter().filter(|(node, _)| only.is_none_or(|only| only == **node));
        Ok(peers
            .flat_map(|(node, peer)| peer.dead.places().into_iter().map(|lsn| (*node, lsn)))
            .collect())
    }

    fn pick_one(&self, eid: &Eid, txn: &dyn Txn) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let row: Option<OutRow> = schema::get(txn, OUT, eid.as_bytes())?;
        let found = row.and_then(|row| {
            let node = self.numbers.get(&row.peer)?;
            self.peers.get(node)?.dead.contains(row.lsn).then_some((*node, row.lsn))
        });
        Ok(found.into_iter().collect())
    }
}

fn changed(pick: DeadPick, count: usize) -> AdminReply {
    if count == 0 && matches!(pick, DeadPick::One(_)) {
        let advice = "there is no such dead letter: `tidings admin dead list` shows all of them";
        return AdminReply::Refused(advice.to_owned());
    }
    AdminReply::Changed(count as u64)
}
