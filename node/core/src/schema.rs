//! What a node keeps: every table with key, value and meaning, and every row. Knows no rules.
//!
//! Numbers in keys are big-endian. `lsn` = commit number ‖ place in the batch: it grows with time
//! and needs no counter row. `peer` = a short number for a node; 0 is this node itself.

mod key;

use bytes::Bytes;
use tidings_protocol::{
    address::UserName,
    bundle::{Bundle, OneTimePrekey},
    client_frame::NameSource,
    descriptor::{Delegation, Descriptor, Transport},
    device_list::DeviceList,
    directory::Listing,
    envelope::EnvelopeHead,
    hello::Mark,
    id::{AccountId, BootId, CopyId, DeviceId, Eid, Hash, NodeId},
    key::PublicKey,
    peer_frame::PeerFrame,
    refusal::RefusalCode,
    shape::{FieldShape, Shape, Shaped},
    signed::Signed,
    statement::{Claim, Proof, Reason},
};
use tidings_store::{Schema, Table};

use crate::policy::Stand;

pub use key::{
    decode, device_key, expiry_key, get, key, list_key, lsn_of, peer_key, put, range_from,
    submit_key, user_key,
};

/// name → number: single values.
pub const META: Table = Table::new("meta");
/// `node` → the node whose store it is, since the first opening.
pub const OWNER: Table = Table::new("owner");
/// user name → [`AccountRow`].
pub const ACCOUNTS: Table = Table::new("accounts");
/// account ‖ version → signed device list.
pub const LISTS: Table = Table::new("lists");
/// device → [`DeviceRow`].
pub const DEVICES: Table = Table::new("devices");
/// device → [`ReplacedRow`]: devices that put another in their own place, because their store was
/// rolled back. One that is rolled back again may greet only to do the same.
pub const REPLACED: Table = Table::new("replaced");
/// device → fallback bundle.
pub const BUNDLES: Table = Table::new("bundles");
/// device ‖ pre-key id → [`OneTimeRow`]; removed when handed out.
pub const ONE_TIME: Table = Table::new("one_time");
/// hash of an invite's secret → [`InviteRow`].
pub const INVITES: Table = Table::new("invites");
/// node id → [`PeerRow`].
pub const PEERS: Table = Table::new("peers");
/// node id → signed consent: custodians that hold envelopes for this node.
pub const CONSENTS: Table = Table::new("consents");
/// node id → [`CustodyRow`]: what this node holds for others, where an administrator has said so.
pub const CUSTODY: Table = Table::new("custody");
/// peer ‖ lsn → [`OutboxRow`]: envelopes that are not final, in order, bodies included.
pub const OUTBOX: Table = Table::new("outbox");
/// eid → [`OutRow`]: where in the outbox, and which copies are final.
pub const OUT: Table = Table::new("out");
/// peer ‖ lsn → eid: envelopes that a custodian has let go, and whose statements still go back by it.
pub const WAYS: Table = Table::new("ways");
/// device ‖ submit id → [`SubmitRow`]: the answer to a repeated submission.
pub const SUBMITS: Table = Table::new("submits");
/// lsn → [`BodyRow`]: envelopes for several own devices, and large ones, once each.
pub const BODIES: Table = Table::new("bodies");
/// device ‖ lsn → [`InboxRow`].
pub const INBOX: Table = Table::new("inbox");
/// eid → [`SeenRow`]: deduplication, way back, and the proofs of what became of each copy.
pub const SEEN: Table = Table::new("seen");
/// device ‖ lsn → proof: statements for own devices, those with one root in one row.
pub const NOTES: Table = Table::new("notes");
/// peer ‖ lsn → proof: statements for other nodes, those with one root in one row.
pub const STATEMENTS: Table = Table::new("statements");
/// node ‖ user name → [`CachedUser`]: enough to write to a user whose node is away.
pub const USERS: Table = Table::new("users");
/// node ‖ user name → [`DirectoryRow`]: users of nodes for which we hold, for strangers.
pub const DIRECTORY: Table = Table::new("directory");
/// domain → [`NameRow`]: which node it stands for.
pub const NAMES: Table = Table::new("names");
/// minute of expiry ‖ kind ‖ eid → (): only for lives shorter than the default.
pub const EXPIRY: Table = Table::new("expiry");
/// lsn → [`DeadRow`]: what failed, without its content.
pub const DEAD: Table = Table::new("dead");
/// node id, or zeros for everybody who has none → [`RouteRow`]: next hops that administrators have set
/// on the running node.
pub const ROUTES: Table = Table::new("routes");
/// peer ‖ lsn → [`DeadLetterRow`]: rows of [`OUTBOX`] that are not sent in their turn any more.
pub const DEAD_LETTERS: Table = Table::new("dead_letters");

/// node id → [`PolicyRow`]: what administrators have said of other nodes.
pub const POLICY: Table = Table::new("policy");
/// number → [`AdminLogRow`]: what administrators have changed.
pub const ADMIN_LOG: Table = Table::new("admin_log");

/// The layout of a node's store.
pub static SCHEMA: Schema = Schema {
    version: 1,
    tables: &[
        META,
        OWNER,
        ACCOUNTS,
        LISTS,
        DEVICES,
        REPLACED,
        BUNDLES,
        ONE_TIME,
        INVITES,
        PEERS,
        CONSENTS,
        CUSTODY,
        OUTBOX,
        OUT,
        WAYS,
        SUBMITS,
        BODIES,
        INBOX,
        SEEN,
        NOTES,
        STATEMENTS,
        USERS,
        DIRECTORY,
        NAMES,
        EXPIRY,
        DEAD,
        DEAD_LETTERS,
        POLICY,
        ADMIN_LOG,
        ROUTES,
    ],
    migrations: &[],
};

/// Declares a row: a CBOR array, its fields in order. A field never changes its meaning. A field
/// `x: Bytes as T` holds an encoded `T`.
macro_rules! row {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty $(as $inner:ty)?),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty),* }
        impl Shaped for $name {
            const SHAPE: &'static Shape = &Shape::Row {
                name: stringify!($name),
                fields: &[$(FieldShape {
                    // The place says which field it is.
                    key: 0,
                    name: stringify!($field),
                    shape: tidings_protocol::shape_of!($ty $(, $inner)?),
                }),*],
            };
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple as _;
                let len = [$(stringify!($field)),*].len();
                let mut tuple = serializer.serialize_tuple(len)?;
                $(tuple.serialize_element(&self.$field)?;)*
                tuple.end()
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct RowVisitor;
                impl<'de> serde::de::Visitor<'de> for RowVisitor {
                    type Value = $name;
                    fn expecting(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                        out.write_str(stringify!($name))
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                        Ok($name { $($field: seq.next_element()?.ok_or_else(|| {
                            <A::Error as serde::de::Error>::custom(stringify!($field))
                        })?),* })
                    }
                }
                deserializer.deserialize_seq(RowVisitor)
            }
        }
    };
}

row! {
    /// An account.
    pub struct AccountRow {
        /// Its id.
        account: AccountId,
        /// When it was made, in Unix ms.
        created_ms: u64,
        /// Newest version of its device list.
        list_version: u64,
        /// Hash of that list.
        list_hash: Hash,
    }
}
row! {
    /// A device of an account.
    pub struct DeviceRow {
        /// The account.
        account: AccountId,
        /// Its name.
        name: UserName,
        /// The device's signing key.
        key: PublicKey,
        /// The last mark of the device's store, apart from those that its submissions name: of its
        /// hellos, and of what it has received and noted.
        mark: Option<Mark>,
    }
}
row! {
    /// A device that is listed no more, because it put another in its own place.
    pub struct ReplacedRow {
        /// What it was.
        device: DeviceRow,
        /// Who was listed in its place. Once that one is removed by another device, this row leads
        /// nowhere, and counts for nothing.
        by: DeviceId,
    }
}
row! {
    /// A one-time pre-key, good only in the boot and incarnation in which it was left.
    pub struct OneTimeRow {
        /// The incarnation.
        incarnation: u64,
        /// The boot.
        boot: BootId,
        /// The pre-key, encoded.
        prekey: Bytes as OneTimePrekey,
    }
}
row! {
    /// An invite.
    pub struct InviteRow {
        /// Accounts that it still makes.
        uses_left: u32,
        /// Until when, in Unix ms.
        expires_ms: u64,
    }
}
row! {
    /// Another node.
    pub struct PeerRow {
        /// Its short number.
        number: u32,
        /// Its newest descriptor, encoded.
        descriptor: Option<Bytes> as Descriptor,
        /// The incarnation that it last named.
        incarnation: Option<u64>,
        /// The last mark of its store.
        mark: Option<Mark>,
        /// Highest lsn of the outbox that was ever sent to it.
        sent: u64,
        /// When it was last heard, in Unix ms.
        seen_ms: u64,
        /// Rows of the outbox that are for it.
        queued: u64,
        /// Their bytes.
        queued_bytes: u64,
        /// Those among them that were never sent to it.
        unsent: u64,
        /// Rows of statements that are for it.
        statements: u64,
        /// Rows of the outbox that other nodes handed over, as its custodian's.
        held: u64,
        /// Their bytes.
        held_bytes: u64,
        /// Its users whose lists are kept here, as its custodian's.
        users: u64,
        /// Rows of the outbox that are passed on by the agreement with it, whomever they are for.
        passing: u64,
        /// Their bytes.
        passing_bytes: u64,
        /// A newer delegation than the descriptor's, told by another node.
        delegation: Option<Signed<Delegation>>,
        /// Copies of its users' that wait here for devices.
        inbox: u64,
        /// Bytes of their envelopes.
        inbox_bytes: u64,
    }
}
row! {
    /// What this node is ready to hold for another one; nothing, when it was taken back.
    pub struct CustodyRow {
        /// Envelopes at a time; 0 when it was taken back.
        rows: u64,
        /// Their bytes.
        bytes: u64,
        /// How long, in ms after an envelope was made.
        life_ms: u64,
        /// Users whose device lists are kept.
        users: u64,
        /// When it was said, in Unix ms.
        changed_ms: u64,
    }
}
row! {
    /// An envelope that is to reach another node.
    pub struct OutboxRow {
        /// Its id.
        eid: Eid,
        /// What is sent, encoded: `Deliver`, or `Forward` when another node handed it over.
        frame: Bytes as PeerFrame,
        /// The shared body.
        shared: Bytes,
        /// Another node handed it over.
        held: bool,
    }
}
row! {
    /// One copy of an envelope that is to reach another node.
    pub struct OutCopy {
        /// The copy.
        copy: CopyId,
        /// The device, unless the target is a slot, or is sealed to the peer.
        device: Option<DeviceId>,
        /// The claim that ended it.
        done: Option<Claim>,
    }
}
row! {
    /// The state of an envelope that is to reach another node.
    pub struct OutRow {
        /// The peer.
        peer: u32,
        /// Where in the outbox.
        lsn: u64,
        /// The node that handed it over; 0 for an own device.
        hop: u32,
        /// The node by the agreement with which it is passed on; 0 for an own device's, and for what is
        /// held for a node that is away.
        agreed: u32,
        /// Whose it is, when it came from an own device: statements go to all devices of the account.
        account: Option<AccountId>,
        /// When it was accepted, in Unix ms.
        accepted_ms: u64,
        /// When it expires, in Unix ms; or when a custodian no longer holds it.
        expires_ms: u64,
        /// Its size, as quotas count it.
        bytes: u64,
        /// Its copies.
        copies: Vec<OutCopy>,
        /// A custodian has let its row of [`OUTBOX`] go: the peer's store of this incarnation has it.
        let_go: Option<u64>,
    }
}
row! {
    /// The answer to a submission.
    pub struct SubmitRow {
        /// Its envelopes.
        eids: Vec<Eid>,
        /// When it was accepted, in Unix ms.
        accepted_ms: u64,
        /// The mark of the device's store that it named.
        mark: Mark,
    }
}
row! {
    /// An envelope for own devices.
    pub struct BodyRow {
        /// Header and targets, encoded.
        head: Bytes as EnvelopeHead,
        /// The shared body.
        shared: Bytes,
    }
}
row! {
    /// A copy that waits for its device.
    pub struct InboxRow {
        /// The envelope.
        eid: Eid,
        /// Which of its targets.
        target: u32,
        /// The envelope itself, when it is small and for this device alone; else it is in [`BODIES`].
        body: Option<BodyRow>,
    }
}
row! {
    /// What became of one copy.
    pub struct SeenCopy {
        /// The copy.
        copy: CopyId,
        /// The device.
        device: Option<DeviceId>,
        /// How it ended, if it has.
        done: Option<Ended>,
    }
}
row! {
    /// The end of one copy: by the device's word, with its proof; or by ours, signed whenever asked.
    pub struct Ended {
        /// What is claimed.
        claim: Claim,
        /// Why, when it failed.
        reason: Option<Reason>,
        /// When, in Unix ms by the signer's clock.
        at_ms: u64,
        /// The device's statement.
        proof: Option<Proof>,
    }
}
row! {
    /// An envelope that came here for own devices.
    pub struct SeenRow {
        /// Where its body is.
        lsn: u64,
        /// The node whose it is; 0 for an own device's.
        origin: u32,
        /// The nodes that get its statements: those that it came from, and its origin once that asks.
        hops: Vec<u32>,
        /// Whose it is, when it came from an own device.
        account: Option<AccountId>,
        /// When it was stored, in Unix ms.
        stored_ms: u64,
        /// When it expires, in Unix ms.
        expires_ms: u64,
        /// Its copies.
        copies: Vec<SeenCopy>,
        /// Its size, as quotas count it, if it has waited for a device.
        bytes: u64,
    }
}
row! {
    /// Last known device list and fallback bundles of a user elsewhere.
    pub struct CachedUser {
        /// The newest device list.
        list: Signed<DeviceList>,
        /// Bundles without one-time pre-keys.
        bundles: Vec<Bundle>,
        /// When it was fetched, in Unix ms.
        fetched_ms: u64,
    }
}
row! {
    /// What strangers need to know of a user of a node for which we hold.
    pub struct DirectoryRow {
        /// By which the node's pages say that nothing has changed.
        digest: Hash,
        /// The node's word for the list.
        listing: Signed<Listing>,
        /// The list.
        list: Signed<DeviceList>,
        /// Bundles without one-time pre-keys.
        bundles: Vec<Bundle>,
    }
}
row! {
    /// What a domain stands for.
    pub struct NameRow {
        /// The node.
        node: NodeId,
        /// By what.
        source: NameSource,
        /// Since when, in Unix ms.
        since_ms: u64,
        /// When the DNS and the node last agreed, in Unix ms.
        confirmed_ms: u64,
        /// The delegation in which the node names the domain; absent for an alias.
        delegation: Option<Signed<Delegation>>,
        /// What was found since, and holds only once an administrator accepts it.
        change: Option<NameChange>,
    }
}
row! {
    /// What has changed about a pinned domain.
    pub struct NameChange {
        /// The node that the DNS names now; absent when it names none.
        node: Option<NodeId>,
        /// The delegation in which that node names the domain, if it does.
        delegation: Option<Signed<Delegation>>,
        /// When that was first seen, in Unix ms.
        since_ms: u64,
    }
}
row! {
    /// Something that failed.
    pub struct DeadRow {
        /// The envelope.
        eid: Eid,
        /// The peer it was for; 0 for own devices.
        peer: u32,
        /// Why.
        reason: Reason,
        /// When, in Unix ms.
        at_ms: u64,
    }
}

row! {
    /// A route.
    pub struct RouteRow {
        /// The next hop; absent for a node that is dialled itself.
        via: Option<NodeId>,
    }
}
row! {
    /// An envelope that its peer refuses again and again, or over which links break.
    pub struct DeadLetterRow {
        /// The envelope.
        eid: Eid,
        /// Since when it is one, in Unix ms.
        since_ms: u64,
        /// How often it was sent in vain.
        attempts: u32,
        /// The last time, in Unix ms.
        last_ms: u64,
        /// Why the last time; absent when the link broke.
        refusal: Option<RefusalCode>,
    }
}

row! {
    /// What administrators have said of another node, or have left to be said.
    pub struct PolicyRow {
        /// Whether it is let in; absent when nothing was said of that.
        stand: Option<Stand>,
        /// Since when, in Unix ms.
        since_ms: u64,
        /// Why, for other administrators.
        note: String,
        /// Nothing is sent to it or taken from it for now.
        paused: bool,
        /// Since when it is said to be gone for good, in Unix ms.
        retired_ms: Option<u64>,
        /// Where it is, beside what it says itself.
        pinned: Vec<Transport>,
        /// What it may cost.
        limits: Option<LimitsRow>,
    }
}
row! {
    /// What one node may cost; what is absent is as configured.
    pub struct LimitsRow {
        /// Envelopes in a second.
        envelopes: Option<u64>,
        /// Their bytes, in KiB in a second.
        kib: Option<u64>,
        /// Statements in a second.
        statements: Option<u64>,
        /// Questions in a second: for users, audits, offers.
        questions: Option<u64>,
        /// Envelopes that may wait for it here.
        rows: Option<u64>,
        /// Their bytes.
        bytes: Option<u64>,
        /// Copies from it that may wait here for devices.
        inbox_rows: Option<u64>,
        /// Bytes of their envelopes.
        inbox_bytes: Option<u64>,
    }
}
row! {
    /// Something that an administrator has changed.
    pub struct AdminLogRow {
        /// Hash of the entry before.
        previous: Option<Hash>,
        /// When, in Unix ms.
        at_ms: u64,
        /// Who, by the number of the system's user.
        who: Option<u32>,
        /// What.
        what: String,
        /// Of which node, or how much.
        about: String,
    }
}

/// Which table a row of [`EXPIRY`] points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryKind {
    /// [`OUT`].
    Out = 1,
    /// [`SEEN`].
    Seen = 2,
}
