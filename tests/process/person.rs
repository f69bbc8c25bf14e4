//! Somebody with one device: joined through the command line, then driven here. A task of its own
//! reads the device's effects, so that it never pauses; tests wait for what that task has noted.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use data_encoding::HEXLOWER;
use tidings_client::{
    ClientEffect, ClientEvent, MessageView,
    driver::{Driver, Handle, Place, Running, Trust},
    event::{CloseWhy, MessageRef, Peer, SendText, Settings, Status},
};
use tidings_protocol::{address::UserName, limits};
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};

use crate::{
    binary,
    cluster::in_time,
    server::{Server, text, until},
};

/// More messages than any test sends.
const MESSAGES_MAX: usize = 100_000;

/// How many ranks a status may have.
const RANKS: usize = 1 + Status::Read.rank() as usize;

/// What a device has said so far, over all its runs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    composed: u64,
    pub(crate) shown: Vec<String>,
    best: BTreeMap<MessageRef, Status>,
    /// How many messages have got at least to each rank.
    reached: [usize; RANKS],
    pub(crate) closes: Vec<CloseWhy>,
    pub(crate) linked: u64,
    pub(crate) odd: Vec<String>,
}

/// Somebody with one device.
pub(crate) struct Person {
    pub(crate) peer: Peer,
    pub(crate) home: PathBuf,
    place: Place,
    url: String,
    tokens: u64,
    seen: Arc<Mutex<Seen>>,
    /// Grows with every effect.
    news: watch::Sender<u64>,
    device: Option<Device>,
}

/// A device that runs, and the task that reads its effects.
struct Device {
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Person {
    /// Makes an account at a node, and starts its device.
    pub(crate) async fn join(name: &'static str, server: &Server, home: PathBuf) -> Self {
        let invite = server.invite(1).await;
        let args = ["join", &invite, "--name", name, "--home", text(&home), "--json"];
        let said = binary::json(&args).await;
        let address = format!("{name}@{}", server.id.to_text());
        assert_eq!(said["address"].as_str(), Some(address.as_str()));
        let name = UserName::parse(name).expect("a name");
        let settings = Settings {
            node: server.id,
            name: name.clone(),
            read_receipts: true,
            message_life_ms: limits::MESSAGE_LIFE_MS_MAX,
        };
        let place = Place { path: home.join("device.redb"), store_key: read_key(&home), settings };
        let mut person = Self {
            peer: Peer { node: server.id, name },
            home,
            place,
            url: format!("ws://127.0.0.1:{}", server.ports[1]),
            tokens: 0,
            seen: Arc::default(),
            news: watch::channel(0).0,
            device: None,
        };
        person.come_back();
        person.until_linked(1).await;
        person
    }

    /// The device runs.
    pub(crate) fn come_back(&mut self) {
        assert!(self.device.is_none(), "the device runs already");
        let driver = Driver::open(&self.place).expect("opening a device");
        let running = driver.start(&self.url, &Trust::default()).expect("starting a device");
        let (stop, stopping) = oneshot::channel();
        let handle = running.handle();
        let mut task = JoinSet::new();
        task.spawn(read(running, Arc::clone(&self.seen), self.news.clone(), stopping));
        self.device = Some(Device { handle, stop, task });
    }

    /// The device is stopped, as a command would.
    pub(crate) async fn leave(&mut self) {
        let Some(Device { handle, stop, mut task }) = self.device.take() else { return };
        stop.send(()).expect("a running device");
        in_time("a device to stop", task.join_next()).await.expect("a task").expect("no panic");
        drop(handle);
    }

    /// The device ends where it stands, and effects that nobody has read are lost.
    pub(crate) async fn crash(&mut self) {
        let Device { handle, stop, mut task } = self.device.take().expect("a running device");
        task.shutdown().await;
        drop((handle, stop));
        // The tasks are told to end, and let go of the store a moment later.
        let is_free = async || Driver::open(&self.place).is_ok();
        until("a crashed device to let go of its store", is_free).await;
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic while noting")
    }

    /// What was shown, in the order of showing.
    pub(crate) fn shown(&self) -> Vec<String> {
        self.seen().shown.clone()
    }

    fn handle(&self) -> Handle {
        self.device.as_ref().expect("a running device").handle.clone()
    }

    /// Waits until what was noted satisfies.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let mut news = self.news.subscribe();
        let waiting = async {
            while !is_so(&self.seen()) {
                news.changed().await.expect("the sender is here");
            }
        };
        let what = format!("{what}, at {}", self.peer.name);
        in_time(&what, waiting).await;
    }

    /// Waits until the link was made so often, counted from the beginning.
    pub(crate) async fn until_linked(&self, times: u64) {
        self.until("the link to serve", |seen| seen.linked >= times).await;
    }

    /// Hands texts to the device, without waiting for anything.
    pub(crate) async fn begin_to_write(&mut self, to: &Peer, texts: &[String]) {
        let handle = self.handle();
        for text in texts {
            self.tokens += 1;
            let (to, text, token) = (to.clone(), text.clone(), self.tokens);
            let send = SendText { to, text, reply_to: None, token };
            handle.event(ClientEvent::Send(send)).await.expect("a running device");
        }
    }

    /// Writes texts; returns once all are on this device's disk.
    pub(crate) async fn write(&mut self, to: &Peer, texts: &[String]) {
        let wanted = self.seen().composed + texts.len() as u64;
        self.begin_to_write(to, texts).await;
        self.until("the texts to be on disk", |seen| seen.composed >= wanted).await;
    }

    /// Displays all that has arrived from somebody, as a person who opens the conversation.
    pub(crate) async fn display(&self, from: &Peer) {
        let views = self.conversation(from).await;
        let messages = views.into_iter().map(|view| view.message).collect();
        let displayed = ClientEvent::Displayed { messages };
        self.handle().event(displayed).await.expect("a running device");
    }

    /// Waits until so many of all own messages have got at least so far.
    pub(crate) async fn until_reached(&self, status: Status, count: usize) {
        let rank = usize::from(status.rank());
        let what = format!("{count} messages to be {status:?}");
        self.until(&what, |seen| seen.reached[rank] >= count).await;
    }

    /// How many of all own messages have got at least so far.
    pub(crate) fn reached(&self, status: Status) -> usize {
        self.seen().reached[usize::from(status.rank())]
    }

    /// Rows of the outbox: messages that are not final.
    pub(crate) async fn waiting(&self) -> usize {
        let asked = self.handle().ask(|core, _| Ok(core.outbox_len())).await;
        asked.expect("a running device")
    }

    /// Waits until every own message is final.
    pub(crate) async fn until_nothing_waits(&self) {
        until("every message to be final", async || self.waiting().await == 0).await;
    }

    /// The whole conversation with somebody, in its order.
    pub(crate) async fn conversation(&self, with: &Peer) -> Vec<MessageView> {
        let with = with.clone();
        let handle = self.handle();
        let asked = handle.ask(move |core, txn| core.conversation(txn, &with, MESSAGES_MAX));
        asked.await.expect("a running device")
    }
}

/// The key of a home's store, as the command line keeps it.
fn read_key(home: &Path) -> [u8; 32] {
    let text = fs::read(home.join("store.key")).expect("reading the key of a home");
    let bytes = HEXLOWER.decode(text.trim_ascii()).expect("hexadecimal");
    bytes.try_into().expect("32 bytes")
}

async fn read(
    mut running: Running,
    seen: Arc<Mutex<Seen>>,
    news: watch::Sender<u64>,
    mut stopping: oneshot::Receiver<()>,
) {
    loop {
        let effect = tokio::select! {
            effect = running.effect() => effect,
            asked = &mut stopping => {
                if asked.is_ok() {
                    running.stop().await.expect("stopping a device");
                }
                return;
            }
        };
        let Some(effect) = effect else {
            seen.lock().expect("no panic while noting").odd.push("the device ended".to_owned());
            return;
        };
        note(&mut seen.lock().expect("no panic while noting"), effect);
        news.send_modify(|count| *count += 1);
    }
}

fn note(seen: &mut Seen, effect: ClientEffect) {
    match effect {
        ClientEffect::Composed { .. } => seen.composed += 1,
        ClientEffect::Show(message) => seen.shown.push(message.text),
        ClientEffect::StatusChanged { message, status, .. } => {
            let before = seen.best.get(&message).map_or(0, |known| usize::from(known.rank()) + 1);
            for rank in before..=usize::from(status.rank()) {
                seen.reached[rank] += 1;
            }
            if usize::from(status.rank()) >= before {
                seen.best.insert(message, status);
            }
        }
        ClientEffect::CloseLink(why) => seen.closes.push(why),
        ClientEffect::Linked => seen.linked += 1,
        ClientEffect::Joined
        | ClientEffect::ToNode { .. }
        | ClientEffect::Resolved { .. }
        | ClientEffect::ReadElsewhere { .. } => {}
        odd @ (ClientEffect::Warn(_)
        | ClientEffect::JoinRefused(_)
        | ClientEffect::NotComposed { .. }
        | ClientEffect::Stopped(_)) => seen.odd.push(format!("{odd:?}")),
    }
}
