//! Every size and time that both sides of a link must agree on, with the reason. No behaviour.
//! `docs/protocol.md` repeats each number and a test holds the two together.

/// Version of the protocol in every hello.
pub const PROTOCOL_VERSION: u8 = 1;
/// Bytes of one frame after its length word: a tick never waits long behind a body.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one envelope, head and shared body together; senders split longer content.
pub const ENVELOPE_BYTES_MAX: usize = 60 * 1024;
/// Targets of one envelope: with parts of 1.5 KiB each they still fit beside a body.
pub const TARGETS_MAX: usize = 24;
/// Envelopes of one submission: two accounts at two nodes need two; splitting needs none more.
pub const ENVELOPES_PER_SUBMIT_MAX: usize = 8;
/// Devices of one account.
pub const DEVICES_MAX: usize = 12;
/// Bytes of a device label.
pub const DEVICE_LABEL_BYTES_MAX: usize = 64;
/// Statements under one signed root: keeps a path below 12 hashes.
pub const STATEMENTS_PER_BATCH_MAX: usize = 1024;
/// Statements in one frame: with paths they stay well below a frame.
pub const STATEMENTS_PER_FRAME_MAX: usize = 64;
/// Envelopes that a node may have unanswered on a peer link.
pub const PEER_WINDOW_ENVELOPES: usize = 4096;
/// Bytes of envelopes that a node may have unanswered on a peer link.
pub const PEER_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Envelopes that a node pushes to a device, or a device to a node, without an answer.
pub const CLIENT_WINDOW_ENVELOPES: usize = 256;
/// Bytes of the same.
pub const CLIENT_WINDOW_BYTES: usize = 1024 * 1024;
/// An envelope or statement that a peer has not answered for so long ends the link: two minutes, in
/// which a whole window passes at 300 kbit/s.
pub const PEER_ANSWER_MS_MAX: u64 = 120 * 1000;
/// Envelope ids in one audit: a frame holds 2,600 of them.
pub const AUDIT_EIDS_MAX: usize = 1000;
/// Envelope ids in one offer to a custodian: a window takes so many envelopes of average size.
pub const OFFER_EIDS_MAX: usize = 256;
/// Names in one page of a directory: their lists and bundles are some hundred kilobytes.
pub const DIRECTORY_PAGE_MAX: usize = 64;
/// How long a listing is good for: so long must a node be able to be away, and no longer can a
/// custodian pass off an old list as the newest.
pub const LISTING_LIFE_MS: u64 = 37 * 24 * 3600 * 1000;
/// Nodes that may hand an envelope or a question on, between the one that sends it first and the one
/// that it is for: a custodian, and three on the way.
pub const HOPS_MAX: u8 = 4;
/// Life of a message, by default and at most: 30 days.
pub const MESSAGE_LIFE_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// How far a clock may be off before an envelope from the future is refused: 10 minutes.
pub const CLOCK_SKEW_MS_MAX: u64 = 10 * 60 * 1000;
/// Life of a node's signed addresses: 48 hours.
pub const ADDRESSES_LIFE_MS_MAX: u64 = 48 * 3600 * 1000;
/// Bytes of a descriptor: what a DHT record may take.
pub const DESCRIPTOR_BYTES_MAX: usize = 2048;
/// Custodians in a delegation.
pub const CUSTODIANS_MAX: usize = 4;
/// Domains in a delegation.
pub const DOMAINS_MAX: usize = 8;
/// Bytes of a domain: with `_tidings.` before it, it is still a name of the DNS.
pub const DOMAIN_BYTES_MAX: usize = 244;
/// Bytes of one DNS record that names a node: ours has 78, people add space.
pub const NAME_RECORD_BYTES_MAX: usize = 512;
/// TXT records of one name that are looked at: one is enough, others put theirs beside it.
pub const NAME_RECORDS_MAX: usize = 16;
/// Transports of one organisation.
pub const TRANSPORTS_MAX: usize = 8;
/// Addresses of one transport.
pub const MULTIADDRS_MAX: usize = 8;
/// Descriptors of other nodes that a hello passes on.
pub const INTRODUCTIONS_MAX: usize = 8;
/// One-time pre-keys that a device keeps at its node.
pub const ONE_TIME_PREKEYS_MAX: usize = 100;
/// A link without a frame for so long is dead; keep-alives go every third of it.
pub const LINK_SILENCE_MS_MAX: u64 = 90 * 1000;
/// Versions of a device list in one answer.
pub const LISTS_PER_ANSWER_MAX: usize = 16;
/// Bytes of one text.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
