//! All that can happen to a device and all that it can ask for, on one page. No behaviour.

use bytes::Bytes;
use tidings_protocol::{
    address::UserName,
    client_frame::{ClientFrame, InviteSecret, NodeFrame},
    domain::Domain,
    id::{DeviceId, MsgId, NodeId},
    key::PublicKey,
    limits::TEXT_BYTES_MAX,
    refusal::RefusalCode,
    statement::{Claim, Reason},
};

/// A person as others name him: user name at a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The node that hosts the account.
    pub node: NodeId,
    /// The name there.
    pub name: UserName,
}

/// Names one message at this device: conversation, message id, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageRef {
    /// The other party of the conversation.
    pub peer: Peer,
    /// The message.
    pub msg: MsgId,
    /// Written by this account (on this device or another one of its own).
    pub mine: bool,
}

/// What the owner decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The account's node.
    pub node: NodeId,
    /// The account's name there.
    pub name: UserName,
    /// Whether others learn what was displayed here.
    pub read_receipts: bool,
    /// How long a message of this device lives, in ms; at most 30 days.
    pub message_life_ms: u64,
}

/// A text to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendText {
    /// To whom.
    pub to: Peer,
    /// What.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<MsgId>,
    /// Comes back in [`ClientEffect::Composed`] or [`ClientEffect::NotComposed`].
    pub token: u64,
}

/// One cause.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "frames are by far the most common")]
pub enum ClientEvent {
    /// A connection to the node is up; the node speaks first.
    Connected,
    /// The connection is gone.
    Disconnected,
    /// The node sent a frame.
    Frame {
        /// The header.
        frame: NodeFrame,
        /// The bytes behind it.
        body: Bytes,
    },
    /// Use this invite when the node asks who we are. Until the account exists.
    Join {
        /// From the invite.
        invite: InviteSecret,
    },
    /// The person wrote something.
    Send(SendText),
    /// The person saw these messages.
    Displayed {
        /// The messages; unknown, own and already displayed ones are passed over.
        messages: Vec<MessageRef>,
    },
    /// The person compared safety numbers and accepts the account key that was refused before.
    AcceptKey {
        /// Whose.
        peer: Peer,
        /// The key whose number was compared; another one that was offered since is not accepted.
        key: PublicKey,
    },
    /// The person used a domain in an address. Answered by [`ClientEffect::Resolved`]: at once when it
    /// is pinned here, else as soon as the own node has answered.
    Resolve {
        /// The domain.
        domain: Domain,
        /// Comes back in the answer.
        token: u64,
    },
    /// The person takes this node for a domain that stood for another one.
    AcceptNode {
        /// The domain.
        domain: Domain,
        /// The node that was shown; another one that was offered since is not accepted.
        node: NodeId,
    },
    /// [`crate::ClientCore::next_deadline`] was reached.
    Tick,
}

/// One request of the core to whoever drives it; leaves only after the commit that justifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "frames are by far the most common")]
pub enum ClientEffect {
    /// Send to the node.
    ToNode {
        /// The header.
        frame: ClientFrame,
        /// The bytes behind it.
        body: Bytes,
    },
    /// End the link and report [`ClientEvent::Disconnected`]; connect again unless stopped.
    CloseLink(CloseWhy),
    /// The node has proved itself and taken us in; the link serves.
    Linked,
    /// The account exists at the node.
    Joined,
    /// The node said no to the request to join.
    JoinRefused(RefusalCode),
    /// A text is on disk here: clock.
    Composed {
        /// From [`SendText`].
        token: u64,
        /// The message.
        message: MessageRef,
    },
    /// Which node a domain stands for.
    Resolved {
        /// From [`ClientEvent::Resolve`].
        token: u64,
        /// The node, or why there is none.
        found: Result<NodeId, NameError>,
    },
    /// A text was not taken.
    NotComposed {
        /// From [`SendText`].
        token: u64,
        /// Why.
        why: ComposeError,
    },
    /// Show a message, for the first time.
    Show(ShownMessage),
    /// What is known of a message at one device of its recipient has grown.
    StatusChanged {
        /// The message.
        message: MessageRef,
        /// The recipient's device; absent while none is known.
        device: Option<DeviceId>,
        /// What is known now.
        status: Status,
    },
    /// Another device of this account displayed these.
    ReadElsewhere {
        /// The messages.
        messages: Vec<MessageRef>,
    },
    /// The person should know.
    Warn(Warning),
    /// This device can do nothing more until the reason is mended; do not connect again.
    Stopped(StopWhy),
}

/// A message as it is shown. Its place among others is decided by [`crate::order::arrange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownMessage {
    /// The message.
    pub message: MessageRef,
    /// The device that wrote it.
    pub device: DeviceId,
    /// Its number in the chat, per device.
    pub sequence: u64,
    /// How many messages of that device just before it are missing.
    pub missing: u64,
    /// It fills a gap that was shown as missing before.
    pub is_late: bool,
    /// What it says.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<MsgId>,
    /// Unix ms, by the writer's clock.
    pub created_ms: u64,
}

/// What is known of a message at one device of the recipient. Never decreases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// On disk here: clock.
    Queued,
    /// On disk at the own node, proved: ✓.
    Accepted,
    /// A custodian holds it. A detail, never a tick.
    Held,
    /// On disk at the recipient's node. A detail, never a tick.
    AtDest,
    /// It will not be delivered.
    Failed(Option<Reason>),
    /// Signed by the recipient's device: ✓✓.
    Delivered,
    /// Displayed, signed by that device: blue ✓✓.
    Read,
}

impl Status {
    /// The number that is stored, and the order of the ladder.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Accepted => 1,
            Self::Held => 2,
            Self::AtDest => 3,
            Self::Failed(_) => 4,
            Self::Delivered => 5,
            Self::Read => 6,
        }
    }

    /// Why it failed, where that is known.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Failed(reason) => reason,
            Self::Queued
            | Self::Accepted
            | Self::Held
            | Self::AtDest
            | Self::Delivered
            | Self::Read => None,
        }
    }
}

/// Why a text was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// Longer than [`TEXT_BYTES_MAX`].
    #[error("composing a text: it has more than {TEXT_BYTES_MAX} bytes; send it in parts")]
    TooLong,
    /// The recipient is this account.
    #[error("composing a text: it is addressed to yourself")]
    ToSelf,
    /// This device is stopped.
    #[error("composing a text: this device is stopped")]
    Stopped,
    /// The outbox holds as many messages as it may.
    #[error("composing a text: too many messages are waiting")]
    OutboxFull,
}

/// Why a domain stands for no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The own node says so.
    #[error("{}", .0.advice())]
    Refused(RefusalCode),
    /// The own node's answer lacks the proof.
    #[error("your node names a node that does not claim the domain: it lies, or is broken")]
    NotProved,
}

/// Why a link ends from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseWhy {
    /// It is another node than ours, or it could not prove itself.
    NotOurNode,
    /// It broke a rule of the protocol.
    Broke,
    /// It was silent for too long.
    Silent,
    /// It asked us to come back after so many ms.
    Goaway {
        /// Milliseconds from now.
        after_ms: u64,
    },
    /// This device has a new id: connect again at once.
    NewDeviceId,
    /// The node does not list this device, though the account's newest list does: connect again at
    /// once, and it is shown the lists.
    NotListed,
    /// The node refused the link.
    Refused(RefusalCode),
}

/// Something that a person should read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The account key of a peer is another than the one that is pinned. What is meant for the peer
    /// waits until [`ClientEvent::AcceptKey`].
    KeyChanged(Peer),
    /// A device list that breaks its chain was offered for a peer: a lying node.
    BadList(Peer),
    /// A peer's device sees another device list of an account than we do: a lying node.
    ListsDiffer {
        /// The peer whose device says so.
        peer: Peer,
        /// True when the list in question is our own.
        own: bool,
    },
    /// A message does not continue what its device wrote before.
    Forked(MessageRef),
    /// Something arrived that could not be opened; it will be asked for again if that can help.
    Undecryptable {
        /// The claimed sender, where it is known.
        peer: Option<Peer>,
    },
    /// A peer has no device that can be written to yet; what is meant for the peer waits.
    NoDevices(Peer),
    /// The peer cannot be looked up at the moment, or not at all; what is meant for the peer waits.
    CannotLookUp {
        /// Who.
        peer: Peer,
        /// Why.
        code: RefusalCode,
    },
    /// The own node names another node for a domain than the one that is pinned here. The pin holds until
    /// [`ClientEvent::AcceptNode`].
    NameChanged {
        /// The domain.
        domain: Domain,
        /// What it stands for here.
        pinned: NodeId,
        /// What the own node says.
        offered: NodeId,
    },
    /// The own node's answer about a domain lacks the proof; nothing was pinned.
    BadName(Domain),
    /// A statement that proves nothing was put aside.
    BadStatement(Option<Claim>),
    /// The node's clock and ours differ by so many ms.
    Clock {
        /// Node minus own.
        offset_ms: i64,
    },
    /// The node's store was rolled back; what is not final is sent again.
    NodeRolledBack,
    /// This device's store was rolled back; it takes a new id.
    DeviceRolledBack,
    /// The node refused a device list or pre-keys of ours.
    OwnKeysRefused(RefusalCode),
    /// Whoever answers at the node's address shows a certificate that this device does not accept.
    /// Nothing was said to it; the link is tried again.
    Certificate(CertificateFault),
}

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is signed by nobody that this device trusts.
    UnknownIssuer,
    /// It is not valid yet or not any more, or the clock here is wrong.
    OutOfDate,
    /// It is for another name or address.
    OtherName,
    /// It cannot be used for this at all, for example because it is an authority's own.
    Unusable,
}

/// Why a device stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopWhy {
    /// The store was rolled back and the secrets to take a new id are not here.
    #[error("this device was restored from an old copy: link it again from another device")]
    RolledBack,
    /// Another device removed this one.
    #[error("this device was removed from its account")]
    Removed,
}
