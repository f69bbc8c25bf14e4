//! What waits to be sent, in which order, and what is on its way: strictly in order per peer, within
//! the window, verbatim until the node has accepted it. How things are sealed is in `seal.rs`.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    client_frame::{Accepted, ClientFrame, Submit},
    id::{Eid, SubmitId},
    limits::{
        CLIENT_WINDOW_BYTES, CLIENT_WINDOW_ENVELOPES, ENVELOPE_BYTES_MAX, ENVELOPES_PER_SUBMIT_MAX,
    },
    refusal::{Refusal, RefusalCode},
    statement::{Claim, Reason},
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Sabotage,
    crypto::Sealer,
    event::{ClientEffect, CloseWhy, Warning},
    machine::{ClientCore, number},
    rows::{CopyRow, OutboxRow, PeerKey, SealedRow},
    schema::{COPIES, OUTBOX, SEALED},
    seal::SealOutcome,
};

/// First pause after a refusal that may pass, doubled each time up to the last.
const PAUSE_FIRST_MS: u64 = 1_000;
const PAUSE_LAST_MS: u64 = 60_000;

/// Order and state of the outbox, in memory; rebuilt from the store.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    last: u64,
    /// Not sealed, and nothing is in the way.
    ready: BTreeMap<u64, PeerKey>,
    /// Sealed, and not accepted in the session of the link.
    resend: BTreeSet<u64>,
    /// Peers whose devices or bundles are not known yet.
    waits: BTreeMap<PeerKey, Wait>,
    /// Not sealed, for one device that cannot be written to before then.
    late: BTreeMap<u64, (PeerKey, u64)>,
    in_flight: BTreeMap<SubmitId, InFlight>,
    envelopes: usize,
    bytes: usize,
    refusals: u32,
    paused_until_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Wait {
    /// Whose bundles are asked for.
    needs: BTreeSet<PeerKey>,
    retry_at_ms: Option<u64>,
    failures: u32,
    seqs: BTreeSet<u64>,
}

#[derive(Debug)]
struct InFlight {
    seq: u64,
    eids: Vec<Eid>,
    bytes: usize,
}

impl Queues {
    /// A number that was never used before in this store: they grow with time.
    pub(crate) const fn number(&mut self, now_ms: u64) -> u64 {
        let timed = now_ms.saturating_mul(1 << 10);
        self.last = if timed > self.last { timed } else { self.last + 1 };
        self.last
    }

    pub(crate) fn restore(&mut self, seq: u64, row: &OutboxRow) {
        self.last = self.last.max(seq);
        if !row.sealed {
            self.ready.insert(seq, row.peer);
        } else if !row.accepted {
            self.resend.insert(seq);
        }
    }

    pub(crate) fn add(&mut self, seq: u64, peer: PeerKey) {
        match self.waits.get_mut(&peer) {
            Some(wait) => {
                wait.seqs.insert(seq);
            }
            None => {
                self.ready.insert(seq, peer);
            }
        }
    }

    pub(crate) fn send_again(&mut self, seq: u64) {
        self.resend.insert(seq);
    }

    pub(crate) fn link_lost(&mut self) {
        let lost = core::mem::take(&mut self.in_flight);
        self.resend.extend(lost.into_values().map(|flight| flight.seq));
        self.envelopes = 0;
        self.bytes = 0;
    }

    pub(crate) fn link_up(&mut self) {
        self.paused_until_ms = None;
        self.refusals = 0;
        for (peer, wait) in core::mem::take(&mut self.waits) {
            self.ready.extend(wait.seqs.into_iter().map(|seq| (seq, peer)));
        }
        self.release_late(u64::MAX);
    }

    fn release_late(&mut self, now_ms: u64) {
        let (due, late): (BTreeMap<_, _>, _) =
            core::mem::take(&mut self.late).into_iter().partition(|(_, (_, at))| *at <= now_ms);
        self.late = late;
        for (seq, (peer, _)) in due {
            self.add(seq, peer);
        }
    }

    fn postpone(&mut self, seq: u64, peer: PeerKey, until_ms: u64) {
        self.ready.remove(&seq);
        self.late.insert(seq, (peer, until_ms));
    }

    fn wait(&mut self, peer: PeerKey, needs: BTreeSet<PeerKey>, retry_at_ms: Option<u64>) {
        let seqs: BTreeSet<u64> =
            self.ready.iter().filter(|(_, p)| **p == peer).map(|(seq, _)| *seq).collect();
        for seq in &seqs {
            self.ready.remove(seq);
        }
        let wait = self.waits.entry(peer).or_default();
        wait.seqs.extend(seqs);
        wait.needs = needs;
        wait.retry_at_ms = retry_at_ms;
    }

    /// The answer about this peer is there, whatever it was: those that needed it go on.
    pub(crate) fn fetched(&mut self, about: &PeerKey) {
        let mut free = Vec::new();
        for (peer, wait) in &mut self.waits {
            wait.needs.remove(about);
            if peer == about || (wait.needs.is_empty() && wait.retry_at_ms.is_none()) {
                free.push(*peer);
            }
        }
        for peer in free {
            self.release(&peer);
        }
    }

    fn release(&mut self, peer: &PeerKey) -> bool {
        let Some(wait) = self.waits.remove(peer) else { return false };
        self.ready.extend(wait.seqs.into_iter().map(|seq| (seq, *peer)));
        true
    }

    pub(crate) fn is_first_failure(&self, about: &PeerKey) -> bool {
        self.failures(about) == 0
    }

    pub(crate) fn failures(&self, about: &PeerKey) -> u32 {
        self.waits.get(about).map_or(0, |wait| wait.failures)
    }

    pub(crate) fn fetch_failed(&mut self, about: &PeerKey, retry_at_ms: u64) {
        for wait in self.waits.values_mut().filter(|wait| wait.needs.contains(about)) {
            wait.failures += 1;
            wait.retry_at_ms = Some(retry_at_ms);
        }
    }

    pub(crate) fn next_retry(&self) -> Option<u64> {
        let waits = self.waits.values().filter_map(|wait| wait.retry_at_ms).min();
        let late = self.late.values().map(|(_, until)| *until).min();
        [waits, late, self.paused_until_ms].into_iter().flatten().min()
    }

    fn waiting(&self, peer: &PeerKey) -> Vec<u64> {
        let waits = self.waits.get(peer).into_iter().flat_map(|wait| wait.seqs.iter().copied());
        let ready = self.ready.iter().filter(|(_, p)| *p == peer).map(|(seq, _)| *seq);
        let late = self.late.iter().filter(|(_, (p, _))| p == peer).map(|(seq, _)| *seq);
        waits.chain(ready).chain(late).collect()
    }

    fn forget(&mut self, seq: u64) {
        self.ready.remove(&seq);
        self.resend.remove(&seq);
        self.late.remove(&seq);
        for wait in self.waits.values_mut() {
            wait.seqs.remove(&seq);
        }
    }

    /// Nothing is to be sealed or sent, and everything that was sent is accepted.
    pub(crate) fn are_empty(&self) -> bool {
        self.ready.is_empty() && self.resend.is_empty() && self.in_flight.is_empty()
    }

    const fn has_room(&self) -> bool {
        // Room for the largest submission, so that the window is never overrun.
        self.envelopes + ENVELOPES_PER_SUBMIT_MAX <= CLIENT_WINDOW_ENVELOPES
            && self.bytes + 2 * ENVELOPE_BYTES_MAX <= CLIENT_WINDOW_BYTES
    }

    fn took_off(&mut self, submit: SubmitId, seq: u64, eids: Vec<Eid>, bytes: usize) {
        self.envelopes += eids.len();
        self.bytes += bytes;
        self.in_flight.insert(submit, InFlight { seq, eids, bytes });
    }

    fn landed(&mut self, submit: &SubmitId) -> Option<InFlight> {
        let flight = self.in_flight.remove(submit)?;
        self.envelopes = self.envelopes.saturating_sub(flight.eids.len());
        self.bytes = self.bytes.saturating_sub(flight.bytes);
        Some(flight)
    }
}

impl<S: Sealer> ClientCore<S> {
    /// Sends what may be sent: first what is sealed, then seals the next.
    pub(crate) fn pump(&mut self, txn: &mut dyn Txn, now_ms: u64) -> Result<(), StoreError> {
        if !self.link.is_up() || self.account.replacement.is_some() {
            return Ok(());
        }
        if self.queues.paused_until_ms.is_some_and(|until| until > now_ms) {
            return Ok(());
        }
        self.queues.paused_until_ms = None;
        while self.queues.has_room() {
            if let Some(seq) = self.queues.resend.pop_first() {
                if let Some(sealed) = self.get::<SealedRow>(txn, SEALED, &seq.to_be_bytes())? {
                    self.submit(txn, seq, sealed);
                    self.counters.resubmissions += 1;
                }
                continue;
            }
            let Some((seq, peer)) = self.queues.ready.first_key_value().map(|(s, p)| (*s, *p))
            else {
                break;
            };
            self.seal_next(txn, now_ms, seq, peer)?;
        }
        Ok(())
    }

    fn seal_next(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        seq: u64,
        peer: PeerKey,
    ) -> Result<(), StoreError> {
        let Some(row) = self.get::<OutboxRow>(txn, OUTBOX, &seq.to_be_bytes())? else {
            self.queues.forget(seq);
            return Ok(());
        };
        match self.seal(txn, now_ms, seq, row.clone())? {
            SealOutcome::Sealed(sealed) => {
                self.queues.ready.remove(&seq);
                self.submit(txn, seq, sealed);
            }
            SealOutcome::Needs(needs) => {
                for need in &needs {
                    self.fetch(txn, *need, true)?;
                }
                self.queues.wait(peer, needs, None);
            }
            SealOutcome::Later(at_ms) => self.queues.wait(peer, BTreeSet::new(), Some(at_ms)),
            SealOutcome::Postponed(until_ms) => self.queues.postpone(seq, peer, until_ms),
            SealOutcome::Held => self.queues.wait(peer, BTreeSet::from([peer]), None),
            SealOutcome::Nothing => self.drop_outbox(txn, seq, &row)?,
            SealOutcome::Never(reason) => {
                self.fail_locally(txn, now_ms, &row, reason)?;
                self.drop_outbox(txn, seq, &row)?;
            }
        }
        Ok(())
    }

    fn submit(&mut self, txn: &mut dyn Txn, seq: u64, sealed: SealedRow) {
        let parts: usize =
            sealed.heads.iter().flat_map(|h| &h.targets).map(|t| t.part.len() + 128).sum();
        let bytes = parts + sealed.shared.len();
        self.queues.took_off(sealed.submit, seq, sealed.eids, bytes);
        let mine = self.own_mark(txn);
        let submit = Submit { submit: sealed.submit, heads: sealed.heads, mine };
        let frame = ClientFrame::Submit(submit);
        self.effect(ClientEffect::ToNode { frame, body: sealed.shared });
    }

    pub(crate) fn on_accepted(
        &mut self,
        txn: &mut dyn Txn,
        accepted: &Accepted,
    ) -> Result<(), StoreError> {
        let Some(session) = self.link.session() else { return Ok(()) };
        let eids = match self.queues.in_flight.get(&accepted.submit) {
            Some(flight) => flight.eids.clone(),
            None => return Ok(()),
        };
        // A tick needs the session that earned it: key and incarnation of this link, and a statement
        // for every envelope.
        let proved = accepted.proof.check().ok().filter(|checked| {
            checked.root.signer.node == Some(self.settings.node)
                && checked.root.signer.key == session.operational
                && (checked.root.incarnation == session.incarnation
                    && checked.root.boot == session.boot
                    || self.is_sabotaged(Sabotage::AcceptAnyIncarnation))
                && eids.iter().all(|eid| {
                    checked
                        .statements
                        .iter()
                        .any(|(s, _)| s.claim == Claim::Accepted && s.eid == *eid)
                })
        });
        let Some(checked) = proved else {
            self.counters.bad_statements += 1;
            self.warn(Warning::BadStatement(Some(Claim::Accepted)));
            self.close(CloseWhy::Broke);
            return Ok(());
        };
        let Some(flight) = self.queues.landed(&accepted.submit) else { return Ok(()) };
        self.queues.refusals = 0;
        self.node.mark = Some(accepted.mark.clone());
        self.node_dirty = true;
        for (statement, proof) in &checked.statements {
            self.apply_statement(txn, statement, proof, &checked.root)?;
        }
        let key = flight.seq.to_be_bytes();
        if let Some(mut row) = self.get::<OutboxRow>(txn, OUTBOX, &key)? {
            row.accepted = true;
            if row.unsettled.is_empty() {
                self.drop_outbox(txn, flight.seq, &row)?;
            } else {
                self.put(txn, OUTBOX, &key, &row)?;
            }
        }
        Ok(())
    }

    pub(crate) fn on_submit_refused(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        submit: SubmitId,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let Some(flight) = self.queues.landed(&submit) else { return Ok(()) };
        if refusal.code.may_retry() {
            self.queues.resend.insert(flight.seq);
            let asked = now_ms + refusal.after_ms.unwrap_or(0);
            let until = match self.queues.paused_until_ms {
                // The others of one window are refused for the same reason: that is one refusal.
                Some(until) if until > now_ms => until.max(asked),
                Some(_) | None => {
                    let most = (PAUSE_FIRST_MS << self.queues.refusals.min(6)).min(PAUSE_LAST_MS);
                    self.queues.refusals += 1;
                    asked + 1 + self.jitter(most)
                }
            };
            self.queues.paused_until_ms = Some(until);
            return Ok(());
        }
        if let Some(row) = self.get::<OutboxRow>(txn, OUTBOX, &flight.seq.to_be_bytes())? {
            self.fail_locally(txn, now_ms, &row, reason_of(refusal.code))?;
            self.drop_outbox(txn, flight.seq, &row)?;
        }
        Ok(())
    }

    /// Everything that is not final goes to the node again, verbatim: its store has lost some of it.
    pub(crate) fn resubmit_all(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let rows = txn.range(OUTBOX, &from, &prefix_end(&[]), 1_000)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for (key, sealed) in &rows {
                let mut row: OutboxRow = self.vault.open(OUTBOX, key, sealed)?;
                if row.sealed && row.accepted {
                    row.accepted = false;
                    self.put(txn, OUTBOX, key, &row)?;
                    self.queues.send_again(number(key)?);
                }
            }
        }
    }

    /// A copy is final. When all of a row's copies are, the row goes.
    pub(crate) fn settle(
        &mut self,
        txn: &mut dyn Txn,
        copy: tidings_protocol::id::CopyId,
        outbox: Option<u64>,
    ) -> Result<(), StoreError> {
        let Some(seq) = outbox else { return Ok(()) };
        let Some(mut row) = self.get::<OutboxRow>(txn, OUTBOX, &seq.to_be_bytes())? else {
            return Ok(());
        };
        let before = row.unsettled.len();
        row.unsettled.retain(|open| *open != copy);
        if row.unsettled.len() == before {
            return Ok(());
        }
        if row.unsettled.is_empty() && row.accepted {
            return self.drop_outbox(txn, seq, &row);
        }
        self.put(txn, OUTBOX, &seq.to_be_bytes(), &row)
    }

    pub(crate) fn drop_outbox(
        &mut self,
        txn: &mut dyn Txn,
        seq: u64,
        row: &OutboxRow,
    ) -> Result<(), StoreError> {
        self.queues.forget(seq);
        self.expiries.remove(&(row.expires_ms, seq));
        txn.delete(OUTBOX, &seq.to_be_bytes())?;
        txn.delete(SEALED, &seq.to_be_bytes())?;
        self.repair_is_over(txn, seq, row)
    }

    pub(crate) fn expire_outbox(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let time = self.node_time(now_ms);
        while let Some((at_ms, seq)) = self.expiries.first().copied()
            && at_ms <= time
        {
            self.expiries.remove(&(at_ms, seq));
            if let Some(row) = self.get::<OutboxRow>(txn, OUTBOX, &seq.to_be_bytes())? {
                self.expire_row(txn, now_ms, seq, &row)?;
            }
        }
        Ok(())
    }

    fn expire_row(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        seq: u64,
        row: &OutboxRow,
    ) -> Result<(), StoreError> {
        if row.unsettled.is_empty() {
            self.fail_locally(txn, now_ms, row, Reason::Expired)?;
        }
        for copy in &row.unsettled {
            let Some(entry) = self.get::<CopyRow>(txn, COPIES, &copy.0)? else { continue };
            if let (Some(msg), false) = (entry.msg, entry.own) {
                let event = crate::status::known_here(self.node_time(now_ms), Reason::Expired);
                let status = crate::event::Status::Failed(Some(Reason::Expired));
                self.raise(txn, &entry.peer, msg, &entry.device, status, event)?;
            }
        }
        self.drop_outbox(txn, seq, row)
    }

    /// Nobody of that name is there: what waits for him fails.
    pub(crate) fn fail_waiting(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: &PeerKey,
    ) -> Result<(), StoreError> {
        for seq in self.queues.waiting(peer) {
            if let Some(row) = self.get::<OutboxRow>(txn, OUTBOX, &seq.to_be_bytes())? {
                self.fail_locally(txn, now_ms, &row, Reason::UnknownRecipient)?;
                self.drop_outbox(txn, seq, &row)?;
            }
        }
        self.queues.release(peer);
        Ok(())
    }

    pub(crate) fn retry_waits(&mut self, txn: &mut dyn Txn, now_ms: u64) -> Result<(), StoreError> {
        self.queues.release_late(now_ms);
        let due: Vec<PeerKey> = self
            .queues
            .waits
            .iter()
            .filter(|(_, wait)| wait.retry_at_ms.is_some_and(|at| at <= now_ms))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in due {
            let Some(wait) = self.queues.waits.get_mut(&peer) else { continue };
            wait.retry_at_ms = None;
            if wait.needs.is_empty() {
                self.queues.release(&peer);
                continue;
            }
            for need in wait.needs.clone() {
                self.fetch(txn, need, true)?;
            }
        }
        Ok(())
    }
}

/// What a person reads when the own node refuses for good.
const fn reason_of(code: RefusalCode) -> Reason {
    match code {
        RefusalCode::Expired => Reason::Expired,
        RefusalCode::TooLarge => Reason::TooLarge,
        RefusalCode::UnknownRecipient => Reason::UnknownRecipient,
        RefusalCode::Refused | RefusalCode::NotAuthorised => Reason::Policy,
        RefusalCode::Retired => Reason::Retired,
        RefusalCode::Busy
        | RefusalCode::Quota
        | RefusalCode::Draining
        | RefusalCode::Malformed
        | RefusalCode::Conflict
        | RefusalCode::BadInvite
        | RefusalCode::NameTaken
        | RefusalCode::WrongNode
        | RefusalCode::Unreachable
        | RefusalCode::Version
        | RefusalCode::RolledBack
        | RefusalCode::StaleKey
        | RefusalCode::UnknownDomain
        | RefusalCode::UnboundDomain
        | RefusalCode::Loop
        | RefusalCode::HopLimit => Reason::Malformed,
    }
}
