//! Whom to dial, when, and where: for links that there are not yet. What is said on a link that is up
//! is in `peer.rs`; how long to wait after a failure in `retry.rs`.

use tidings_protocol::{
    descriptor::{CheckedDescriptor, Descriptor, Transport},
    id::NodeId,
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};

use crate::{Core, effect::Effect, event::LinkId, peer::Peer};

/// How long an attempt to reach a peer may take.
const DIAL_MS_MAX: u64 = 20_000;
/// A peer with traffic within this time is dialled when the node starts: ten minutes.
const RECENT_MS: u64 = 10 * 60 * 1000;

impl Core {
    /// A link that broke before its greeting was an attempt that failed.
    pub(crate) fn on_ungreeted_closed(&mut self, transport: &[u8]) {
        let dialled = self
            .peers
            .iter()
            .find(|(_, peer)| {
                peer.retry.dialing_until_ms.is_some()
                    && peer.descriptor.as_ref().is_some_and(|(_, d)| d.has_transport(transport))
            })
            .map(|(node, _)| *node);
        if let Some(node) = dialled {
            self.on_dial_failed(&node);
        }
    }

    /// The peer ends the link, for now or for good.
    pub(crate) fn on_farewell(
        &mut self,
        link: LinkId,
        node: &NodeId,
        code: RefusalCode,
        after_ms: Option<u64>,
    ) {
        // Its policy is about this node, and no envelope is to blame for it.
        let is_policy = matches!(code, RefusalCode::Refused | RefusalCode::Retired);
        // Nor for a greeting that it does not take, because its clock or ours is wrong.
        let is_greeting = code == RefusalCode::NotAuthorised;
        if !code.may_retry() && !is_policy && !is_greeting {
            self.blame_unanswered(link);
        }
        self.effects.push_back(Effect::ClosePeer { link });
        self.on_peer_closed(link);
        let (now_ms, chance) = (self.now_ms, u32::from_be_bytes(self.random()));
        let Some(peer) = self.peers.get_mut(node) else { return };
        peer.is_leaving = code == RefusalCode::Draining;
        peer.refuses_us = is_policy.then_some((code, now_ms));
        if is_policy {
            peer.retry.refused(now_ms, chance);
        } else if let Some(after_ms) = after_ms {
            peer.retry.put_off(now_ms, after_ms);
        }
        if peer.retry.next_ms.is_some_and(|next_ms| next_ms > now_ms) {
            self.hurry_fetches(node);
        }
    }

    /// Peers to which there is something to say, or that will have something to say to us: called once
    /// we can greet.
    pub(crate) fn wake_wanted(&mut self) {
        let is_recent = |peer: &Peer| self.now_ms.saturating_sub(peer.seen_ms) < RECENT_MS;
        let may_be =
            |node: &NodeId, peer| self.wants(node) || (is_recent(peer) && self.may_send(node));
        let wanted = self.peers.iter().filter(|(node, peer)| may_be(node, peer));
        let wanted: Vec<NodeId> = wanted.map(|(node, _)| *node).collect();
        self.batch.peers.extend(wanted);
    }

    /// True when there is something to say to a peer, and it may be said.
    pub(crate) fn wants(&self, node: &NodeId) -> bool {
        if self.routes.next_hop(node).is_some() {
            return false;
        }
        let is_wanted = self.wants_to_ask(node)
            || self.handings.wants(node)
            || self.names.wants(node)
            // Through them what was held comes at once, and what is held is known to be needed.
            || self.custodians.contains(node)
            // And through next hops, which may be all that a node ever speaks to.
            || self.routes.is_hop(node)
            || self.peers.get(node).is_some_and(Peer::is_wanted);
        is_wanted && self.may_send(node)
    }

    pub(crate) fn on_found(
        &mut self,
        node: &NodeId,
        descriptors: Vec<(Descriptor, CheckedDescriptor)>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        self.on_own_addresses(descriptors.iter().map(|(_, checked)| checked), txn)?;
        self.on_found_for_names(node, &descriptors, txn)?;
        for found in descriptors.into_iter().filter(|(_, checked)| checked.node() == *node) {
            self.learn(node, found);
        }
        let is_waiting = self
            .peers
            .get(node)
            .is_some_and(|peer| peer.link.is_none() && peer.retry.dialing_until_ms.is_some());
        if is_waiting && self.may_send(node) {
            match self.transports_of(node) {
                Some(transports) => {
                    self.effects.push_back(Effect::Dial { node: *node, transports });
                }
                None => self.on_dial_failed(node),
            }
        }
        Ok(())
    }

    fn transports_of(&self, node: &NodeId) -> Option<Vec<Transport>> {
        let pinned = self.settings.pinned.iter().find(|(known, _)| known == node);
        let mut transports = pinned.map(|(_, t)| t.clone()).unwrap_or_default();
        let told = self.policy.rows.get(node).map(|row| row.pinned.as_slice());
        transports.extend(told.unwrap_or_default().iter().cloned());
        if let Some((_, checked)) = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref()) {
            transports.extend(checked.addresses.transports.iter().cloned());
        }
        transports.retain(|transport| !transport.multiaddrs.is_empty());
        (!transports.is_empty()).then_some(transports)
    }

    /// True for a node that says itself that nobody can dial it: it dials its custodians, and those to
    /// whom it has something to say.
    pub(crate) fn is_hidden(&self, node: &NodeId) -> bool {
        let is_known = self.peers.get(node).is_some_and(|peer| peer.descriptor.is_some());
        is_known && self.transports_of(node).is_none()
    }

    /// Tries to reach a peer, unless that is under way or not yet due.
    pub(crate) fn reach(&mut self, node: &NodeId) {
        let node = &self.way_of(node);
        let now_ms = self.now_ms;
        let transports = self.transports_of(node);
        let may_send = self.may_send(node);
        let Some(peer) = self.peers.get_mut(node) else { return };
        let is_under_way = peer.retry.dialing_until_ms.is_some_and(|until| until > now_ms);
        let is_due = peer.retry.next_ms.is_none_or(|next| next <= now_ms);
        // Without a descriptor of our own we could not greet; `on_listening` comes back to this.
        let is_mute = self.draining || self.own.current().is_none();
        if peer.link.is_some() || is_under_way || !is_due || !may_send || is_mute {
            return;
        }
        peer.retry.dialing_until_ms = Some(now_ms + DIAL_MS_MAX);
        peer.retry.next_ms = Some(now_ms + DIAL_MS_MAX);
        // After a failure the node may have moved: ask the DHT first, then dial what is newest.
        match transports {
            Some(transports) if peer.retry.failures % 2 == 0 => {
                self.effects.push_back(Effect::Dial { node: *node, transports });
            }
            Some(_) | None => self.effects.push_back(Effect::Lookup { node: *node }),
        }
    }

    pub(crate) fn on_dial_failed(&mut self, node: &NodeId) {
        let chance = u32::from_be_bytes(self.random());
        let now_ms = self.now_ms;
        if let Some(peer) = self.peers.get_mut(node)
            && peer.link.is_none()
        {
            let silent_ms = now_ms.saturating_sub(peer.seen_ms);
            peer.retry.failed(now_ms, silent_ms, chance);
            peer.conduct.counts.dials_failed += 1;
            self.batch.peers.insert(*node);
        }
        self.restart_offers(node);
        self.hurry_fetches(node);
    }
}
