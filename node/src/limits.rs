//! Every bound of the node's shell in one place, with its reason. No behaviour. The bounds that
//! both sides of a link must know are in the protocol's `limits`; those of libp2p in `p2p/limits.rs`.

use std::time::Duration;

/// Inputs waiting for the loop. At the bound the links stop reading.
pub(crate) const INPUTS_MAX: usize = 1024;
/// Events of one batch: some milliseconds of work, so that no tick waits long.
pub(crate) const BATCH_EVENTS_MAX: usize = 1024;
/// Bytes of bodies in one batch: what one commit writes stays near the size where fsync dominates.
pub(crate) const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Bytes waiting for one device: its window of 1 MiB, and as much again for all other frames.
pub(crate) const CLIENT_QUEUE_BYTES_MAX: usize = 2 * tidings_protocol::limits::CLIENT_WINDOW_BYTES;
/// Frames waiting for one device; answers beside its window are small but not free.
pub(crate) const CLIENT_QUEUE_FRAMES_MAX: usize = 4096;
/// What a frame's header is taken for in that account: encoding happens later, elsewhere.
pub(crate) const FRAME_HEADER_BYTES: usize = 512;
/// Bytes asked from a socket at a time. The library's default costs 134 KiB per idle connection.
pub(crate) const WS_READ_BUFFER_BYTES: usize = 2 * 1024;
/// Bytes after which waiting frames are written without waiting for a flush. Not taken while idle.
pub(crate) const WS_WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// Unwritten bytes inside the library: a frame and the buffer, several times over.
pub(crate) const WS_WRITE_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Time for TLS and the upgrade to a WebSocket; a stranger may not hold a place for longer.
pub(crate) const CLIENT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from the upgrade to the first frame of the device.
pub(crate) const CLIENT_GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Half of the silence after which a link is dead: two of these without a frame end it.
pub(crate) const CLIENT_BEAT: Duration =
    Duration::from_millis(tidings_protocol::limits::LINK_SILENCE_MS_MAX / 2);
/// Time for writing waiting frames to a device that does not read.
pub(crate) const CLIENT_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time in which the core says goodbye to a device that broke the protocol.
pub(crate) const BROKEN_LINK_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS handshakes under way: each costs a millisecond of CPU and some KiB.
pub(crate) const TLS_HANDSHAKES_MAX: usize = 256;
/// Frames of unknown types that are skipped on one link; a newer version says few at a time.
pub(crate) const UNKNOWN_FRAMES_MAX: u32 = 1024;

/// Frames of one peer that wait to be checked.
pub(crate) const PEER_FRAMES_WAITING_MAX: usize = 64;
/// Bytes waiting on a peer's bulk lane: its window of envelopes, and their headers.
pub(crate) const PEER_BULK_BYTES_MAX: usize = 2 * tidings_protocol::limits::PEER_WINDOW_BYTES;
/// Bytes waiting on a peer's control lane: a window of answers with newer device lists.
pub(crate) const PEER_CONTROL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Dials and lookups that wait for their answer.
pub(crate) const ASKED_MAX: usize = 4096;
/// How often the routing table is refreshed from the configured peers.
pub(crate) const BOOTSTRAP_EVERY: Duration = Duration::from_secs(300);
/// The same while a name among them does not resolve: at a start, the network may come later.
pub(crate) const BOOTSTRAP_AGAIN: Duration = Duration::from_secs(15);
/// Names that are resolved side by side: each holds a thread while its server is silent.
pub(crate) const RESOLVE_AT_ONCE: usize = 16;
/// Time for resolving one name.
pub(crate) const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Domains that wait to be looked up: more than the core has under way at a time.
pub(crate) const DNS_QUESTIONS_MAX: usize = 512;
/// Domains that are looked up side by side.
pub(crate) const DNS_AT_ONCE: usize = 32;
/// Time for one try at one DNS server.
pub(crate) const DNS_TRY_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Time for the answer about one domain, all tries together: the node that it names is asked after it.
pub(crate) const DNS_TIMEOUT: Duration = Duration::from_secs(4);
/// DNS servers in the configuration.
pub(crate) const DNS_SERVERS_MAX: usize = 4;

/// How often the disk is asked for its free space.
pub(crate) const DISK_EVERY: Duration = Duration::from_secs(10);
/// Bytes that stay free beside the ballast when it is taken again.
pub(crate) const BALLAST_SPARE_BYTES: u64 = 64 * 1024 * 1024;
/// A loop that has not turned for so long is stuck.
pub(crate) const LOOP_TURN_MAX: Duration = Duration::from_secs(1);
/// Connections to `/metrics` and its neighbours at a time: a few monitors, each with one, and room for
/// some that say nothing.
pub(crate) const WATCHER_CONNECTIONS_MAX: usize = 256;
/// Time for one of them, from the connection to the end of the answer: monitors give up sooner.
pub(crate) const WATCHER_TIMEOUT: Duration = Duration::from_secs(3);
/// Administrators' connections at a time; they are programs of the same user.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 16;
/// Bytes of one administrator's line.
pub(crate) const ADMIN_LINE_BYTES_MAX: u64 = 64 * 1024;
/// Time for another node to take the own descriptor, before a goodbye is answered without that: less
/// than the answer may take.
pub(crate) const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the question of an administrator, and for its answer.
pub(crate) const ADMIN_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a piece of a snapshot must move: who stalls holds back space in the store.
pub(crate) const SNAPSHOT_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Peers that the metrics name one by one; the rest is in the sums.
pub(crate) const METRIC_PEERS_MAX: usize = 256;
/// Time that links get to hand over what was queued when the node stops.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that the store gets for its last commit after that.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(5);
