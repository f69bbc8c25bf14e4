//! What the keys and values of each table in `schema.rs` look like, as data, for tools that show a
//! store to a person. The node itself never looks here; a test walks a node's store by it.

use tidings_protocol::{
    bundle::Bundle,
    custody::Consent,
    device_list::DeviceList,
    id::{AccountId, DeviceId, Eid, NodeId, SubmitId},
    shape::{Shape, Shaped},
    signed::Signed,
    statement::Proof,
};
use tidings_store::Table;

use crate::schema::{
    self, AccountRow, AdminLogRow, BodyRow, CachedUser, CustodyRow, DeadLetterRow, DeadRow,
    DeviceRow, DirectoryRow, InboxRow, InviteRow, NameRow, OneTimeRow, OutRow, OutboxRow, PeerRow,
    PolicyRow, ReplacedRow, RouteRow, SeenRow, SubmitRow,
};

/// A part of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// Bytes with a meaning.
    Fixed {
        /// What it is.
        name: &'static str,
        /// How many.
        len: usize,
    },
    /// A big-endian number.
    Number {
        /// What it counts.
        name: &'static str,
        /// In so many bytes.
        len: usize,
    },
    /// Text, up to the end of the key.
    Text {
        /// What it says.
        name: &'static str,
    },
}

/// One table.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Which.
    pub table: Table,
    /// The parts of its keys, in order.
    pub key: &'static [KeyPart],
    /// What its values look like; absent when they are empty.
    pub value: Option<&'static Shape>,
}

impl KeyPart {
    /// How many bytes it takes of a key, unless it takes the rest.
    #[must_use]
    pub const fn bytes(&self) -> Option<usize> {
        match self {
            Self::Fixed { len, .. } | Self::Number { len, .. } => Some(*len),
            Self::Text { .. } => None,
        }
    }

    /// What it is.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fixed { name, .. } | Self::Number { name, .. } | Self::Text { name } => name,
        }
    }
}

const ACCOUNT: KeyPart = KeyPart::Fixed { name: "account", len: AccountId::LEN };
const DEVICE: KeyPart = KeyPart::Fixed { name: "device", len: DeviceId::LEN };
const EID: KeyPart = KeyPart::Fixed { name: "eid", len: Eid::LEN };
const NODE: KeyPart = KeyPart::Fixed { name: "node", len: NodeId::LEN };
const SUBMIT: KeyPart = KeyPart::Fixed { name: "submit", len: SubmitId::LEN };
const INVITE: KeyPart = KeyPart::Fixed { name: "invite_hash", len: 32 };
const DOMAIN: KeyPart = KeyPart::Text { name: "domain" };
const NAME: KeyPart = KeyPart::Text { name: "name" };
const LSN: KeyPart = KeyPart::Number { name: "lsn", len: 8 };
const PEER: KeyPart = KeyPart::Number { name: "peer", len: 4 };
const VERSION: KeyPart = KeyPart::Number { name: "version", len: 8 };
const SEQ: KeyPart = KeyPart::Number { name: "seq", len: 8 };
const PREKEY: KeyPart = KeyPart::Number { name: "prekey", len: 4 };
const MINUTE: KeyPart = KeyPart::Number { name: "minute", len: 4 };
const KIND: KeyPart = KeyPart::Number { name: "kind", len: 1 };

const fn rows<T: Shaped>(table: Table, key: &'static [KeyPart]) -> Layout {
    Layout { table, key, value: Some(T::SHAPE) }
}

/// Every table of `schema.rs`.
pub static LAYOUT: &[Layout] = &[
    rows::<u64>(schema::META, &[NAME]),
    rows::<NodeId>(schema::OWNER, &[NAME]),
    rows::<AccountRow>(schema::ACCOUNTS, &[NAME]),
    rows::<Signed<DeviceList>>(schema::LISTS, &[ACCOUNT, VERSION]),
    rows::<DeviceRow>(schema::DEVICES, &[DEVICE]),
    rows::<ReplacedRow>(schema::REPLACED, &[DEVICE]),
    rows::<Bundle>(schema::BUNDLES, &[DEVICE]),
    rows::<OneTimeRow>(schema::ONE_TIME, &[DEVICE, PREKEY]),
    rows::<InviteRow>(schema::INVITES, &[INVITE]),
    rows::<PeerRow>(schema::PEERS, &[NODE]),
    rows::<Signed<Consent>>(schema::CONSENTS, &[NODE]),
    rows::<CustodyRow>(schema::CUSTODY, &[NODE]),
    rows::<OutboxRow>(schema::OUTBOX, &[PEER, LSN]),
    rows::<OutRow>(schema::OUT, &[EID]),
    rows::<Eid>(schema::WAYS, &[PEER, LSN]),
    rows::<SubmitRow>(schema::SUBMITS, &[DEVICE, SUBMIT]),
    rows::<BodyRow>(schema::BODIES, &[LSN]),
    rows::<InboxRow>(schema::INBOX, &[DEVICE, LSN]),
    rows::<SeenRow>(schema::SEEN, &[EID]),
    rows::<Proof>(schema::NOTES, &[DEVICE, LSN]),
    rows::<Proof>(schema::STATEMENTS, &[PEER, LSN]),
    rows::<CachedUser>(schema::USERS, &[NODE, NAME]),
    rows::<DirectoryRow>(schema::DIRECTORY, &[NODE, NAME]),
    rows::<NameRow>(schema::NAMES, &[DOMAIN]),
    Layout { table: schema::EXPIRY, key: &[MINUTE, KIND, EID], value: None },
    rows::<DeadRow>(schema::DEAD, &[LSN]),
    rows::<DeadLetterRow>(schema::DEAD_LETTERS, &[PEER, LSN]),
    rows::<PolicyRow>(schema::POLICY, &[NODE]),
    rows::<AdminLogRow>(schema::ADMIN_LOG, &[SEQ]),
    rows::<RouteRow>(schema::ROUTES, &[NODE]),
];

#[cfg(test)]
mod tests {
    use super::LAYOUT;
    use crate::schema::SCHEMA;

    #[test]
    fn every_table_has_its_layout() {
        let laid_out: Vec<_> = LAYOUT.iter().map(|layout| layout.table).collect();
        assert_eq!(laid_out, SCHEMA.tables);
    }
}
