//! When sessions have come apart: a fresh session and a list of what was lost; and at the other side,
//! sending that again. Also copies for devices that a peer has added meanwhile.

use tidings_protocol::{
    device_list::{CheckedList, Device},
    envelope::Class,
    id::{CopyId, MsgId, timed_id},
    limits::{CLOCK_SKEW_MS_MAX, MESSAGE_LIFE_MS_MAX},
    statement::{Reason, Statement},
};
use tidings_store::{StoreError, Txn};

use crate::{
    content_in::Arrived,
    crypto::Sealer,
    event::Status,
    machine::ClientCore,
    rows::{
        CopyRow, DeviceRow, MessageKey, MessageRow, OutboxRow, PeerKey, StatusRow, Work, status_key,
    },
    schema::{COPIES, DEVICES, MESSAGES, OUTBOX, STATUS},
};

/// How often one message is sealed again for one device.
const RESENDS_MAX: u8 = 3;
/// Lost copies named in one repair; the rest is only late.
const LOST_MAX: usize = 256;
/// Rows read at a time when a peer has a new device.
const CATCH_UP_ROWS: usize = 256;

impl<S: Sealer> ClientCore<S> {
    /// Begins a new session with a device and asks it for what could not be opened. While a repair
    /// waits in the outbox, more losses join it.
    pub(crate) fn start_repair(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        mut entry: DeviceRow,
        copy: CopyId,
    ) -> Result<(), StoreError> {
        if let Some(seq) = entry.repair {
            let key = seq.to_be_bytes();
            if let Some(mut row) = self.get::<OutboxRow>(txn, OUTBOX, &key)? {
                let Work::Repair { lost, .. } = &mut row.work else { return Ok(()) };
                if !row.sealed && lost.len() < LOST_MAX && !lost.contains(&copy) {
                    lost.push(copy);
                    return self.put(txn, OUTBOX, &key, &row);
                }
                if !row.sealed {
                    return Ok(());
                }
            }
        }
        // The first loss asks for a fresh session; losses that arrive while that is on its way were
        // sealed in the old one, and only add to the list.
        entry.wants_start = entry.wants_start || entry.repair.is_none();
        let device = entry.device.id();
        let work = Work::Repair { device, lost: vec![copy] };
        let expires_ms = self.node_time(now_ms) + MESSAGE_LIFE_MS_MAX;
        let seq = self.enqueue(txn, now_ms, entry.peer, work, Class::Control, expires_ms)?;
        entry.repair = Some(seq);
        self.counters.repairs += 1;
        self.save_device(txn, &mut entry)
    }

    /// A repair has left the outbox.
    pub(crate) fn repair_is_over(
        &mut self,
        txn: &mut dyn Txn,
        seq: u64,
        row: &OutboxRow,
    ) -> Result<(), StoreError> {
        let Work::Repair { device, .. } = &row.work else { return Ok(()) };
        let known: Option<DeviceRow> = self.get(txn, DEVICES, &device.0)?;
        match known {
            Some(mut entry) if entry.repair == Some(seq) => {
                entry.repair = None;
                self.save_device(txn, &mut entry)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A device could not open some copies: their messages are sealed again for it.
    pub(crate) fn send_lost_again(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        arrived: &Arrived,
        lost: &[CopyId],
    ) -> Result<(), StoreError> {
        let device = arrived.content.device;
        for copy in lost.iter().take(LOST_MAX) {
            let row: Option<CopyRow> = self.get(txn, COPIES, &copy.0)?;
            if row.is_some_and(|row| row.device == device) {
                self.replace_copy(txn, now_ms, *copy, false)?;
            }
        }
        Ok(())
    }

    /// A device could not open a copy: its message is sealed again for it, each copy once and each
    /// message a few times. In a fresh session, unless one was begun since the copy was sealed or the
    /// device has begun one itself.
    pub(crate) fn replace_copy(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        copy: CopyId,
        afresh: bool,
    ) -> Result<(), StoreError> {
        let Some(mut row) = self.get::<CopyRow>(txn, COPIES, &copy.0)? else { return Ok(()) };
        let known: Option<DeviceRow> = self.get(txn, DEVICES, &row.device.0)?;
        let (Some(mut entry), Some(_), false) = (known, row.outbox, row.is_replaced) else {
            return Ok(());
        };
        row.is_replaced = true;
        self.put(txn, COPIES, &copy.0, &row)?;
        if afresh && row.starts == entry.starts && !entry.wants_start {
            entry.wants_start = true;
            self.save_device(txn, &mut entry)?;
        }
        let Some(msg) = row.msg else { return Ok(()) };
        let key = MessageKey { peer: row.peer, msg, mine: true }.bytes();
        let Some(mut message) = self.get::<MessageRow>(txn, MESSAGES, &key)? else {
            return Ok(());
        };
        let device = row.device;
        match message.resends.iter_mut().find(|(to, _)| *to == device) {
            Some((_, count)) if *count >= RESENDS_MAX => return Ok(()),
            Some((_, count)) => *count += 1,
            None => message.resends.push((device, 1)),
        }
        self.put(txn, MESSAGES, &key, &message)?;
        self.counters.resends += 1;
        self.seal_again(txn, now_ms, row.peer, msg, vec![device])
    }

    /// Seals a message again for these devices, each apart: one that cannot be written to yet keeps
    /// no other one waiting.
    pub(crate) fn seal_again(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        msg: MsgId,
        only: Vec<tidings_protocol::id::DeviceId>,
    ) -> Result<(), StoreError> {
        let key = MessageKey { peer, msg, mine: true };
        let Some(row) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())? else {
            return Ok(());
        };
        if row.expires_ms <= self.node_time(now_ms) {
            return Ok(());
        }
        if row.sequence > 0 && row.device != self.device {
            // It was sealed under an id that this device has no more.
            self.renew_text(txn, &key, row.device)?;
            let work = Work::Text { msg, only: None };
            self.enqueue(txn, now_ms, peer, work, Class::Message, row.expires_ms)?;
            return Ok(());
        }
        for device in only {
            let work = Work::Text { msg, only: Some(vec![device]) };
            self.enqueue(txn, now_ms, peer, work, Class::Message, row.expires_ms)?;
        }
        Ok(())
    }

    /// A device that we wrote to is no longer listed: the newer list says who to write to instead.
    pub(crate) fn look_up_again(
        &mut self,
        txn: &mut dyn Txn,
        statement: &Statement,
    ) -> Result<(), StoreError> {
        if !matches!(statement.reason, Some(Reason::UnknownRecipient | Reason::DeviceRemoved)) {
            return Ok(());
        }
        let Some(copy) = statement.copy else { return Ok(()) };
        let Some(row) = self.get::<CopyRow>(txn, COPIES, &copy.0)? else { return Ok(()) };
        let peer = if row.own { self.own_key } else { row.peer };
        let listed = self.devices_of(txn, &peer)?.iter().any(|device| device.id() == row.device);
        // Once the newer list is known there is no more to learn.
        if row.outbox.is_some() && listed { self.fetch(txn, peer, true) } else { Ok(()) }
    }

    /// A peer has new devices: what was sealed without them since they were listed is sealed for
    /// them as well, under the same message id; and what was sealed for a device that is gone and
    /// had not said that it has it.
    pub(crate) fn seal_for_new_devices(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        list: &CheckedList,
    ) -> Result<(), StoreError> {
        let since = list.list.issued_ms.saturating_sub(CLOCK_SKEW_MS_MAX);
        let oldest = self.node_time(now_ms).saturating_sub(MESSAGE_LIFE_MS_MAX);
        let at = |ms| MessageKey { peer, msg: MsgId(timed_id(ms, [0; 10])), mine: false }.bytes();
        let to = MessageKey { peer, msg: MsgId([u8::MAX; 16]), mine: true }.bytes();
        let mut from = at(oldest);
        loop {
            let rows = txn.range(MESSAGES, &from, &to, CATCH_UP_ROWS)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for (key, sealed) in rows {
                let Some(key) = MessageKey::read(&key).filter(|key| key.mine) else { continue };
                let row: MessageRow = self.vault.open(MESSAGES, &key.bytes(), &sealed)?;
                if row.content.is_none() || row.device != self.device || row.targets.is_empty() {
                    continue;
                }
                let devices = list.list.devices.iter().map(Device::id);
                let missing: Vec<_> = devices.filter(|d| !row.targets.contains(d)).collect();
                let is_recent = row.created_ms >= since;
                if !missing.is_empty() && (is_recent || self.is_bereft(txn, &key, &row, list)?) {
                    self.seal_again(txn, now_ms, peer, key.msg, missing)?;
                }
            }
        }
    }

    /// A device that is gone had not said that it has the message.
    fn is_bereft(
        &self,
        txn: &dyn Txn,
        key: &MessageKey,
        row: &MessageRow,
        list: &CheckedList,
    ) -> Result<bool, StoreError> {
        for device in row.targets.iter().filter(|device| list.device(device).is_none()) {
            let status = status_key(&key.peer, &key.msg, device);
            let status: Option<StatusRow> = self.get(txn, STATUS, &status)?;
            let has_it = status.is_some_and(|s| s.status().rank() >= Status::Delivered.rank());
            if !has_it {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
