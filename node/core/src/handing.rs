//! What waits for a node that is away is handed to its custodians: first by id, and then what they
//! have not. Each look is an audit too, so what a custodian has lost is found missing. Ends no copy:
//! that takes the destination's word, which is asked when it is back.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    custody::Origin,
    descriptor::NodeState,
    envelope::EnvelopeHead,
    id::{CopyId, Eid, NodeId},
    limits,
    peer_frame::{Forward, Offer, PeerFrame},
    refusal::{Refusal, RefusalCode},
    sealed::SealedTargets,
    statement::{Claim, Proof, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    event::LinkId,
    peer::Sent,
    schema::{self, OUT, OUTBOX, OutRow, OutboxRow, lsn_of, peer_key, range_from},
    settings::Sabotage,
};

/// Attempts in vain after which a node counts as away.
const FAILURES_MIN: u32 = 3;
/// Custodians of one node that are used from the start.
const CUSTODIANS_MIN: usize = 2;
/// After each hour one more is used: if all those before lie, one that does not comes to its turn.
const ONE_MORE_MS: u64 = 3600 * 1000;
/// All is offered again after this time, and then ever more rarely.
const AGAIN_MS: u64 = 60 * 1000;
/// Longest time between two offers of everything.
const AGAIN_MS_MAX: u64 = 6 * 3600 * 1000;
/// How long a custodian may take to answer an offer.
const ANSWER_MS_MAX: u64 = 30 * 1000;
/// How long a custodian is left alone that gives no time itself, or that did not answer.
const PAUSE_MS: u64 = 60 * 1000;
/// How long one is left alone that refuses for good: an agreement may be made meanwhile.
const REFUSED_MS: u64 = 3600 * 1000;
/// Envelopes forwarded in one batch: about a megabyte of usual ones, under one signature.
const FORWARD_ROWS: usize = 64;
/// Nodes between us and the absent one: the custodian alone.
const HOPS: u8 = 1;

/// Everything that is being handed over.
#[derive(Debug, Default)]
pub(crate) struct Handings {
    absent: BTreeMap<NodeId, Handing>,
    /// Custodians in use, so that links to them are held.
    hosts: BTreeSet<NodeId>,
}

/// What is handed to the custodians of one absent node.
#[derive(Debug)]
struct Handing {
    since_ms: u64,
    used: Vec<NodeId>,
    offers: BTreeMap<NodeId, Offers>,
}

/// What is offered to one custodian for one absent node.
#[derive(Debug)]
struct Offers {
    /// Next row of the outbox to offer.
    cursor: u64,
    /// The page that waits for its answer, and until when.
    page: BTreeMap<Eid, u64>,
    page_until_ms: u64,
    /// Rows that the custodian wants.
    wanted: BTreeSet<u64>,
    /// Nothing is offered before.
    paused_until_ms: u64,
    /// When all is offered again.
    again_ms: u64,
    interval_ms: u64,
    /// There may be more to offer at once.
    is_behind: bool,
}

impl Offers {
    const fn starting_at(now_ms: u64) -> Self {
        Self {
            cursor: 0,
            page: BTreeMap::new(),
            page_until_ms: 0,
            wanted: BTreeSet::new(),
            paused_until_ms: 0,
            again_ms: now_ms + AGAIN_MS,
            interval_ms: AGAIN_MS,
            is_behind: false,
        }
    }

    fn deadline(&self) -> u64 {
        let next_ms = if !self.page.is_empty() {
            self.page_until_ms
        } else if self.is_behind && self.wanted.is_empty() {
            0
        } else {
            self.again_ms
        };
        next_ms.max(self.paused_until_ms)
    }

    /// The link is gone, and with it what was under way.
    fn unlink(&mut self) {
        self.page.clear();
        self.wanted.clear();
        (self.cursor, self.is_behind) = (0, true);
        self.paused_until_ms = 0;
    }
}

impl Handings {
    pub(crate) fn wants(&self, custodian: &NodeId) -> bool {
        self.hosts.contains(custodian)
    }

    fn count_hosts(&mut self) {
        self.hosts = self.absent.values().flat_map(|handing| handing.used.clone()).collect();
    }

    /// The absent nodes for which a custodian is used.
    fn of(&self, custodian: &NodeId) -> Vec<NodeId> {
        if !self.hosts.contains(custodian) {
            return Vec::new();
        }
        let uses = |handing: &Handing| handing.offers.contains_key(custodian);
        self.absent.iter().filter(|(_, h)| uses(h)).map(|(absent, _)| *absent).collect()
    }

    fn offers_mut(&mut self, absent: &NodeId, custodian: &NodeId) -> Option<&mut Offers> {
        self.absent.get_mut(absent)?.offers.get_mut(custodian)
    }
}

impl Core {
    /// The custodians that a node's newest delegation names, in its order.
    pub(crate) fn custodians_of(&self, node: &NodeId) -> &[NodeId] {
        self.delegation_by(node).map_or(&[], |known| known.custodians.as_slice())
    }

    /// True for a node that has said that it stops, that could not be reached three times, or that
    /// nobody can dial.
    fn is_absent(&self, node: &NodeId) -> bool {
        let is_hidden = self.is_hidden(node);
        self.peers.get(node).is_some_and(|peer| {
            let state = peer.descriptor.as_ref().map(|(_, known)| known.addresses.state);
            let is_stopping = peer.is_leaving || state == Some(NodeState::Draining);
            let is_away = is_hidden || is_stopping || peer.retry.failures >= FAILURES_MIN;
            peer.link.is_none() && is_away
        })
    }

    /// Offers what waits for an absent node to its custodians.
    pub(crate) fn pump_custody(
        &mut self,
        absent: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        // Most nodes have none, and are found out here.
        let own_rows =
            self.peers.get(absent).map_or(0, |peer| peer.queued.saturating_sub(peer.held));
        let is_due = own_rows > 0 && !self.custodians_of(absent).is_empty();
        if !is_due || self.draining || !self.is_absent(absent) {
            self.end_handing(absent);
            return Ok(());
        }
        for custodian in self.use_custodians(absent) {
            match self.peers.get(&custodian).and_then(|peer| peer.link) {
                Some(link) => self.hand_over(absent, &custodian, link, txn)?,
                None => self.reach_custodian(&custodian, txn)?,
            }
        }
        Ok(())
    }

    fn reach_custodian(&mut self, custodian: &NodeId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.peer_number(custodian, txn)?;
        self.reach(custodian);
        Ok(())
    }

    /// Which custodians are used now: those that can be reached first.
    fn use_custodians(&mut self, absent: &NodeId) -> Vec<NodeId> {
        let now_ms = self.now_ms;
        let mut named: Vec<NodeId> = self
            .custodians_of(absent)
            .iter()
            .filter(|named| **named != self.node && *named != absent && self.may_send(named))
            // One that is spoken to through another takes nothing from us itself.
            .filter(|named| self.routes.next_hop(named).is_none())
            .copied()
            .collect();
        let handing = self.handings.absent.get(absent);
        named.sort_by_key(|named| {
            let peer = self.peers.get(named);
            let is_used = handing.is_some_and(|handing| handing.offers.contains_key(named));
            let failures = peer.map_or(0, |peer| peer.retry.failures);
            (peer.is_none_or(|peer| peer.link.is_none()), failures.min(FAILURES_MIN), !is_used)
        });
        let since_ms = handing.map_or(now_ms, |handing| handing.since_ms);
        let hours = usize::try_from(now_ms.saturating_sub(since_ms) / ONE_MORE_MS).unwrap_or(0);
        named.truncate(CUSTODIANS_MIN.saturating_add(hours));
        let handing = self.handings.absent.entry(*absent).or_insert_with(|| Handing {
            since_ms,
            used: Vec::new(),
            offers: BTreeMap::new(),
        });
        for custodian in &named {
            handing.offers.entry(*custodian).or_insert_with(|| Offers::starting_at(now_ms));
        }
        if handing.used != named {
            handing.used.clone_from(&named);
            self.handings.count_hosts();
        }
        named
    }

    fn hand_over(
        &mut self,
        absent: &NodeId,
        custodian: &NodeId,
        link: LinkId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        self.forward_wanted(absent, custodian, link, txn)?;
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(absent) else { return Ok(()) };
        let prefix = peer.number.to_be_bytes();
        let Some(offers) = self.handings.offers_mut(absent, custodian) else { return Ok(()) };
        if !offers.page.is_empty() && offers.page_until_ms <= now_ms {
            let first = offers.page.values().min().copied().unwrap_or(0);
            offers.page.clear();
            offers.cursor = offers.cursor.min(first);
            offers.paused_until_ms = now_ms + PAUSE_MS;
        }
        if offers.again_ms <= now_ms {
            offers.cursor = 0;
            offers.interval_ms = (offers.interval_ms * 2).min(AGAIN_MS_MAX);
            offers.again_ms = now_ms + offers.interval_ms;
        }
        let is_waiting = !offers.page.is_empty() || !offers.wanted.is_empty();
        if is_waiting || offers.paused_until_ms > now_ms {
            return Ok(());
        }
        let rows = range_from(txn, OUTBOX, &prefix, offers.cursor, limits::OFFER_EIDS_MAX)?;
        offers.is_behind = rows.len() == limits::OFFER_EIDS_MAX;
        for (key, bytes) in rows {
            let row: OutboxRow = schema::decode(&bytes)?;
            let lsn = lsn_of(&key);
            offers.cursor = lsn + 1;
            peer.pass(lsn);
            // What others have handed to us is not handed on: no loops.
            if !row.held && !peer.dead.contains(lsn) {
                offers.page.insert(row.eid, lsn);
            }
        }
        self.batch.peer_rows.insert(*absent);
        if offers.page.is_empty() {
            return Ok(());
        }
        offers.page_until_ms = now_ms + ANSWER_MS_MAX;
        let eids = offers.page.keys().copied().collect();
        self.tell_peer(link, PeerFrame::Offer(Offer { destination: *absent, eids }));
        Ok(())
    }

    /// Forwards what a custodian wants, within its window, under one signature.
    fn forward_wanted(
        &mut self,
        absent: &NodeId,
        custodian: &NodeId,
        link: LinkId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let number = self.peers.get(absent).map_or(0, |peer| peer.number);
        let room = self.peers.get(custodian).map_or(0, crate::peer::Peer::room);
        let Some(offers) = self.handings.offers_mut(absent, custodian) else { return Ok(()) };
        let due: Vec<u64> = offers.wanted.iter().copied().take(room.min(FORWARD_ROWS)).collect();
        let mut rows = Vec::with_capacity(due.len());
        for lsn in due {
            offers.wanted.remove(&lsn);
            let row = schema::get::<OutboxRow>(txn, OUTBOX, &peer_key(number, lsn))?;
            let Some(row) = row else { continue };
            let Some(out) = schema::get::<OutRow>(txn, OUT, row.eid.as_bytes())? else { continue };
            rows.push((lsn, row, out));
        }
        let origins =
            self.prove_origin(rows.iter().map(|(_, row, out)| (row.eid, out.accepted_ms)));
        for ((lsn, row, out), origin) in rows.into_iter().zip(origins) {
            let PeerFrame::Deliver(head) = schema::decode(&row.frame)? else {
                return Err(StoreError::corrupt("an own envelope that is not delivered as one"));
            };
            let copies = out.copies.iter().map(|copy| copy.copy).collect();
            if let Some(forward) = self.seal(head, &row.eid, copies, origin, HOPS) {
                self.forward(absent, custodian, link, lsn, row, forward);
            }
        }
        Ok(())
    }

    /// Proofs that we have accepted these envelopes, at these times, under one signature.
    pub(crate) fn prove_origin(
        &mut self,
        accepted: impl Iterator<Item = (Eid, u64)>,
    ) -> Vec<Origin> {
        let statement = |(eid, at_ms)| Statement {
            claim: Claim::Accepted,
            eid,
            copy: None,
            at_ms,
            reason: None,
            until_ms: None,
        };
        let statements: Vec<Statement> = accepted.map(statement).collect();
        let Some(proof) = self.sign(&statements) else { return Vec::new() };
        let origin = |leaf| Origin {
            accepted: Proof {
                root: proof.root.clone(),
                signature: proof.signature,
                leaves: vec![leaf],
            },
            delegation: self.settings.delegation.clone(),
        };
        proof.leaves.clone().into_iter().map(origin).collect()
    }

    /// An own envelope as it goes through others: its targets sealed to the destination. `None` when
    /// that one has no usable key.
    pub(crate) fn seal(
        &mut self,
        head: EnvelopeHead,
        eid: &Eid,
        copies: Vec<CopyId>,
        origin: Origin,
        hops_left: u8,
    ) -> Option<Forward> {
        let EnvelopeHead { header, targets } = head;
        let key = self.delegation_by(&header.destination).map(|known| known.sealing)?;
        let targets = SealedTargets::seal(&targets, &header, eid, &key, &mut self.rng).ok()?;
        Some(Forward { header, copies, targets, origin, hops_left })
    }

    fn forward(
        &mut self,
        absent: &NodeId,
        custodian: &NodeId,
        link: LinkId,
        lsn: u64,
        row: OutboxRow,
        forward: Forward,
    ) {
        let at_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(custodian) else { return };
        if peer.inflight.contains(&row.eid) {
            return;
        }
        let weight = row.frame.len() + row.shared.len();
        let sent = Sent { lsn, at_ms, absent: Some(*absent), is_routed: false };
        peer.inflight.insert(row.eid, sent, weight);
        peer.patience.sent(at_ms);
        let frame = PeerFrame::Forward(forward);
        self.effects.push_back(Effect::ToPeer { link, frame, body: row.shared });
    }

    /// A custodian says what of an offer it wants. Without a refusal it says that it has the others.
    pub(crate) fn on_wanted(
        &mut self,
        custodian: &NodeId,
        absent: &NodeId,
        refusal: Option<&Refusal>,
        eids: &[Eid],
    ) {
        let now_ms = self.now_ms;
        let Some(offers) = self.handings.offers_mut(absent, custodian) else { return };
        let mut page = core::mem::take(&mut offers.page);
        offers.wanted.extend(eids.iter().filter_map(|eid| page.remove(eid)));
        if let Some(refusal) = refusal {
            offers.paused_until_ms = now_ms + pause_ms(refusal);
            let left = page.values().min().copied().unwrap_or(u64::MAX);
            offers.cursor = offers.cursor.min(left);
            page.clear();
        }
        for lsn in page.into_values() {
            self.note_held(absent, lsn);
        }
        self.batch.peer_rows.insert(*absent);
        self.batch.peers.insert(*absent);
    }

    /// A custodian has answered a forwarded envelope.
    pub(crate) fn on_forwarded(
        &mut self,
        custodian: &NodeId,
        absent: &NodeId,
        lsn: u64,
        refusal: Option<&Refusal>,
    ) {
        let now_ms = self.now_ms;
        match refusal {
            None => self.note_held(absent, lsn),
            // Too old for this custodian, which says nothing of the others.
            Some(refusal) if refusal.code == RefusalCode::Expired => {}
            Some(refusal) => {
                if let Some(offers) = self.handings.offers_mut(absent, custodian) {
                    offers.paused_until_ms = now_ms + pause_ms(refusal);
                    offers.cursor = offers.cursor.min(lsn);
                }
            }
        }
        self.batch.peers.insert(*absent);
    }

    /// What a custodian says that it holds is not sent again when the node is back, but asked for.
    fn note_held(&mut self, absent: &NodeId, lsn: u64) {
        if self.routes.next_hop(absent).is_some() {
            return;
        }
        let Some(peer) = self.peers.get_mut(absent) else { return };
        peer.owed.remove(&lsn);
        // What others have handed to us lies between, and is on its way as soon as the node is back.
        if peer.held > 0 || peer.link.is_some() {
            return;
        }
        peer.entrusted = Some(peer.entrusted.map_or(lsn, |lowest| lowest.min(lsn)));
        if lsn >= peer.cursor {
            peer.cursor = lsn + 1;
            peer.fall_behind();
        }
        peer.sent = peer.sent.max(lsn);
        self.batch.peer_rows.insert(*absent);
    }

    /// A link to a node is up: nothing more is handed to its custodians, and it is asked, a little
    /// later, what they have brought. As a custodian it is offered everything anew.
    pub(crate) fn handing_linked(&mut self, node: &NodeId) {
        let now_ms = self.now_ms;
        let trusts = self.is_sabotaged(Sabotage::TrustCustodians);
        self.end_handing(node);
        if let Some(peer) = self.peers.get_mut(node) {
            peer.is_leaving = false;
            if !trusts && let Some(lowest) = peer.entrusted.take() {
                peer.audits.handed(lowest, now_ms);
            }
        }
        self.restart_offers(node);
    }

    /// A custodian's link is gone, or new.
    pub(crate) fn restart_offers(&mut self, custodian: &NodeId) {
        for absent in self.handings.of(custodian) {
            if let Some(offers) = self.handings.offers_mut(&absent, custodian) {
                offers.unlink();
            }
            self.batch.peers.insert(absent);
        }
    }

    pub(crate) fn end_handing(&mut self, absent: &NodeId) {
        if self.handings.absent.remove(absent).is_some() {
            self.handings.count_hosts();
        }
    }

    /// Offers that are due.
    pub(crate) fn tick_handings(&mut self) {
        let now_ms = self.now_ms;
        let due: Vec<NodeId> = self
            .handings
            .absent
            .iter()
            .filter(|(_, handing)| self.handing_deadline(handing).is_some_and(|ms| ms <= now_ms))
            .map(|(absent, _)| *absent)
            .collect();
        self.batch.peers.extend(due);
    }

    pub(crate) fn handings_deadline(&self) -> Option<u64> {
        self.handings.absent.values().filter_map(|handing| self.handing_deadline(handing)).min()
    }

    fn handing_deadline(&self, handing: &Handing) -> Option<u64> {
        let is_linked = |node: &NodeId| self.peers.get(node).is_some_and(|p| p.link.is_some());
        let linked = handing.used.iter().filter(|node| is_linked(node));
        linked.filter_map(|node| handing.offers.get(node).map(Offers::deadline)).min()
    }
}

fn pause_ms(refusal: &Refusal) -> u64 {
    if refusal.code.may_retry() { refusal.after_ms.unwrap_or(PAUSE_MS).max(1) } else { REFUSED_MS }
}
