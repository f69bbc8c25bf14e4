//! A device hands over all envelopes of one message: accepted in one commit, or not at all.

use tidings_protocol::{
    client_frame::Refusable,
    codec,
    hello::Mark,
    id::{AccountId, DeviceId, Eid, NodeId, SubmitId, timed_id_ms},
    limits,
    peer_frame::PeerFrame,
    refusal::RefusalCode,
    statement::{Claim, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Observed,
    event::{ConnId, PreparedEnvelope},
    expiry::has_short_life,
    inbox::Hop,
    outbox::Fresh,
    policy::{Act, Verdict},
    schema::{
        self, EXPIRY, ExpiryKind, OUT, OUTBOX, OutCopy, OutRow, OutboxRow, SUBMITS, SubmitRow,
        expiry_key, peer_key, submit_key,
    },
    settings::Sabotage,
    space::Asker,
    step::{Stage, Step},
};

impl Core {
    pub(crate) fn on_submit(
        &mut self,
        conn: ConnId,
        submit: SubmitId,
        envelopes: &[PreparedEnvelope],
        mark: Mark,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted(conn) else { return Ok(()) };
        let (device, account) = (greeted.device, greeted.account);
        let eids: Vec<Eid> = envelopes.iter().map(|envelope| envelope.eid).collect();
        let key = submit_key(&device, &submit);
        if !self.is_sabotaged(Sabotage::NoSubmitDedup)
            && let Some(known) = schema::get::<SubmitRow>(txn, SUBMITS, &key)?
        {
            self.answer_again(conn, submit, &eids, &known);
            return Ok(());
        }
        if let Some(code) = self.submit_refusal(submit, envelopes, txn)? {
            self.refuse(conn, Refusable::Submit(submit), code);
            return Ok(());
        }
        for envelope in envelopes {
            if envelope.head.header.destination == self.node {
                self.store_envelope(envelope, &Hop::Device(account), txn)?;
            } else {
                self.introduce(&envelope.head.header.destination);
                self.queue_envelope(envelope, account, txn)?;
            }
        }
        let last = self.greeted(conn).and_then(|greeted| greeted.last_submit);
        let is_known =
            self.batch.marks.get(&device).is_some_and(|known| known.commit > mark.commit);
        if last.is_some_and(|last| submit < last) && !is_known {
            // A clock was set back: this row is not the last one, where the newest mark is looked for.
            self.batch.marks.insert(device, mark.clone());
        }
        if let Some(greeted) = self.greeted_mut(conn) {
            greeted.last_submit = last.max(Some(submit));
        }
        let row = SubmitRow { eids: eids.clone(), accepted_ms: self.now_ms, mark };
        schema::put(txn, SUBMITS, &key, &row)?;
        self.answer(conn, submit, &eids, self.now_ms);
        for envelope in envelopes {
            let to = Some(envelope.head.header.destination).filter(|node| *node != self.node);
            self.step(Step::of(Stage::Accepted, envelope.eid, to));
        }
        self.observe(Observed::Accepted);
        Ok(())
    }

    fn answer_again(&mut self, conn: ConnId, submit: SubmitId, eids: &[Eid], known: &SubmitRow) {
        if known.eids == eids {
            self.answer(conn, submit, eids, known.accepted_ms);
            self.observe(Observed::Duplicate);
        } else {
            self.refuse(conn, Refusable::Submit(submit), RefusalCode::Conflict);
        }
    }

    fn answer(&mut self, conn: ConnId, submit: SubmitId, eids: &[Eid], at_ms: u64) {
        let statements = eids
            .iter()
            .map(|eid| Statement {
                claim: Claim::Accepted,
                eid: *eid,
                copy: None,
                at_ms,
                reason: None,
                until_ms: None,
            })
            .collect();
        self.batch.accepted.entry(conn).or_default().push((submit, statements));
    }

    fn submit_refusal(
        &mut self,
        submit: SubmitId,
        envelopes: &[PreparedEnvelope],
        txn: &dyn Txn,
    ) -> Result<Option<RefusalCode>, StoreError> {
        if self.own.retired_ms.is_some() {
            return Ok(Some(RefusalCode::Retired));
        }
        if self.draining {
            return Ok(Some(RefusalCode::Draining));
        }
        if self.has_no_room_for(Asker::Device) {
            return Ok(Some(RefusalCode::Quota));
        }
        let oldest = self.now_ms.saturating_sub(limits::MESSAGE_LIFE_MS_MAX);
        let made_ms = timed_id_ms(&submit.0);
        if made_ms < oldest {
            return Ok(Some(RefusalCode::Expired));
        }
        // A clock was wrong, here or there: time makes it good, so that nothing is lost.
        if self.is_from_the_future(made_ms) {
            return Ok(Some(RefusalCode::Busy));
        }
        for envelope in envelopes {
            let header = &envelope.head.header;
            if header.origin != self.node {
                return Ok(Some(RefusalCode::WrongNode));
            }
            if header.expires_ms <= self.now_ms {
                return Ok(Some(RefusalCode::Expired));
            }
            if self.is_from_the_future(header.created_ms) {
                return Ok(Some(RefusalCode::Busy));
            }
            if header.destination != self.node
                && let Verdict::No(code) = self.may(&header.destination, Act::Queue)
            {
                return Ok(Some(code));
            }
            if self.is_peer_queue_full(&header.destination) {
                return Ok(Some(RefusalCode::Quota));
            }
            if header.destination == self.node {
                // Two of our own devices may not claim one envelope: its statements go to one account.
                if schema::get::<schema::SeenRow>(txn, schema::SEEN, envelope.eid.as_bytes())?
                    .is_some()
                {
                    return Ok(Some(RefusalCode::Conflict));
                }
                if self.is_any_inbox_full(envelope, txn)? {
                    return Ok(Some(RefusalCode::Quota));
                }
            } else if schema::get::<OutRow>(txn, OUT, envelope.eid.as_bytes())?.is_some() {
                return Ok(Some(RefusalCode::Conflict));
            }
        }
        Ok(None)
    }

    fn queue_envelope(
        &mut self,
        envelope: &PreparedEnvelope,
        account: AccountId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let destination: NodeId = envelope.head.header.destination;
        let peer = self.peer_number(&destination, txn)?;
        let lsn = self.next_lsn(txn);
        let frame = PeerFrame::Deliver(envelope.head.clone());
        let encoded = codec::encode(&frame);
        let frame_bytes = encoded.len();
        let row = OutboxRow {
            eid: envelope.eid,
            frame: encoded.into(),
            shared: envelope.shared.clone(),
            held: false,
        };
        schema::put(txn, OUTBOX, &peer_key(peer, lsn), &row)?;
        let devices: Vec<Option<DeviceId>> =
            envelope.head.targets.iter().map(tidings_protocol::envelope::Target::device).collect();
        let copies = envelope
            .copies
            .iter()
            .zip(devices)
            .map(|(copy, device)| OutCopy { copy: *copy, device, done: None })
            .collect();
        let header = &envelope.head.header;
        let row = OutRow {
            peer,
            lsn,
            hop: 0,
            agreed: 0,
            account: Some(account),
            accepted_ms: self.now_ms,
            expires_ms: header.expires_ms,
            bytes: (frame_bytes + envelope.shared.len()) as u64,
            copies,
            let_go: None,
        };
        schema::put(txn, OUT, envelope.eid.as_bytes(), &row)?;
        if has_short_life(header) {
            let key = expiry_key(header.expires_ms, ExpiryKind::Out, &envelope.eid);
            txn.put(EXPIRY, &key, &[])?;
        }
        let fresh = Fresh {
            lsn,
            sender: Some(account),
            eid: envelope.eid,
            frame,
            frame_bytes,
            shared: envelope.shared.clone(),
        };
        self.note_queued(&destination, fresh);
        Ok(())
    }
}
