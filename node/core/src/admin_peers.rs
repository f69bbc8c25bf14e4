//! What an administrator says of other nodes, and what he is shown of them. What it means is in
//! `policy.rs`.

use tidings_protocol::{
    custody::Consent,
    id::{Eid, NodeId},
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, Effect, PeerDetail, PeerStatus},
    event::PeerChange,
    peer::Peer,
    policy::Stand,
    retry::Retry,
    schema::{self, LimitsRow, OUT, OutRow, PolicyRow},
};

/// Longest note, in bytes.
const NOTE_BYTES_MAX: usize = 200;

impl Core {
    /// Changes how this node deals with another one.
    pub(crate) fn change_peer(
        &mut self,
        node: NodeId,
        change: PeerChange,
        note: String,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if let Some(why) = self.refuses_change(&node, &change, &note) {
            return Ok(AdminReply::Refused(why));
        }
        let is_kept_out = matches!(change, PeerChange::Deny);
        if !is_kept_out {
            self.peer_number(&node, txn)?;
        }
        let now_ms = self.now_ms;
        match change {
            PeerChange::Allow => {
                let row = self.policy_row(&node);
                (row.stand, row.since_ms, row.note) = (Some(Stand::Allowed), now_ms, note);
                row.retired_ms = None;
                self.retry_now(&node);
            }
            PeerChange::Deny => {
                let row = self.policy_row(&node);
                (row.stand, row.since_ms, row.note) = (Some(Stand::Denied), now_ms, note);
            }
            PeerChange::Pause => self.policy_row(&node).paused = true,
            PeerChange::Resume => self.policy_row(&node).paused = false,
            PeerChange::Retire => self.policy_row(&node).retired_ms = Some(now_ms),
            PeerChange::RetryNow => self.retry_now(&node),
            PeerChange::Limit(limits) => {
                self.policy_row(&node).limits = (limits != LimitsRow::NONE).then_some(limits);
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.rates = None;
                }
            }
            PeerChange::Pin(transports) => {
                for transport in &transports {
                    self.effects.push_back(Effect::Pin { transport: transport.clone() });
                }
                let row = self.policy_row(&node);
                (row.stand, row.since_ms) = (Some(Stand::Allowed), now_ms);
                row.retired_ms = None;
                if !transports.is_empty() {
                    row.pinned = transports;
                }
                self.retry_now(&node);
            }
        }
        self.enforce(&node);
        self.batch.peers.insert(node);
        Ok(AdminReply::Done)
    }

    fn refuses_change(&self, node: &NodeId, change: &PeerChange, note: &str) -> Option<String> {
        if *node == self.node {
            return Some("that is this node itself".to_owned());
        }
        if note.len() > NOTE_BYTES_MAX {
            return Some(format!("a note has at most {NOTE_BYTES_MAX} bytes"));
        }
        if !matches!(change, PeerChange::RetryNow) {
            return None;
        }
        if !self.peers.contains_key(node) {
            return Some("there is no such peer: `tidings admin peers list` shows all".to_owned());
        }
        (!self.may_send(node)).then(|| {
            format!(
                "nothing is sent to that node, which is {}: `tidings admin peers show` says more",
                self.standing(node).name()
            )
        })
    }

    /// All peers that there is something for are tried at once.
    pub(crate) fn retry_all(&mut self) -> AdminReply {
        let wanted = |(node, peer): &(&NodeId, &Peer)| peer.link.is_none() && self.wants(node);
        let wanted: Vec<NodeId> = self.peers.iter().filter(wanted).map(|(node, _)| *node).collect();
        for node in &wanted {
            self.retry_now(node);
            self.batch.peers.insert(*node);
        }
        AdminReply::Tried(wanted.len() as u64)
    }

    fn retry_now(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node).filter(|peer| peer.link.is_none()) {
            peer.retry = Retry::default();
            peer.refuses_us = None;
        }
    }

    /// All peers, and those of which only something was said.
    pub(crate) fn peer_statuses(&self, txn: &dyn Txn) -> Result<Vec<PeerStatus>, StoreError> {
        let mut statuses = Vec::with_capacity(self.peers.len());
        for (node, peer) in &self.peers {
            statuses.push(self.peer_status(node, peer, txn)?);
        }
        let stranger = Peer::default();
        for node in self.policy.rows.keys().filter(|node| !self.peers.contains_key(node)) {
            statuses.push(self.peer_status(node, &stranger, txn)?);
        }
        Ok(statuses)
    }

    fn peer_status(
        &self,
        node: &NodeId,
        peer: &Peer,
        txn: &dyn Txn,
    ) -> Result<PeerStatus, StoreError> {
        let first: Option<(u64, Eid)> = if peer.waiting() == 0 {
            None
        } else {
            let from = peer.owed.first().copied().unwrap_or(peer.passed);
            Self::outbox_eids(txn, peer.number, from, 1)?.into_iter().next()
        };
        let oldest = match first {
            Some((_, eid)) => schema::get::<OutRow>(txn, OUT, eid.as_bytes())?,
            None => None,
        };
        let multiaddrs = peer.descriptor.as_ref().map(|(_, known)| {
            known.addresses.transports.iter().flat_map(|t| t.multiaddrs.clone()).collect()
        });
        Ok(PeerStatus {
            node: *node,
            standing: self.standing(node),
            score: peer.conduct.score(self.now_ms),
            connected: peer.link.is_some(),
            link: peer.link,
            queued: peer.queued,
            queued_bytes: peer.queued_bytes,
            waiting: peer.waiting(),
            oldest_ms: oldest.map(|row| row.accepted_ms),
            dead: peer.dead.len(),
            dead_oldest_ms: peer.dead.oldest_ms(),
            statements: peer.statements,
            in_custody: peer.held,
            consent_rows: self.consent_rows(node, txn)?,
            failures: peer.retry.failures,
            next_try_ms: peer.retry.next_ms.filter(|_| peer.link.is_none() && self.may_send(node)),
            seen_ms: (peer.seen_ms > 0).then_some(peer.seen_ms),
            record_ms: peer.descriptor.as_ref().map(|(_, known)| known.addresses.serial),
            multiaddrs: multiaddrs.unwrap_or_default(),
            via: self.routes.next_hop(node),
            refusal: peer.refusal,
            passing: peer.passing,
            inbox: peer.inbox,
            inbox_bytes: peer.inbox_bytes,
        })
    }

    /// Everything that is known of one node.
    pub(crate) fn peer_detail(
        &self,
        node: &NodeId,
        txn: &dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let stranger = Peer::default();
        let peer = self.peers.get(node);
        let policy = self.policy.rows.get(node);
        if peer.is_none() && policy.is_none() {
            let why = "there is no such peer: `tidings admin peers list` shows all";
            return Ok(AdminReply::Refused(why.to_owned()));
        }
        let peer = peer.unwrap_or(&stranger);
        let known = peer.descriptor.as_ref().map(|(_, known)| known);
        Ok(AdminReply::Peer(Box::new(PeerDetail {
            status: self.peer_status(node, peer, txn)?,
            policy: policy.cloned().unwrap_or(PolicyRow::EMPTY),
            state: known.map(|known| known.addresses.state),
            refuses_us: peer.refuses_us,
            incarnation: peer.incarnation,
            delegation_ms: known.map(|known| known.delegation.serial),
            custodians: known.map(|k| k.delegation.custodians.clone()).unwrap_or_default(),
            limits: self.limits_of(node),
            counts: peer.conduct.counts,
            left_alone_until_ms: self.is_left_alone(node).then_some(peer.conduct.until_ms),
            domains: known.map(|known| known.delegation.domains.clone()).unwrap_or_default(),
        })))
    }

    /// What a custodian of ours consents to hold, in envelopes.
    fn consent_rows(&self, node: &NodeId, txn: &dyn Txn) -> Result<Option<u64>, StoreError> {
        if !self.custodians.contains(node) {
            return Ok(None);
        }
        let consent: Option<Signed<Consent>> = schema::get(txn, schema::CONSENTS, node.as_bytes())?;
        Ok(Some(consent.and_then(|consent| consent.peek().ok()).map_or(0, |consent| consent.rows)))
    }
}
