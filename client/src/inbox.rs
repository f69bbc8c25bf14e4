//! Copies that arrive: each is answered by a statement of this device, the same one however often it
//! comes; what is new is opened, and stored with ratchet and answer in one transaction.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{ClientFrame, Deliver, Received, ReceivedItem},
    codec,
    content::{Introduction, Part, PartInside},
    device_list::{CheckedList, Device},
    envelope::shared_hash,
    id::{CopyId, DeviceId, Eid, NodeId},
    limits::{MESSAGE_LIFE_MS_MAX, STATEMENTS_PER_BATCH_MAX, STATEMENTS_PER_FRAME_MAX},
    statement::{Claim, Proof, Statement},
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    account::{draw, newest},
    content_in::Arrived,
    crypto::{self, Advice, Sealer, SessionSignature, content::open_content},
    event::{Peer, Warning},
    machine::ClientCore,
    rows::{DeviceRow, PeerKey, PeerRow, SeenRow, seen_key},
    schema::{DEVICES, ORPHANS, SEEN, TAGS},
    seal::plain_hash,
};

/// How often old rows are looked for.
pub(crate) const SWEEP_EVERY_MS: u64 = 3_600_000;
/// Answers are kept until expiry and a day.
const SEEN_GRACE_MS: u64 = 24 * 3_600_000;
/// Rows that one sweep takes.
const SWEEP_ROWS_MAX: usize = 500;

/// Who sent a copy, as far as it is known before it opens.
struct Writer {
    key: PeerKey,
    row: PeerRow,
    list: CheckedList,
    device: Device,
}

/// What came of opening a copy.
enum OpenedCopy {
    /// It is stored, or needs no storing.
    Taken,
    /// It cannot be opened; the answer says so.
    Undecryptable,
    /// It must not be answered: the fault is here.
    Kept,
}

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn on_deliver(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        deliver: &Deliver,
        body: &Bytes,
    ) -> Result<(), StoreError> {
        if deliver.target.device() != Some(self.device)
            || deliver.header.destination != self.settings.node
        {
            self.counters.undecryptable += 1;
            return Ok(());
        }
        let copy = deliver.target.copy_id(&deliver.header.hash(), &shared_hash(body));
        let key = seen_key(deliver.header.created_ms, &copy);
        if let Some(seen) = self.get::<SeenRow>(txn, SEEN, &key)? {
            self.counters.duplicates += 1;
            self.answer(deliver, copy, seen.claim, seen.at_ms);
            return Ok(());
        }
        let claim = match self.open_copy(txn, now_ms, deliver, copy, body)? {
            OpenedCopy::Taken => Claim::Delivered,
            OpenedCopy::Undecryptable => Claim::Undecryptable,
            OpenedCopy::Kept => return Ok(()),
        };
        let at_ms = self.node_time(now_ms);
        let seen = SeenRow { claim, at_ms, expires_ms: deliver.header.expires_ms };
        self.put(txn, SEEN, &key, &seen)?;
        self.answer(deliver, copy, claim, at_ms);
        Ok(())
    }

    fn answer(&mut self, deliver: &Deliver, copy: CopyId, claim: Claim, at_ms: u64) {
        let statement = Statement {
            claim,
            eid: deliver.eid,
            copy: Some(copy),
            at_ms,
            reason: None,
            until_ms: None,
        };
        self.to_sign.push((deliver.inbox, statement));
    }

    /// Signs what this batch has received: one tree, in as many frames as it takes.
    pub(crate) fn sign_received(&mut self, txn: &dyn Txn) {
        if self.to_sign.is_empty() {
            // To ask for a mark makes a commit of a batch that would be idle.
            return;
        }
        let waiting = core::mem::take(&mut self.to_sign);
        let mine = self.own_mark(txn);
        let stance = self.stance();
        for batch in waiting.chunks(STATEMENTS_PER_BATCH_MAX) {
            let statements: Vec<Statement> = batch.iter().map(|(_, s)| s.clone()).collect();
            let salt = draw(&mut self.rng);
            let Some(proof) = Proof::sign(&statements, &stance, &salt, &self.key) else { continue };
            let frames = batch
                .chunks(STATEMENTS_PER_FRAME_MAX)
                .zip(proof.leaves.chunks(STATEMENTS_PER_FRAME_MAX));
            for (answers, leaves) in frames {
                let items = answers.iter().filter_map(|(inbox, statement)| {
                    Some(ReceivedItem { inbox: *inbox, copy: statement.copy? })
                });
                let proof = Proof {
                    root: proof.root.clone(),
                    signature: proof.signature,
                    leaves: leaves.to_vec(),
                };
                let items = items.collect();
                let received = Received { items, proof, mine: mine.clone() };
                self.tell_node(ClientFrame::Received(received));
            }
        }
    }

    fn open_copy(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        deliver: &Deliver,
        copy: CopyId,
        body: &Bytes,
    ) -> Result<OpenedCopy, StoreError> {
        let Ok(part) = codec::decode::<Part>(&deliver.target.part) else {
            return Ok(self.give_up(None));
        };
        let Some(writer) = self.writer(txn, now_ms, &part, deliver.header.origin)? else {
            return Ok(self.give_up(None));
        };
        let them = Self::party(&writer.row, &writer.list, &writer.device);
        let mut entry = self.device_row(txn, writer.key, &writer.device)?;
        let mut state = entry.state.take().map(|state| state.to_vec());
        let opened = self.sealer.open(
            &self.local,
            &mut self.prekeys,
            &them,
            &mut state,
            &part.sealed,
            now_ms,
        );
        entry.state = state.map(Bytes::from);
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let peer = Some(writer.row.peer());
                return match error.advice() {
                    Advice::Keep => Ok(OpenedCopy::Kept),
                    Advice::Repair => {
                        self.start_repair(txn, now_ms, entry, copy)?;
                        Ok(self.give_up(peer))
                    }
                    // A spent index or handshake: what it said is here already, under another copy.
                    Advice::Acknowledge | Advice::Refuse => Ok(self.give_up(peer)),
                };
            }
        };
        if opened.is_new_session {
            entry.wants_start = false;
            self.save_prekeys(txn)?;
        }
        let arrived = self.read_inside(&writer, &mut entry, &opened, deliver, copy, body);
        self.save_device(txn, &mut entry)?;
        let Some(arrived) = arrived else { return Ok(self.give_up(Some(writer.row.peer()))) };
        self.take_content(txn, now_ms, arrived)?;
        Ok(OpenedCopy::Taken)
    }

    fn give_up(&mut self, peer: Option<Peer>) -> OpenedCopy {
        self.counters.undecryptable += 1;
        self.warn(Warning::Undecryptable { peer });
        OpenedCopy::Undecryptable
    }

    /// What the session carried: the session's signature, then the content that it stands for.
    fn read_inside(
        &self,
        writer: &Writer,
        entry: &mut DeviceRow,
        opened: &crypto::Opened,
        deliver: &Deliver,
        copy: CopyId,
        body: &Bytes,
    ) -> Option<Arrived> {
        let inside: PartInside = codec::decode(&opened.plaintext).ok()?;
        let plain = open_content(body, &inside.key.0, &inside.content_hash.0).ok()?;
        let content: tidings_protocol::content::Content = codec::decode(&plain).ok()?;
        let claim = crypto::Claim {
            chat: content.chat.0,
            sequence: content.sequence,
            plaintext_hash: inside.content_hash.0,
        };
        let signature = SessionSignature {
            key: inside.session_key.map(|key| key.0),
            signature: inside.signature.0,
        };
        let them = Self::party(&writer.row, &writer.list, &writer.device);
        let mut state = entry.state.take()?.to_vec();
        let signed = self
            .sealer
            .check_signature(&them, &mut state, &opened.session, &claim, &signature)
            .is_ok();
        entry.state = Some(state.into());
        let named =
            content.account == writer.list.account() && content.device == writer.device.id();
        (signed && named).then(|| Arrived {
            from: writer.key,
            peer: writer.row.clone(),
            account: writer.list.account(),
            hash: plain_hash(&plain),
            content,
            siblings: inside.siblings,
            eid: deliver.eid,
            copy,
        })
    }

    /// The device that sends under this tag, or that introduces itself.
    fn writer(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        part: &Part,
        origin: NodeId,
    ) -> Result<Option<Writer>, StoreError> {
        if let Some(id) = self.get::<DeviceId>(txn, TAGS, &part.session.0)?
            && let Some(entry) = self.get::<DeviceRow>(txn, DEVICES, &id.0)?
            && let Some(row) = self.peer_row(txn, &entry.peer)?
            && row.node == origin
        {
            let list = newest(&row.lists).map_err(StoreError::work)?;
            return Ok(Some(Writer { key: entry.peer, row, list, device: entry.device }));
        }
        let Some(sealed) = &part.introduction else { return Ok(None) };
        let Ok(plain) = self.sealer.open_introduction(&self.local, sealed) else { return Ok(None) };
        let Ok(introduction) = codec::decode::<Introduction>(&plain) else { return Ok(None) };
        let Ok(offered) = CheckedList::first_seen(&introduction.list) else { return Ok(None) };
        if offered.list.node != origin {
            return Ok(None);
        }
        let peer = Peer { node: offered.list.node, name: offered.list.name.clone() };
        let (key, _) = self.know_peer(txn, &peer)?;
        self.learn_lists(txn, now_ms, key, vec![introduction.list])?;
        let Some(row) = self.peer_row(txn, &key)? else { return Ok(None) };
        let Some(list) = self.list_of(txn, &key)? else { return Ok(None) };
        if list.list.identity != offered.list.identity {
            return Ok(None);
        }
        // A list that is further on than ours by more than one step is on its way (`learn_lists`);
        // it is signed under the same account key, so its device may speak meanwhile.
        let newer = offered.list.version > list.list.version;
        let device = if newer { &offered } else { &list }.device(&introduction.device).cloned();
        Ok(device.filter(|d| d.id() != self.device).map(|device| Writer { key, row, list, device }))
    }

    /// Deletes what is too old to matter.
    pub(crate) fn sweep(&mut self, txn: &mut dyn Txn, now_ms: u64) -> Result<(), StoreError> {
        let time = self.node_time(now_ms);
        let oldest = time.saturating_sub(MESSAGE_LIFE_MS_MAX + SEEN_GRACE_MS);
        let end = seen_key(oldest, &CopyId([0; 32]));
        for (key, _) in txn.range(SEEN, &[], &end, SWEEP_ROWS_MAX)? {
            txn.delete(SEEN, &key)?;
        }
        // Envelope ids begin with the minute of their creation as well.
        let end = end.get(..4).unwrap_or_default().to_vec();
        for (key, _) in txn.range(ORPHANS, &[], &end, SWEEP_ROWS_MAX)? {
            txn.delete(ORPHANS, &key)?;
        }
        if self.prekeys.expire(now_ms) {
            self.save_prekeys(txn)?;
        }
        if self.link.is_up() && self.prekeys.wants_rotation(now_ms) {
            self.publish_prekeys(txn, now_ms, false)?;
        }
        Ok(())
    }

    /// Statements that came before the envelope they are about.
    pub(crate) fn take_orphans(
        &mut self,
        txn: &mut dyn Txn,
        eid: &Eid,
    ) -> Result<Vec<Proof>, StoreError> {
        let mut proofs = Vec::new();
        for (key, sealed) in txn.range(ORPHANS, &eid.0, &prefix_end(&eid.0), 256)? {
            proofs.push(self.vault.open(ORPHANS, &key, &sealed)?);
            txn.delete(ORPHANS, &key)?;
        }
        Ok(proofs)
    }
}
