//! This device's store was rolled back: it takes a new id before it seals anything, so that no key,
//! number or nonce is ever used twice. Needs the right to sign device lists; else it stops.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::{
    client_frame::{ClientFrame, PublishList},
    content::Head,
    device_list::{Device, DeviceList},
    id::{DeviceId, MsgId},
    key::{PublicKey, SecretKey},
    refusal::RefusalCode,
    signed::Signed,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    Sabotage,
    account::listed,
    crypto::{DeviceSecrets, Sealer},
    event::{CloseWhy, StopWhy, Warning},
    link::Request,
    machine::{ClientCore, number},
    outbox::Queues,
    rows::{MessageKey, MessageRow, OutboxRow, PeerKey, Replacement, SenderRow, Work, sender_key},
    schema::{DEVICES, MESSAGES, OUTBOX, SEALED, SENDERS, TAGS},
};

impl<S: Sealer> ClientCore<S> {
    /// Draws the new device, brings the own lists up to date, publishes the one that names it.
    pub(crate) fn replace_device(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        if self.account.replacement.is_none() {
            self.warn(Warning::DeviceRolledBack);
            let fresh = DeviceSecrets::generate(&mut self.rng);
            let device = fresh.to_bytes().to_vec();
            self.account.replacement = Some(Replacement { device, list: None });
            self.save_account(txn)?;
        }
        let Some(session) = self.link.session() else { return Ok(()) };
        if session.list_version > self.own_list.list.version {
            // Lists that were published after the image was taken; the answer leads back here.
            return self.fetch(txn, self.own_key, false);
        }
        if self.is_replaced() {
            // The list that names the new device was published; the answer was lost.
            return self.become_replacement(txn, now_ms);
        }
        let Some(list) = self.replacement_list(now_ms) else {
            self.stop(StopWhy::RolledBack);
            return Ok(());
        };
        let version = self.own_list.list.version;
        if self.link.session().is_some_and(|session| session.overtaken_at == Some(version)) {
            // Refused as overtaken, by a node that shows nothing newer: not again on this link.
            self.warn(Warning::OwnKeysRefused(RefusalCode::Conflict));
            return Ok(());
        }
        if let Some(replacement) = &mut self.account.replacement {
            replacement.list = Some(list.clone());
        }
        self.save_account(txn)?;
        let request = self.number_request();
        self.requests.insert(request, Request::Replacement(version));
        self.tell_node(ClientFrame::PublishList(PublishList { request, list }));
        Ok(())
    }

    fn replacement_list(&self, now_ms: u64) -> Option<Signed<DeviceList>> {
        let replacement = self.account.replacement.as_ref()?;
        if let Some(list) = &replacement.list
            && list.peek().is_ok_and(|list| list.version == self.own_list.list.version + 1)
        {
            return Some(list.clone());
        }
        let fresh = DeviceSecrets::from_bytes(&replacement.device).ok()?;
        let lists = || self.account.lists.iter().rev().filter_map(|list| list.peek().ok());
        let label = lists().find_map(|list| {
            list.devices.iter().find(|d| d.id() == self.device).map(|d| d.label.clone())
        })?;
        let old = self.successor();
        let mut devices = self.own_list.list.devices.clone();
        devices.retain(|device| device.id() != old);
        devices.push(listed(&fresh, &label, now_ms));
        self.identity.next_list(devices, now_ms)
    }

    /// Another device of this account published a list first, and ours on top of `version` came too
    /// late; the new device goes on top of that one, which may be known here by now. The answer to the
    /// question leads back to [`Self::replace_device`].
    pub(crate) fn on_replacement_overtaken(
        &mut self,
        txn: &mut dyn Txn,
        version: u64,
    ) -> Result<(), StoreError> {
        if let Some(replacement) = &mut self.account.replacement {
            replacement.list = None;
        }
        self.save_account(txn)?;
        if let Some(session) = self.link.session_mut() {
            session.overtaken_at = Some(version);
        }
        self.fetch(txn, self.own_key, false)
    }

    fn is_replaced(&self) -> bool {
        let fresh = self.account.replacement.as_ref();
        let fresh = fresh.and_then(|row| DeviceSecrets::from_bytes(&row.device).ok());
        fresh.is_some_and(|fresh| {
            let key = PublicKey(fresh.device_key());
            self.own_list.device(&DeviceId::of(&key)).is_some()
        })
    }

    /// Who stands in this device's place in the newest list: itself, or the id that it took when it
    /// was rolled back before, which this store knows nothing of. One list put it there alone.
    fn successor(&self) -> DeviceId {
        let mut current = self.device;
        let mut before: Vec<DeviceId> = Vec::new();
        for list in self.account.lists.iter().filter_map(|list| list.peek().ok()) {
            let devices: Vec<DeviceId> = list.devices.iter().map(Device::id).collect();
            if before.contains(&current) && !devices.contains(&current) {
                let mut added = devices.iter().filter(|device| !before.contains(device));
                if let (Some(one), None) = (added.next(), added.next()) {
                    current = *one;
                }
            }
            before = devices;
        }
        current
    }

    /// The new list is in force: from here on this is another device.
    pub(crate) fn become_replacement(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let Some(replacement) = self.account.replacement.take() else { return Ok(()) };
        let fresh = DeviceSecrets::from_bytes(&replacement.device).map_err(StoreError::work)?;
        let old = self.device;
        self.account.device.clone_from(&replacement.device);
        self.identity.device = fresh;
        self.device = self.identity.device_id();
        self.key = SecretKey::from_seed(self.identity.device.signing_seed());
        let mut lists = self.account.lists.clone();
        let is_known = |list: &Signed<DeviceList>| lists.contains(list);
        lists.extend(replacement.list.filter(|list| !is_known(list)));
        self.renew_subkey();
        self.take_own_lists(txn, lists)?;
        if let Some(local) = self.identity.local() {
            self.local = local;
        }
        self.prekeys = self.sealer.create_prekeys(now_ms).map_err(StoreError::work)?;
        self.save_prekeys(txn)?;
        self.forget_sessions(txn)?;
        self.unseal_outbox(txn, old)?;
        // The node has no mark of the new device, and what we hold of the node's may be too old.
        self.close(CloseWhy::NewDeviceId);
        Ok(())
    }

    /// The old subkey names a device that is gone; whoever holds the account key makes a new one.
    fn renew_subkey(&mut self) {
        use tidings_protocol::{device_list::SubkeyCertificate, id::AccountId, signed::Signed};
        let subkey = self.identity.aik.as_ref().map(|aik| {
            let subkey = SecretKey::from_seed(&crate::account::draw(&mut self.rng));
            let certificate = SubkeyCertificate {
                account: AccountId::of(&aik.public()),
                subkey: subkey.public(),
                device: self.device,
            };
            (subkey, Signed::new(&certificate, aik))
        });
        self.identity.subkey = subkey;
        self.account.subkey = self.identity.to_row(true).subkey;
    }

    fn forget_sessions(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.bundles.clear();
        self.without_bundle.clear();
        for table in [TAGS, DEVICES] {
            loop {
                let rows = txn.range(table, &[], &prefix_end(&[]), 1_000)?;
                if rows.is_empty() {
                    break;
                }
                for (key, _) in rows {
                    txn.delete(table, &key)?;
                }
            }
        }
        Ok(())
    }

    /// Texts that are not final are sealed afresh; read marks and repairs of the old device are not.
    fn unseal_outbox(&mut self, txn: &mut dyn Txn, old: DeviceId) -> Result<(), StoreError> {
        self.queues = Queues::default();
        self.expiries.clear();
        let mut renewed = BTreeSet::new();
        let mut texts: BTreeMap<(PeerKey, bool, u64, u64), (MsgId, OutboxRow)> = BTreeMap::new();
        let mut from = Vec::new();
        loop {
            let rows = txn.range(OUTBOX, &from, &prefix_end(&[]), 1_000)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, sealed) in rows {
                let row: OutboxRow = self.vault.open(OUTBOX, &key, &sealed)?;
                txn.delete(SEALED, &key)?;
                txn.delete(OUTBOX, &key)?;
                let Work::Text { msg, .. } = row.work else { continue };
                if self.is_sabotaged(Sabotage::ForgetWhenRestored)
                    || !renewed.insert((row.peer, msg))
                {
                    continue;
                }
                let message = MessageKey { peer: row.peer, msg, mine: true };
                let text: Option<MessageRow> = self.get(txn, MESSAGES, &message.bytes())?;
                let sequence = text.map_or(0, |text| text.sequence);
                texts.insert((row.peer, sequence == 0, sequence, number(&key)?), (msg, row));
            }
        }
        self.renew_texts(txn, texts, old)
    }

    /// In the order in which the old device had sealed them: one that was sent again stands behind
    /// those that follow it, and sealed after them it would follow what follows it.
    fn renew_texts(
        &mut self,
        txn: &mut dyn Txn,
        texts: BTreeMap<(PeerKey, bool, u64, u64), (MsgId, OutboxRow)>,
        old: DeviceId,
    ) -> Result<(), StoreError> {
        let places: BTreeSet<(PeerKey, u64)> =
            texts.keys().map(|(peer, _, _, seq)| (*peer, *seq)).collect();
        for ((_, seq), (msg, mut row)) in places.into_iter().zip(texts.into_values()) {
            let message = MessageKey { peer: row.peer, msg, mine: true };
            self.renew_text(txn, &message, old)?;
            // Everybody gets what is sealed now, also who had it before: one place for all.
            row.work = Work::Text { msg, only: None };
            row.sealed = false;
            row.accepted = false;
            row.unsettled.clear();
            self.put(txn, OUTBOX, &seq.to_be_bytes(), &row)?;
            self.expiries.insert((row.expires_ms, seq));
            self.queues.restore(seq, &row);
        }
        Ok(())
    }

    /// A text of the old device is to be sealed under the new id, with a new number. It still comes
    /// after what the old device had sealed before it.
    pub(crate) fn renew_text(
        &mut self,
        txn: &mut dyn Txn,
        message: &MessageKey,
        old: DeviceId,
    ) -> Result<(), StoreError> {
        let Some(mut text) = self.get::<MessageRow>(txn, MESSAGES, &message.bytes())? else {
            return Ok(());
        };
        let before = match text.sequence {
            0 => self.last_sealed(txn, message, old)?,
            sequence => text.previous_msg.map(|msg| (sequence - 1, msg)),
        };
        let before = before.map(|(sequence, msg)| Head { device: old, sequence, msg });
        text.heads.extend(before.filter(|before| !text.heads.contains(before)));
        text.content = None;
        text.sequence = 0;
        text.previous_msg = None;
        text.targets.clear();
        self.put(txn, MESSAGES, &message.bytes(), &text)
    }

    /// The last message that a device of this account sealed in a conversation.
    fn last_sealed(
        &self,
        txn: &dyn Txn,
        message: &MessageKey,
        device: DeviceId,
    ) -> Result<Option<(u64, MsgId)>, StoreError> {
        let Some(chat) = self.chat_with(txn, &message.peer)? else { return Ok(None) };
        let row: Option<SenderRow> = self.get(txn, SENDERS, &sender_key(&chat, &device))?;
        Ok(row.and_then(|row| Some((row.next - 1, row.msg?))))
    }
}
