//! Everything that a device and its node say to each other.

use bytes::Bytes;

use crate::{
    address::UserName,
    bundle::{Bundle, PrekeyUpload},
    codec::{wire_bytes, wire_code, wire_struct, wire_union},
    descriptor::Delegation,
    device_list::DeviceList,
    domain::Domain,
    envelope::{EnvelopeHead, Header, Target},
    hello::{Challenge, ClientHello, Mark, Welcome},
    id::{CopyId, Eid, NodeId, SubmitId},
    key::Signature,
    refusal::Refusal,
    signed::Signed,
    statement::Proof,
};

wire_bytes! { secret
    /// The one-time secret of an invite; the node keeps its hash.
    pub struct InviteSecret([u8; 16]);
}

wire_struct! {
    /// A newcomer asks for an account. Answered by `Joined` or `Refused`, with `request`.
    pub struct Join {
        /// Number of the request on this link.
        0 => request: u64,
        /// From the invite.
        1 => invite: InviteSecret,
        /// Version 0 of the device list: name, node, account key, first device.
        2 => list: Signed<DeviceList>,
        /// By the first device's key over the challenge's nonce.
        3 => proof: Signature,
    }
}

wire_struct! {
    /// All envelopes of one message, accepted in one commit or not at all. The frame's body is their
    /// shared body. Answered by `Accepted` or `Refused`, with `submit`.
    pub struct Submit {
        /// Idempotency: the same id with the same envelopes gets the same answer again.
        0 => submit: SubmitId,
        /// The heads.
        1 => heads: Vec<EnvelopeHead>,
        /// A mark of the device's store that holds the sealed bytes: a device whose store was rolled
        /// back behind it must not seal again under the same id.
        2 => mine: Mark,
    }
}

wire_struct! {
    /// One copy that a device has on disk.
    pub struct ReceivedItem {
        /// The number under which the node delivered it.
        0 => inbox: u64,
        /// The copy, recomputed by the device from the bytes that it received.
        1 => copy: CopyId,
    }
}

wire_struct! {
    /// The device has these copies on disk; the proof holds one statement by the device for each.
    pub struct Received {
        /// The copies.
        0 => items: Vec<ReceivedItem>,
        /// `Delivered` or `Undecryptable`, by the device's key.
        1 => proof: Proof,
        /// A mark of the device's store that holds the copies: a device whose store was rolled back
        /// behind it has forgotten what it received.
        2 => mine: Mark,
    }
}

wire_struct! {
    /// The device has these notes on disk.
    pub struct Noted {
        /// Their numbers.
        0 => notes: Vec<u64>,
        /// A mark of the device's store that holds them.
        1 => mine: Mark,
    }
}

impl<'a> IntoIterator for &'a Noted {
    type Item = &'a u64;
    type IntoIter = core::slice::Iter<'a, u64>;
    fn into_iter(self) -> Self::IntoIter {
        self.notes.iter()
    }
}

wire_struct! {
    /// Asks for the device list of a user and a bundle for each device.
    pub struct FetchBundle {
        /// Number of the request on this link.
        0 => request: u64,
        /// The user's node.
        1 => node: NodeId,
        /// The user's name there.
        2 => name: UserName,
        /// The version of the list that the asker knows: later versions come as a chain.
        3 => known_version: Option<u64>,
        /// False to ask for the list alone; no one-time pre-key is spent.
        4 => with_bundles: bool,
    }
}

wire_struct! {
    /// A new version of the own device list. Answered by `Done` or `Refused`, with `request`.
    pub struct PublishList {
        /// Number of the request on this link.
        0 => request: u64,
        /// The list.
        1 => list: Signed<DeviceList>,
    }
}

wire_struct! {
    /// Fresh pre-keys; replaces what was there. Answered by `Done` or `Refused`, with `request`.
    pub struct PublishPrekeys {
        /// Number of the request on this link.
        0 => request: u64,
        /// The pre-keys.
        1 => upload: PrekeyUpload,
    }
}

wire_struct! {
    /// Are you there? Answered by the same number.
    pub struct Ping {
        /// Any number.
        0 => number: u64,
    }
}

wire_struct! {
    /// Asks which node a domain stands for. Answered by `Resolved` or `Refused`, with `request`.
    pub struct Resolve {
        /// Number of the request on this link.
        0 => request: u64,
        /// The domain.
        1 => domain: Domain,
    }
}

wire_struct! {
    /// The node does not list the device, as after it was put back: a device shows the lists of its
    /// account before it greets. Answered by `Done` or `Refused`, with `request`.
    pub struct ShowLists {
        /// Number of the request on this link.
        0 => request: u64,
        /// Versions of the list, each of which continues the one before.
        1 => lists: Vec<Signed<DeviceList>>,
        /// For a node that does not know the account either.
        2 => invite: Option<InviteSecret>,
    }
}

wire_union! {
    /// From a device to its node.
    pub enum ClientFrame {
        /// Proof of key.
        1 => Hello(ClientHello),
        /// A newcomer.
        2 => Join(Join),
        /// Envelopes of one message.
        3 => Submit(Submit),
        /// Copies that are on disk.
        4 => Received(Received),
        /// Notes that are on disk.
        5 => Noted(Noted),
        /// Asks for bundles.
        6 => FetchBundle(FetchBundle),
        /// Own pre-keys.
        7 => PublishPrekeys(PublishPrekeys),
        /// Own device list.
        8 => PublishList(PublishList),
        /// Keep-alive.
        9 => Ping(Ping),
        /// Asks which node a domain stands for.
        10 => Resolve(Resolve),
        /// Lists that the node may have forgotten.
        11 => ShowLists(ShowLists),
    }
}

wire_struct! {
    /// The account exists now.
    pub struct Joined {
        /// The request.
        0 => request: u64,
    }
}

wire_struct! {
    /// ✓: every envelope of the submission is on disk at this node.
    pub struct Accepted {
        /// The submission.
        0 => submit: SubmitId,
        /// `Accepted` for each envelope, in the order of the heads.
        1 => proof: Proof,
        /// A mark of the node's store that holds them.
        2 => mark: Mark,
    }
}

wire_union! {
    /// What was refused.
    pub enum Refusable {
        /// A submission.
        1 => Submit(SubmitId),
        /// A numbered request.
        2 => Request(u64),
        /// The link itself; it closes.
        3 => Link(u64),
    }
}

wire_struct! {
    /// A refusal that names its request.
    pub struct Refused {
        /// What.
        0 => what: Refusable,
        /// Why.
        1 => refusal: Refusal,
    }
}

wire_struct! {
    /// One copy for this device; the frame's body is the shared body.
    pub struct Deliver {
        /// Number in this device's inbox, to be named in the answer.
        0 => inbox: u64,
        /// The envelope.
        1 => eid: Eid,
        /// What every hop may read.
        2 => header: Header,
        /// This device's target.
        3 => target: Target,
    }
}

wire_struct! {
    /// Statements about envelopes that the account's devices sent. Answered by `Noted`.
    pub struct Notes {
        /// Their numbers, to be named in the answer.
        0 => notes: Vec<u64>,
        /// The statements.
        1 => proofs: Vec<Proof>,
        /// Who may sign for the other nodes whose statements stand here, as far as the node knows.
        2 => delegations: Vec<Signed<Delegation>>,
    }
}

wire_struct! {
    /// Device list and bundles of a user.
    pub struct Bundles {
        /// The request.
        0 => request: u64,
        /// Versions of the list behind the one that the asker knew, or the newest alone.
        1 => lists: Vec<Signed<DeviceList>>,
        /// A bundle for each device that has one.
        2 => bundles: Vec<Bundle>,
    }
}

wire_struct! {
    /// A request is done and durable.
    pub struct Done {
        /// The request.
        0 => request: u64,
    }
}

wire_struct! {
    /// A newer device list of a user than the sender sealed for.
    pub struct NewerLists {
        /// Versions behind the one that was named.
        0 => lists: Vec<Signed<DeviceList>>,
    }
}

wire_struct! {
    /// The node ends the link on purpose.
    pub struct Goaway {
        /// When to come back, in ms from now.
        0 => after_ms: u64,
        /// Why.
        1 => refusal: Refusal,
    }
}

wire_code! {
    /// By what a domain stands for a node.
    pub enum NameSource {
        /// The DNS names the node, and the node's root key names the domain.
        1 => Dns,
        /// The administrator of the answering node says so.
        2 => Alias,
    }
}

wire_struct! {
    /// Which node a domain stands for.
    pub struct Resolved {
        /// The request.
        0 => request: u64,
        /// The node.
        1 => node: NodeId,
        /// By what.
        2 => source: NameSource,
        /// With `Dns`: the delegation in which the node's root key names the domain.
        3 => delegation: Option<Signed<Delegation>>,
    }
}

wire_union! {
    /// From a node to a device.
    pub enum NodeFrame {
        /// First of all.
        1 => Challenge(Challenge),
        /// Proof of key.
        2 => Welcome(Welcome),
        /// The account exists.
        3 => Joined(Joined),
        /// ✓.
        4 => Accepted(Accepted),
        /// A refusal.
        5 => Refused(Refused),
        /// A copy.
        6 => Deliver(Deliver),
        /// Statements.
        7 => Notes(Notes),
        /// Lists and bundles.
        8 => Bundles(Bundles),
        /// A request is done.
        9 => Done(Done),
        /// A list has changed.
        10 => NewerLists(NewerLists),
        /// Keep-alive.
        11 => Pong(Ping),
        /// Come back later.
        12 => Goaway(Goaway),
        /// Which node a domain stands for.
        13 => Resolved(Resolved),
    }
}

/// A frame's header and the bytes behind it, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithBody<T> {
    /// The header.
    pub frame: T,
    /// The raw bytes.
    pub body: Bytes,
}
