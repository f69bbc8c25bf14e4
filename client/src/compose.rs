//! What a person writes becomes a message on disk, at the clock stage. Nothing is sealed here.

use tidings_protocol::{
    content::Text,
    envelope::Class,
    id::{DeviceId, MsgId},
    limits,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    event::{ClientEffect, ComposeError, MessageRef, SendText, Status},
    machine::ClientCore,
    rows::{MessageKey, MessageRow, OutboxRow, PeerKey, Work},
    schema::{MESSAGES, OUTBOX, STATUS},
};

/// Rows in the outbox at most.
const OUTBOX_MAX: usize = 100_000;
/// Devices of one person, those that were replaced included.
const HEARD_OF_MAX: usize = 256;

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn on_send(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        send: SendText,
    ) -> Result<(), StoreError> {
        let token = send.token;
        let refusal = if self.stopped.is_some() {
            Some(ComposeError::Stopped)
        } else if send.text.len() > limits::TEXT_BYTES_MAX {
            Some(ComposeError::TooLong)
        } else if send.to == self.own_peer() {
            Some(ComposeError::ToSelf)
        } else if self.expiries.len() >= OUTBOX_MAX {
            Some(ComposeError::OutboxFull)
        } else {
            None
        };
        if let Some(why) = refusal {
            self.effect(ClientEffect::NotComposed { token, why });
            return Ok(());
        }
        let (peer, _) = self.know_peer(txn, &send.to)?;
        let created_ms = self.node_time(now_ms);
        let life = self.settings.message_life_ms.clamp(1, limits::MESSAGE_LIFE_MS_MAX);
        let msg = self.new_msg_id(created_ms);
        let chat = self.chat_with(txn, &peer)?;
        let heads = chat.map(|chat| self.heads(txn, &chat)).transpose()?.unwrap_or_default();
        let row = MessageRow {
            device: self.device,
            sequence: 0,
            text: Text { text: send.text, reply_to: send.reply_to },
            heads,
            created_ms,
            expires_ms: created_ms + life,
            shown: true,
            displayed: true,
            missing: 0,
            hash: None,
            previous: None,
            previous_msg: None,
            received: None,
            content: None,
            targets: Vec::new(),
            envelopes: Vec::new(),
            resends: Vec::new(),
        };
        let key = MessageKey { peer, msg, mine: true };
        self.put(txn, MESSAGES, &key.bytes(), &row)?;
        let work = Work::Text { msg, only: None };
        self.enqueue(txn, now_ms, peer, work, Class::Message, row.expires_ms)?;
        let message = MessageRef { peer: send.to, msg, mine: true };
        self.effect(ClientEffect::Composed { token, message });
        Ok(())
    }

    /// Puts work into the outbox; it is sealed when its turn comes.
    pub(crate) fn enqueue(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        work: Work,
        class: Class,
        expires_ms: u64,
    ) -> Result<u64, StoreError> {
        let row = OutboxRow {
            peer,
            work,
            class,
            created_ms: self.node_time(now_ms),
            expires_ms,
            sealed: false,
            accepted: false,
            unsettled: Vec::new(),
        };
        let seq = self.queues.number(now_ms);
        self.put(txn, OUTBOX, &seq.to_be_bytes(), &row)?;
        self.expiries.insert((expires_ms, seq));
        self.queues.add(seq, peer);
        Ok(seq)
    }

    /// The devices of which something is known about a message that is sealed for none: it was, before
    /// this device got a new id. One that stands for all of them when there are none.
    fn heard_of(
        &self,
        txn: &dyn Txn,
        peer: &PeerKey,
        msg: &MsgId,
    ) -> Result<Vec<DeviceId>, StoreError> {
        let prefix = [peer.0.as_slice(), &msg.0].concat();
        let rows = txn.range(STATUS, &prefix, &prefix_end(&prefix), HEARD_OF_MAX)?;
        let device = |key: &[u8]| key.get(prefix.len()..).and_then(DeviceId::from_slice);
        let mut devices: Vec<DeviceId> = rows.iter().filter_map(|(key, _)| device(key)).collect();
        if devices.is_empty() {
            devices.push(DeviceId([0; 16]));
        }
        Ok(devices)
    }

    /// A message will not be delivered, as far as this device knows by itself.
    pub(crate) fn fail_locally(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        row: &OutboxRow,
        reason: tidings_protocol::statement::Reason,
    ) -> Result<(), StoreError> {
        let Work::Text { msg, only } = &row.work else { return Ok(()) };
        let key = MessageKey { peer: row.peer, msg: *msg, mine: true };
        let Some(message) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())? else {
            return Ok(());
        };
        let devices = match only {
            Some(only) => only.clone(),
            None if message.targets.is_empty() => self.heard_of(txn, &row.peer, msg)?,
            None => message.targets.clone(),
        };
        for device in devices {
            let event = crate::status::known_here(self.node_time(now_ms), reason);
            self.raise(txn, &row.peer, *msg, &device, Status::Failed(Some(reason)), event)?;
        }
        Ok(())
    }
}
