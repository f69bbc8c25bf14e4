//! What waits for own devices is pushed to them, within a window: read from its rows, or straight
//! from the batch that writes them when nothing older waits. Deletes nothing; see `inbox.rs`.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{Deliver, NodeFrame},
    envelope::{EnvelopeHead, Header, Target},
    id::{DeviceId, Eid},
    limits,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::Effect,
    event::ConnId,
    schema::{self, BODIES, INBOX, InboxRow, device_key, lsn_of, range_from},
    session::Greeted,
    settings::Sabotage,
};

/// Inbox rows read at once: a few disk pages, far below the window.
const PUMP_ROWS: usize = 64;

/// A copy whose row is written in this batch: pushed without reading it back.
#[derive(Debug)]
pub(crate) struct FreshCopy {
    pub(crate) lsn: u64,
    pub(crate) eid: Eid,
    pub(crate) header: Header,
    pub(crate) target: Target,
    pub(crate) shared: Bytes,
    pub(crate) is_inline: bool,
}

/// A copy that was pushed and is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pushed {
    pub(crate) eid: Eid,
    /// Its inbox row holds the only body.
    pub(crate) is_inline: bool,
}

impl Greeted {
    /// True when no inbox row lies at the cursor or behind it, but for the fresh ones.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up == Some(self.inbox_cursor)
    }

    /// From now on the rows on disk count, not those in memory.
    pub(crate) fn fall_behind(&mut self) {
        self.caught_up = None;
        self.fresh.clear();
    }
}

impl Core {
    /// Pushes what waits for a device, within its window.
    pub(crate) fn pump_device(
        &mut self,
        device: &DeviceId,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let Some(conn) = self.online.get(device).copied() else { return Ok(()) };
        self.push_fresh(conn, txn)?;
        'rows: while let Some((cursor, room)) = self.push_room(conn) {
            let max = room.min(PUMP_ROWS);
            let rows = range_from(txn, INBOX, device.as_bytes(), cursor, max)?;
            let is_last = rows.len() < max;
            for (key, bytes) in rows {
                let copy = read_copy(lsn_of(&key), &bytes, txn)?;
                if !self.push_copy(conn, copy, txn)? {
                    break 'rows;
                }
            }
            if is_last {
                if let Some(greeted) = self.greeted_mut(conn) {
                    greeted.caught_up = Some(greeted.inbox_cursor);
                }
                break;
            }
        }
        self.pump_notes(conn, device, txn)
    }

    /// Pushes what this batch has written, if nothing older waits.
    fn push_fresh(&mut self, conn: ConnId, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let Some(greeted) = self.greeted_mut(conn) else { return Ok(()) };
        let fresh = core::mem::take(&mut greeted.fresh);
        if !greeted.is_caught_up() {
            return Ok(());
        }
        for copy in fresh {
            let is_pushed = self.has_push_room(conn) && self.push_copy(conn, copy, txn)?;
            let Some(greeted) = self.greeted_mut(conn) else { return Ok(()) };
            if !is_pushed {
                greeted.fall_behind();
                return Ok(());
            }
            greeted.caught_up = Some(greeted.inbox_cursor);
        }
        Ok(())
    }

    fn has_push_room(&self, conn: ConnId) -> bool {
        self.greeted(conn)
            .is_some_and(|greeted| greeted.pushed.len() < limits::CLIENT_WINDOW_ENVELOPES)
    }

    /// Next row to read and rows that may be pushed, or `None` when the window is full or nothing
    /// more is there.
    fn push_room(&self, conn: ConnId) -> Option<(u64, usize)> {
        let greeted = self.greeted(conn).filter(|greeted| !greeted.is_caught_up())?;
        let room = limits::CLIENT_WINDOW_ENVELOPES.saturating_sub(greeted.pushed.len());
        (room > 0).then_some((greeted.inbox_cursor, room))
    }

    /// Pushes one copy; `false` when the window has no room for it.
    fn push_copy(
        &mut self,
        conn: ConnId,
        copy: FreshCopy,
        txn: &mut dyn Txn,
    ) -> Result<bool, StoreError> {
        let FreshCopy { lsn, eid, header, target, shared, is_inline } = copy;
        let is_expired = header.expires_ms <= self.now_ms;
        let push_expired = self.is_sabotaged(Sabotage::PushExpired);
        let bytes = target.part.len() + shared.len() + 256;
        let Some(greeted) = self.greeted_mut(conn) else { return Ok(false) };
        let used = greeted.pushed.weight();
        if !greeted.pushed.is_empty() && used + bytes > limits::CLIENT_WINDOW_BYTES {
            return Ok(false);
        }
        greeted.inbox_cursor = lsn + 1;
        if is_expired && !push_expired {
            return Ok(true);
        }
        greeted.pushed.insert(lsn, Pushed { eid, is_inline }, bytes);
        let device = greeted.device;
        if self.is_sabotaged(Sabotage::DeleteOnPush) {
            txn.delete(INBOX, &device_key(&device, lsn))?;
        }
        let frame = NodeFrame::Deliver(Deliver { inbox: lsn, eid, header, target });
        self.effects.push_back(Effect::ToClient { conn, frame, body: shared });
        Ok(true)
    }
}

/// The copy that an inbox row is about.
fn read_copy(lsn: u64, row: &[u8], txn: &dyn Txn) -> Result<FreshCopy, StoreError> {
    let InboxRow { eid, target: place, body } = schema::decode(row)?;
    let is_inline = body.is_some();
    let body = match body {
        Some(body) => body,
        None => schema::get(txn, BODIES, &lsn.to_be_bytes())?
            .ok_or_else(|| StoreError::corrupt("an inbox row without its body"))?,
    };
    let EnvelopeHead { header, targets } = schema::decode(&body.head)?;
    let target = usize::try_from(place).ok().and_then(|place| targets.into_iter().nth(place));
    let target = target.ok_or_else(|| StoreError::corrupt("an inbox row without its target"))?;
    Ok(FreshCopy { lsn, eid, header, target, shared: body.shared, is_inline })
}
