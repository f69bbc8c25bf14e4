//! Everything that two nodes say to each other.

use bytes::Bytes;

use crate::{
    address::UserName,
    bundle::Bundle,
    codec::{wire_struct, wire_union},
    custody::{Consent, Origin},
    descriptor::Delegation,
    device_list::DeviceList,
    directory::{Directory, DirectoryEntry, DirectoryWanted, Listing},
    envelope::{EnvelopeError, EnvelopeHead, Header},
    hello::{Mark, PeerHello},
    id::{CopyId, Eid, NodeId},
    limits,
    refusal::Refusal,
    sealed::{SEAL_BYTES, SealedTargets},
    signed::Signed,
    statement::Proof,
};

wire_struct! {
    /// The answer to one envelope, after the receiver's commit.
    pub struct Answer {
        /// The envelope.
        0 => eid: Eid,
        /// Absent when it was taken, now or earlier.
        1 => refusal: Option<Refusal>,
        /// Newer device lists of its recipients than it was sealed for.
        2 => lists: Vec<Signed<DeviceList>>,
    }
}

wire_struct! {
    /// Hop acknowledgements of one commit. Unsigned: they move only the duty to retry.
    pub struct Took {
        /// One for each envelope.
        0 => answers: Vec<Answer>,
        /// A mark of the store that holds them.
        1 => mark: Mark,
    }
}

wire_struct! {
    /// Statements on their way back to the origin. Answered by `StatementsTook`.
    pub struct Statements {
        /// Numbers of the sender's rows, to be named in the answer; worthless after this link.
        0 => rows: Vec<u64>,
        /// The statements.
        1 => proofs: Vec<Proof>,
    }
}

wire_struct! {
    /// The statements of these rows are on disk.
    pub struct StatementsTook {
        /// The rows.
        0 => rows: Vec<u64>,
        /// A mark of the store that holds them.
        1 => mark: Mark,
    }
}

wire_struct! {
    /// The origin asks for envelopes that it handed over and that are not final.
    pub struct Audit {
        /// At most [`crate::limits::AUDIT_EIDS_MAX`].
        0 => eids: Vec<Eid>,
    }
}

wire_struct! {
    /// What became of them. Final ones are answered by their statements, once more.
    pub struct AuditAnswer {
        /// Here, but not final.
        0 => waiting: Vec<Eid>,
        /// Never seen, or lost: send again.
        1 => unknown: Vec<Eid>,
    }
}

wire_struct! {
    /// Asks for list and bundles of a user here.
    pub struct FetchUser {
        /// Number of the request on this link.
        0 => request: u64,
        /// The name.
        1 => name: UserName,
        /// The version of the list that the asker knows.
        2 => known_version: Option<u64>,
        /// False to ask for the list alone.
        3 => with_bundles: bool,
    }
}

wire_struct! {
    /// The answer.
    pub struct User {
        /// The request.
        0 => request: u64,
        /// Why there is none.
        1 => refusal: Option<Refusal>,
        /// Versions of the list behind the one that the asker knew, or the newest alone.
        2 => lists: Vec<Signed<DeviceList>>,
        /// A bundle for each device that has one.
        3 => bundles: Vec<Bundle>,
        /// By which the user's node says that this is the list: when another node answers.
        4 => listing: Option<Signed<Listing>>,
        /// By which that node's root key appointed the key under the listing.
        5 => delegation: Option<Signed<Delegation>>,
    }
}

wire_struct! {
    /// Asks a third node for list and bundles of a user of `node`, which is away. Answered by `User`.
    pub struct FetchFor {
        /// Number of the request on this link.
        0 => request: u64,
        /// The user's node.
        1 => node: NodeId,
        /// The name there.
        2 => name: UserName,
        /// The version of the list that the asker knows.
        3 => known_version: Option<u64>,
        /// False to ask for the list alone.
        4 => with_bundles: bool,
        /// How many nodes may ask on, at most [`limits::HOPS_MAX`].
        5 => hops_left: u8,
    }
}

wire_struct! {
    /// Nothing to say, but here; and where the sender's store stands.
    pub struct KeepAlive {
        /// A mark of the sender's store.
        0 => mark: Mark,
    }
}

wire_struct! {
    /// The link ends on purpose.
    pub struct Farewell {
        /// Why.
        0 => refusal: Refusal,
    }
}

wire_struct! {
    /// Newer device lists of its recipients than an envelope was sealed for: what `Took` says to the node
    /// that delivers, for the node that handed the envelope over to it.
    pub struct NewerListsFor {
        /// The envelope.
        0 => eid: Eid,
        /// At most [`limits::LISTS_PER_ANSWER_MAX`].
        1 => lists: Vec<Signed<DeviceList>>,
    }
}

wire_struct! {
    /// The origin asks a custodian or a next hop what it would take for a node that it does not speak to
    /// itself.
    pub struct Offer {
        /// The absent node.
        0 => destination: NodeId,
        /// At most [`crate::limits::OFFER_EIDS_MAX`].
        1 => eids: Vec<Eid>,
    }
}

wire_struct! {
    /// What of an offer the custodian has not and would take. Without a refusal it holds the others.
    pub struct Wanted {
        /// The absent node.
        0 => destination: NodeId,
        /// Why it takes no more; then nothing is said of the others.
        1 => refusal: Option<Refusal>,
        /// To be forwarded.
        2 => eids: Vec<Eid>,
        /// The newest delegation of the absent node that the custodian knows: what is forwarded has to
        /// be sealed to the key in it.
        3 => delegation: Option<Signed<Delegation>>,
    }
}

wire_struct! {
    /// An envelope that goes to its destination through other nodes. They see header, copies and sizes;
    /// for whom it is there sees the destination alone. Answered by `Took`.
    pub struct Forward {
        /// What every hop may read.
        0 => header: Header,
        /// The ids of the copies, in the order of the targets: with the header they give the eid.
        1 => copies: Vec<CopyId>,
        /// The targets, sealed to the destination.
        2 => targets: SealedTargets,
        /// Whose it is.
        3 => origin: Origin,
        /// How many nodes may hand it on, at most [`limits::HOPS_MAX`]; a node that it is not for takes
        /// it only above zero.
        4 => hops_left: u8,
    }
}

impl Forward {
    /// Checks the shape, as [`EnvelopeHead::check`] does for one whose targets can be seen.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn check(&self, shared_len: usize) -> Result<(), EnvelopeError> {
        self.header.check_version()?;
        let bytes = self.targets.sealed.len().saturating_sub(SEAL_BYTES) + shared_len + 128;
        if bytes > limits::ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes });
        }
        let is_twice = |(place, copy): (usize, &CopyId)| {
            self.copies.iter().skip(place + 1).any(|other| other == copy)
        };
        let is_odd = self.copies.is_empty() || self.copies.len() > limits::TARGETS_MAX;
        if is_odd || self.copies.iter().enumerate().any(is_twice) {
            return Err(EnvelopeError::Targets);
        }
        self.header.check_life()
    }

    /// The id of the envelope.
    #[must_use]
    pub fn eid(&self) -> Eid {
        self.header.eid(&self.copies)
    }
}

wire_struct! {
    /// The sender's newest descriptor, on a link that stands.
    pub struct Announce {
        /// As it stands in the DHT.
        0 => descriptor: Bytes,
    }
}

wire_union! {
    /// From a node to a node.
    pub enum PeerFrame {
        /// Proof of identity; control lane.
        1 => Hello(PeerHello),
        /// An envelope; the frame's body is its shared body; bulk lane.
        2 => Deliver(EnvelopeHead),
        /// Hop acknowledgements; control lane.
        3 => Took(Took),
        /// Statements; control lane.
        4 => Statements(Statements),
        /// Statements are on disk; control lane.
        5 => StatementsTook(StatementsTook),
        /// An audit; control lane.
        6 => Audit(Audit),
        /// Its answer; control lane.
        7 => AuditAnswer(AuditAnswer),
        /// Asks for a user; control lane.
        8 => FetchUser(FetchUser),
        /// Its answer; control lane.
        9 => User(User),
        /// Keep-alive; control lane.
        10 => KeepAlive(KeepAlive),
        /// The end; control lane.
        11 => Farewell(Farewell),
        /// A custodian's consent, or its end; control lane.
        12 => Consent(Signed<Consent>),
        /// What would be handed to a custodian; control lane.
        13 => Offer(Offer),
        /// What of it is wanted; control lane.
        14 => Wanted(Wanted),
        /// An envelope through other nodes; the frame's body is its shared body; bulk lane.
        15 => Forward(Forward),
        /// Asks for a user of another node; control lane.
        16 => FetchFor(FetchFor),
        /// Which users a node has, for its custodian; control lane.
        17 => Directory(Directory),
        /// Which of them the custodian wants to know more of; control lane.
        18 => DirectoryWanted(DirectoryWanted),
        /// List and bundles of one user, for a custodian; bulk lane.
        19 => DirectoryEntry(DirectoryEntry),
        /// The sender's newest descriptor; control lane.
        20 => Announce(Announce),
        /// Newer device lists, on their way back; control lane.
        21 => NewerListsFor(NewerListsFor),
    }
}

impl PeerFrame {
    /// True for frames that may wait behind others: envelopes, and what is kept for custody.
    #[must_use]
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Self::Deliver(_) | Self::Forward(_) | Self::DirectoryEntry(_))
    }
}
