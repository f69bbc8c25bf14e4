//! The origin asks what became of envelopes that it handed over: first after a minute, then ever
//! more rarely, at once when the peer's store was rolled back or the own process is new. "Unknown"
//! means send again. This heals lying peers, dead disks and restored backups without consensus.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    id::{Eid, NodeId},
    limits,
    peer_frame::{Audit, AuditAnswer, Offer, PeerFrame},
    refusal::Refusal,
    statement::Statement,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    conduct::Offence,
    effect::Observed,
    event::LinkId,
    outbox::RESEND_MAX,
    schema::{self, SEEN, SeenRow},
    settings::Sabotage,
};

/// First audit after an envelope was handed over.
const FIRST_MS: u64 = 60 * 1000;
/// Longest time between two audits of everything.
const INTERVAL_MS_MAX: u64 = 6 * 3600 * 1000;
/// How long a peer may take to answer a page.
const ANSWER_MS_MAX: u64 = 30 * 1000;
/// Envelopes in one page: reading them reads their bodies too.
const PAGE_ROWS: usize = 256;
/// Ways back that wait to be asked after. With more, who waits for them asks again.
const AWAITED_MAX: usize = 4_096;

/// The audits of one peer.
#[derive(Debug)]
pub(crate) struct Audits {
    /// Lowest lsn that was handed over since the last audit, and when its audit is due.
    fresh: Option<(u64, u64)>,
    /// When everything is audited next, in Unix ms.
    all_ms: u64,
    interval_ms: u64,
    /// The audit under way: next lsn, and the last one.
    pass: Option<(u64, u64)>,
    /// After an audit of everything, the ways back: the next lsn.
    ways: Option<u64>,
    /// Ways back that the node before asks after: what comes back may have been lost at a hop.
    awaited: BTreeSet<Eid>,
    /// True while the page is one of ways back.
    is_of_ways: bool,
    /// The page that waits for its answer, and until when.
    page: BTreeMap<Eid, u64>,
    page_until_ms: u64,
    /// False until the first link of this process.
    is_known: bool,
}

impl Default for Audits {
    fn default() -> Self {
        Self {
            fresh: None,
            all_ms: u64::MAX,
            interval_ms: FIRST_MS,
            pass: None,
            ways: None,
            awaited: BTreeSet::new(),
            is_of_ways: false,
            page: BTreeMap::new(),
            page_until_ms: 0,
            is_known: false,
        }
    }
}

impl Audits {
    /// An envelope was handed over.
    pub(crate) fn handed(&mut self, lsn: u64, now_ms: u64) {
        self.fresh = Some(match self.fresh {
            Some((lowest, due_ms)) => (lowest.min(lsn), due_ms),
            None => (lsn, now_ms + FIRST_MS),
        });
        if self.all_ms == u64::MAX {
            self.all_ms = now_ms + FIRST_MS + self.interval_ms;
        }
    }

    /// A link is up. The first one of this process, and one to a store that was rolled back, start
    /// with an audit of all that was ever sent.
    pub(crate) fn linked(&mut self, now_ms: u64, is_new_store: bool, sent: u64) {
        if is_new_store || !self.is_known {
            self.start_all(sent);
            self.interval_ms = FIRST_MS;
            self.all_ms = now_ms + FIRST_MS;
        }
        self.is_known = true;
    }

    const fn start_all(&mut self, sent: u64) {
        self.pass = Some((0, sent));
        self.ways = Some(0);
    }

    /// The link is gone; an audit under way begins again.
    pub(crate) fn unlink(&mut self) {
        if self.is_of_ways && !self.page.is_empty() {
            self.ways = Some(0);
        }
        self.page.clear();
        self.page_until_ms = 0;
        if let Some((next, _)) = &mut self.pass {
            *next = 0;
        }
        if let Some(next) = &mut self.ways {
            *next = 0;
        }
    }

    /// When the next one is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        if !self.page.is_empty() {
            return Some(self.page_until_ms);
        }
        let fresh = self.fresh.map(|(_, due_ms)| due_ms);
        fresh.into_iter().chain((self.all_ms != u64::MAX).then_some(self.all_ms)).min()
    }

    /// Starts a pass that is due.
    fn start(&mut self, now_ms: u64, sent: u64) {
        if self.pass.is_some() {
            return;
        }
        if self.all_ms <= now_ms {
            self.start_all(sent);
            self.interval_ms = (self.interval_ms * 2).min(INTERVAL_MS_MAX);
            self.all_ms = now_ms + self.interval_ms;
            self.fresh = None;
        } else if let Some((lowest, due_ms)) = self.fresh
            && due_ms <= now_ms
        {
            self.pass = Some((lowest, sent));
            self.fresh = None;
        }
    }
}

impl Core {
    /// Asks for the next page, if an audit is due or under way.
    pub(crate) fn pump_audit(
        &mut self,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let (never, trusts) =
            (self.is_sabotaged(Sabotage::NoAudit), self.is_sabotaged(Sabotage::TrustCustodians));
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        if never || (trusts && peer.entrusted.is_some()) {
            peer.audits = Audits::default();
            return Ok(());
        }
        let way = self.way_of(node);
        let Some(link) = self.way_link(node) else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        if !peer.audits.page.is_empty() {
            if peer.audits.page_until_ms > now_ms {
                return Ok(());
            }
            // A peer that does not answer is asked again at the next interval.
            peer.audits.page.clear();
            (peer.audits.pass, peer.audits.ways) = (None, None);
            if peer.audits.all_ms == u64::MAX {
                peer.audits.all_ms = now_ms + peer.audits.interval_ms;
            }
        }
        if !peer.audits.awaited.is_empty() {
            self.pump_awaited(node, link);
            return Ok(());
        }
        peer.audits.start(now_ms, peer.sent);
        while let Some(peer) = self.peers.get(node)
            && let Some((next, last)) = peer.audits.pass
            && peer.resend.len() < RESEND_MAX
        {
            let Some(through) = self.peers.get(&way) else { return Ok(()) };
            let rows = Self::outbox_eids(txn, peer.number, next, PAGE_ROWS)?;
            let is_last = rows.len() < PAGE_ROWS;
            let beyond = rows.last().map_or(u64::MAX, |(lsn, _)| lsn + 1);
            let page: BTreeMap<Eid, u64> = rows
                .into_iter()
                .filter(|(lsn, eid)| {
                    let is_open = through.inflight.contains(eid) || peer.resend.contains_key(lsn);
                    *lsn <= last && !is_open
                })
                .map(|(lsn, eid)| (eid, lsn))
                .collect();
            let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
            peer.audits.pass = (!is_last && beyond <= last).then_some((beyond, last));
            if !page.is_empty() {
                self.ask_page(node, link, page, false);
                return Ok(());
            }
            if peer.audits.pass.is_none() {
                // Nothing is owed, and nothing to come back: no more audits until something is handed over.
                let is_idle = peer.audits.fresh.is_none() && next == 0;
                if is_idle && Self::ways(txn, peer.number, 0, 1)?.is_empty() {
                    peer.audits.all_ms = u64::MAX;
                    peer.audits.interval_ms = FIRST_MS;
                }
            }
        }
        self.pump_ways(node, link, txn)
    }

    /// Asks what became of envelopes that were let go.
    fn pump_ways(&mut self, node: &NodeId, link: LinkId, txn: &dyn Txn) -> Result<(), StoreError> {
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        let Some(next) = peer.audits.ways.filter(|_| peer.audits.pass.is_none()) else {
            return Ok(());
        };
        let ways = Self::ways(txn, peer.number, next, limits::OFFER_EIDS_MAX)?;
        let is_last = ways.len() < limits::OFFER_EIDS_MAX;
        let beyond = ways.last().map(|(lsn, _)| lsn + 1);
        peer.audits.ways = beyond.filter(|_| !is_last);
        if !ways.is_empty() {
            self.ask_page(
                node,
                link,
                ways.into_iter().map(|(lsn, eid)| (eid, lsn)).collect(),
                true,
            );
        }
        Ok(())
    }

    /// Who has handed an envelope to us asks for it, which we have let go: what became of it is asked of
    /// the next one on the way, who may have let it go too.
    pub(crate) fn ask_after(&mut self, destination: &NodeId, eid: Eid) {
        let Some(peer) = self.peers.get_mut(destination) else { return };
        if peer.audits.awaited.len() < AWAITED_MAX {
            peer.audits.awaited.insert(eid);
            self.batch.peers.insert(*destination);
        }
    }

    fn pump_awaited(&mut self, node: &NodeId, link: LinkId) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let mut page = BTreeMap::new();
        while page.len() < limits::OFFER_EIDS_MAX
            && let Some(eid) = peer.audits.awaited.pop_first()
        {
            page.insert(eid, 0);
        }
        self.ask_page(node, link, page, true);
    }

    fn ask_page(
        &mut self,
        node: &NodeId,
        link: LinkId,
        page: BTreeMap<Eid, u64>,
        is_of_ways: bool,
    ) {
        let is_direct = self.way_of(node) == *node;
        let Some(peer) = self.peers.get_mut(node) else { return };
        let eids = page.keys().copied().collect();
        peer.audits.is_of_ways = is_of_ways;
        peer.audits.page = page;
        peer.audits.page_until_ms = self.now_ms + ANSWER_MS_MAX;
        let frame = if is_direct {
            PeerFrame::Audit(Audit { eids })
        } else {
            // A next hop answers for itself: what it has not is offered to it again.
            PeerFrame::Offer(Offer { destination: *node, eids })
        };
        self.tell_peer(link, frame);
    }

    /// A next hop says which of ours it has not, and would take. With a refusal it says nothing of
    /// the others; they are asked for again in the next pass.
    pub(crate) fn on_hop_wants(
        &mut self,
        node: &NodeId,
        refusal: Option<&Refusal>,
        wanted: &[Eid],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        let mut held: Vec<Eid> = peer.audits.page.keys().copied().collect();
        match refusal {
            None => held.retain(|eid| !wanted.contains(eid)),
            Some(refusal) => {
                peer.refusal = Some(refusal.code);
                held.clear();
            }
        }
        self.on_audit_answer(node, &held, wanted, txn)
    }

    /// What became of ours: what is unknown there is sent again.
    pub(crate) fn on_audit_answer(
        &mut self,
        node: &NodeId,
        waiting: &[Eid],
        unknown: &[Eid],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        if peer.audits.is_of_ways {
            let page = core::mem::take(&mut peer.audits.page);
            self.batch.peers.insert(*node);
            let asked = unknown.iter().copied().filter(|eid| page.contains_key(eid));
            return self.forget_ways(node, asked, txn);
        }
        let mut lost = 0;
        for eid in unknown {
            if let Some(lsn) = peer.audits.page.remove(eid)
                && peer.dead.may_send(lsn, now_ms)
            {
                peer.resend.insert(lsn, now_ms);
                if !peer.dead.contains(lsn) {
                    peer.owed.insert(lsn);
                }
                lost += 1;
            }
        }
        let mut taken = Vec::new();
        for eid in waiting {
            let lsn = peer.audits.page.remove(eid);
            taken.extend(lsn.filter(|lsn| peer.dead.contains(*lsn)));
        }
        // What is neither is final there; its statements are on their way.
        peer.audits.page.clear();
        self.batch.peers.insert(*node);
        for lsn in taken {
            self.revive(node, lsn, txn)?;
        }
        for _ in 0..lost {
            self.observe(Observed::AuditUnknown);
            self.blame(node, Offence::AuditUnknown);
        }
        Ok(())
    }

    /// A peer asks what became of its envelopes. Only their origin may ask, and who handed them over.
    pub(crate) fn on_audit(
        &mut self,
        link: LinkId,
        node: &NodeId,
        eids: &[Eid],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let mut answer = AuditAnswer { waiting: Vec::new(), unknown: Vec::new() };
        let number = self.peers.get(node).map(|peer| peer.number);
        for eid in eids.iter().take(limits::AUDIT_EIDS_MAX) {
            let seen = schema::get::<SeenRow>(txn, SEEN, eid.as_bytes())?
                .filter(|seen| number.is_some_and(|n| seen.origin == n || seen.hops.contains(&n)));
            let Some(mut seen) = seen else {
                answer.unknown.push(*eid);
                continue;
            };
            if seen.copies.iter().any(|copy| copy.done.is_none()) {
                answer.waiting.push(*eid);
            }
            self.tell_ends(node, eid, &seen);
            // What came through a custodian goes back to its origin, too, from now on.
            if let Some(number) = number.filter(|number| !seen.hops.contains(number)) {
                seen.hops.push(number);
                schema::put(txn, SEEN, eid.as_bytes(), &seen)?;
            }
        }
        self.tell_peer(link, PeerFrame::AuditAnswer(answer));
        Ok(())
    }

    /// Sends a peer once more what became of the copies that have ended.
    pub(crate) fn tell_ends(&mut self, node: &NodeId, eid: &Eid, seen: &SeenRow) {
        for copy in &seen.copies {
            let Some(ended) = &copy.done else { continue };
            match &ended.proof {
                Some(proof) => self.put_statement(node, proof.clone()),
                None => {
                    let statement = Statement {
                        claim: ended.claim,
                        eid: *eid,
                        copy: Some(copy.copy),
                        at_ms: ended.at_ms,
                        reason: ended.reason,
                        until_ms: None,
                    };
                    self.batch.for_peer.entry(*node).or_default().push(statement);
                }
            }
        }
    }
}
