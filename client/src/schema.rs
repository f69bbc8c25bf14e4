//! Every table of a device's store, on one page. Values are sealed at rest (`vault.rs`) and typed in
//! `rows.rs`; keys are numbers, hashes and random ids, so that a stolen file names nobody.

use tidings_store::{Schema, Table};

/// Single rows, each under its own name: `account`, `node`, `prekeys`.
pub const SELF: Table = Table::new("self");
/// Peer key → pinned account: [`crate::rows::PeerRow`].
pub const PEERS: Table = Table::new("peers");
/// Device id → sessions with it: [`crate::rows::DeviceRow`].
pub const DEVICES: Table = Table::new("devices");
/// Session tag → device id that sends under it.
pub const TAGS: Table = Table::new("tags");
/// Chat id ‖ device id → where that device's sequence stands: [`crate::rows::SenderRow`].
pub const SENDERS: Table = Table::new("senders");
/// Peer key ‖ message id ‖ 1 when own → [`crate::rows::MessageRow`]. Grows with time per peer.
pub const MESSAGES: Table = Table::new("messages");
/// The same key → nothing, for another's message that was shown and not displayed.
pub const UNREAD: Table = Table::new("unread");
/// Peer key → what was begun to write: [`crate::draft::Draft`].
pub const DRAFTS: Table = Table::new("drafts");
/// Peer key ‖ message id ‖ device id → what is known there: [`crate::rows::StatusRow`].
pub const STATUS: Table = Table::new("status");
/// Number that grows with time → work not yet final: [`crate::rows::OutboxRow`].
pub const OUTBOX: Table = Table::new("outbox");
/// The same number → sealed bytes, written once: [`crate::rows::SealedRow`].
pub const SEALED: Table = Table::new("sealed");
/// Copy id → which message and device it is for: [`crate::rows::CopyRow`].
pub const COPIES: Table = Table::new("copies");
/// Envelope id → its copies: [`crate::rows::EnvelopeRow`].
pub const ENVELOPES: Table = Table::new("envelopes");
/// Envelope id ‖ hash of the proof → a statement that came before the envelope it is about.
pub const ORPHANS: Table = Table::new("orphans");
/// Keyed hash of a node id ‖ serial → another node's delegation, checked when it came.
pub const DELEGATIONS: Table = Table::new("delegations");
/// Minute of creation (u32) ‖ copy id → what was answered: [`crate::rows::SeenRow`].
pub const SEEN: Table = Table::new("seen");
/// Keyed hash of a domain → the node that it stands for.
pub const NAMES: Table = Table::new("names");
/// Chat id ‖ device id ‖ sequence → key of a message that waits for the ones before it.
pub const HELD: Table = Table::new("held");

/// The schema that a device's store is opened with.
pub const SCHEMA: Schema = Schema {
    version: 1,
    tables: &[
        SELF,
        PEERS,
        DEVICES,
        TAGS,
        SENDERS,
        MESSAGES,
        UNREAD,
        DRAFTS,
        STATUS,
        OUTBOX,
        SEALED,
        COPIES,
        ENVELOPES,
        ORPHANS,
        SEEN,
        HELD,
        DELEGATIONS,
        NAMES,
    ],
    migrations: &[],
};
