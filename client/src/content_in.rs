//! What an opened copy says, and what follows from it: a message to store and show, read marks, a
//! request to send lost copies again. The copy itself was dealt with in `inbox.rs`.

use tidings_protocol::{
    content::{Body, Content, Sibling, Text},
    id::{AccountId, ChatId, CopyId, Eid, Hash},
    statement::Proof,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Sabotage,
    crypto::Sealer,
    event::{Peer, Status, Warning},
    machine::ClientCore,
    rows::{CopyRow, EnvelopeRow, MessageKey, MessageRow, PeerKey, PeerRow},
    schema::{COPIES, ENVELOPES, MESSAGES, PEERS},
};

/// A content whose signature, hash and writer have been checked.
pub(crate) struct Arrived {
    pub(crate) from: PeerKey,
    pub(crate) peer: PeerRow,
    pub(crate) account: AccountId,
    pub(crate) hash: Hash,
    pub(crate) content: Content,
    pub(crate) siblings: Vec<Sibling>,
    pub(crate) eid: Eid,
    pub(crate) copy: CopyId,
}

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn take_content(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        arrived: Arrived,
    ) -> Result<(), StoreError> {
        let Some(conversation) = self.conversation_of(txn, &arrived)? else {
            // The writer names another chat or other parties than it may: nothing is shown.
            let peer = Some(arrived.peer.peer());
            self.warn(Warning::Undecryptable { peer });
            return Ok(());
        };
        self.check_echoes(txn, &arrived.peer, &arrived.content.echoes)?;
        match &arrived.content.body {
            Body::Text(text) => {
                let text = text.clone();
                self.take_text(txn, now_ms, conversation, &arrived, text)
            }
            Body::Read(marks) => {
                let (messages, proof) = (marks.messages.clone(), marks.proof.clone());
                if arrived.from == self.own_key {
                    self.read_elsewhere(txn, conversation, &messages)
                } else {
                    self.read_by_peer(txn, &arrived, &proof)
                }
            }
            Body::Repair(repair) => {
                let lost = repair.lost.clone();
                self.send_lost_again(txn, now_ms, &arrived, &lost)
            }
        }
    }

    /// The conversation that a content belongs to, if its chat and parties are what they must be.
    fn conversation_of(
        &mut self,
        txn: &mut dyn Txn,
        arrived: &Arrived,
    ) -> Result<Option<PeerKey>, StoreError> {
        let content = &arrived.content;
        let [first, second] = content.parties.as_slice() else { return Ok(None) };
        let writer = arrived.peer.peer();
        if (first.node, &first.name) != (writer.node, &writer.name) {
            return Ok(None);
        }
        let other = Peer { node: second.node, name: second.name.clone() };
        let own = self.own_list.account();
        if arrived.from != self.own_key {
            let ours = other == self.own_peer();
            let chat = ChatId::of_two(&own, &arrived.account);
            return Ok((ours && chat == content.chat).then_some(arrived.from));
        }
        let (key, mut row) = self.know_peer(txn, &other)?;
        if row.lists.is_empty() {
            if row.chat.is_none() {
                row.chat = Some(content.chat);
                self.put(txn, PEERS, &key.0, &row)?;
            }
            return Ok(Some(key));
        }
        let chat = self.chat_with(txn, &key)?;
        Ok((chat == Some(content.chat)).then_some(key))
    }

    fn take_text(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        arrived: &Arrived,
        text: Text,
    ) -> Result<(), StoreError> {
        let content = &arrived.content;
        let mine = arrived.from == self.own_key;
        let key = MessageKey { peer, msg: content.msg, mine };
        let known: Option<MessageRow> = self.get(txn, MESSAGES, &key.bytes())?;
        let known = known.filter(|_| !self.is_sabotaged(Sabotage::NoDeviceDedup));
        let is_new = known.is_none();
        if let Some(mut row) = known {
            if self.was_sealed_again(txn, arrived, &row)? {
                row.device = content.device;
                row.sequence = content.sequence;
                row.heads.clone_from(&content.heads);
                row.created_ms = content.created_ms;
                row.hash = Some(arrived.hash);
                row.previous = content.previous;
                self.put(txn, MESSAGES, &key.bytes(), &row)?;
            }
        } else {
            let row = MessageRow {
                device: content.device,
                sequence: content.sequence,
                text,
                heads: content.heads.clone(),
                created_ms: content.created_ms,
                expires_ms: content.expires_ms,
                shown: false,
                displayed: mine,
                missing: 0,
                hash: Some(arrived.hash),
                previous: content.previous,
                previous_msg: None,
                received: Some((arrived.eid, arrived.copy)),
                content: None,
                targets: Vec::new(),
                envelopes: Vec::new(),
                resends: Vec::new(),
            };
            self.put(txn, MESSAGES, &key.bytes(), &row)?;
        }
        // Also a message that is known under another number closes the gap at its own.
        let sequence = (content.device, content.sequence);
        self.place(txn, now_ms, key, content.chat, sequence, is_new)?;
        if mine {
            self.map_siblings(txn, now_ms, &key, &arrived.siblings)?;
        }
        Ok(())
    }

    /// Whether a message that is known came once more from the device that stands in its writer's
    /// place: a device that was put back to an older image seals under its new id what it does not
    /// know to have sent. Devices that get only this one must show the same order as those that got
    /// both, so it counts. The text stays what it was.
    fn was_sealed_again(
        &self,
        txn: &dyn Txn,
        arrived: &Arrived,
        known: &MessageRow,
    ) -> Result<bool, StoreError> {
        let (old, new) = (known.device, arrived.content.device);
        if old == new || new == self.device {
            return Ok(false);
        }
        let listed = self.devices_of(txn, &arrived.from)?;
        let is_listed = |id| listed.iter().any(|device| device.id() == id);
        Ok(is_listed(new) && !is_listed(old))
    }

    /// Another own device has sent a message: its ticks are followed here too.
    fn map_siblings(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        key: &MessageKey,
        siblings: &[Sibling],
    ) -> Result<(), StoreError> {
        let Some(peer) = self.peer_row(txn, &key.peer)? else { return Ok(()) };
        for sibling in siblings {
            if self.get::<EnvelopeRow>(txn, ENVELOPES, &sibling.eid.0)?.is_some() {
                continue;
            }
            let copies = sibling.copies.iter().map(|copy| copy.copy).collect();
            let row = EnvelopeRow { destination: peer.node, copies };
            self.put(txn, ENVELOPES, &sibling.eid.0, &row)?;
            for copy in &sibling.copies {
                let row = CopyRow {
                    eid: sibling.eid,
                    device: copy.device,
                    peer: key.peer,
                    msg: Some(key.msg),
                    own: false,
                    outbox: None,
                    starts: 0,
                    is_replaced: false,
                };
                self.put(txn, COPIES, &copy.copy.0, &row)?;
                // That our node passes the copy on says that it has accepted all of it.
                let event = crate::status::seen_here(self.node_time(now_ms));
                let device = copy.device;
                self.raise(txn, &key.peer, key.msg, &device, Status::Accepted, event)?;
            }
            let proofs: Vec<Proof> = self.take_orphans(txn, &sibling.eid)?;
            for proof in proofs {
                self.take_proof(txn, now_ms, &proof)?;
            }
        }
        Ok(())
    }
}
