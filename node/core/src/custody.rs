//! Holding envelopes for nodes that are away, as their custodian; and taking what our own custodians
//! held for us. How a sender's node hands over is in `handing.rs`, how what is held goes on in
//! `outbox.rs`: as everything else that is owed to a peer.

use tidings_protocol::{
    codec,
    custody::{CheckedOrigin, Consent},
    id::{Eid, NodeId},
    limits,
    peer_frame::{Forward, PeerFrame, Wanted},
    refusal::{Refusal, RefusalCode},
    signed::Signed,
    statement::{Claim, Reason, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    accept::NO_ROOM_AFTER_MS,
    effect::Observed,
    event::{LinkId, PassingEnvelope, PreparedEnvelope},
    gateway::Agreed,
    inbox::Hop,
    policy::{Act, Verdict},
    schema::{
        self, CONSENTS, EXPIRY, ExpiryKind, OUT, OUTBOX, OutCopy, OutRow, OutboxRow, SEEN, SeenRow,
        WAYS, expiry_key, peer_key,
    },
    settings::{CustodyTerms, Sabotage},
    space::Asker,
    step::{Stage, Step},
};

/// How soon to try again when routes lead in a circle, or too far: an administrator has to see it.
pub(crate) const ROUTE_AFTER_MS: u64 = 10 * 60_000;

impl Core {
    /// A link to a peer is up: if one half of an agreement with it stands, it is told ours.
    pub(crate) fn tell_consent(&self, node: &NodeId) -> Option<PeerFrame> {
        let is_named = self.custodians_of(node).contains(&self.node);
        if self.custody_terms(node).is_none() && !is_named {
            return None;
        }
        Some(self.consent_for(node))
    }

    /// A custodian of ours says what it is ready to hold.
    pub(crate) fn on_consent(
        &mut self,
        node: &NodeId,
        signed: &Signed<Consent>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let descriptor = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref());
        // Before the signature: only those whom we appointed cost us one.
        let Some((_, known)) = descriptor.filter(|_| self.custodians.contains(node)) else {
            return Ok(());
        };
        let Ok(consent) = signed.open(&known.delegation.operational) else {
            self.observe(Observed::BadStatement);
            return Ok(());
        };
        let held: Option<Signed<Consent>> = schema::get(txn, CONSENTS, node.as_bytes())?;
        let held_ms = held.and_then(|held| held.peek().ok()).map_or(0, |held| held.issued_ms);
        let is_ours = consent.custodian == *node && consent.node == self.node;
        if !is_ours || consent.issued_ms < held_ms {
            return Ok(());
        }
        self.start_push(node, if consent.rows == 0 { 0 } else { consent.users });
        schema::put(txn, CONSENTS, node.as_bytes(), signed)
    }

    /// The terms of the agreement with an absent node, or why nothing is held for it.
    pub(crate) fn agreement(&mut self, absent: &NodeId) -> Result<CustodyTerms, RefusalCode> {
        let terms = self.custody_terms(absent).ok_or(RefusalCode::Refused)?;
        if let Verdict::No(code) = self.may(absent, Act::Queue) {
            return Err(code);
        }
        let is_known = self.peers.get(absent).is_some_and(|peer| peer.descriptor.is_some());
        if !is_known {
            self.reach(absent);
            return Err(RefusalCode::Unreachable);
        }
        if !self.custodians_of(absent).contains(&self.node) {
            return Err(RefusalCode::Refused);
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
        Ok(terms)
    }

    /// A sender's node asks what we would take for an absent node.
    pub(crate) fn on_offer(
        &mut self,
        link: LinkId,
        node: &NodeId,
        destination: NodeId,
        eids: &[Eid],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let mut wanted = Wanted { destination, refusal: None, eids: Vec::new(), delegation: None };
        match self.room_in_offer(node, &destination) {
            Err(code) => wanted.refusal = Some(later(code)),
            Ok(room) => {
                for eid in eids {
                    if let Some(row) = self.held_from(node, eid, txn)? {
                        if row.let_go.is_some() {
                            self.ask_after(&destination, *eid);
                        }
                        continue;
                    }
                    if wanted.eids.len() < room {
                        wanted.eids.push(*eid);
                    } else {
                        wanted.refusal = Some(later(RefusalCode::Quota));
                    }
                }
            }
        }
        if !wanted.eids.is_empty() {
            wanted.delegation = self.signed_delegation_by(&destination).cloned();
        }
        self.tell_peer(link, PeerFrame::Wanted(wanted));
        Ok(())
    }

    /// How many envelopes of an offer would be taken. By which terms each of them is passed on is known
    /// only once it comes, with its origin.
    fn room_in_offer(&mut self, node: &NodeId, destination: &NodeId) -> Result<usize, RefusalCode> {
        if !self.is_gateway() || self.custody_terms(destination).is_some() {
            let terms = self.agreement(destination)?;
            let held = self.peers.get(destination).map_or(0, |peer| peer.held);
            return Ok(usize::try_from(terms.rows.saturating_sub(held)).unwrap_or(usize::MAX));
        }
        if self.way_of(destination) == *node && !self.is_sabotaged(Sabotage::ForwardBack) {
            return Err(RefusalCode::Loop);
        }
        if self.draining {
            return Err(RefusalCode::Draining);
        }
        Ok(limits::OFFER_EIDS_MAX)
    }

    /// The row of an envelope that this very node has handed to us, if we have it, or know that the
    /// destination's store still has.
    fn held_from(
        &self,
        node: &NodeId,
        eid: &Eid,
        txn: &dyn Txn,
    ) -> Result<Option<OutRow>, StoreError> {
        let row = schema::get::<OutRow>(txn, OUT, eid.as_bytes())?;
        let row = row.filter(|row| self.numbers.get(&row.hop) == Some(node));
        Ok(row.filter(|row| self.is_kept(row)))
    }

    /// False for what was let go to a store that was rolled back since.
    fn is_kept(&self, row: &OutRow) -> bool {
        let peer = self.numbers.get(&row.peer).and_then(|node| self.peers.get(node));
        row.let_go.is_none_or(|let_go| peer.is_some_and(|peer| peer.incarnation == Some(let_go)))
    }

    /// An envelope that goes through other nodes: to us, or on to its destination.
    pub(crate) fn on_forward(
        &mut self,
        link: LinkId,
        node: &NodeId,
        passing: &PassingEnvelope,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if self.is_envelope_too_fast(link, node, passing.eid, passing.shared.len()) {
            return Ok(());
        }
        let header = &passing.forward.header;
        let origin = passing.origin.as_ref();
        let origin = origin.filter(|origin| self.is_current(&header.origin, origin));
        let code = if origin.is_none() && !self.is_sabotaged(Sabotage::TakeAnyOrigin) {
            Some(RefusalCode::NotAuthorised)
        } else if header.expires_ms <= self.now_ms {
            Some(RefusalCode::Expired)
        } else if self.is_from_the_future(header.created_ms) {
            Some(RefusalCode::Busy)
        } else {
            None
        };
        match (code, origin) {
            (Some(code), _) => self.refuse_forward(link, passing, code),
            (None, _) if header.destination == self.node => {
                self.take_from_custodian(link, node, passing, txn)
            }
            (None, Some(_)) => self.take_custody(link, node, passing, txn),
            (None, None) => self.refuse_forward(link, passing, RefusalCode::NotAuthorised),
        }
    }

    /// False when the origin had appointed another key before it accepted, as far as we know.
    fn is_current(&self, node: &NodeId, origin: &CheckedOrigin) -> bool {
        let known = self.peers.get(node).and_then(|peer| peer.descriptor.as_ref());
        known.is_none_or(|(_, known)| {
            known.delegation.serial <= origin.delegation.serial
                || origin.accepted_ms < known.delegation.serial
        })
    }

    fn refuse_forward(
        &mut self,
        link: LinkId,
        passing: &PassingEnvelope,
        code: RefusalCode,
    ) -> Result<(), StoreError> {
        self.observe(Observed::Refused(code));
        self.answer_peer(link, passing.eid, Some(later(code)), Vec::new());
        Ok(())
    }

    /// One of our custodians, or a next hop of ours, hands over what it held.
    fn take_from_custodian(
        &mut self,
        link: LinkId,
        custodian: &NodeId,
        passing: &PassingEnvelope,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if !self.custodians.contains(custodian) && !self.is_trusted_hop(custodian) {
            return self.refuse_forward(link, passing, RefusalCode::NotAuthorised);
        }
        if let Some(seen) = self.seen_row(&passing.eid, txn)? {
            self.observe(Observed::Duplicate);
            self.count_duplicate(custodian);
            // It would not ask if it knew: so it can let go at once.
            self.tell_ends(custodian, &passing.eid, &seen);
            self.add_hop(&passing.eid, seen, custodian, txn)?;
            self.answer_peer(link, passing.eid, None, Vec::new());
            return Ok(());
        }
        if self.own.retired_ms.is_some() {
            return self.refuse_forward(link, passing, RefusalCode::Retired);
        }
        match self.may(&passing.forward.header.origin, Act::Take) {
            Verdict::Yes => {}
            Verdict::Later => return self.refuse_forward(link, passing, RefusalCode::Busy),
            // The custodian may let go, and the origin too, once it has this: nothing more comes.
            Verdict::No(code) => {
                let hop = Hop::Peers(vec![*custodian]);
                self.state_own(&hop, Claim::Closed, passing.eid, None, Some(Reason::Policy));
                return self.refuse_forward(link, passing, code);
            }
        }
        let envelope = match &passing.opened {
            Some(Ok(envelope)) if self.is_same(passing, envelope) => envelope,
            Some(Err(code)) => return self.refuse_forward(link, passing, *code),
            Some(Ok(_)) | None => {
                return self.refuse_forward(link, passing, RefusalCode::Malformed);
            }
        };
        if self.draining {
            return self.refuse_forward(link, passing, RefusalCode::Draining);
        }
        if self.has_no_room_for(Asker::Peer)
            || self.is_too_much_from(&passing.forward.header.origin)
            || self.is_any_inbox_full(envelope, txn)?
        {
            return self.refuse_forward(link, passing, RefusalCode::Quota);
        }
        let lists = self.store_envelope(envelope, &Hop::Peers(vec![*custodian]), txn)?;
        self.hear_origin(passing, txn)?;
        self.answer_peer(link, passing.eid, None, lists);
        Ok(())
    }

    /// Who answers an envelope seals it to its origin, which may never have been asked for anything.
    fn hear_origin(
        &mut self,
        passing: &PassingEnvelope,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let origin = passing.forward.header.origin;
        if passing.origin.is_some() {
            self.peer_number(&origin, txn)?;
            self.hear_delegation(&origin, Some(passing.forward.origin.delegation.clone()));
        }
        Ok(())
    }

    /// What was opened is what the origin accepted: anybody can seal something to us.
    fn is_same(&self, passing: &PassingEnvelope, opened: &PreparedEnvelope) -> bool {
        self.is_sabotaged(Sabotage::TakeAnyTargets)
            || (opened.eid == passing.eid && opened.copies == passing.forward.copies)
    }

    /// An envelope came once more, by another way: its statements go there too, from now on.
    pub(crate) fn add_hop(
        &mut self,
        eid: &Eid,
        mut seen: SeenRow,
        node: &NodeId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let number = self.peer_number(node, txn)?;
        if seen.account.is_some() || seen.hops.contains(&number) {
            return Ok(());
        }
        seen.hops.push(number);
        schema::put(txn, SEEN, eid.as_bytes(), &seen)
    }

    /// An envelope for another node: from its origin, because that node is away; or to be passed on.
    fn take_custody(
        &mut self,
        link: LinkId,
        node: &NodeId,
        passing: &PassingEnvelope,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let header = &passing.forward.header;
        let absent = header.destination;
        let code = self.circle(node, header).or_else(|| self.closed_way(passing));
        if let Some(code) = code.or_else(|| self.spoiled(passing)) {
            return self.refuse_forward(link, passing, code);
        }
        let before = schema::get::<OutRow>(txn, OUT, passing.eid.as_bytes())?;
        if let Some(row) = &before {
            if self.numbers.get(&row.hop) != Some(node)
                && let Some(code) = self.on_held_elsewhere(node, passing, row.clone(), txn)?
            {
                return self.refuse_forward(link, passing, code);
            }
            if self.is_kept(row) {
                self.observe(Observed::Duplicate);
                self.answer_peer(link, passing.eid, None, Vec::new());
                return Ok(());
            }
        }
        let Some(hops_left) = self.hops_left(passing) else {
            return self.refuse_forward(link, passing, RefusalCode::HopLimit);
        };
        let agreed = match self.terms_for(node, header) {
            Ok(agreed) => agreed,
            Err(code) => return self.refuse_forward(link, passing, code),
        };
        let life_ms = agreed.terms.life_ms;
        let until_ms = header.expires_ms.min(header.created_ms.saturating_add(life_ms));
        if until_ms <= self.now_ms {
            return self.refuse_forward(link, passing, RefusalCode::Expired);
        }
        let frame = PeerFrame::Forward(Forward { hops_left, ..passing.forward.clone() });
        let row = OutboxRow {
            eid: passing.eid,
            frame: codec::encode(&frame).into(),
            shared: passing.shared.clone(),
            held: true,
        };
        let (rows, bytes) = self.kept_by(&agreed, &absent);
        if rows >= agreed.terms.rows || bytes + row.bytes() > agreed.terms.bytes {
            return self.refuse_forward(link, passing, RefusalCode::Quota);
        }
        let keep = Keep { from: *node, agreed, until_ms, before };
        self.keep_for(keep, passing, &row, txn)?;
        let statement = Statement {
            claim: Claim::Custody,
            eid: passing.eid,
            copy: None,
            at_ms: self.now_ms,
            reason: None,
            until_ms: Some(until_ms),
        };
        self.batch.for_peer.entry(*node).or_default().push(statement);
        self.step(Step::of(Stage::Held, passing.eid, Some(absent)));
        self.observe(Observed::Held);
        self.answer_peer(link, passing.eid, None, Vec::new());
        Ok(())
    }

    fn keep_for(
        &mut self,
        keep: Keep,
        passing: &PassingEnvelope,
        row: &OutboxRow,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if self.is_sabotaged(Sabotage::ForgetCustody) {
            return Ok(());
        }
        let Keep { from, agreed, until_ms, before } = keep;
        let Forward { header, copies, .. } = &passing.forward;
        let absent = header.destination;
        let (peer, hop) = (self.peer_number(&absent, txn)?, self.peer_number(&from, txn)?);
        let by = agreed.is_passing.then_some(agreed.terms.node);
        let agreed = by.map_or(Ok(0), |by| self.peer_number(&by, txn))?;
        let lsn = self.next_lsn(txn);
        schema::put(txn, OUTBOX, &peer_key(peer, lsn), row)?;
        if let Some(before) = &before {
            txn.delete(WAYS, &peer_key(before.peer, before.lsn))?;
        }
        let open = copies.iter().map(|copy| OutCopy { copy: *copy, device: None, done: None });
        let out = OutRow {
            peer,
            lsn,
            hop,
            agreed,
            account: None,
            accepted_ms: self.now_ms,
            expires_ms: until_ms,
            bytes: row.bytes(),
            copies: before.map_or_else(|| open.collect(), |before| before.copies),
            let_go: None,
        };
        schema::put(txn, OUT, passing.eid.as_bytes(), &out)?;
        if until_ms - header.created_ms < limits::MESSAGE_LIFE_MS_MAX {
            txn.put(EXPIRY, &expiry_key(until_ms, ExpiryKind::Out, &passing.eid), &[])?;
        }
        if let Some(peer) = self.peers.get_mut(&absent) {
            peer.queued += 1;
            peer.queued_bytes += row.bytes();
            peer.unsent += 1;
            peer.held += 1;
            peer.held_bytes += row.bytes();
            peer.fall_behind();
        }
        if let Some((by, peer)) = by.and_then(|by| Some((by, self.peers.get_mut(&by)?))) {
            peer.passing += 1;
            peer.passing_bytes += row.bytes();
            self.batch.peer_rows.insert(by);
        }
        self.batch.peer_rows.insert(absent);
        self.batch.peers.insert(absent);
        Ok(())
    }
}

impl OutboxRow {
    /// Its size, as quotas count it.
    pub(crate) fn bytes(&self) -> u64 {
        (self.frame.len() + self.shared.len()) as u64
    }
}

/// How an envelope of others is kept.
#[derive(Debug)]
struct Keep {
    from: NodeId,
    agreed: Agreed,
    until_ms: u64,
    /// The row of the same envelope, when it was let go.
    before: Option<OutRow>,
}

fn later(code: RefusalCode) -> Refusal {
    let is_routes_fault = matches!(code, RefusalCode::Loop | RefusalCode::HopLimit);
    let after_ms = if is_routes_fault { ROUTE_AFTER_MS } else { NO_ROOM_AFTER_MS };
    Refusal { code, after_ms: code.may_retry().then_some(after_ms) }
}
