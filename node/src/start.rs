//! Joins the parts into a running node, and takes them apart again in the right order.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tidings_core::event::Event;
use tidings_core::ingress::Opener;
use tidings_core::schema::SCHEMA;
use tidings_core::settings::Settings;
use tidings_core::{Core, OpenCoreError};
use tidings_protocol::id::NodeId;
use tidings_store::{
    Ballast, BallastError, BootId, OpenError, Opening, RedbOptions, RedbStore, Store as _,
    StoreError,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin_link::{Admin, AdminSocket};
use crate::bootstrap::keep_bootstrapping;
use crate::chance::{NoRandomness, draw};
use crate::client_link;
use crate::client_listener::{BoundedListener, Gate, TlsError, tls_acceptor};
use crate::clock;
use crate::config::{ClientsConfig, Config, StoreConfig};
use crate::disk;
use crate::event_log;
use crate::failpoint::{self, Step};
use crate::input::{Asker, Input};
use crate::keys::{self, KeyError, Keys};
use crate::limits::{
    CLIENT_HANDSHAKE_TIMEOUT, DRAIN_TIMEOUT, INPUTS_MAX, PEER_BULK_BYTES_MAX,
    PEER_CONTROL_BYTES_MAX, STOP_TIMEOUT, WATCHER_CONNECTIONS_MAX, WATCHER_TIMEOUT,
};
use crate::links::Links;
use crate::metrics::{self, Metrics};
use crate::p2p::{self, P2p, P2pConfig, P2pEvent, P2pLimits, Reach, Relaying};
use crate::peer_link::{self, Announce, PeerLink, Relay};
use crate::reload::{self, Reloader};
use crate::resolver::Resolver;
use crate::run::{CommitFailed, Loop, Turn};
use crate::snapshot::Snapshots;

/// A node did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Its keys are not as they should be.
    #[error("reading the keys of the node")]
    Keys(#[from] KeyError),
    /// Its store does not open.
    #[error("opening the store of the node")]
    Store(#[from] OpenError),
    /// It was here, and is not.
    #[error(
        "{} is gone, with accounts and waiting messages: put it back from a backup; if it is lost for \
         good, remove {STORE_MADE} beside it, and the node begins without accounts and messages",
        .path.display()
    )]
    StoreGone {
        /// The store.
        path: PathBuf,
    },
    /// That it is here could not be noted.
    #[error("noting in {} that the node has a store", .path.display())]
    Note {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The ballast could not be released.
    #[error("making room for the store")]
    Ballast(#[from] BallastError),
    /// Its state could not be read from the store.
    #[error("reading the state of the node")]
    Core(#[source] StoreError),
    /// The store is another node's.
    #[error(
        "{} is the store of {owner}, but the keys beside it are those of {node}: put that node's keys \
         here from a backup, or move the store and {STORE_MADE} away to begin without accounts and messages",
        .path.display()
    )]
    OtherNode {
        /// The store.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Whose keys are there.
        node: String,
    },
    /// Certificate and key cannot be used.
    #[error("setting up TLS for devices")]
    Tls(#[from] TlsError),
    /// An address is taken, or not this machine's.
    #[error("listening on {address}, as {key} says; is another node running?")]
    Listen {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The socket that was handed over cannot be used.
    #[error("taking over the socket for devices that was handed over (LISTEN_FDS)")]
    HandedOver(#[source] io::Error),
    /// The administrator's socket cannot be made.
    #[error("making the socket for administrators in {}", .data.display())]
    AdminSocket {
        /// The data folder.
        data: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The peer link does not start.
    #[error("starting the peer link")]
    Peers(#[from] p2p::StartError),
    /// No random bytes.
    #[error("starting the node")]
    NoRandomness(#[from] NoRandomness),
    /// The loop has no thread.
    #[error("starting the loop")]
    Thread(#[source] io::Error),
}

/// A node ended otherwise than it was told to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The store failed.
    #[error("running the node")]
    Commit(#[from] CommitFailed),
    /// The loop is gone without a word: a mistake of ours.
    #[error("the loop ended unexpectedly; what was acknowledged is on disk: start again")]
    LoopEnded,
    /// The peer link, or another part that should run as long as the node, is gone.
    #[error("a part of the node ended unexpectedly; what was acknowledged is on disk: start again")]
    PartEnded,
    /// The store did not finish in time when the node stopped.
    #[error("the store did not finish in time; what was acknowledged is on disk")]
    StopTimedOut,
}

/// Where a running node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Devices.
    pub clients: SocketAddr,
    /// Devices, as invites say it.
    pub client_url: String,
    /// `/metrics`, `/livez` and `/readyz`.
    pub admin: SocketAddr,
    /// Other nodes, each with the peer id at its end, as `bootstrap` wants it.
    pub peers: Vec<Multiaddr>,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    id: NodeId,
    bound: Bound,
    inputs: mpsc::Sender<Input>,
    metrics: Arc<Metrics>,
    ballast: Ballast,
    ended: oneshot::Receiver<Result<(), CommitFailed>>,
    open_links: watch::Receiver<usize>,
    accepting: JoinSet<()>,
    tasks: JoinSet<()>,
}

/// Starts a node. Everything is bound and the store is open when this returns. Devices connect to the
/// socket that was `handed_over`, if there is one: it outlives the process, so that nobody who connects
/// while the node starts anew is refused.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(config: Config, handed_over: Option<StdListener>) -> Result<Node, StartError> {
    let keys = keys::load(&config.data, &config.domains, &config.custodians, clock::now_ms())?;
    raise_file_limit();
    let ballast = Ballast::beside(&store_path(&config.data), config.store.ballast_bytes);
    let mut store = open_store(&config.data, &config.store, &ballast)?;
    let core = open_core(&mut store, &config, &keys)?;

    let (clients, tls) = bind_clients(&config.clients, handed_over).await?;
    let admin = bind("listen_admin", config.listen_admin).await?;
    if !is_inside(config.listen_admin.ip()) {
        warn!(
            listen_admin = %config.listen_admin,
            "anybody who reaches this address reads the metrics, which name peers: listen on an \
             inner address, or let a firewall keep others out"
        );
    }
    let admin_socket = AdminSocket::bind(&config.data)
        .map_err(|source| StartError::AdminSocket { data: config.data.clone(), source })?;
    let mut tasks = JoinSet::new();
    let (p2p, p2p_events) = start_peers(&config, &keys, &mut tasks)?;

    let (inputs, to_loop) = mpsc::channel(INPUTS_MAX);
    let (count, open_links) = watch::channel(0);
    let metrics = Arc::new(Metrics::new());
    let peer_link = PeerLink::new(p2p.clone());
    let snapshots = Snapshots::of(store.reader());
    let turning = Loop {
        core,
        store,
        inputs: to_loop,
        links: Links::new(peer_link.clone(), count),
        resolver: Resolver::start(config.dns_servers.clone(), inputs.clone(), &mut tasks),
        metrics: Arc::clone(&metrics),
        runtime: tokio::runtime::Handle::current(),
        turn: Turn::default(),
    };
    let ended = spawn_loop(turning)?;

    let bound_clients = address_of("listen_clients", &clients, config.clients.listen)?;
    let client_url = config.clients.url.clone().unwrap_or_else(|| {
        format!("{}://{bound_clients}", if tls.is_some() { "wss" } else { "ws" })
    });
    let asker = Asker(inputs.clone());
    let (peers, reloader) =
        relay_peers(&config, &keys, peer_link.clone(), &p2p, p2p_events, &inputs, &mut tasks).await;
    let bound = Bound {
        clients: bound_clients,
        client_url: client_url.clone(),
        admin: address_of("listen_admin", &admin, config.listen_admin)?,
        peers,
    };
    let administration = Admin {
        asker: asker.clone(),
        node: keys.node,
        peer_id: p2p.local_peer().to_string(),
        p2p: p2p.clone(),
        peer_link,
        client_url,
        snapshots,
        reloader: reloader.clone(),
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(reloader.on_hangup());
    tasks.spawn(admin_socket.serve(administration));
    tasks.spawn(disk::watch(&config.data, &ballast, &metrics, inputs.clone()));
    tasks.spawn(serve_admin(admin, Arc::clone(&metrics), asker, p2p));
    let mut accepting = JoinSet::new();
    let places = config.clients.connections_max;
    let clients = BoundedListener::new(clients, tls, places, CLIENT_HANDSHAKE_TIMEOUT);
    accepting.spawn(serve_clients(clients, inputs.clone()));
    info!(node = %keys.node.to_text(), "the node runs");
    Ok(Node { id: keys.node, bound, inputs, metrics, ballast, ended, open_links, accepting, tasks })
}

impl Node {
    /// Which node this is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Where it can be reached.
    #[must_use]
    pub const fn bound(&self) -> &Bound {
        &self.bound
    }

    /// Runs until `shutdown` is ready, then stops within ten seconds: says goodbye to everybody,
    /// commits, closes the store.
    ///
    /// # Errors
    /// [`RunError`] when the node ended by itself, or not cleanly.
    pub async fn run_until(
        mut self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), RunError> {
        tokio::select! {
            ended = &mut self.ended => return Err(self.why(ended)),
            () = shutdown => {}
            Some(ended) = self.tasks.join_next() => {
                error!(panicked = ended.is_err(), "a part of the node ended; the node ends");
                self.stop().await?;
                return Err(RunError::PartEnded);
            }
        }
        self.stop().await
    }

    async fn stop(&mut self) -> Result<(), RunError> {
        info!("the node stops");
        failpoint::pass(Step::BeforeDrain);
        self.metrics.draining();
        self.accepting.shutdown().await;
        if self.inputs.send(Input::Event(Event::Drain)).await.is_ok() {
            let gone = self.open_links.wait_for(|open| *open == 0);
            if tokio::time::timeout(DRAIN_TIMEOUT, gone).await.is_err() {
                info!("some links did not close in time");
            }
        }
        // A loop that has ended is found out below.
        self.inputs.send(Input::Stop).await.unwrap_or_default();
        let ended = tokio::time::timeout(STOP_TIMEOUT, &mut self.ended).await;
        self.tasks.shutdown().await;
        match ended {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(ended) => Err(self.why(ended)),
            Err(_) => Err(RunError::StopTimedOut),
        }
    }

    /// Why the loop has ended. Where that was for want of space, the next start gets the ballast's.
    fn why(&self, ended: Ended) -> RunError {
        let Ok(Err(failed)) = ended else { return RunError::LoopEnded };
        if failed.is_for_space() {
            match self.ballast.release() {
                Ok(true) => warn!("the disk is full; the ballast was released: make space"),
                Ok(false) => error!("the disk is full, and there is no ballast: make space"),
                Err(error) => error!(%error, "releasing the ballast failed"),
            }
        }
        RunError::Commit(failed)
    }
}

type Ended = Result<Result<(), CommitFailed>, oneshot::error::RecvError>;

fn store_path(data: &Path) -> PathBuf {
    data.join(keys::STORE_FILE)
}

/// Its presence says that there was a store: one that is gone is not made anew without a word, since an
/// empty node refuses for good what its peers kept for it.
const STORE_MADE: &str = "store.made";

/// Opens the store of a node, or makes the first one.
fn open_store(
    data: &Path,
    config: &StoreConfig,
    ballast: &Ballast,
) -> Result<RedbStore, StartError> {
    let (path, note) = (store_path(data), data.join(STORE_MADE));
    let is_noted = note.exists();
    let is_here = fs::metadata(&path).is_ok_and(|found| found.len() > 0);
    if is_noted && !is_here {
        return Err(StartError::StoreGone { path });
    }
    let store = open_file(&path, config, ballast)?;
    if !is_noted {
        let noted = File::create(&note).and_then(|file| file.sync_all());
        let noted = noted.and_then(|()| File::open(data)?.sync_all());
        noted.map_err(|source| StartError::Note { path: note, source })?;
    }
    Ok(store)
}

/// Opens the store; when the disk is too full even for that, the ballast makes room.
fn open_file(
    path: &Path,
    config: &StoreConfig,
    ballast: &Ballast,
) -> Result<RedbStore, StartError> {
    let opening = Opening { boot: BootId(draw()?), incarnation: u64::from_be_bytes(draw()?) };
    let options = RedbOptions { cache_bytes: config.cache_bytes, ..RedbOptions::default() };
    match RedbStore::open(path, SCHEMA, opening, options) {
        Err(OpenError::DiskFull { .. }) if ballast.release()? => {
            warn!("the disk is full; the ballast was released: make space");
            Ok(RedbStore::open(path, SCHEMA, opening, options)?)
        }
        opened => Ok(opened?),
    }
}

fn open_core(store: &mut RedbStore, config: &Config, keys: &Keys) -> Result<Core, StartError> {
    let lineage = store.lineage().clone();
    let settings = settings(config, keys);
    let (seed, now) = (draw()?, clock::now_ms());
    let (mut opened, mut other, mut head) = (None, None, None);
    let done = store.batch(&mut |txn| {
        let core = Core::open(settings.clone(), &lineage, seed, now, txn);
        let mut core = core.map_err(|error| match error {
            OpenCoreError::Store(error) => error,
            OpenCoreError::OtherNode { owner } => {
                other = Some(owner);
                StoreError::work(error)
            }
            OpenCoreError::Delegation(_)
            | OpenCoreError::OtherKey
            | OpenCoreError::OtherSealingKey => StoreError::work(error),
        })?;
        core.finish(now, txn)?;
        head = Core::admin_log_head(txn)?;
        opened = Some(core);
        Ok(())
    });
    if let Some(owner) = other {
        let (path, node) = (store_path(&config.data), keys.node.to_text());
        return Err(StartError::OtherNode { path, owner: owner.to_text(), node });
    }
    done.map_err(StartError::Core)?;
    if let Some((seq, hash)) = head {
        // In the system's log, out of reach of whoever would change the store's.
        info!(entries = seq, %hash, "the administrators' log ends here");
    }
    opened.ok_or_else(|| StartError::Core(StoreError::corrupt("the core was not opened")))
}

fn settings(config: &Config, keys: &Keys) -> Settings {
    let mut settings =
        Settings::new(keys.operational.clone(), keys.sealing.clone(), keys.delegation.clone());
    settings.tells_steps = event_log::is_wanted();
    settings.set_live(reload::live_settings(config));
    settings.routes.clone_from(&config.routes);
    settings.gateway_for.clone_from(&config.gateway_for);
    settings
}

fn start_peers(
    config: &Config,
    keys: &Keys,
    tasks: &mut JoinSet<()>,
) -> Result<(P2p, mpsc::Receiver<P2pEvent>), StartError> {
    let config = P2pConfig {
        transport_seed: keys.transport.clone(),
        listen: config.peers.listen.clone(),
        announce: config.peers.announce.clone(),
        allow_private_addresses: config.peers.allow_private_addresses,
        relays: relay_ids(config),
        relaying: Relaying { whom: config.peers.relay_for.clone(), ..Relaying::default() },
        limits: P2pLimits {
            control_bytes_max: PEER_CONTROL_BYTES_MAX,
            bulk_bytes_max: PEER_BULK_BYTES_MAX,
            ..P2pLimits::default()
        },
    };
    Ok(p2p::start(&config, tasks, peer_link::validator())?)
}

/// The relays of this node; of each, several addresses may be configured.
fn relay_ids(config: &Config) -> Vec<PeerId> {
    let relays: BTreeSet<PeerId> = config.peers.relays.iter().map(|(peer, _)| *peer).collect();
    relays.into_iter().collect()
}

/// Starts the relay. Gives the addresses that were bound, each with our peer id, and who changes which
/// peers are configured.
async fn relay_peers(
    config: &Config,
    keys: &Keys,
    link: PeerLink,
    p2p: &P2p,
    events: mpsc::Receiver<P2pEvent>,
    inputs: &mpsc::Sender<Input>,
    tasks: &mut JoinSet<()>,
) -> (Vec<Multiaddr>, Reloader) {
    let (listening, mut heard) = watch::channel(Vec::new());
    let announce = Announce {
        fixed: config.peers.announce.clone(),
        with_private: config.peers.allow_private_addresses,
        is_deaf: config.peers.listen.is_empty(),
    };
    let opener = Arc::new(Opener { node: keys.node, secret: keys.sealing.clone() });
    let (reloads, inputs, reach) = (Asker(inputs.clone()), inputs.clone(), Reach::default());
    let relay = Relay { link, inputs, opener, announce, reach, listening };
    tasks.spawn(relay.run(events));
    let wanted = config.peers.listen.len();
    let all = heard.wait_for(|addresses| addresses.len() >= wanted);
    if !matches!(tokio::time::timeout(LISTEN_TIMEOUT, all).await, Ok(Ok(_))) {
        warn!("not all addresses for peers are listened on yet");
    }
    let allow_private = config.peers.allow_private_addresses;
    let (configured, to_enter) = watch::channel(reload::configured_peers(config));
    tasks.spawn(keep_bootstrapping(p2p.clone(), to_enter, allow_private));
    let reloader = Reloader::new(config.clone(), reloads, configured);
    let local = p2p.local_peer();
    let heard = heard.borrow();
    let bound = heard.iter().filter_map(|address| address.clone().with_p2p(local).ok());
    (bound.collect(), reloader)
}

/// Time for the system to say where we listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

fn spawn_loop(turning: Loop) -> Result<oneshot::Receiver<Result<(), CommitFailed>>, StartError> {
    let (end, ended) = oneshot::channel();
    thread::Builder::new()
        .name("writer".to_owned())
        .spawn(move || {
            let result = turning.run();
            if let Err(failed) = &result {
                error!(error = %failed, "a commit failed; the node ends");
            }
            // Nobody listens when the process is already ending.
            end.send(result).unwrap_or_default();
        })
        .map_err(StartError::Thread)?;
    Ok(ended)
}

async fn bind_clients(
    config: &ClientsConfig,
    handed_over: Option<StdListener>,
) -> Result<(TcpListener, Option<tokio_rustls::TlsAcceptor>), StartError> {
    let tls = config.tls.as_ref().map(tls_acceptor).transpose()?;
    let listener = match handed_over {
        Some(listener) => take_over(listener).map_err(StartError::HandedOver)?,
        None => bind("listen_clients", config.listen).await?,
    };
    Ok((listener, tls))
}

fn take_over(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    info!("devices connect to a socket that was handed over; listen_clients does not count");
    Ok(listener)
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| StartError::Listen { key, address, source })
}

/// An address that only this machine or its own network reaches.
fn is_inside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn address_of(
    key: &'static str,
    listener: &TcpListener,
    address: SocketAddr,
) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { key, address, source })
}

async fn serve_clients(listener: BoundedListener, inputs: mpsc::Sender<Input>) {
    let service = client_link::router(inputs).into_make_service_with_connect_info::<Gate>();
    if let Err(error) = axum::serve(listener, service).await {
        error!(%error, "serving devices ended");
    }
}

async fn serve_admin(listener: TcpListener, metrics: Arc<Metrics>, asker: Asker, p2p: P2p) {
    let listener = BoundedListener::new(listener, None, WATCHER_CONNECTIONS_MAX, WATCHER_TIMEOUT);
    if let Err(error) = axum::serve(listener, metrics::router(metrics, asker, p2p)).await {
        error!(%error, "serving metrics ended");
    }
}

/// The soft limit on open files is a habit of shells; a node needs one for each device.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit on open files stays as it was");
    }
}

#[cfg(test)]
mod tests {
    use super::is_inside;

    #[test]
    fn every_address_that_the_world_may_reach_is_known_as_such() {
        for (address, inside) in [
            ("127.0.0.1", true),
            ("10.1.2.3", true),
            ("192.168.0.9", true),
            ("fd00::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_inside(address.parse().unwrap()), inside, "{address}");
        }
    }
}
