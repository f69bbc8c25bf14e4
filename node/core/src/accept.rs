//! An envelope from a peer: taken into the inboxes of own devices in one commit, or refused.

use tidings_protocol::{
    device_list::DeviceList,
    id::{Eid, NodeId},
    limits,
    peer_frame::Answer,
    refusal::{Refusal, RefusalCode},
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    conduct::Offence,
    effect::Observed,
    event::{LinkId, PreparedEnvelope},
    inbox::Hop,
    schema::{self, SEEN, SeenRow},
    settings::Sabotage,
    space::Asker,
};

/// How soon a peer should try again when there is no room: the expiry job runs each minute.
pub(crate) const NO_ROOM_AFTER_MS: u64 = 60_000;

impl Core {
    pub(crate) fn on_deliver(
        &mut self,
        link: LinkId,
        envelope: &PreparedEnvelope,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(node) = self.links.get(&link).and_then(|link| link.node) else { return Ok(()) };
        if self.is_envelope_too_fast(link, &node, envelope.eid, envelope.shared.len()) {
            return Ok(());
        }
        if let Some(seen) = self.seen_row(&envelope.eid, txn)? {
            self.observe(Observed::Duplicate);
            self.count_duplicate(&node);
            let number = self.peers.get(&node).map(|peer| peer.number);
            let came_from = number.is_some_and(|number| seen.hops.contains(&number));
            if envelope.head.header.origin == node && !came_from {
                self.tell_ends(&node, &envelope.eid, &seen);
                self.add_hop(&envelope.eid, seen, &node, txn)?;
            }
            self.answer_peer(link, envelope.eid, None, Vec::new());
            return Ok(());
        }
        let header = &envelope.head.header;
        let code = if header.destination != self.node {
            Some(RefusalCode::WrongNode)
        } else if header.origin != node {
            Some(RefusalCode::NotAuthorised)
        } else if header.expires_ms <= self.now_ms {
            Some(RefusalCode::Expired)
        } else if self.is_from_the_future(header.created_ms) {
            Some(RefusalCode::Busy)
        } else if self.own.retired_ms.is_some() {
            Some(RefusalCode::Retired)
        } else if self.draining {
            Some(RefusalCode::Draining)
        } else if self.has_no_room_for(Asker::Peer)
            || self.is_too_much_from(&node)
            || self.is_any_inbox_full(envelope, txn)?
        {
            Some(RefusalCode::Quota)
        } else {
            None
        };
        if let Some(code) = code {
            self.observe(Observed::Refused(code));
            if matches!(code, RefusalCode::WrongNode | RefusalCode::NotAuthorised) {
                self.blame(&node, Offence::NotItsOwn);
            }
            let refusal = Refusal { code, after_ms: code.may_retry().then_some(NO_ROOM_AFTER_MS) };
            self.answer_peer(link, envelope.eid, Some(refusal), Vec::new());
            return Ok(());
        }
        let lists = self.store_envelope(envelope, &Hop::Peers(vec![node]), txn)?;
        self.answer_peer(link, envelope.eid, None, lists);
        Ok(())
    }

    /// True for an envelope that came too fast, and was answered so.
    pub(crate) fn is_envelope_too_fast(
        &mut self,
        link: LinkId,
        node: &NodeId,
        eid: Eid,
        bytes: usize,
    ) -> bool {
        let Some(after_ms) = self.envelope_wait(node, bytes as u64) else { return false };
        self.observe(Observed::Refused(RefusalCode::Busy));
        let refusal = Refusal { code: RefusalCode::Busy, after_ms: Some(after_ms) };
        self.answer_peer(link, eid, Some(refusal), Vec::new());
        true
    }

    pub(crate) fn count_duplicate(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.conduct.counts.duplicates += 1;
        }
    }

    /// The row of an envelope that has come before.
    pub(crate) fn seen_row(&self, eid: &Eid, txn: &dyn Txn) -> Result<Option<SeenRow>, StoreError> {
        if self.is_sabotaged(Sabotage::NoNodeDedup) {
            return Ok(None);
        }
        schema::get::<SeenRow>(txn, SEEN, eid.as_bytes())
    }

    pub(crate) fn answer_peer(
        &mut self,
        link: LinkId,
        eid: Eid,
        refusal: Option<Refusal>,
        mut lists: Vec<Signed<DeviceList>>,
    ) {
        lists.truncate(limits::LISTS_PER_ANSWER_MAX);
        let answer = Answer { eid, refusal, lists };
        self.batch.answers.entry(link).or_default().push(answer);
    }
}
