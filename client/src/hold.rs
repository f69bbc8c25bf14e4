//! Order within one device's messages: what comes before its turn is held for a while, then shown
//! with a mark for what is missing. Order among devices is `order.rs`.

use tidings_protocol::id::{ChatId, DeviceId};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    crypto::Sealer,
    event::{ClientEffect, MessageRef, ShownMessage, Warning},
    machine::{ClientCore, number},
    rows::{MessageKey, MessageRow, SenderRow, held_key, sender_key},
    schema::{HELD, MESSAGES, SENDERS, UNREAD},
};

/// For how long a message waits for the ones before it, while the link is up.
const HOLD_MS: u64 = 5_000;
/// For how long at least on each link: the node may have what is missing, and needs its time to hand it
/// over. Links that break before their time count together, so that nothing is held for ever.
const HOLD_ON_LINK_MS: u64 = 1_000;

/// How long the messages of one device in one chat wait for those before them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    /// What is left of the time, on the next link.
    left_ms: u64,
    /// Until when, while the link is up.
    pub(crate) until_ms: Option<u64>,
}

impl Hold {
    /// Waits from the next link on.
    pub(crate) const fn offline() -> Self {
        Self { left_ms: HOLD_MS, until_ms: None }
    }

    const fn until(until_ms: u64) -> Self {
        Self { left_ms: HOLD_MS, until_ms: Some(until_ms) }
    }
}

impl<S: Sealer> ClientCore<S> {
    /// Puts a message in its place: shows it, with those that waited for it, or holds it.
    pub(crate) fn place(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        key: MessageKey,
        chat: ChatId,
        (device, sequence): (DeviceId, u64),
        is_new: bool,
    ) -> Result<(), StoreError> {
        let known: Option<SenderRow> = self.get(txn, SENDERS, &sender_key(&chat, &device))?;
        // A device that was linked later has no claim to what was written before.
        let first = if self.is_first_device() { 1 } else { sequence };
        let mut row = known.unwrap_or(SenderRow::from(first));
        if sequence > row.next {
            self.put(txn, HELD, &held_key(&chat, &device, sequence), &key)?;
            let is_up = self.link.is_up();
            let hold = if is_up { Hold::until(now_ms + HOLD_MS) } else { Hold::offline() };
            self.holds.entry((chat, device)).or_insert(hold);
            return Ok(());
        }
        if sequence < row.next {
            if is_new {
                self.show(txn, now_ms, key, 0, true, None)?;
            }
            return Ok(());
        }
        self.show(txn, now_ms, key, 0, false, Some(&mut row))?;
        row.next = sequence + 1;
        self.drain(txn, now_ms, chat, device, row)
    }

    /// Shows what was held and whose turn has come.
    fn drain(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        chat: ChatId,
        device: DeviceId,
        mut row: SenderRow,
    ) -> Result<(), StoreError> {
        loop {
            let held = held_key(&chat, &device, row.next);
            let Some(key) = self.get::<MessageKey>(txn, HELD, &held)? else { break };
            txn.delete(HELD, &held)?;
            self.show(txn, now_ms, key, 0, false, Some(&mut row))?;
            row.next += 1;
        }
        let prefix = sender_key(&chat, &device);
        if txn.range(HELD, &prefix, &prefix_end(&prefix), 1)?.is_empty() {
            self.holds.remove(&(chat, device));
        }
        self.put(txn, SENDERS, &prefix, &row)
    }

    /// Waited long enough: the next held message is shown, with a mark for what is missing.
    pub(crate) fn release_overdue(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut overdue: Vec<(ChatId, DeviceId)> = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.until_ms.is_some_and(|at| at <= now_ms))
            .map(|(place, _)| *place)
            .collect();
        while let Some((chat, device)) = overdue.pop() {
            let prefix = sender_key(&chat, &device);
            let first = txn.range(HELD, &prefix, &prefix_end(&prefix), 1)?.pop();
            let Some((held, sealed)) = first else {
                self.holds.remove(&(chat, device));
                continue;
            };
            let key: MessageKey = self.vault.open(HELD, &held, &sealed)?;
            let sequence = number(held.get(48..).unwrap_or_default())?;
            let known: Option<SenderRow> = self.get(txn, SENDERS, &prefix)?;
            let mut row = known.unwrap_or(SenderRow::from(1));
            let missing = sequence.saturating_sub(row.next);
            txn.delete(HELD, &held)?;
            // What it continues is not here, so the chain of hashes begins anew.
            row.last = None;
            self.show(txn, now_ms, key, missing, false, Some(&mut row))?;
            row.next = sequence + 1;
            // The next gap is waited for likewise, but not once the node has nothing that could fill it.
            if self.link.is_caught_up() {
                overdue.push((chat, device));
            }
            self.holds.insert((chat, device), Hold::until(now_ms + HOLD_MS));
            self.drain(txn, now_ms, chat, device, row)?;
        }
        Ok(())
    }

    pub(crate) fn start_holds(&mut self, now_ms: u64) {
        for hold in self.holds.values_mut() {
            hold.until_ms = Some(now_ms + hold.left_ms.max(HOLD_ON_LINK_MS));
        }
    }

    /// The link ended at this time. Other links go on from there.
    pub(crate) fn stop_holds(&mut self, ended_ms: u64) {
        for hold in self.holds.values_mut() {
            if let Some(until_ms) = hold.until_ms.take() {
                hold.left_ms = until_ms.saturating_sub(ended_ms);
            }
        }
    }

    fn show(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        key: MessageKey,
        missing: u64,
        is_late: bool,
        mut sender: Option<&mut SenderRow>,
    ) -> Result<(), StoreError> {
        // What is not shown below cannot say what is missing before it: the next one does.
        let missing = match &mut sender {
            Some(sender) => {
                sender.unsaid += missing;
                sender.unsaid
            }
            None => missing,
        };
        let Some(mut row) = self.get::<MessageRow>(txn, MESSAGES, &key.bytes())? else {
            return Ok(());
        };
        let Some(peer) = self.peer_row(txn, &key.peer)? else { return Ok(()) };
        let message = MessageRef { peer: peer.peer(), msg: key.msg, mine: key.mine };
        if let Some(sender) = &mut sender {
            if sender.last.is_some() && row.previous != sender.last && !row.shown {
                self.warn(Warning::Forked(message.clone()));
            }
            // What is shown already came under another number, with another content around it.
            sender.last = row.hash.filter(|_| !row.shown);
            sender.msg = Some(key.msg);
        }
        if row.shown {
            return Ok(());
        }
        if row.expires_ms <= self.node_time(now_ms) {
            self.counters.expired_unshown += 1;
            return Ok(());
        }
        row.shown = true;
        row.missing = missing;
        if let Some(sender) = sender {
            sender.unsaid = 0;
        }
        self.put(txn, MESSAGES, &key.bytes(), &row)?;
        if !row.displayed {
            txn.put(UNREAD, &key.bytes(), &[])?;
        }
        self.effect(ClientEffect::Show(ShownMessage {
            message,
            device: row.device,
            sequence: row.sequence,
            missing,
            is_late,
            text: row.text.text,
            reply_to: row.text.reply_to,
            created_ms: row.created_ms,
        }));
        Ok(())
    }

    fn is_first_device(&self) -> bool {
        self.account
            .lists
            .first()
            .and_then(|list| list.peek().ok())
            .is_some_and(|list| list.devices.iter().any(|device| device.id() == self.device))
    }
}
