//! Everything that two nodes say to each other.

use crate::{
    address::UserName,
    bundle::Bundle,
    codec::{wire_struct, wire_union},
    custody::{Consent, Origin},
    device_list::DeviceList,
    envelope::EnvelopeHead,
    hello::{Mark, PeerHello},
    id::{Eid, NodeId},
    refusal::Refusal,
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
    /// The origin asks a custodian what it would take for an absent node.
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
    }
}

wire_struct! {
    /// An envelope that goes to a custodian, or comes from one. Answered by `Took`.
    pub struct Forward {
        /// Header and targets.
        0 => head: EnvelopeHead,
        /// Whose it is.
        1 => origin: Origin,
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
        /// An envelope through a custodian; the frame's body is its shared body; bulk lane.
        15 => Forward(Forward),
    }
}

impl PeerFrame {
    /// True for frames that may wait behind others: envelopes.
    #[must_use]
    pub const fn is_bulk(&self) -> bool {
        matches!(self, Self::Deliver(_) | Self::Forward(_))
    }
}
