//! What a device can be asked, without writing: conversations in their order, statuses, peers.

use tidings_protocol::{
    id::{DeviceId, MsgId},
    key::PublicKey,
};
use tidings_store::{StoreError, Txn, prefix_end};

use crate::{
    account::newest,
    crypto::Sealer,
    event::{MessageRef, Peer, Status},
    machine::ClientCore,
    order::{Placed, arrange},
    rows::{MessageKey, MessageRow, PeerKey, PeerRow, StatusEvent, StatusRow},
    schema::{MESSAGES, PEERS, STATUS},
};

/// A message as a conversation shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// The message.
    pub message: MessageRef,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Its number in the chat, per device; zero while it waits to be sealed.
    pub sequence: u64,
    /// How many messages of that device just before it are missing.
    pub missing: u64,
    /// What it says.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<MsgId>,
    /// What that message says, when it is here.
    pub answers: Option<String>,
    /// Unix ms, by the writer's clock.
    pub created_ms: u64,
    /// It was displayed, here or on another own device.
    pub displayed: bool,
    /// Of an own message: what is known at each device of the recipient.
    pub statuses: Vec<(DeviceId, Status)>,
}

/// What is known of a message at one device, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusView {
    /// The recipient's device; zeros when none was known.
    pub device: DeviceId,
    /// Where it stands.
    pub status: Status,
    /// What was said, by whom, in the order of arrival.
    pub events: Vec<StatusEvent>,
}

/// A pinned account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Who.
    pub peer: Peer,
    /// The account key, once one is pinned.
    pub account_key: Option<PublicKey>,
    /// The devices.
    pub devices: Vec<DeviceId>,
    /// Another account key that waits to be accepted.
    pub offered_key: Option<PublicKey>,
}

impl<S: Sealer> ClientCore<S> {
    /// The last `max` messages of a conversation by time of writing, in the order of
    /// [`crate::order::arrange`].
    ///
    /// # Errors
    /// Only from the store.
    pub fn conversation(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        max: usize,
    ) -> Result<Vec<MessageView>, StoreError> {
        let key = self.vault.peer(peer);
        let (mut rows, _) = self.rows_before(txn, &key, prefix_end(&key.0), max)?;
        rows.reverse();
        self.arranged(txn, peer, rows)
    }

    /// Messages of a conversation in the order in which they are shown.
    pub(crate) fn arranged(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        rows: Vec<(MessageKey, MessageRow)>,
    ) -> Result<Vec<MessageView>, StoreError> {
        let placed: Vec<Placed> = rows.iter().map(|(key, row)| Placed::of(key.msg, row)).collect();
        let mut rows: Vec<Option<_>> = rows.into_iter().map(Some).collect();
        let mut views = Vec::with_capacity(rows.len());
        for index in arrange(&placed) {
            let Some((key, row)) = rows.get_mut(index).and_then(Option::take) else { continue };
            views.push(self.message_view(txn, peer, key, row)?);
        }
        Ok(views)
    }

    pub(crate) fn message_view(
        &self,
        txn: &dyn Txn,
        peer: &Peer,
        key: MessageKey,
        row: MessageRow,
    ) -> Result<MessageView, StoreError> {
        let message = MessageRef { peer: peer.clone(), msg: key.msg, mine: key.mine };
        let statuses = self.statuses(txn, &message)?;
        let answers = match row.text.reply_to {
            Some(msg) => self.text_of(txn, key.peer, msg)?,
            None => None,
        };
        Ok(MessageView {
            message,
            device: row.device,
            sequence: row.sequence,
            missing: row.missing,
            text: row.text.text,
            reply_to: row.text.reply_to,
            answers,
            created_ms: row.created_ms,
            displayed: row.displayed,
            statuses: statuses.into_iter().map(|view| (view.device, view.status)).collect(),
        })
    }

    /// What a message of either party says.
    fn text_of(
        &self,
        txn: &dyn Txn,
        peer: PeerKey,
        msg: MsgId,
    ) -> Result<Option<String>, StoreError> {
        for mine in [false, true] {
            let key = MessageKey { peer, msg, mine };
            let row: Option<MessageRow> = self.get(txn, MESSAGES, &key.bytes())?;
            if let Some(row) = row.filter(|row| row.shown) {
                return Ok(Some(row.text.text));
            }
        }
        Ok(None)
    }

    /// What is known of an own message at each device of its recipient. Empty while it is queued.
    ///
    /// # Errors
    /// Only from the store.
    pub fn statuses(
        &self,
        txn: &dyn Txn,
        message: &MessageRef,
    ) -> Result<Vec<StatusView>, StoreError> {
        let mut views = Vec::new();
        if !message.mine {
            return Ok(views);
        }
        let prefix = [self.vault.peer(&message.peer).0.as_slice(), &message.msg.0].concat();
        for (key, sealed) in txn.range(STATUS, &prefix, &prefix_end(&prefix), 256)? {
            let row: StatusRow = self.vault.open(STATUS, &key, &sealed)?;
            let Some(device) = key.get(48..).and_then(DeviceId::from_slice) else { continue };
            views.push(StatusView { device, status: row.status(), events: row.events });
        }
        Ok(views)
    }

    /// Everybody that this device knows, without the own account.
    ///
    /// # Errors
    /// Only from the store.
    pub fn peers(&self, txn: &dyn Txn) -> Result<Vec<PeerView>, StoreError> {
        let mut views = Vec::new();
        for (key, sealed) in txn.range(PEERS, &[], &prefix_end(&[]), 10_000)? {
            let row: PeerRow = self.vault.open(PEERS, &key, &sealed)?;
            if key == self.own_key.0 {
                continue;
            }
            let list = newest(&row.lists).ok();
            let offered = row.offered.as_ref().and_then(|list| list.peek().ok());
            views.push(PeerView {
                peer: row.peer(),
                account_key: list.as_ref().map(|list| list.list.identity),
                devices: list
                    .map(|list| list.list.devices.iter().map(|d| d.id()).collect())
                    .unwrap_or_default(),
                offered_key: offered.map(|list| list.identity),
            });
        }
        Ok(views)
    }

    /// How many rows wait in the outbox: not final yet.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.expiries.len()
    }
}
