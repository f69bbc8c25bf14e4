//! When sessions have come apart: a fresh session and a list of what was lost; and at the other side,
//! sending that again. Also copies for devices that a peer has added meanwhile.

use tidings_protocol::{
    device_list::CheckedList,
    envelope::Class,
    id::{CopyId, MsgId, timed_id},
    limits::{CLOCK_SKEW_MS_MAX, MESSAGE_LIFE_MS_MAX},
};
use tidings_store::{StoreError, Txn};

use crate::{
    content_in::Arrived,
    crypto::Sealer,
    machine::ClientCore,
    rows::{
        CopyRow, DeviceRow, MessageKey, MessageRow, OutboxRow, PeerKey, StatusRow, Work, status_key,
    },
    schema::{COPIES, MESSAGES, OUTBOX, STATUS},
};

/// How often one message is sealed again for one device.
const RESENDS_MAX: u8 = 3;
/// Lost copies named in one repair; the rest is only late.
const LOST_MAX: usize = 256;
/// Messages looked at when a peer has a new device.
const CATCH_UP_MAX: usize = 1_000;

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
        let known: Option<DeviceRow> = self.get(txn, crate::schema::DEVICES, &device.0)?;
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
            let Some(row) = self.get::<CopyRow>(txn, COPIES, &copy.0)? else { continue };
            let (Some(msg), true) = (row.msg, row.device == device && row.outbox.is_some()) else {
                continue;
            };
            let key = status_key(&row.peer, &msg, &device);
            let mut status = self.get::<StatusRow>(txn, STATUS, &key)?.unwrap_or(StatusRow::new());
            if status.resends >= RESENDS_MAX {
                continue;
            }
            status.resends += 1;
            self.put(txn, STATUS, &key, &status)?;
            self.counters.resends += 1;
            self.seal_again(txn, now_ms, row.peer, msg, vec![device])?;
        }
        Ok(())
    }

    fn seal_again(
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
        let work = Work::Text { msg, only: Some(only) };
        self.enqueue(txn, now_ms, peer, work, Class::Message, row.expires_ms)?;
        Ok(())
    }

    /// A peer has new devices: what was sealed without them since they were listed is sealed for
    /// them as well, under the same message id.
    pub(crate) fn seal_for_new_devices(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        list: &CheckedList,
    ) -> Result<(), StoreError> {
        let since = list.list.issued_ms.saturating_sub(CLOCK_SKEW_MS_MAX);
        let from = MessageKey { peer, msg: MsgId(timed_id(since, [0; 10])), mine: false }.bytes();
        let to = MessageKey { peer, msg: MsgId([u8::MAX; 16]), mine: true }.bytes();
        for (key, sealed) in txn.range(MESSAGES, &from, &to, CATCH_UP_MAX)? {
            let Some(key) = MessageKey::read(&key).filter(|key| key.mine) else { continue };
            let row: MessageRow = self.vault.open(MESSAGES, &key.bytes(), &sealed)?;
            if row.content.is_none() || row.device != self.device || row.targets.is_empty() {
                continue;
            }
            let missing: Vec<_> = list
                .list
                .devices
                .iter()
                .map(tidings_protocol::device_list::Device::id)
                .filter(|device| !row.targets.contains(device))
                .collect();
            if !missing.is_empty() {
                self.seal_again(txn, now_ms, peer, key.msg, missing)?;
            }
        }
        Ok(())
    }
}
