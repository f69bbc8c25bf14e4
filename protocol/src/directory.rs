//! What a node leaves with its custodians so that strangers can write to its users while it is away:
//! device lists and fallback bundles, and the node's word that a list is the user's. Who keeps how much
//! of it is decided in `node/core`.

use thiserror::Error;

use crate::{
    address::UserName,
    bundle::Bundle,
    codec::{self, wire_struct},
    descriptor::Delegation,
    device_list::{CheckedList, DeviceList, DeviceListError},
    id::{AccountId, Hash, NodeId, hash},
    key::Purpose,
    limits,
    refusal::Refusal,
    signed::{OpenSignedError, Sign, Signed},
};

wire_struct! {
    /// A node says which device list a name has there: else who is asked in its place could make up
    /// another one for a stranger. Signed by its operational key.
    pub struct Listing {
        /// The node that speaks.
        0 => node: NodeId,
        /// The name there.
        1 => name: UserName,
        /// The account behind it.
        2 => account: AccountId,
        /// The version of its newest list.
        3 => list_version: u64,
        /// The hash of that list.
        4 => list_hash: Hash,
        /// From when it counts, in Unix ms.
        5 => issued_ms: u64,
        /// After this time it says nothing, in Unix ms.
        6 => expires_ms: u64,
        /// Serial of the delegation that names the key under it.
        7 => serial: u64,
    }
}

impl Sign for Listing {
    const PURPOSE: Purpose = Purpose::Listing;
}

wire_struct! {
    /// A user in a page of a directory.
    pub struct DirectoryItem {
        /// The name.
        0 => name: UserName,
        /// Changes whenever listing or bundles do.
        1 => digest: Hash,
    }
}

wire_struct! {
    /// A page of a node's directory: all names from the first to the last of it, both included.
    pub struct Directory {
        /// Those that there are, in order; at most [`crate::limits::DIRECTORY_PAGE_MAX`].
        0 => items: Vec<DirectoryItem>,
        /// The first name; absent for the beginning.
        1 => from: Option<UserName>,
        /// The last name; absent for the end.
        2 => to: Option<UserName>,
    }
}

wire_struct! {
    /// What of a page the custodian wants. It has forgotten names that the page leaves out.
    pub struct DirectoryWanted {
        /// Names of the page.
        0 => names: Vec<UserName>,
        /// Why it keeps no more, or none at all.
        1 => refusal: Option<Refusal>,
    }
}

wire_struct! {
    /// What strangers need to know of one user.
    pub struct DirectoryEntry {
        /// The node's word for the list.
        0 => listing: Signed<Listing>,
        /// The newest list.
        1 => list: Signed<DeviceList>,
        /// Bundles without one-time pre-keys.
        2 => bundles: Vec<Bundle>,
    }
}

/// Why an entry says nothing of a user.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListingError {
    /// It is not by the key that the delegation names.
    #[error("checking the listing of a user")]
    Listing(#[from] OpenSignedError),
    /// The list does not hold.
    #[error("checking the device list of a listing")]
    List(#[from] DeviceListError),
    /// It is about another name, another node or another list.
    #[error("the listing is about something else")]
    Other,
    /// Its time is over, or has not begun.
    #[error("the listing does not count at this time")]
    Expired,
}

impl Listing {
    /// What the digest of an item is: the listing names the hash of the list.
    #[must_use]
    pub fn digest(&self, bundles: &[Bundle]) -> Hash {
        let (listing, bundles) = (codec::encode(self), codec::encode(&bundles));
        let listing = hash("listing", &[&listing]);
        hash("directory item", &[&listing.0, &bundles])
    }

    /// Checks the node's word about `name`: by the key of this delegation, at this time. Pure. Which list
    /// it is about remains for the caller to compare.
    ///
    /// # Errors
    /// [`ListingError`].
    pub fn check_word(
        signed: &Signed<Self>,
        delegation: &Delegation,
        name: &UserName,
        now_ms: u64,
    ) -> Result<Self, ListingError> {
        let listing = signed.open(&delegation.operational)?;
        if listing.node != delegation.node || listing.name != *name {
            return Err(ListingError::Other);
        }
        let is_its_time = listing.issued_ms <= now_ms.saturating_add(limits::CLOCK_SKEW_MS_MAX)
            && now_ms < listing.expires_ms.min(delegation.not_after_ms);
        if is_its_time { Ok(listing) } else { Err(ListingError::Expired) }
    }

    /// Checks a listing of `name` at the node of a delegation, and that it is about this list. Pure.
    ///
    /// # Errors
    /// [`ListingError`].
    pub fn check(
        signed: &Signed<Self>,
        delegation: &Delegation,
        name: &UserName,
        list: &Signed<DeviceList>,
        now_ms: u64,
    ) -> Result<Self, ListingError> {
        let listing = Self::check_word(signed, delegation, name, now_ms)?;
        let checked = CheckedList::first_seen(list)?;
        let is_the_list = checked.hash == listing.list_hash
            && checked.list.version == listing.list_version
            && checked.account() == listing.account
            && checked.list.node == listing.node
            && checked.list.name == listing.name;
        if is_the_list { Ok(listing) } else { Err(ListingError::Other) }
    }
}
