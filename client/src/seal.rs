//! From a row of the outbox to sealed bytes: which devices, which sessions, the content once, a part
//! for each device. Runs when the row is about to be sent for the first time, and only then.
//!
//! Nothing is written before all of it has succeeded.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_protocol::{
    codec,
    content::{
        Body, ChatParty, Content, ContentKey, Head, Introduction, Part, PartInside, ReadMarks,
        Repair, SessionTag, Sibling, SiblingCopy,
    },
    device_list::{CheckedList, Device},
    envelope::{EnvelopeHead, Header, Recipient, Target, shared_hash},
    frame::Frame,
    id::{ChatId, CopyId, DeviceId, Eid, Hash},
    key::{PublicKey, Signature},
    limits::{FRAME_BYTES_MAX, MESSAGE_LIFE_MS_MAX, PROTOCOL_VERSION},
    statement::Reason,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    account::newest,
    crypto::{Claim, HandshakeDue, SealError, Sealer, content::seal_content},
    event::Warning,
    machine::ClientCore,
    rows::{
        CopyRow, DeviceRow, EnvelopeRow, MessageKey, MessageRow, OutboxRow, PeerKey, PeerRow,
        SealedRow, SenderRow, Work, sender_key,
    },
    schema::{COPIES, ENVELOPES, MESSAGES, OUTBOX, SEALED, SENDERS},
};

/// A peer without any usable device is looked up again after this.
const NO_DEVICES_RETRY_MS: u64 = 30_000;

/// What became of an attempt to seal.
pub(crate) enum SealOutcome {
    /// Written down, ready to be sent.
    Sealed(SealedRow),
    /// Lists or bundles of these must be fetched first.
    Needs(BTreeSet<PeerKey>),
    /// No device can be written to; try again then.
    Later(u64),
    /// The one device that it is for cannot be written to yet; try again then, and let others go on.
    Postponed(u64),
    /// A person has to accept a new account key first.
    Held,
    /// There is nobody left to seal it for.
    Nothing,
    /// It can never be sent.
    Never(Reason),
}

/// One account whose devices get copies.
struct Audience {
    key: PeerKey,
    row: PeerRow,
    list: CheckedList,
    devices: Vec<(Device, DeviceRow)>,
    /// Devices that have no bundle at the moment, and until when they are not asked for.
    passed_over: Vec<(DeviceId, u64)>,
}

/// The content, composed but not yet written.
struct Composed {
    content: Bytes,
    chat: ChatId,
    sequence: u64,
    sender: Option<SenderRow>,
    message: Option<(MessageKey, MessageRow)>,
}

/// What all parts of one message share.
struct Shared<'a> {
    key: ContentKey,
    claim: Claim,
    header_created_ms: u64,
    row: &'a OutboxRow,
    hash: Hash,
}

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn seal(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        seq: u64,
        row: OutboxRow,
    ) -> Result<SealOutcome, StoreError> {
        let Some(peer) = self.peer_row(txn, &row.peer)? else { return Ok(SealOutcome::Nothing) };
        if peer.offered.is_some() {
            return Ok(SealOutcome::Held);
        }
        if row.expires_ms <= self.node_time(now_ms) {
            return Ok(SealOutcome::Never(Reason::Expired));
        }
        if peer.lists.is_empty() {
            return Ok(SealOutcome::Needs(BTreeSet::from([row.peer])));
        }
        let mut needs = BTreeSet::new();
        let mut theirs = self.audience(txn, now_ms, &row, row.peer, &mut needs)?;
        let mut ours = if row.peer == self.own_key {
            None
        } else {
            Some(self.audience(txn, now_ms, &row, self.own_key, &mut needs)?)
        };
        if !needs.is_empty() {
            return Ok(SealOutcome::Needs(needs));
        }
        let passed_over: Vec<(DeviceId, u64)> = [Some(&theirs), ours.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|a| a.passed_over.clone())
            .collect();
        if let Work::Text { only: Some(only), .. } = &row.work
            && let Some((_, until)) = passed_over.iter().find(|(device, _)| only.contains(device))
        {
            return Ok(SealOutcome::Postponed(*until));
        }
        let for_all = matches!(row.work, Work::Text { only: None, .. });
        if for_all && theirs.devices.is_empty() {
            self.warn(Warning::NoDevices(peer.peer()));
            return Ok(SealOutcome::Later(now_ms + NO_DEVICES_RETRY_MS));
        }
        if theirs.devices.is_empty() && ours.as_ref().is_none_or(|ours| ours.devices.is_empty()) {
            return Ok(SealOutcome::Nothing);
        }
        let Some(composed) = self.compose(txn, &row, &theirs)? else {
            return Ok(SealOutcome::Nothing);
        };
        let (peer, work) = (row.peer, row.work.clone());
        let sealed = self.seal_for(txn, now_ms, seq, row, &mut theirs, ours.as_mut(), composed)?;
        if let (SealOutcome::Sealed(_), Work::Text { msg, only: None }) = (&sealed, work) {
            // Devices without a bundle today get theirs when they have one.
            let devices = passed_over.into_iter().map(|(device, _)| device).collect();
            self.seal_again(txn, now_ms, peer, msg, devices)?;
        }
        Ok(sealed)
    }

    /// Which devices of an account get this, with sessions begun where that is due. Accounts whose
    /// bundles are needed first are added to `needs`.
    fn audience(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        outbox: &OutboxRow,
        key: PeerKey,
        needs: &mut BTreeSet<PeerKey>,
    ) -> Result<Audience, StoreError> {
        let Some(row) = self.peer_row(txn, &key)? else {
            return Err(StoreError::corrupt("a peer of the outbox"));
        };
        let list = newest(&row.lists).map_err(StoreError::work)?;
        let mut devices = Vec::new();
        let mut unreached = Vec::new();
        for device in &list.list.devices {
            let id = device.id();
            if id == self.device || !self.is_for(outbox, key, &id) {
                continue;
            }
            let mut entry = self.device_row(txn, key, device)?;
            let state = entry.state.as_deref();
            let due = self.sealer.wants_handshake(state, now_ms).map_err(StoreError::work)?;
            if due.is_none() && !entry.wants_start {
                devices.push((device.clone(), entry));
                continue;
            }
            let bundle = self.bundles.get(&id).filter(|b| crate::bundles::of_device(b, device));
            if let Some(bundle) = bundle.cloned() {
                let them = Self::party(&row, &list, device);
                let mut state = entry.state.take().map(|state| state.to_vec());
                let started =
                    self.sealer.start(&self.local, &them, &bundle, &mut state, now_ms).is_ok();
                self.bundles.remove(&id);
                entry.state = state.map(Bytes::from);
                if started {
                    entry.wants_start = false;
                    entry.starts += 1;
                    // The bundle is spent, so the session is kept even if nothing is sealed yet.
                    self.save_device(txn, &mut entry)?;
                    devices.push((device.clone(), entry));
                    continue;
                }
                self.without_bundle.insert(id, now_ms + NO_DEVICES_RETRY_MS);
            }
            let passed_over = self.without_bundle.get(&id).copied().filter(|until| *until > now_ms);
            let must = due == Some(HandshakeDue::NoSession) || entry.wants_start;
            match (passed_over, must) {
                (None, _) => {
                    needs.insert(key);
                }
                (Some(_), false) => devices.push((device.clone(), entry)),
                (Some(until), true) => unreached.push((id, until)),
            }
        }
        Ok(Audience { key, row, list, devices, passed_over: unreached })
    }

    fn is_for(&self, outbox: &OutboxRow, audience: PeerKey, device: &DeviceId) -> bool {
        let own = audience == self.own_key;
        match &outbox.work {
            Work::Text { only: None, .. } => true,
            Work::Text { only: Some(only), .. } => {
                // Own devices are told of the new envelope, so that they can map its ticks.
                only.contains(device)
                    || (own && only.iter().any(|d| self.own_list.device(d).is_none()))
            }
            Work::Read { to_peer, .. } => own || *to_peer,
            Work::Repair { device: only, .. } => only == device,
        }
    }

    fn compose(
        &mut self,
        txn: &dyn Txn,
        row: &OutboxRow,
        theirs: &Audience,
    ) -> Result<Option<Composed>, StoreError> {
        let account = self.own_list.account();
        let chat = ChatId::of_two(&account, &theirs.list.account());
        let party =
            |peer: &crate::event::Peer| ChatParty { node: peer.node, name: peer.name.clone() };
        let mut content = Content {
            msg: self.new_msg_id(row.created_ms),
            chat,
            parties: vec![party(&self.own_peer()), party(&theirs.row.peer())],
            account,
            device: self.device,
            sequence: 0,
            previous: None,
            heads: Vec::new(),
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            echoes: self.echoes(&theirs.list),
            body: Body::Repair(Repair { lost: Vec::new() }),
        };
        let mut sender = None;
        let mut message = None;
        match &row.work {
            Work::Text { msg, .. } => {
                let key = MessageKey { peer: row.peer, msg: *msg, mine: true };
                let Some(mut known) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())? else {
                    return Ok(None);
                };
                if let Some(bytes) = &known.content {
                    let (content, sequence) = (bytes.clone(), known.sequence);
                    let message = Some((key, known));
                    return Ok(Some(Composed { content, chat, sequence, sender, message }));
                }
                let mut own = self
                    .get::<SenderRow>(txn, SENDERS, &sender_key(&chat, &self.device))?
                    .unwrap_or(SenderRow::from(1));
                content.msg = *msg;
                content.sequence = own.next;
                content.previous = own.last;
                // By its id too: its number is another one once it was sealed again.
                let before =
                    own.msg.map(|msg| Head { device: self.device, sequence: own.next - 1, msg });
                known.heads.extend(before);
                content.heads.clone_from(&known.heads);
                content.created_ms = known.created_ms;
                content.expires_ms = known.expires_ms;
                content.body = Body::Text(known.text.clone());
                known.sequence = content.sequence;
                known.previous = content.previous;
                known.previous_msg = own.msg.replace(*msg);
                own.next += 1;
                known.device = self.device;
                sender = Some(own);
                message = Some((key, known));
            }
            Work::Read { messages, proof, .. } => {
                let marks = ReadMarks { messages: messages.clone(), proof: proof.clone() };
                content.body = Body::Read(marks);
            }
            Work::Repair { lost, .. } => content.body = Body::Repair(Repair { lost: lost.clone() }),
        }
        let bytes = Bytes::from(codec::encode(&content));
        let hash = plain_hash(&bytes);
        if let (Some(own), Some((_, known))) = (&mut sender, &mut message) {
            own.last = Some(hash);
            known.hash = Some(hash);
            known.content = Some(bytes.clone());
        }
        let sequence = content.sequence;
        Ok(Some(Composed { content: bytes, chat, sequence, sender, message }))
    }

    /// The last message of each other device that was shown here.
    pub(crate) fn heads(&self, txn: &dyn Txn, chat: &ChatId) -> Result<Vec<Head>, StoreError> {
        let mut heads = Vec::new();
        for (key, sealed) in txn.range(SENDERS, &chat.0, &prefix_end(&chat.0), 64)? {
            let row: SenderRow = self.vault.open(SENDERS, &key, &sealed)?;
            let device = key.get(32..).and_then(DeviceId::from_slice);
            if let (Some(device), Some(msg)) = (device.filter(|d| *d != self.device), row.msg) {
                heads.push(Head { device, sequence: row.next - 1, msg });
            }
        }
        Ok(heads)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `seal`, cut out to be read alone")]
    fn seal_for(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        seq: u64,
        mut row: OutboxRow,
        theirs: &mut Audience,
        mut ours: Option<&mut Audience>,
        mut composed: Composed,
    ) -> Result<SealOutcome, StoreError> {
        let Ok(sealed) = seal_content(&mut self.rng, &composed.content) else {
            return Ok(SealOutcome::Never(Reason::TooLarge));
        };
        let body = Bytes::from(sealed.shared.clone());
        let shared = Shared {
            key: ContentKey(*sealed.key),
            claim: Claim {
                chat: composed.chat.0,
                sequence: composed.sequence,
                plaintext_hash: sealed.plaintext_hash,
            },
            header_created_ms: self.node_time(now_ms),
            row: &row,
            hash: shared_hash(&body),
        };
        let mut heads = Vec::new();
        let mut siblings = self.earlier_siblings(txn, &row, &composed)?;
        let mut copies = Vec::new();
        if !theirs.devices.is_empty() {
            let Some(head) = self.envelope(theirs, &shared, &[])? else {
                return Ok(SealOutcome::Never(Reason::TooLarge));
            };
            let (eid, ids) = head.ids(&shared.hash);
            siblings.push(sibling(eid, &ids, theirs));
            copies.push((eid, ids));
            heads.push(head);
        }
        if let Some(ours) = ours.as_deref_mut().filter(|ours| !ours.devices.is_empty()) {
            let Some(head) = self.envelope(ours, &shared, &siblings)? else {
                return Ok(SealOutcome::Never(Reason::TooLarge));
            };
            copies.push(head.ids(&shared.hash));
            heads.push(head);
        }
        let submit = self.new_submit_id(now_ms);
        let eids = copies.iter().map(|(eid, _)| *eid).collect();
        let sealed = SealedRow { submit, heads, shared: body, eids };
        if !fits(&sealed) {
            return Ok(SealOutcome::Never(Reason::TooLarge));
        }
        row.sealed = true;
        row.unsettled = copies.iter().flat_map(|(_, ids)| ids.iter().copied()).collect();
        let audiences = [Some(theirs), ours];
        let written = audiences.into_iter().flatten().filter(|a| !a.devices.is_empty());
        for (audience, (eid, ids)) in written.zip(&copies) {
            self.write_copies(txn, seq, &row, audience, *eid, ids, &mut composed)?;
        }
        self.write_composed(txn, composed)?;
        self.put(txn, SEALED, &seq.to_be_bytes(), &sealed)?;
        self.put(txn, OUTBOX, &seq.to_be_bytes(), &row)?;
        Ok(SealOutcome::Sealed(sealed))
    }

    /// One envelope for the devices of one account. `None` when it is larger than allowed.
    fn envelope(
        &mut self,
        audience: &mut Audience,
        shared: &Shared<'_>,
        siblings: &[Sibling],
    ) -> Result<Option<EnvelopeHead>, StoreError> {
        let mut targets = Vec::new();
        for (device, entry) in &mut audience.devices {
            let them = Self::party(&audience.row, &audience.list, device);
            let mut state = match entry.state.take() {
                Some(state) => state.to_vec(),
                None => return Err(StoreError::work(SealError::NoSession)),
            };
            let signature =
                self.sealer.sign(&self.local, &state, &shared.claim).map_err(StoreError::work)?;
            let inside = PartInside {
                key: shared.key,
                content_hash: Hash(shared.claim.plaintext_hash),
                session_key: signature.key.map(PublicKey),
                signature: Signature(signature.signature),
                siblings: siblings.to_vec(),
            };
            let sealed = match self.sealer.seal(&mut state, &codec::encode(&inside)) {
                Ok(sealed) => sealed,
                Err(SealError::TooLong { .. }) => return Ok(None),
                Err(error) => return Err(StoreError::work(error)),
            };
            entry.state = Some(state.into());
            let introduction = if sealed.handshake_pending {
                let list = self.account.lists.last().cloned();
                let list = list.ok_or_else(|| StoreError::corrupt("the own device list"))?;
                let introduction = codec::encode(&Introduction { list, device: self.device });
                let sealed = self.sealer.seal_introduction(&them, &introduction);
                Some(sealed.map_err(StoreError::work)?.into())
            } else {
                None
            };
            let part =
                Part { session: SessionTag(sealed.tag), introduction, sealed: sealed.bytes.into() };
            targets.push(Target {
                to: Recipient::Device(device.id()),
                auth: None,
                list_version: audience.list.list.version,
                list_hash: audience.list.hash,
                part: codec::encode(&part).into(),
            });
        }
        let created_ms = shared.header_created_ms;
        let header = Header {
            version: PROTOCOL_VERSION,
            origin: self.settings.node,
            destination: audience.row.node,
            created_ms,
            expires_ms: shared.row.expires_ms.min(created_ms + MESSAGE_LIFE_MS_MAX),
            class: shared.row.class,
        };
        Ok(Some(EnvelopeHead { header, targets }))
    }

    /// When only own devices are sealed for, they are told of the envelopes that went before.
    fn earlier_siblings(
        &self,
        txn: &dyn Txn,
        row: &OutboxRow,
        composed: &Composed,
    ) -> Result<Vec<Sibling>, StoreError> {
        let Work::Text { only: Some(_), .. } = row.work else { return Ok(Vec::new()) };
        let Some((_, message)) = &composed.message else { return Ok(Vec::new()) };
        let mut siblings = Vec::new();
        for eid in &message.envelopes {
            let Some(envelope) = self.get::<EnvelopeRow>(txn, ENVELOPES, &eid.0)? else { continue };
            let mut copies = Vec::new();
            for copy in envelope.copies {
                if let Some(entry) = self.get::<CopyRow>(txn, COPIES, &copy.0)? {
                    copies.push(SiblingCopy { copy, device: entry.device });
                }
            }
            siblings.push(Sibling { eid: *eid, copies });
        }
        Ok(siblings)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `seal`, cut out to be read alone")]
    fn write_copies(
        &mut self,
        txn: &mut dyn Txn,
        seq: u64,
        row: &OutboxRow,
        audience: &mut Audience,
        eid: Eid,
        ids: &[CopyId],
        composed: &mut Composed,
    ) -> Result<(), StoreError> {
        let own = audience.key == self.own_key;
        let msg = composed.message.as_ref().map(|(key, _)| key.msg);
        let envelope = EnvelopeRow { destination: audience.row.node, copies: ids.to_vec() };
        self.put(txn, ENVELOPES, &eid.0, &envelope)?;
        for ((device, entry), copy) in audience.devices.iter_mut().zip(ids) {
            let device = device.id();
            let copy_row = CopyRow {
                eid,
                device,
                peer: row.peer,
                msg,
                own,
                outbox: Some(seq),
                starts: entry.starts,
                is_replaced: false,
            };
            self.put(txn, COPIES, &copy.0, &copy_row)?;
            self.save_device(txn, entry)?;
            if let Some((_, message)) = composed.message.as_mut().filter(|_| !own)
                && !message.targets.contains(&device)
            {
                message.targets.push(device);
            }
        }
        if let Some((_, message)) = composed.message.as_mut().filter(|_| !own) {
            message.envelopes.push(eid);
        }
        Ok(())
    }

    fn write_composed(&mut self, txn: &mut dyn Txn, composed: Composed) -> Result<(), StoreError> {
        if let Some(sender) = &composed.sender {
            let key = sender_key(&composed.chat, &self.device);
            self.put(txn, SENDERS, &key, sender)?;
        }
        if let Some((key, message)) = &composed.message {
            self.put(txn, MESSAGES, &key.bytes(), message)?;
        }
        Ok(())
    }
}

/// The hash by which a content names the one before it, and a session signs it.
pub(crate) fn plain_hash(content: &[u8]) -> Hash {
    use sha2::Digest as _;
    Hash(sha2::Sha256::digest(content).into())
}

fn sibling(eid: Eid, ids: &[CopyId], audience: &Audience) -> Sibling {
    let devices = audience.devices.iter().map(|(device, _)| device.id());
    let copies =
        ids.iter().zip(devices).map(|(copy, device)| SiblingCopy { copy: *copy, device }).collect();
    Sibling { eid, copies }
}

/// Each envelope keeps the limits, and all of them fit into one frame.
fn fits(sealed: &SealedRow) -> bool {
    let header = codec::encode(&(&sealed.submit, &sealed.heads));
    let frame = Frame { header: header.into(), body: sealed.shared.clone() };
    // The frame's tag and mark take less than the spare.
    frame.header.len() + 128 <= usize::from(u16::MAX)
        && frame.wire_bytes() + 128 <= FRAME_BYTES_MAX
        && sealed.heads.iter().all(|head| head.check(sealed.shared.len()).is_ok())
}
