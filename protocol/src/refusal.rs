//! The closed list of refusals on either link; each says whether trying again can help.

use crate::codec::{wire_code, wire_struct};

wire_code! {
    /// Why a request was refused.
    pub enum RefusalCode {
        /// Too much at the moment; try again after `after_ms`.
        1 => Busy,
        /// A quota or the disk is full; try again after `after_ms`.
        2 => Quota,
        /// The node stops; connect again.
        3 => Draining,
        /// The envelope's life is over.
        4 => Expired,
        /// Larger than allowed.
        5 => TooLarge,
        /// It breaks a rule of the protocol.
        6 => Malformed,
        /// The same id with other content.
        7 => Conflict,
        /// Policy says no.
        8 => Refused,
        /// No such user, device or slot here.
        9 => UnknownRecipient,
        /// The invite is unknown, used up or too old.
        10 => BadInvite,
        /// The name is taken.
        11 => NameTaken,
        /// Not signed by the key that it should be, or no longer listed.
        12 => NotAuthorised,
        /// This node is not the one that was meant.
        13 => WrongNode,
        /// The destination cannot be reached at the moment, and nothing is cached.
        14 => Unreachable,
        /// The protocol version is not spoken here.
        15 => Version,
        /// The device must take a new id first: its store was rolled back.
        16 => RolledBack,
        /// It is sealed to a key that the destination has replaced: seal it again, to the new one.
        17 => StaleKey,
        /// The node is gone for good.
        18 => Retired,
        /// No DNS record names a node for the domain.
        19 => UnknownDomain,
        /// The DNS and the node that it names do not agree about the domain.
        20 => UnboundDomain,
        /// It would go in a circle: it has passed here before, or would go back to where it came from.
        21 => Loop,
        /// It has passed through as many nodes as it may.
        22 => HopLimit,
    }
}

impl RefusalCode {
    /// True when the same request may succeed later.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        match self {
            Self::Busy
            | Self::Quota
            | Self::Draining
            | Self::Unreachable
            // An administrator may change a route.
            | Self::Loop
            | Self::HopLimit => true,
            Self::Expired
            | Self::TooLarge
            | Self::Malformed
            | Self::Conflict
            | Self::Refused
            | Self::UnknownRecipient
            | Self::BadInvite
            | Self::NameTaken
            | Self::NotAuthorised
            | Self::WrongNode
            | Self::Version
            | Self::RolledBack
            | Self::StaleKey
            | Self::Retired
            | Self::UnknownDomain
            | Self::UnboundDomain => false,
        }
    }

    /// What a person should read, and do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Busy => "the node is busy; it will be tried again",
            Self::Quota => "the node or your quota is full; it will be tried again",
            Self::Draining => "the node is stopping; it will be tried again",
            Self::Expired => {
                "its time is over, or a clock is wrong: check the time of this machine"
            }
            Self::TooLarge => "it is too large: send less at a time",
            Self::Malformed => "it breaks a rule of the protocol: update the program",
            Self::Conflict => "the same id was used for something else",
            Self::Refused => "the other side does not accept this",
            Self::UnknownRecipient => "there is no such user: check the address",
            Self::BadInvite => "the invite is unknown, used up or too old: ask for a new one",
            Self::NameTaken => "the name is taken: choose another",
            Self::NotAuthorised => "this device is not, or no longer, listed for the account",
            Self::WrongNode => {
                "this is another node than the one that was meant: check its address"
            }
            Self::Unreachable => "the other node cannot be reached at the moment; try again later",
            Self::Version => "the two programs speak different versions: update the older one",
            Self::RolledBack => {
                "this device was restored from an old copy and needs a new device id"
            }
            Self::StaleKey => "the other node has new keys; it will be sealed again",
            Self::Retired => "that node is gone for good: ask for the person's new address",
            Self::UnknownDomain => {
                "the domain names no node: check the address, or ask for the one with a node id"
            }
            Self::UnboundDomain => {
                "the domain names a node that does not claim it, or more than one: write to the \
                 address with the node id, and tell the domain's administrator"
            }
            Self::Loop => "the routes of some nodes lead in a circle; it will be tried again",
            Self::HopLimit => "the route is longer than allowed; it will be tried again",
        }
    }
}

wire_struct! {
    /// A refusal.
    pub struct Refusal {
        /// Why.
        0 => code: RefusalCode,
        /// When trying again may help, in ms from now.
        1 => after_ms: Option<u64>,
    }
}

impl From<RefusalCode> for Refusal {
    fn from(code: RefusalCode) -> Self {
        Self { code, after_ms: None }
    }
}
