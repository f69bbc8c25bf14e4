//! A network between real nodes that does what a seed and a test say: it delays, loses, doubles and
//! reorders, it is slow, it is cut in one direction or both, it flaps. In user space, so it runs
//! everywhere. Knows no frames: QUIC is datagrams here, and TCP is bytes.
//!
//! Each [`Proxy`] stands in front of one node, under the same port for UDP and TCP. What TCP itself would
//! mend is mended here as TCP would: a lost piece comes later, and so does all that follows it.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket, tcp::ReadHalf, tcp::WriteHalf},
    sync::{mpsc, watch},
    task::JoinSet,
    time::interval,
};

use crate::server::free_port;

/// All times are counted in these.
const BEAT: Duration = Duration::from_millis(5);
const BEAT_MS: u64 = 5;
/// After so long a sender of TCP sends a piece again: the shortest time that systems wait.
const RESEND_MS: u64 = 200;
/// Bytes that a direction holds back; then it reads no further, or drops datagrams, as routers do.
const HELD_BYTES_MAX: usize = 256 * 1024;
/// Datagrams between reading and deciding; more are dropped.
const DATAGRAMS_MAX: usize = 1024;
/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What happens to what passes in one direction. By default nothing does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Nothing passes. Bytes of TCP wait, as they would at their sender.
    pub(crate) cut: bool,
    /// Up for so long and then down for so long, in ms, over and over.
    pub(crate) flaps_ms: Option<(u64, u64)>,
    /// Each datagram or piece waits for a time between these, so that datagrams overtake each other.
    pub(crate) delay_ms: (u64, u64),
    /// How many of a thousand are lost.
    pub(crate) lost: u32,
    /// How many of a thousand datagrams come twice.
    pub(crate) doubled: u32,
    /// What passes at most.
    pub(crate) bytes_per_second: Option<u64>,
    /// TCP comes in pieces of at most so many bytes.
    pub(crate) piece_bytes: Option<usize>,
}

impl Faults {
    pub(crate) fn cut() -> Self {
        Self { cut: true, ..Self::default() }
    }
}

/// Which way something goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From whoever dialled to the node behind the proxy.
    In,
    /// Back.
    Out,
}

/// What all tasks of one proxy share.
#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    seed: u64,
    faults: [Mutex<Faults>; 2],
    /// Beats since the beginning: both directions flap together.
    beats: AtomicU64,
    /// Connections and sources of datagrams so far.
    opened: AtomicU64,
    /// Datagrams and pieces that were held up by a cut, each way.
    stopped: [AtomicU64; 2],
    /// Grows when all connections of TCP are to break.
    resets: watch::Sender<u64>,
}

impl Shared {
    fn faults(&self, way: Way) -> Faults {
        self.faults[way as usize].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_cut(&self, faults: &Faults) -> bool {
        let flapped = |(up_ms, down_ms): (u64, u64)| {
            let beat = self.beats.load(Ordering::Relaxed);
            beat % ((up_ms + down_ms) / BEAT_MS) >= up_ms / BEAT_MS
        };
        faults.cut || faults.flaps_ms.is_some_and(flapped)
    }

    /// The chance of one direction of one connection.
    fn chance(&self, way: Way) -> ChaCha8Rng {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        ChaCha8Rng::seed_from_u64(self.seed ^ (number << 1) ^ way as u64)
    }
}

/// A proxy in front of one node.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Stands before the node that listens for peers on `port`.
    pub(crate) async fn before(port: u16, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            target: SocketAddr::from(([127, 0, 0, 1], port)),
            seed,
            faults: Default::default(),
            beats: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            stopped: Default::default(),
            resets: watch::channel(0).0,
        });
        let port = free_port();
        let datagrams = UdpSocket::bind(("127.0.0.1", port)).await.expect("a free port");
        let connections = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_datagrams(Arc::new(datagrams), Arc::clone(&shared)));
        tasks.spawn(serve_connections(connections, Arc::clone(&shared)));
        tasks.spawn(beat(Arc::clone(&shared)));
        Self { port, shared, _tasks: tasks }
    }

    /// What the node behind it announces: this and no other address.
    pub(crate) fn announced(&self, carrier: Carrier) -> String {
        let port = self.port;
        match carrier {
            Carrier::Quic => format!("announce = [\"/ip4/127.0.0.1/udp/{port}/quic-v1\"]\n"),
            Carrier::Tcp => format!("announce = [\"/ip4/127.0.0.1/tcp/{port}\"]\n"),
        }
    }

    /// From now on this happens.
    pub(crate) fn set(&self, way: Way, faults: &Faults) {
        let mut known =
            self.shared.faults[way as usize].lock().unwrap_or_else(PoisonError::into_inner);
        *known = faults.clone();
    }

    /// Breaks all connections of TCP, each with a reset.
    pub(crate) fn reset(&self) {
        self.shared.resets.send_modify(|count| *count += 1);
    }

    /// Connections and sources of datagrams so far.
    pub(crate) fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// How much a cut has held up so far.
    pub(crate) fn stopped(&self, way: Way) -> u64 {
        self.shared.stopped[way as usize].load(Ordering::Relaxed)
    }

    /// How often a link that flaps so has gone down so far.
    pub(crate) fn downs(&self, (up_ms, down_ms): (u64, u64)) -> u64 {
        self.shared.beats.load(Ordering::Relaxed) / ((up_ms + down_ms) / BEAT_MS)
    }
}

/// What carries a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Quic,
    Tcp,
}

async fn beat(shared: Arc<Shared>) {
    let mut beat = interval(BEAT);
    let is_down = |shared: &Shared| {
        let faults = shared.faults(Way::In);
        faults.flaps_ms.is_some() && shared.is_cut(&faults)
    };
    let mut was_down = false;
    loop {
        beat.tick().await;
        shared.beats.fetch_add(1, Ordering::Relaxed);
        // A link that goes down takes its connections along.
        let down = is_down(&shared);
        if down && !was_down {
            shared.resets.send_modify(|count| *count += 1);
        }
        was_down = down;
    }
}

/// One in a thousand, so many times.
fn happens(chance: &mut ChaCha8Rng, of_thousand: u32) -> bool {
    chance.next_u32() % 1000 < of_thousand
}

/// A delay in beats.
fn delay(chance: &mut ChaCha8Rng, (from_ms, to_ms): (u64, u64)) -> u64 {
    let span = to_ms.saturating_sub(from_ms) + 1;
    (from_ms + chance.next_u64() % span).div_ceil(BEAT_MS)
}

/// What may pass by now.
struct Allowance {
    bytes: u64,
}

impl Allowance {
    fn grow(&mut self, faults: &Faults) {
        if let Some(rate) = faults.bytes_per_second {
            // No more is saved up than one datagram needs.
            let most = DATAGRAM_BYTES_MAX as u64;
            self.bytes = (self.bytes + rate * BEAT_MS / 1000).min(most);
        }
    }

    fn take(&mut self, faults: &Faults, bytes: usize) -> bool {
        if faults.bytes_per_second.is_none() {
            return true;
        }
        let enough = self.bytes >= bytes as u64;
        if enough {
            self.bytes -= bytes as u64;
        }
        enough
    }
}

async fn serve_datagrams(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut sources: BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((count, source)) = socket.recv_from(&mut buffer).await else { continue };
        let sender = match sources.get(&source) {
            Some(sender) => sender.clone(),
            None => {
                let Ok(onward) = onward(shared.target).await else { continue };
                let (sender, waiting) = mpsc::channel(DATAGRAMS_MAX);
                let (answers, answered) = mpsc::channel(DATAGRAMS_MAX);
                let there = Arc::new(onward);
                tasks.spawn(read_datagrams(Arc::clone(&there), answers));
                let line = Datagrams::new(Arc::clone(&shared), Way::In);
                tasks.spawn(line.run(waiting, there, None));
                let line = Datagrams::new(Arc::clone(&shared), Way::Out);
                tasks.spawn(line.run(answered, Arc::clone(&socket), Some(source)));
                sources.insert(source, sender.clone());
                sender
            }
        };
        // A full queue drops, as a router's does.
        drop(sender.try_send(buffer[..count].to_vec()));
    }
}

async fn onward(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(target).await?;
    Ok(socket)
}

async fn read_datagrams(from: Arc<UdpSocket>, to: mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !to.is_closed() {
        // An error says that the node is away for the moment.
        if let Ok(count) = from.recv(&mut buffer).await {
            drop(to.try_send(buffer[..count].to_vec()));
        }
    }
}

/// One direction of datagrams.
struct Datagrams {
    shared: Arc<Shared>,
    way: Way,
    chance: ChaCha8Rng,
    allowance: Allowance,
    /// By the beat at which they are due, and their number.
    held: BTreeMap<(u64, u64), Vec<u8>>,
    held_bytes: usize,
    beats: u64,
    number: u64,
}

impl Datagrams {
    fn new(shared: Arc<Shared>, way: Way) -> Self {
        let chance = shared.chance(way);
        let held = BTreeMap::new();
        let allowance = Allowance { bytes: 0 };
        Self { shared, way, chance, allowance, held, held_bytes: 0, beats: 0, number: 0 }
    }

    async fn run(
        mut self,
        mut from: mpsc::Receiver<Vec<u8>>,
        to: Arc<UdpSocket>,
        address: Option<SocketAddr>,
    ) {
        let mut beat = interval(BEAT);
        loop {
            tokio::select! {
                datagram = from.recv() => match datagram {
                    Some(datagram) => self.take(&datagram),
                    None => return,
                },
                _ = beat.tick() => {
                    self.beats += 1;
                    let faults = self.shared.faults(self.way);
                    self.allowance.grow(&faults);
                }
            }
            for datagram in self.due() {
                // What cannot be sent is lost.
                drop(match address {
                    Some(address) => to.send_to(&datagram, address).await,
                    None => to.send(&datagram).await,
                });
            }
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        let faults = self.shared.faults(self.way);
        if self.shared.is_cut(&faults) {
            self.shared.stopped[self.way as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        if happens(&mut self.chance, faults.lost) {
            return;
        }
        let copies = 1 + u64::from(happens(&mut self.chance, faults.doubled));
        for _ in 0..copies {
            if self.held_bytes + datagram.len() > HELD_BYTES_MAX {
                return;
            }
            let due = self.beats + delay(&mut self.chance, faults.delay_ms);
            self.number += 1;
            self.held_bytes += datagram.len();
            self.held.insert((due, self.number), datagram.to_vec());
        }
    }

    fn due(&mut self) -> Vec<Vec<u8>> {
        let faults = self.shared.faults(self.way);
        let mut due = Vec::new();
        while let Some(first) = self.held.first_entry() {
            let is_due = first.key().0 <= self.beats;
            if !is_due || !self.allowance.take(&faults, first.get().len()) {
                break;
            }
            let datagram = first.remove();
            self.held_bytes -= datagram.len();
            due.push(datagram);
        }
        due
    }
}

async fn serve_connections(listener: TcpListener, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while tasks.try_join_next().is_some() {}
        tasks.spawn(serve_connection(stream, Arc::clone(&shared)));
    }
}

/// Carries one connection, until both ends have closed it, or it is reset.
async fn serve_connection(mut here: TcpStream, shared: Arc<Shared>) {
    let mut resets = shared.resets.subscribe();
    let (inward, outward) =
        (Pieces::new(Arc::clone(&shared), Way::In), Pieces::new(Arc::clone(&shared), Way::Out));
    let Ok(mut there) = TcpStream::connect(shared.target).await else { return };
    let is_reset = {
        let ((from_here, to_here), (from_there, to_there)) = (here.split(), there.split());
        let carried = async {
            tokio::try_join!(inward.run(from_here, to_there), outward.run(from_there, to_here))
        };
        tokio::select! {
            carried = carried => carried.is_err(),
            _ = resets.changed() => true,
        }
    };
    for stream in [&here, &there] {
        if is_reset {
            // Closing is a reset then, as when a link breaks.
            drop(stream.set_zero_linger());
        }
    }
}

/// One direction of a connection.
struct Pieces {
    shared: Arc<Shared>,
    way: Way,
    chance: ChaCha8Rng,
    allowance: Allowance,
    /// With the beat at which each is due: nothing overtakes.
    held: VecDeque<(u64, Vec<u8>)>,
    held_bytes: usize,
    beats: u64,
    is_over: bool,
}

impl Pieces {
    fn new(shared: Arc<Shared>, way: Way) -> Self {
        let chance = shared.chance(way);
        let allowance = Allowance { bytes: 0 };
        let held = VecDeque::new();
        Self { shared, way, chance, allowance, held, held_bytes: 0, beats: 0, is_over: false }
    }

    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        const PIECE_BYTES: usize = 1448;
        let mut beat = interval(BEAT);
        let mut buffer = vec![0; PIECE_BYTES];
        while !(self.is_over && self.held.is_empty()) {
            let faults = self.shared.faults(self.way);
            let piece = faults.piece_bytes.unwrap_or(PIECE_BYTES).clamp(1, PIECE_BYTES);
            let has_room = !self.is_over && self.held_bytes < HELD_BYTES_MAX;
            tokio::select! {
                read = from.read(&mut buffer[..piece]), if has_room => match read? {
                    0 => self.is_over = true,
                    count => self.take(&buffer[..count], &faults),
                },
                _ = beat.tick() => {
                    self.beats += 1;
                    self.allowance.grow(&faults);
                }
            }
            while let Some((due, first)) = self.held.front() {
                if *due > self.beats
                    || self.shared.is_cut(&faults)
                    || !self.allowance.take(&faults, first.len())
                {
                    break;
                }
                to.write_all(first).await?;
                self.held_bytes -= first.len();
                self.held.pop_front();
            }
        }
        to.shutdown().await
    }

    fn take(&mut self, piece: &[u8], faults: &Faults) {
        if self.shared.is_cut(faults) {
            self.shared.stopped[self.way as usize].fetch_add(1, Ordering::Relaxed);
        }
        let mut due = self.beats + delay(&mut self.chance, faults.delay_ms);
        while happens(&mut self.chance, faults.lost) {
            due += RESEND_MS / BEAT_MS;
        }
        let last = self.held.back().map_or(0, |(due, _)| *due);
        self.held_bytes += piece.len();
        self.held.push_back((due.max(last), piece.to_vec()));
    }
}
