//! Which parts of libp2p run, in which order, with which limits. No logic of our own.
//!
//! The refusing parts come first: the derived code asks in field order, and a refusal late in the
//! list would leave state behind in the parts already asked.

use libp2p::connection_limits::ConnectionLimits;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{BucketInserts, Caching, Mode, StoreInserts};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{
    PeerId, StreamProtocol, Swarm, SwarmBuilder, allow_block_list, autonat, connection_limits,
    dcutr, identify, kad, memory_connection_limits, noise, ping, quic, relay, tcp, yamux,
};

use tracing::warn;

use super::address_filter::AddressFilter;
use super::inbound_gate::InboundGate;
use super::instance::Instance;
use super::kad_gate::KadGate;
use super::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, DHT_QUERY_TIMEOUT, DHT_RECORD_LIFE, DHT_RECORDS_MAX,
    DHT_REPLICATION, DHT_VALUE_BYTES_MAX, HANDSHAKE_TIMEOUT, IDLE_CONNECTION_TIMEOUT,
    INBOUND_CONNECTIONS_MAX, MEMORY_SHARE_MAX, PENDING_CONNECTIONS_MAX, QUIC_CONNECTION_BYTES_MAX,
    QUIC_STREAM_BYTES_MAX, QUIC_STREAMS_MAX, YAMUX_STREAMS_MAX,
};
use super::nat_gate::{NatGate, OverRate};
use super::relaying::Relaying;
use super::{StartError, lanes};

/// The routing table's protocol: one network, never the public IPFS one.
pub(crate) const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/tidings/kad/1");
/// What identify tells about us, beside the [`Instance`].
const IDENTIFY_PROTOCOL: &str = "/tidings/1";

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    connection_limits: connection_limits::Behaviour,
    memory_limits: memory_connection_limits::Behaviour,
    inbound_gate: InboundGate,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) dht: KadGate,
    pub(crate) relay_client: relay::client::Behaviour,
    relay: Toggle<relay::Behaviour>,
    pub(crate) dcutr: NatGate<dcutr::Behaviour>,
    /// Asks peers to dial back to us.
    pub(crate) probe: NatGate<autonat::v2::client::Behaviour>,
    /// Dials back to peers that ask.
    pub(crate) dial_back: NatGate<autonat::v2::server::Behaviour>,
    pub(crate) lanes: lanes::Behaviour,
}

impl Behaviour {
    fn new(
        key: &Keypair,
        relay_client: relay::client::Behaviour,
        filter: AddressFilter,
        relaying: &Relaying,
        announces: bool,
        instance: Instance,
    ) -> Self {
        let local = key.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_CONNECTIONS_MAX))
            .with_max_pending_outgoing(Some(PENDING_CONNECTIONS_MAX))
            .with_max_established_incoming(Some(INBOUND_CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX))
            .with_max_established(Some(CONNECTIONS_MAX));
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public())
            .with_agent_version(instance.to_agent())
            // What is announced stands in place of where we listen, here as in the descriptor.
            .with_hide_listen_addrs(announces)
            // Its cache would offer unfiltered addresses to every dial.
            .with_cache_size(0);
        Self {
            blocked: allow_block_list::Behaviour::default(),
            connection_limits: connection_limits::Behaviour::new(limits),
            memory_limits: unless_nothing(
                memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE_MAX),
            ),
            inbound_gate: InboundGate::new(filter),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            dht: KadGate::new(kademlia(local), filter),
            relay_client,
            relay: relaying.behaviour(local).into(),
            dcutr: NatGate::new(dcutr::Behaviour::new(local), filter, OverRate::Fails),
            // It dials nobody itself.
            probe: NatGate::new(Default::default(), filter, OverRate::Fails),
            dial_back: NatGate::new(Default::default(), filter, OverRate::IsForgotten),
            lanes: lanes::Behaviour::default(),
        }
    }
}

/// A share of all the memory there is; without a limit where the system does not tell how much that is
/// (a hidden `/proc/meminfo` reads as none): a share of nothing would refuse every peer.
fn unless_nothing(
    limits: memory_connection_limits::Behaviour,
) -> memory_connection_limits::Behaviour {
    if limits.max_allowed_bytes() > 0 {
        return limits;
    }
    warn!("this machine does not tell how much memory it has: connections have no limit by memory");
    memory_connection_limits::Behaviour::with_max_bytes(usize::MAX)
}

/// The swarm, not yet listening. Whether it `announces` addresses: then it tells no others.
///
/// # Errors
/// [`StartError::Transport`], [`StartError::Chance`].
pub(crate) fn build_swarm(
    key: Keypair,
    filter: AddressFilter,
    relaying: &Relaying,
    announces: bool,
) -> Result<Swarm<Behaviour>, StartError> {
    let instance = Instance::draw()?;
    let built = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux_config)
        .map_err(|source| StartError::Transport { source: Box::new(source) })?
        .with_quic_config(quic_config)
        // Through a relay too, both ends prove themselves and encrypt between them alone.
        .with_relay_client(noise::Config::new, yamux_config)
        .map_err(|source| StartError::Transport { source: Box::new(source) })?
        .with_behaviour(|key, client| {
            Behaviour::new(key, client, filter, relaying, announces, instance)
        });
    let builder = match built {
        Ok(builder) => builder,
        Err(never) => match never {},
    };
    Ok(builder
        .with_swarm_config(|config| {
            config.with_idle_connection_timeout(IDLE_CONNECTION_TIMEOUT).with_smart_dial()
        })
        .with_connection_timeout(HANDSHAKE_TIMEOUT)
        .build())
}

fn yamux_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(YAMUX_STREAMS_MAX);
    config
}

fn quic_config(mut config: quic::Config) -> quic::Config {
    config.max_concurrent_stream_limit = QUIC_STREAMS_MAX;
    config.max_stream_data = QUIC_STREAM_BYTES_MAX;
    config.max_connection_data = QUIC_CONNECTION_BYTES_MAX;
    config
}

fn kademlia(local: PeerId) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(KAD_PROTOCOL);
    config
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_caching(Caching::Disabled)
        .disjoint_query_paths(true)
        .set_query_timeout(DHT_QUERY_TIMEOUT)
        .set_record_ttl(Some(DHT_RECORD_LIFE))
        .set_replication_interval(Some(DHT_REPLICATION))
        // The library would publish the old value again; the node publishes a fresh one itself.
        .set_publication_interval(None)
        .set_provider_publication_interval(None);
    let store = MemoryStoreConfig {
        max_records: DHT_RECORDS_MAX,
        // The library refuses a value of exactly this many bytes.
        max_value_bytes: DHT_VALUE_BYTES_MAX + 1,
        max_providers_per_key: 0,
        max_provided_keys: 0,
    };
    let mut kad =
        kad::Behaviour::with_config(local, MemoryStore::with_config(local, store), config);
    // The automatic mode would store nothing until some address is proved; see `nat.rs`.
    kad.set_mode(Some(Mode::Server));
    kad
}
