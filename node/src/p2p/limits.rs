//! Every bound of the peer link in one place, with its reason. No behaviour.

use std::num::NonZeroU32;
use std::time::Duration;

/// Commands waiting for the swarm task: a tick of the node asks for far fewer.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Events that the swarm task itself may hold back while the event channel is full. It takes no
/// more commands above this, so the number of answers that can still follow is bounded too.
pub(crate) const OUTBOX_EVENTS_MAX: usize = 1024;
/// Dials under way at a time; more are answered as failed at once, the caller's back-off retries.
pub(crate) const DIALS_MAX: usize = 64;
/// Lookups under way at a time; more are answered as having found nothing.
pub(crate) const LOOKUPS_MAX: usize = 64;
/// Publications under way at a time; a node has one record, so this is for clusters.
pub(crate) const PUBLICATIONS_MAX: usize = 16;
/// Values that end a lookup. Substrate's figure: enough to outvote one stale or silent holder.
pub(crate) const LOOKUP_VALUES_MAX: usize = 5;

/// Addresses that are dialled or remembered per peer: more would let one record make us scan.
pub(crate) const ADDRESSES_PER_PEER_MAX: usize = 8;
/// Peers with configured addresses (bootstrap); it is a list that a person wrote.
pub(crate) const CONFIGURED_PEERS_MAX: usize = 256;

/// Handshakes under way in each direction.
pub(crate) const PENDING_CONNECTIONS_MAX: u32 = 32;
/// Established inbound connections.
pub(crate) const INBOUND_CONNECTIONS_MAX: u32 = 256;
/// Inbound connections of one host (an IPv4 address or an IPv6 /64), handshakes included.
pub(crate) const INBOUND_PER_HOST_MAX: usize = 8;
/// Inbound connections of one network (an IPv4 /24 or an IPv6 /48), handshakes included.
pub(crate) const INBOUND_PER_NETWORK_MAX: usize = 32;
/// Inbound connections through one relay, handshakes included: as many nodes as may be relayed to one
/// at a time, and a quarter of all places, so that strangers behind a relay keep nobody else out.
pub(crate) const INBOUND_PER_RELAY_MAX: usize = 64;
/// Established connections of one peer: one each way after a simultaneous dial, and as many that
/// are just closing. At two, a new dial right after a close was refused.
pub(crate) const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Established connections altogether.
pub(crate) const CONNECTIONS_MAX: u32 = 512;
/// Share of the machine's memory above which no connection is added.
pub(crate) const MEMORY_SHARE_MAX: f64 = 0.8;

/// Streams of one TCP connection. Yamux ends the whole connection, links and all, at one more
/// than this. Kademlia alone may hold 32 each way, and every circuit through a relay is a stream of
/// the connection to it, [`INBOUND_PER_RELAY_MAX`] and as many outward.
pub(crate) const YAMUX_STREAMS_MAX: usize = 256;
/// Streams of one QUIC connection that the peer may have open; opening more only waits.
pub(crate) const QUIC_STREAMS_MAX: u32 = 128;
/// Unread bytes of one QUIC stream.
pub(crate) const QUIC_STREAM_BYTES_MAX: u32 = 1_000_000;
/// Unread bytes of one QUIC connection.
pub(crate) const QUIC_CONNECTION_BYTES_MAX: u32 = 4_000_000;

/// Time for one dial, its encryption handshake included.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for opening one lane on an established connection.
pub(crate) const LANE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without lanes, left over from a lookup, closes after this.
pub(crate) const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Beat of the swarm task; ages are counted in beats, so that no clock is read.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
/// Beats after which a link counts as settled: more than [`HANDSHAKE_TIMEOUT`] plus
/// [`LANE_TIMEOUT`], so that a peer that offers another link by then has lost the old one.
pub(crate) const SETTLED_BEATS: u64 = 6;
/// Time in which a link that is being closed may still hand over what was queued.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Waiting frames are written together up to this: 64 KiB is where larger writes stop helping.
pub(crate) const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Bytes taken from a stream by one read: small, so that reading stays fair between links.
pub(crate) const READ_BYTES_MAX: usize = 16 * 1024;
/// Frames waiting per lane, beside the byte budget: an empty frame still costs a slot.
pub(crate) const QUEUE_FRAMES_MAX: usize = 16 * 1024;

/// Records that we keep for the network.
pub(crate) const DHT_RECORDS_MAX: usize = 4096;
/// Bytes of one record; a descriptor with all its addresses is about 1 KiB.
pub(crate) const DHT_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Bytes of one key; ours are a hash behind a short prefix.
pub(crate) const DHT_KEY_BYTES_MAX: usize = 64;
/// Offered records that are checked per beat, all peers together: two signatures each, so 500
/// are 40 ms of work in five seconds.
pub(crate) const DHT_CHECKS_PER_BEAT_MAX: usize = 500;
/// Offered records that are checked per beat and peer.
pub(crate) const DHT_CHECKS_PER_PEER_MAX: usize = 64;
/// Times per beat that a full store is searched for its farthest record: 2 ms each.
pub(crate) const DHT_EVICTIONS_PER_BEAT_MAX: usize = 20;
/// Handing our stored records to nodes that have come nearer to them.
pub(crate) const DHT_REPLICATION: Duration = Duration::from_secs(60 * 60);
/// Life of a stored record, no longer than a descriptor's own.
pub(crate) const DHT_RECORD_LIFE: Duration = Duration::from_secs(48 * 60 * 60);
/// Time for one lookup or publication.
pub(crate) const DHT_QUERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Relays of one node: more would only fill its list of addresses.
pub(crate) const RELAYS_MAX: usize = 4;
/// Beats between two attempts at a reservation, at most: a minute.
pub(crate) const RESERVATION_BEATS_MAX: u64 = 12;
/// Nodes for which this one may hold a reservation: each keeps a connection, a quarter of all.
pub(crate) const RESERVATIONS_MAX: usize = 128;
/// Reservations of one node. The library lets one more pass, for a connection that is dying.
pub(crate) const RESERVATIONS_PER_PEER_MAX: usize = 1;
/// A reservation ends with its connection. The library's own end of it, at which a renewal at the
/// wrong moment would panic, is put beyond any process's life: ten years.
pub(crate) const RESERVATION_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Circuits that this node carries: two streams and 16 KiB of buffers each.
pub(crate) const CIRCUITS_MAX: usize = 512;
/// Circuits that one node may open, those counted that lead to it: half of the streams of its
/// connection. The library lets one more pass.
pub(crate) const CIRCUITS_PER_PEER_MAX: usize = 63;
/// A circuit ends after this. Its nodes open another, and try anew to reach each other directly.
pub(crate) const CIRCUIT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of one circuit, both ways together: a day at 6 Mbit/s. The library's own 128 KiB would cut
/// off a link after a few messages.
pub(crate) const CIRCUIT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Circuits that one node may ask for at once; a node that starts asks for all of its peers.
pub(crate) const CIRCUITS_AT_ONCE_OF_PEER: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// The same for one IP address, behind which several nodes may be.
pub(crate) const CIRCUITS_AT_ONCE_OF_HOST: NonZeroU32 = NonZeroU32::new(256).unwrap();
/// Reservations that one IP address may ask for at once.
pub(crate) const RESERVATIONS_AT_ONCE_OF_HOST: NonZeroU32 = NonZeroU32::new(64).unwrap();
/// After this, one more of each may be asked for.
pub(crate) const RELAY_ALLOWANCE_EVERY: Duration = Duration::from_secs(10);

/// Beats over which dials are counted that others cause: a minute.
pub(crate) const CAUSED_DIALS_BEATS: u64 = 12;
/// Dials that one peer may cause in that time: it has at most 8 addresses to be tried, or is punched
/// to three times.
pub(crate) const CAUSED_DIALS_PER_PEER_MAX: usize = 16;
/// Dials that all peers together may cause in that time: one each second is no flood for anybody.
pub(crate) const CAUSED_DIALS_MAX: usize = 60;
/// Addresses of one such dial: what the library tells of itself when it punches a hole.
pub(crate) const CAUSED_DIAL_ADDRESSES_MAX: usize = 20;
/// Own addresses that others are asked to try.
pub(crate) const CANDIDATES_MAX: usize = 16;
