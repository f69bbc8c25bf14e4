//! What stands in each row of `schema.rs`, and how keys are made. No behaviour.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidings_protocol::{
    address::UserName,
    client_frame::InviteSecret,
    content::{Head, Text},
    descriptor::Delegation,
    device_list::{Device, DeviceList, SubkeyCertificate},
    envelope::{Class, EnvelopeHead},
    hello::Mark,
    id::{ChatId, CopyId, DeviceId, Eid, Hash, MsgId, NodeId, SubmitId},
    key::PublicKey,
    signed::Signed,
    statement::{Claim, Proof, Reason},
};

use crate::event::{Peer, Status};

/// Key of a peer's rows: a keyed hash of node and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PeerKey(pub(crate) [u8; 32]);

/// The device itself.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AccountRow {
    pub(crate) node: NodeId,
    pub(crate) name: UserName,
    #[serde(with = "serde_bytes")]
    pub(crate) device: Vec<u8>,
    pub(crate) aik: Option<Seed>,
    pub(crate) subkey: Option<(Seed, Signed<SubkeyCertificate>)>,
    /// Every version of the own list that is known, oldest first.
    pub(crate) lists: Vec<Signed<DeviceList>>,
    pub(crate) joined: bool,
    pub(crate) invite: Option<InviteSecret>,
    pub(crate) replacement: Option<Replacement>,
}

/// 32 secret bytes.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Seed(#[serde(with = "serde_bytes")] pub(crate) [u8; 32]);

/// The device id that this device takes because its store was rolled back.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Replacement {
    #[serde(with = "serde_bytes")]
    pub(crate) device: Vec<u8>,
    /// The list that names it, once it could be made.
    pub(crate) list: Option<Signed<DeviceList>>,
}

/// What is known of the own node.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct NodeRow {
    pub(crate) incarnation: Option<u64>,
    pub(crate) mark: Option<Mark>,
    /// Each delegation that was seen, oldest first.
    pub(crate) delegations: Vec<Signed<Delegation>>,
}

/// A pinned account. The own account is one of them.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct PeerRow {
    pub(crate) node: NodeId,
    pub(crate) name: UserName,
    /// Checked versions of the list, oldest first; the last is the one in force.
    pub(crate) lists: Vec<Signed<DeviceList>>,
    /// A list under another account key, which a person has to accept first.
    pub(crate) offered: Option<Signed<DeviceList>>,
    /// The chat, as another own device named it before the account was known here.
    pub(crate) chat: Option<ChatId>,
}

/// Sessions with one device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DeviceRow {
    pub(crate) peer: PeerKey,
    pub(crate) device: Device,
    pub(crate) state: Option<Bytes>,
    /// The tags in [`crate::schema::TAGS`] that lead here.
    pub(crate) tags: Vec<Bytes>,
    /// The sessions have come apart: the next thing sealed must begin a new one.
    pub(crate) wants_start: bool,
    /// How many sessions this side has begun.
    pub(crate) starts: u32,
    /// The repair under way in the outbox.
    pub(crate) repair: Option<u64>,
}

/// Where the sequence of one device in one chat stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SenderRow {
    /// The next number that is expected, or to be used by this device itself.
    pub(crate) next: u64,
    /// Hash of the content before it.
    pub(crate) last: Option<Hash>,
    /// The message before it.
    pub(crate) msg: Option<MsgId>,
    /// Messages that are missing and that no shown message says so of yet.
    pub(crate) unsaid: u64,
}

impl SenderRow {
    pub(crate) const fn from(next: u64) -> Self {
        Self { next, last: None, msg: None, unsaid: 0 }
    }
}

/// A message.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct MessageRow {
    pub(crate) device: DeviceId,
    /// Zero until it is sealed for the first time.
    pub(crate) sequence: u64,
    pub(crate) text: Text,
    /// What its writer had been shown when it was written.
    pub(crate) heads: Vec<Head>,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) shown: bool,
    pub(crate) displayed: bool,
    pub(crate) missing: u64,
    /// Hash of its content and of the content before it.
    pub(crate) hash: Option<Hash>,
    pub(crate) previous: Option<Hash>,
    /// Of a message by this device: the message with the number before its own.
    pub(crate) previous_msg: Option<MsgId>,
    /// Of another's message: the copy that came here.
    pub(crate) received: Option<(Eid, CopyId)>,
    /// Of a message by this device: the content as it was sealed, for copies that follow.
    pub(crate) content: Option<Bytes>,
    /// Of an own message: the peer's devices that it was sealed for, and the envelopes.
    pub(crate) targets: Vec<DeviceId>,
    pub(crate) envelopes: Vec<Eid>,
    /// How often it was sealed again for a device that could not open it.
    pub(crate) resends: Vec<(DeviceId, u8)>,
}

/// What an outbox row sends.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// A text, for all devices or for those that missed it.
    Text { msg: MsgId, only: Option<Vec<DeviceId>> },
    /// Read marks.
    Read { messages: Vec<MsgId>, proof: Proof, to_peer: bool },
    /// A fresh session for one device, and the copies that could not be opened.
    Repair { device: DeviceId, lost: Vec<CopyId> },
}

/// Work that is not final yet.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct OutboxRow {
    pub(crate) peer: PeerKey,
    pub(crate) work: Work,
    pub(crate) class: Class,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) sealed: bool,
    pub(crate) accepted: bool,
    /// Copies without a terminal statement.
    pub(crate) unsettled: Vec<CopyId>,
}

/// What is resent verbatim.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SealedRow {
    pub(crate) submit: SubmitId,
    pub(crate) heads: Vec<EnvelopeHead>,
    pub(crate) shared: Bytes,
    pub(crate) eids: Vec<Eid>,
}

/// One copy that an own device sent.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CopyRow {
    pub(crate) eid: Eid,
    pub(crate) device: DeviceId,
    /// The conversation, and the message if it is one.
    pub(crate) peer: PeerKey,
    pub(crate) msg: Option<MsgId>,
    /// For another device of this account: it moves no tick.
    pub(crate) own: bool,
    /// The outbox row, when this device sent it.
    pub(crate) outbox: Option<u64>,
    /// [`DeviceRow::starts`] when it was sealed.
    pub(crate) starts: u32,
    /// Its message was sealed again, because the device could not open this copy.
    pub(crate) is_replaced: bool,
}

/// One envelope that an own device sent.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EnvelopeRow {
    pub(crate) destination: NodeId,
    pub(crate) copies: Vec<CopyId>,
}

/// What is known of a message at one device.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StatusRow {
    pub(crate) rank: u8,
    pub(crate) reason: Option<Reason>,
    pub(crate) events: Vec<StatusEvent>,
}

/// One thing that somebody said about a message, with the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusEvent {
    /// What was claimed; absent for what this device knows by itself.
    pub claim: Option<Claim>,
    /// When, by the signer's clock, in Unix ms.
    pub at_ms: u64,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// Until when a custodian holds it, in Unix ms.
    pub until_ms: Option<u64>,
    /// The node that signed; absent when a device did.
    pub node: Option<NodeId>,
    /// The key that signed.
    pub key: Option<PublicKey>,
    /// False when the key of a foreign node could not be traced to its root key here.
    pub key_checked: bool,
    /// The signed evidence.
    pub proof: Option<Proof>,
}

/// What was answered to a copy.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SeenRow {
    pub(crate) claim: Claim,
    pub(crate) at_ms: u64,
    pub(crate) expires_ms: u64,
}

/// Key of a message: peer key ‖ message id ‖ 1 when own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MessageKey {
    pub(crate) peer: PeerKey,
    pub(crate) msg: MsgId,
    pub(crate) mine: bool,
}

impl MessageKey {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.peer.0.as_slice(), &self.msg.0, &[u8::from(self.mine)]].concat()
    }

    /// Reads the key of a row back.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (peer, rest) = bytes.split_first_chunk::<32>()?;
        let (msg, rest) = rest.split_first_chunk::<16>()?;
        match rest {
            [mine @ (0 | 1)] => {
                Some(Self { peer: PeerKey(*peer), msg: MsgId(*msg), mine: *mine == 1 })
            }
            [..] => None,
        }
    }
}

pub(crate) fn status_key(peer: &PeerKey, msg: &MsgId, device: &DeviceId) -> Vec<u8> {
    [peer.0.as_slice(), &msg.0, &device.0].concat()
}

pub(crate) fn sender_key(chat: &ChatId, device: &DeviceId) -> Vec<u8> {
    [chat.0.as_slice(), &device.0].concat()
}

pub(crate) fn held_key(chat: &ChatId, device: &DeviceId, sequence: u64) -> Vec<u8> {
    [chat.0.as_slice(), &device.0, &sequence.to_be_bytes()].concat()
}

pub(crate) fn seen_key(created_ms: u64, copy: &CopyId) -> Vec<u8> {
    let minute = u32::try_from(created_ms / 60_000).unwrap_or(u32::MAX);
    [minute.to_be_bytes().as_slice(), &copy.0].concat()
}

impl PeerRow {
    pub(crate) fn peer(&self) -> Peer {
        Peer { node: self.node, name: self.name.clone() }
    }
}

impl StatusRow {
    pub(crate) const fn new() -> Self {
        Self { rank: 0, reason: None, events: Vec::new() }
    }

    pub(crate) const fn status(&self) -> Status {
        match self.rank {
            0 => Status::Queued,
            1 => Status::Accepted,
            2 => Status::Held,
            3 => Status::AtDest,
            4 => Status::Failed(self.reason),
            5 => Status::Delivered,
            _ => Status::Read,
        }
    }
}
