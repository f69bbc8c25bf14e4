//! What is inside the encryption: the part of each target and the shared content, shaped after
//! draft-ietf-mimi-content. Nodes never see any of it.

use bytes::Bytes;

use crate::{
    address::UserName,
    codec::{wire_bytes, wire_struct, wire_union},
    device_list::DeviceList,
    id::{AccountId, ChatId, CopyId, DeviceId, Eid, Hash, MsgId, NodeId},
    key::{PublicKey, Signature},
    signed::Signed,
    statement::Proof,
};

wire_bytes! {
    /// Names a session to its receiver and to nobody else: derived from the handshake, one for each
    /// direction.
    pub struct SessionTag([u8; 16]);
}
wire_bytes! {
    /// The key under which the shared body is sealed, once.
    pub struct ContentKey([u8; 32]);
}

wire_struct! {
    /// The bytes of [`crate::envelope::Target::part`].
    pub struct Part {
        /// The session.
        0 => session: SessionTag,
        /// Who writes, sealed to the device (HPKE); until the receiver has answered in the session.
        1 => introduction: Option<Bytes>,
        /// [`PartInside`], sealed by the session.
        2 => sealed: Bytes,
    }
}

wire_struct! {
    /// Who writes; sealed to the receiving device.
    pub struct Introduction {
        /// The writer's device list: account key, name, node, devices.
        0 => list: Signed<DeviceList>,
        /// The writing device.
        1 => device: DeviceId,
    }
}

wire_struct! {
    /// One copy of the same message to somebody else, so that every device of the sender can map
    /// ticks to the message.
    pub struct Sibling {
        /// The envelope.
        0 => eid: Eid,
        /// Its copies.
        1 => copies: Vec<SiblingCopy>,
    }
}

wire_struct! {
    /// One copy of a sibling.
    pub struct SiblingCopy {
        /// The copy.
        0 => copy: CopyId,
        /// The device it is for.
        1 => device: DeviceId,
    }
}

wire_struct! {
    /// What a session seals for one device.
    pub struct PartInside {
        /// Opens the shared body.
        0 => key: ContentKey,
        /// SHA-256 of the plaintext of the shared body.
        1 => content_hash: Hash,
        /// The session's signing key, introduced in the first message of the session.
        2 => session_key: Option<PublicKey>,
        /// By the session key over chat, device, sequence and content hash.
        3 => signature: Signature,
        /// In copies for the sender's own devices: the other envelopes of the message.
        4 => siblings: Vec<Sibling>,
    }
}

wire_struct! {
    /// The last message of a sender device that the writer had seen in the chat.
    pub struct Head {
        /// The device.
        0 => device: DeviceId,
        /// Its sequence number in the chat.
        1 => sequence: u64,
        /// The message with that number. It keeps its id when a device seals it again under a new one.
        2 => msg: MsgId,
    }
}

wire_struct! {
    /// A device list as the writer sees it. A difference tells of a lying node.
    pub struct ListEcho {
        /// Whose.
        0 => account: AccountId,
        /// Version.
        1 => version: u64,
        /// Hash.
        2 => hash: Hash,
    }
}

wire_struct! {
    /// Where the other party of the chat lives, so that own devices can show and answer it.
    pub struct ChatParty {
        /// The node.
        0 => node: NodeId,
        /// The name there.
        1 => name: UserName,
    }
}

wire_struct! {
    /// The plaintext of the shared body, before padding.
    pub struct Content {
        /// The message.
        0 => msg: MsgId,
        /// The conversation.
        1 => chat: ChatId,
        /// The two parties' addresses, sender first.
        2 => parties: Vec<ChatParty>,
        /// The writing account.
        3 => account: AccountId,
        /// The writing device.
        4 => device: DeviceId,
        /// From 1, step 1, for each chat and device. Zero for what is no part of the conversation.
        5 => sequence: u64,
        /// Hash of the content before it by this device in this chat.
        6 => previous: Option<Hash>,
        /// What the writer had seen.
        7 => heads: Vec<Head>,
        /// Unix ms.
        8 => created_ms: u64,
        /// Unix ms.
        9 => expires_ms: u64,
        /// Both parties' device lists as the writer sees them.
        10 => echoes: Vec<ListEcho>,
        /// What is said.
        11 => body: Body,
    }
}

wire_struct! {
    /// Plain text.
    pub struct Text {
        /// UTF-8.
        0 => text: String,
        /// The message that it answers.
        1 => reply_to: Option<MsgId>,
    }
}

wire_struct! {
    /// Messages that were displayed.
    pub struct ReadMarks {
        /// The messages.
        0 => messages: Vec<MsgId>,
        /// `Read` for each copy, by the displaying device.
        1 => proof: Proof,
    }
}

wire_struct! {
    /// Starts a session afresh; says nothing.
    pub struct Repair {
        /// Copies that could not be opened, for the sender to send again.
        0 => lost: Vec<CopyId>,
    }
}

wire_union! {
    /// What a content says.
    pub enum Body {
        /// Text.
        1 => Text(Text),
        /// Blue ticks.
        2 => Read(ReadMarks),
        /// Session repair.
        3 => Repair(Repair),
    }
}
