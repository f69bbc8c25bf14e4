//! Passing on for others, by agreement: whose envelopes, how many of them, and never in a circle. What
//! is passed on is kept as a custodian keeps it (`custody.rs`), and goes on by our own routes, as all
//! that is owed to a node does (`outbox.rs`).

use std::collections::BTreeMap;

use tidings_protocol::{
    device_list::DeviceList,
    envelope::Header,
    id::{Eid, Hash, NodeId, hash},
    peer_frame::{NewerListsFor, PeerFrame},
    refusal::RefusalCode,
    sealed::SealedTargets,
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    custody::ROUTE_AFTER_MS,
    event::{LinkId, PassingEnvelope},
    policy::{Act, Verdict},
    schema::{self, OUT, OUTBOX, OutRow, OutboxRow, peer_key},
    settings::{CustodyTerms, Sabotage},
    space::Asker,
};

/// Envelopes that are remembered as spoiled. The oldest is forgotten first, and found out once more.
const SPOILED_MAX: usize = 1_024;
/// Ways that are remembered as closed: each is one origin's way to one destination.
const CLOSED_MAX: usize = 1_024;

/// Ways on which next hops have sent something back because of routes.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    /// By destination and origin.
    ways: BTreeMap<(NodeId, NodeId), ClosedWay>,
    /// What could not be opened at the end of the way: the hash of its sealed targets, and why.
    spoiled: BTreeMap<Eid, (Hash, RefusalCode)>,
}

#[derive(Debug)]
struct ClosedWay {
    code: RefusalCode,
    /// What may be handed on more often than this has not been tried.
    hops_left: u8,
    until_ms: u64,
}

impl Closed {
    fn close(&mut self, way: (NodeId, NodeId), closed: ClosedWay, now_ms: u64) {
        if self.ways.len() >= CLOSED_MAX {
            self.ways.retain(|_, known| known.until_ms > now_ms);
        }
        if self.ways.len() >= CLOSED_MAX {
            self.ways.pop_first();
        }
        self.ways.insert(way, closed);
    }

    fn spoil(&mut self, eid: Eid, targets: Hash, code: RefusalCode) {
        if self.spoiled.len() >= SPOILED_MAX {
            self.spoiled.pop_first();
        }
        self.spoiled.insert(eid, (targets, code));
    }

    /// The routes to a node have changed.
    pub(crate) fn open(&mut self, destination: &NodeId) {
        self.ways.retain(|(to, _), _| to != destination);
    }
}

/// By which agreement an envelope of others is kept here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agreed {
    /// How much, and how long.
    pub(crate) terms: CustodyTerms,
    /// Passed on, not held for a node that is away: counted to the node that the terms name.
    pub(crate) is_passing: bool,
}

impl Core {
    fn gateway_terms(&self, node: &NodeId) -> Option<CustodyTerms> {
        self.settings.gateway_for.iter().find(|terms| terms.node == *node).copied()
    }

    /// True for a node that our administrator has named: as a next hop, or as one for whom we pass on.
    /// What it brings in the name of others is taken.
    pub(crate) fn is_trusted_hop(&self, node: &NodeId) -> bool {
        self.routes.is_hop(node) || self.gateway_terms(node).is_some()
    }

    /// By which terms something is passed on between two nodes: one of them has to be named.
    pub(crate) fn passing_terms(&self, from: &NodeId, to: &NodeId) -> Option<CustodyTerms> {
        self.gateway_terms(to).or_else(|| self.gateway_terms(from))
    }

    pub(crate) fn is_gateway(&self) -> bool {
        !self.settings.gateway_for.is_empty()
    }

    /// The terms by which an envelope of another node is taken, or why it is not.
    pub(crate) fn terms_for(
        &mut self,
        from: &NodeId,
        header: &Header,
    ) -> Result<Agreed, RefusalCode> {
        let held = if header.origin == *from {
            self.agreement(&header.destination)
        } else {
            // Only the origin hands to custodians.
            Err(RefusalCode::NotAuthorised)
        };
        let Some(terms) = self.passing_terms(&header.origin, &header.destination) else {
            return held.map(|terms| Agreed { terms, is_passing: false });
        };
        if let Ok(terms) = held {
            return Ok(Agreed { terms, is_passing: false });
        }
        if let Verdict::No(code) = self.may(&header.destination, Act::Queue) {
            return Err(code);
        }
        if self.own.retired_ms.is_some() {
            return Err(RefusalCode::Retired);
        }
        if self.draining {
            return Err(RefusalCode::Draining);
        }
        if self.has_no_room_for(Asker::Peer) {
            return Err(RefusalCode::Quota);
        }
        Ok(Agreed { terms, is_passing: true })
    }

    /// Envelopes, and their bytes, that stand here by these terms.
    pub(crate) fn kept_by(&self, agreed: &Agreed, destination: &NodeId) -> (u64, u64) {
        if agreed.is_passing {
            let named = self.peers.get(&agreed.terms.node);
            return named.map_or((0, 0), |peer| (peer.passing, peer.passing_bytes));
        }
        self.peers.get(destination).map_or((0, 0), |peer| (peer.held, peer.held_bytes))
    }

    /// Why an envelope would go in a circle, as far as is seen here: it is ours, or it would go back to
    /// where it came from.
    pub(crate) fn circle(&self, from: &NodeId, header: &Header) -> Option<RefusalCode> {
        if self.is_sabotaged(Sabotage::ForwardBack) {
            return None;
        }
        let way = self.way_of(&header.destination);
        let is_circle = header.origin == self.node || way == *from || way == header.origin;
        is_circle.then_some(RefusalCode::Loop)
    }

    /// Why an envelope would soon come back, by what its next hop has said of those before it.
    pub(crate) fn closed_way(&self, passing: &PassingEnvelope) -> Option<RefusalCode> {
        let header = &passing.forward.header;
        let closed = self.closed.ways.get(&(header.destination, header.origin))?;
        let is_further =
            closed.code == RefusalCode::HopLimit && passing.forward.hops_left > closed.hops_left;
        (closed.until_ms > self.now_ms && !is_further).then_some(closed.code)
    }

    /// What is held cannot be opened at the end of the way: it is sealed to a key that the destination has
    /// replaced, or a hop before us has put something else in its place, which nobody sees who cannot open
    /// it. So it is kept no more, and the same is refused from now on: then the hops before us let it go
    /// too, until one has something else, or the origin finds it missing and seals it again. False for an
    /// own envelope, and for other refusals.
    pub(crate) fn drop_unopened(
        &mut self,
        eid: &Eid,
        code: RefusalCode,
        txn: &mut dyn Txn,
    ) -> Result<bool, StoreError> {
        let is_unopened = matches!(code, RefusalCode::StaleKey | RefusalCode::Malformed);
        let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
        let Some(row) = row.filter(|row| is_unopened && row.account.is_none()) else {
            return Ok(false);
        };
        let held = schema::get::<OutboxRow>(txn, OUTBOX, &peer_key(row.peer, row.lsn))?;
        if let Some(held) = held
            && let PeerFrame::Forward(forward) = schema::decode(&held.frame)?
        {
            self.closed.spoil(*eid, hash_of(&forward.targets), code);
        }
        self.drop_out(eid, txn)?;
        Ok(true)
    }

    /// Why an envelope need not be passed on: what it is sealed in was refused at the end of the way.
    pub(crate) fn spoiled(&self, passing: &PassingEnvelope) -> Option<RefusalCode> {
        let (targets, code) = self.closed.spoiled.get(&passing.eid)?;
        (*targets == hash_of(&passing.forward.targets)).then_some(*code)
    }

    /// A next hop sends back what we pass on, because of routes. It is kept no more: its origin has it,
    /// asks for it, and is told why, so that somebody sees it who can do something. False for what is
    /// our own.
    pub(crate) fn give_back(
        &mut self,
        destination: &NodeId,
        eid: &Eid,
        code: RefusalCode,
        txn: &mut dyn Txn,
    ) -> Result<bool, StoreError> {
        let is_routes_fault = matches!(code, RefusalCode::Loop | RefusalCode::HopLimit);
        let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
        let Some(row) = row.filter(|row| is_routes_fault && row.account.is_none()) else {
            return Ok(false);
        };
        let held = schema::get::<OutboxRow>(txn, OUTBOX, &peer_key(row.peer, row.lsn))?;
        if let Some(held) = held
            && let PeerFrame::Forward(forward) = schema::decode(&held.frame)?
        {
            let way = (*destination, forward.header.origin);
            let (hops_left, until_ms) =
                (forward.hops_left.saturating_add(1), self.now_ms + ROUTE_AFTER_MS);
            self.closed.close(way, ClosedWay { code, hops_left, until_ms }, self.now_ms);
        }
        if let Some(peer) = self.peers.get_mut(destination) {
            peer.refusal = Some(code);
        }
        self.drop_out(eid, txn)?;
        Ok(true)
    }

    /// Who takes an envelope may hand it on so often.
    pub(crate) fn hops_left(&self, passing: &PassingEnvelope) -> Option<u8> {
        let hops_left = passing.forward.hops_left;
        if self.is_sabotaged(Sabotage::NoHopLimit) {
            return Some(hops_left);
        }
        hops_left.checked_sub(1)
    }

    /// An envelope that stands here comes by another way. From its origin it is welcome, and its
    /// statements go there from now on; from anybody else it went in a circle.
    pub(crate) fn on_held_elsewhere(
        &mut self,
        node: &NodeId,
        passing: &PassingEnvelope,
        mut row: OutRow,
        txn: &mut dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        if self.is_sabotaged(Sabotage::ForwardBack) {
            return Ok(None);
        }
        if row.account.is_some() || passing.forward.header.origin != *node {
            return Ok(Some(RefusalCode::Loop));
        }
        row.hop = self.peer_number(node, txn)?;
        schema::put(txn, OUT, passing.eid.as_bytes(), &row)?;
        Ok(None)
    }

    /// Newer device lists than an envelope was sealed for: for the account that wrote it, or for where
    /// it came from. Not kept: who seals for an old list again is told again.
    pub(crate) fn pass_lists(
        &mut self,
        eid: &Eid,
        lists: Vec<Signed<DeviceList>>,
        txn: &dyn Txn,
    ) -> Result<(), StoreError> {
        let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
        let Some(row) = row.filter(|_| !lists.is_empty()) else { return Ok(()) };
        if let Some(account) = row.account {
            return self.tell_newer_lists(&account, lists, txn);
        }
        let hop = self.numbers.get(&row.hop).and_then(|hop| self.peers.get(hop));
        if let Some(link) = hop.and_then(|hop| hop.link) {
            self.tell_peer(link, PeerFrame::NewerListsFor(NewerListsFor { eid: *eid, lists }));
        }
        Ok(())
    }

    /// Somebody who has an envelope of ours, or one that we passed on, was told of newer lists.
    pub(crate) fn on_newer_lists(
        &mut self,
        link: LinkId,
        frame: NewerListsFor,
        txn: &dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(node) = self.links.get(&link).and_then(|link| link.node) else { return Ok(()) };
        let row = schema::get::<OutRow>(txn, OUT, frame.eid.as_bytes())?;
        let destination = row.and_then(|row| self.numbers.get(&row.peer).copied());
        let may_know = destination.is_some_and(|destination| {
            self.way_of(&destination) == node || self.custodians_of(&destination).contains(&node)
        });
        if may_know { self.pass_lists(&frame.eid, frame.lists, txn) } else { Ok(()) }
    }
}

/// Tells sealed targets from others of the same envelope.
fn hash_of(targets: &SealedTargets) -> Hash {
    hash("sealed targets", &[&targets.key.0, &targets.sealed])
}
