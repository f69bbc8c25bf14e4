//! Runs one device: the core over a store in a file, and the link to its node. One task takes what
//! has happened up to a bound, commits once, and only then lets effects leave.
//!
//! Holds no rule of the protocol; those are the core's.

mod link;
mod look;
mod run;
mod trust;

use std::path::{Path, PathBuf};

pub use look::{Answer, Caller, Greeted, LookError, caller, look};
use thiserror::Error;
use tidings_store::{
    BootId, OpenError, Opening as StoreOpening, RedbOptions, RedbStore, Store as _, StoreError, Txn,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    ClientCore, ClientEffect, ClientEvent, Identity, OpenClientError, Opening, SCHEMA,
    crypto::PqSealer,
    event::{CloseWhy, Settings, StopWhy},
};

pub use trust::{NoCertificate, Trust};

/// Events that may wait to be taken.
const COMMANDS_MAX: usize = 256;
/// Effects that may wait to be read; the device pauses above that.
const EFFECTS_MAX: usize = 1_024;

/// A device cannot be opened or has ended.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The file cannot be opened.
    #[error("opening the store of a device")]
    Open(#[from] OpenError),
    /// The file holds no readable device.
    #[error("opening a device")]
    Client(#[from] OpenClientError),
    /// A commit failed; nothing of it left this process.
    #[error("writing the store of a device")]
    Store(#[from] StoreError),
    /// The system gives no randomness.
    #[error("drawing randomness")]
    Random,
    /// The address of the link is none, or not allowed.
    #[error("the link {url}: {why}")]
    Url {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The device's task has ended.
    #[error("the device has stopped")]
    Gone,
}

/// A look at a device that does not run.
pub type Look<'a> = dyn FnMut(&ClientCore<PqSealer>, &dyn Txn) -> Result<(), StoreError> + 'a;
type Query = Box<dyn FnOnce(&ClientCore<PqSealer>, &dyn Txn) -> Result<(), StoreError> + Send>;
type Change =
    Box<dyn FnOnce(&mut ClientCore<PqSealer>, &mut dyn Txn, u64) -> Result<(), StoreError> + Send>;

#[expect(clippy::large_enum_variant, reason = "events are by far the most common")]
pub(crate) enum Command {
    Event(ClientEvent),
    Query(Query),
    Change(Change),
    Stop,
}

/// Where the link to the node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// A connection is being made, or the two sides greet each other.
    Opening,
    /// It serves.
    Up,
    /// It is down, and made again at this time in Unix ms.
    Down {
        /// When.
        until_ms: u64,
        /// Why it is down.
        why: DownWhy,
    },
    /// The device is stopped: it is not made again.
    Stopped(StopWhy),
}

/// Why a link is down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownWhy {
    /// The node cannot be reached, or the connection broke; what the system says of it.
    Lost(String),
    /// This side has ended it.
    Closed(CloseWhy),
}

/// A device that is open and does not run yet.
#[derive(Debug)]
pub struct Driver {
    core: ClientCore<PqSealer>,
    store: RedbStore,
}

/// A device that runs. Read its effects from a task that does nothing else but read them: when they
/// pile up, the device pauses.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    effects: mpsc::Receiver<ClientEffect>,
    link: watch::Receiver<LinkState>,
    tasks: JoinSet<Result<(), DriverError>>,
}

/// Tells a running device what happened, and asks it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

/// Where a device is kept and under which key.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The key of its values.
    pub store_key: [u8; 32],
    /// What the owner decided.
    pub settings: Settings,
}

/// Randomness from the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], DriverError> {
    let mut out = [0; N];
    getrandom::fill(&mut out).map_err(|_| DriverError::Random)?;
    Ok(out)
}

/// Unix ms by the system's clock.
#[expect(clippy::disallowed_methods, reason = "this is where time comes in")]
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A new account with its first device, to be written with [`Driver::create`].
///
/// # Errors
/// The system gives no randomness.
pub fn new_account(settings: &Settings, label: &str) -> Result<Identity, DriverError> {
    use rand_core::SeedableRng as _;
    let mut rng = rand_chacha::ChaCha20Rng::from_seed(random()?);
    Ok(Identity::new_account(&mut rng, settings, label, now_ms()))
}

impl Driver {
    /// Writes a new device into a new file.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn create(place: &Place, identity: &Identity) -> Result<Self, DriverError> {
        Self::with(place, &mut |txn, lineage, sealer, opening| {
            ClientCore::create(txn, lineage, sealer, opening, identity, now_ms())
        })
    }

    /// Opens the device in a file.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn open(place: &Place) -> Result<Self, DriverError> {
        Self::with(place, &mut |txn, lineage, sealer, opening| {
            ClientCore::open(txn, lineage, sealer, opening, now_ms())
        })
    }

    #[expect(clippy::type_complexity, reason = "one private function, called twice")]
    fn with(
        place: &Place,
        make: &mut dyn FnMut(
            &mut dyn Txn,
            &tidings_store::Lineage,
            PqSealer,
            &Opening,
        ) -> Result<ClientCore<PqSealer>, OpenClientError>,
    ) -> Result<Self, DriverError> {
        let mut store = open_store(&place.path)?;
        let lineage = store.lineage().clone();
        let opening = Opening {
            settings: place.settings.clone(),
            store_key: place.store_key,
            seed: random()?,
        };
        let mut sealer = Some(PqSealer::from_seed(random()?));
        let mut made = None;
        store.batch(&mut |txn| {
            if let Some(sealer) = sealer.take() {
                made = Some(make(txn, &lineage, sealer, &opening));
            }
            Ok(())
        })?;
        match made {
            Some(core) => Ok(Self { core: core?, store }),
            None => Err(DriverError::Gone),
        }
    }

    /// The core, for questions before it runs.
    #[must_use]
    pub const fn core(&self) -> &ClientCore<PqSealer> {
        &self.core
    }

    /// Reads without running: for a look at a device that stays offline.
    ///
    /// # Errors
    /// From the store.
    pub fn view(&self, look: &mut Look<'_>) -> Result<(), StoreError> {
        let core = &self.core;
        self.store.view(&mut |txn| look(core, txn))
    }

    /// Runs the device on the present tokio runtime. `url` is that of the node's link,
    /// `ws://127.0.0.1:port/v1/link`; without TLS only loopback is allowed. `trust` is for TLS only:
    /// the node proves itself by its own key whatever its certificate says.
    ///
    /// # Errors
    /// The address is not allowed.
    pub fn start(self, url: &str, trust: &Trust) -> Result<Running, DriverError> {
        link::check_url(url)?;
        let (commands, events) = mpsc::channel(COMMANDS_MAX);
        let (effects_in, effects) = mpsc::channel(EFFECTS_MAX);
        let (link_in, link) = watch::channel(LinkState::Opening);
        let mut tasks = JoinSet::new();
        let node = (url.to_owned(), trust.clone());
        let out = run::Out { effects: effects_in, link: link_in };
        tasks.spawn(run::run(self.core, self.store, node, events, out));
        Ok(Running { handle: Handle { commands }, effects, link, tasks })
    }
}

fn open_store(path: &Path) -> Result<RedbStore, DriverError> {
    let opening =
        StoreOpening { boot: BootId(random()?), incarnation: u64::from_be_bytes(random()?) };
    // The store of a device is small. Without the check, one flipped bit can hide most of its rows.
    let options = RedbOptions { check_integrity: true, ..RedbOptions::default() };
    Ok(RedbStore::open(path, SCHEMA, opening, options)?)
}

impl Running {
    /// The next effect; frames to the node are not among them. `None` when the device has ended.
    pub async fn effect(&mut self) -> Option<ClientEffect> {
        self.effects.recv().await
    }

    /// Where the link stands, now and whenever that changes.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.link.clone()
    }

    /// A handle that can be given away.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends the device once what it was told before is committed.
    ///
    /// # Errors
    /// What ended it, if it had ended before.
    pub async fn stop(mut self) -> Result<(), DriverError> {
        // A closed channel means that it has ended already; the task says why.
        if self.handle.commands.send(Command::Stop).await.is_err() {
            self.effects.close();
        }
        while self.effects.recv().await.is_some() {}
        match self.tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(DriverError::Gone),
        }
    }
}

impl Handle {
    /// Something happened.
    ///
    /// # Errors
    /// The device has ended.
    pub async fn event(&self, event: ClientEvent) -> Result<(), DriverError> {
        self.commands.send(Command::Event(event)).await.map_err(|_| DriverError::Gone)
    }

    /// Asks the device; sees everything that was committed before.
    ///
    /// # Errors
    /// The device has ended, or its store failed.
    pub async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&ClientCore<PqSealer>, &dyn Txn) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, DriverError> {
        let (answer, answered) = oneshot::channel();
        let query: Query = Box::new(move |core, txn| {
            let value = question(core, txn)?;
            // Nobody waits any more when the asker was dropped.
            drop(answer.send(value));
            Ok(())
        });
        self.commands.send(Command::Query(query)).await.map_err(|_| DriverError::Gone)?;
        answered.await.map_err(|_| DriverError::Gone)
    }

    /// Changes the device in a commit of its own, as [`ClientCore::link_device`] does. The time is
    /// in Unix ms.
    ///
    /// # Errors
    /// The device has ended, or its store failed.
    pub async fn change<R: Send + 'static>(
        &self,
        change: impl FnOnce(&mut ClientCore<PqSealer>, &mut dyn Txn, u64) -> Result<R, StoreError>
        + Send
        + 'static,
    ) -> Result<R, DriverError> {
        let (answer, answered) = oneshot::channel();
        let change: Change = Box::new(move |core, txn, now_ms| {
            let value = change(core, txn, now_ms)?;
            drop(answer.send(value));
            Ok(())
        });
        self.commands.send(Command::Change(change)).await.map_err(|_| DriverError::Gone)?;
        answered.await.map_err(|_| DriverError::Gone)
    }
}
