//! Who decides: the pure state machine of a node. One event, one batch, one commit, then the
//! effects. Names no runtime, socket, clock or engine; the shell around it is `tidings-node`.
//!
//! `handle` each event of a batch, `finish` the batch, commit, then `poll_effect` until `None`. A
//! handler decides before its first write. When a commit fails, the process ends: the core's memory
//! may be ahead of the disk, and [`Core::open`] rebuilds it from the store alone.

mod accept;
mod account;
mod admin;
mod admin_dead;
pub mod admin_log;
mod admin_peers;
mod admin_routes;
mod agreements;
mod allowance;
mod asking_on;
mod audit;
mod batch;
pub mod conduct;
mod custody;
mod dead;
mod delegations;
mod descriptor;
mod dial;
mod directory;
pub mod effect;
pub mod event;
mod expiry;
mod fetch;
mod gateway;
mod handing;
mod inbox;
pub mod ingress;
pub mod layout;
mod name_own;
mod name_pins;
mod names;
mod newest;
mod outbox;
mod parting;
mod patience;
mod peer;
mod peer_tick;
pub mod policy;
mod push;
pub mod rates;
pub mod reconfigure;
mod retry;
pub mod routes;
pub mod schema;
mod session;
pub mod settings;
mod show_lists;
pub mod space;
mod statements;
pub mod step;
pub mod storage;
mod submit;
mod tally;
mod timers;
mod waiting_from;
mod ways;
mod window;

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tidings_protocol::{
    hello::Mark,
    id::{BootId, DeviceId, NodeId},
    limits,
    signed::OpenSignedError,
    statement::{Signer, Stance},
};
use tidings_store::{Lineage, StoreError, Txn};

use crate::{
    asking_on::AskedOn,
    batch::Batch,
    conduct::Offence,
    descriptor::OwnDescriptor,
    directory::Pushes,
    effect::{Effect, Observed},
    event::{ConnId, Event, LinkId},
    fetch::Fetches,
    gateway::Closed,
    handing::Handings,
    name_own::OwnDomains,
    names::Names,
    peer::{Link, Peer},
    policy::Policy,
    rates::CoreClock,
    routes::Routes,
    schema::CustodyRow,
    session::Session,
    settings::{Sabotage, Settings},
    space::Intake,
    tally::Tally,
    timers::Timers,
};

/// Why a core could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenCoreError {
    /// The store failed.
    #[error("reading the store of the node")]
    Store(#[from] StoreError),
    /// The delegation is not signed by the root key that it names, or names another operational key.
    #[error("checking the delegation of the node")]
    Delegation(#[from] OpenSignedError),
    /// The delegation is for another operational key.
    #[error("the delegation names another operational key than the one in the key file")]
    OtherKey,
    /// The delegation is for another sealing key.
    #[error("the delegation names another sealing key than the one in the key file")]
    OtherSealingKey,
    /// The store belongs to another node.
    #[error("the store is that of {}", .owner.to_text())]
    OtherNode {
        /// Whose it is.
        owner: NodeId,
    },
}

/// A node: everything that it knows and may forget. What it must not forget is in the store.
#[derive(Debug)]
pub struct Core {
    settings: Settings,
    node: NodeId,
    stance: Stance,
    lineage: Lineage,
    has_renewed: bool,
    rng: ChaCha20Rng,
    now_ms: u64,
    intake: Intake,
    draining: bool,
    sessions: BTreeMap<ConnId, Session>,
    online: BTreeMap<DeviceId, ConnId>,
    tally: Tally,
    links: BTreeMap<LinkId, Link>,
    peers: BTreeMap<NodeId, Peer>,
    numbers: BTreeMap<u32, NodeId>,
    policy: Policy,
    clock: CoreClock,
    fetches: Fetches,
    asked_on: AskedOn,
    /// Who holds envelopes for this node while it is away.
    custodians: Vec<NodeId>,
    /// What administrators have granted to others, or taken back.
    granted: BTreeMap<NodeId, CustodyRow>,
    handings: Handings,
    /// What is told to them of our users.
    pushes: Pushes,
    names: Names,
    routes: Routes,
    closed: Closed,
    own: OwnDescriptor,
    timers: Timers,
    batch: Batch,
    effects: VecDeque<Effect>,
}

impl Core {
    /// Builds the core from its store. Runs in a batch of its own; [`Core::finish`] ends it.
    ///
    /// # Errors
    /// [`OpenCoreError`].
    pub fn open(
        settings: Settings,
        lineage: &Lineage,
        seed: [u8; 32],
        now_ms: u64,
        txn: &mut dyn Txn,
    ) -> Result<Self, OpenCoreError> {
        let node = settings
            .delegation
            .peek()
            .map_err(OpenSignedError::from)
            .map(|delegation| delegation.node)?;
        let delegation = settings.delegation.open(&node.root_key())?;
        if delegation.operational != settings.operational.public() {
            return Err(OpenCoreError::OtherKey);
        }
        if delegation.sealing != settings.sealing.public() {
            return Err(OpenCoreError::OtherSealingKey);
        }
        match schema::get(txn, schema::OWNER, OWNER_KEY)? {
            None => schema::put(txn, schema::OWNER, OWNER_KEY, &node)?,
            Some(owner) if owner == node => {}
            Some(owner) => return Err(OpenCoreError::OtherNode { owner }),
        }
        let signer =
            Signer { key: delegation.operational, node: Some(node), version: delegation.serial };
        let boot = BootId(lineage.boot.0);
        let routes = Routes::new(settings.routes.iter().copied());
        let mut core = Self {
            settings,
            node,
            stance: Stance { signer, incarnation: lineage.incarnation, boot },
            lineage: lineage.clone(),
            has_renewed: false,
            rng: ChaCha20Rng::from_seed(seed),
            now_ms,
            intake: Intake::Everybody,
            draining: false,
            sessions: BTreeMap::new(),
            online: BTreeMap::new(),
            tally: Tally::starting_at(now_ms),
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            numbers: BTreeMap::new(),
            policy: Policy::default(),
            clock: CoreClock::default(),
            fetches: Fetches::default(),
            asked_on: AskedOn::default(),
            custodians: delegation.custodians,
            granted: BTreeMap::new(),
            handings: Handings::default(),
            pushes: Pushes::new(),
            names: Names::with_own(OwnDomains::of(&delegation.domains, now_ms)),
            routes,
            closed: Closed::default(),
            own: OwnDescriptor::default(),
            timers: Timers::starting_at(now_ms),
            batch: Batch::default(),
            effects: VecDeque::new(),
        };
        core.clock.set(now_ms);
        core.load_goodbye(txn)?;
        core.load_terms(txn)?;
        core.load_routes(txn)?;
        core.load_peers(txn)?;
        core.load_policy(txn)?;
        core.load_names(txn)?;
        core.tally.step(now_ms, txn)?;
        Ok(core)
    }

    /// This node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Takes one event. `now_ms` is Unix time in ms; it may jump.
    ///
    /// # Errors
    /// From the store; the process must end.
    pub fn handle(
        &mut self,
        event: Event,
        now_ms: u64,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let was_ms = core::mem::replace(&mut self.now_ms, now_ms);
        self.clock.set(now_ms);
        if was_ms > now_ms {
            self.forget_rates();
        }
        if was_ms > now_ms + CLOCK_SET_BACK_MS {
            self.greet_devices_anew();
        }
        match event {
            Event::ClientConnected { conn } => self.on_client_connected(conn),
            Event::Client { conn, input } => return self.on_client(conn, input, txn),
            Event::ClientBroke { conn, code } => self.refuse_link(conn, code),
            Event::ClientClosed { conn } => self.on_client_closed(conn),
            Event::PeerConnected { link, transport, dialer } => {
                self.on_peer_connected(link, transport, dialer, txn);
            }
            Event::Peer { link, input } => return self.on_peer(link, input, txn),
            Event::PeerBroke { link, code } => {
                let node = self.links.get(&link).and_then(|link| link.node);
                self.refuse_peer(link, code);
                if let Some(node) = node {
                    self.blame(&node, Offence::Malformed);
                }
            }
            Event::PeerClosed { link } => {
                self.blame_unanswered(link);
                self.on_peer_closed(link);
            }
            Event::DialFailed { node } => self.on_dial_failed(&node),
            Event::Found { node, descriptors } => return self.on_found(&node, descriptors, txn),
            Event::Resolved { domain, outcome } => return self.on_dns(&domain, outcome, txn),
            Event::Listening { peer_id, multiaddrs } => {
                return self.on_listening(peer_id, multiaddrs, txn);
            }
            Event::Tick => return self.on_tick(txn),
            Event::Disk { free, size } => self.on_disk(free, size),
            Event::Drain => return self.on_drain(txn),
            Event::Admin { token, command } => return self.on_admin(token, command, txn),
        }
        Ok(())
    }

    /// The next effect. To be called after the commit, until `None`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Unix ms at which the core wants a [`Event::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline()
    }

    fn observe(&mut self, observed: Observed) {
        self.effects.push_back(Effect::Observed(observed));
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A mark of the commit that this batch will be.
    fn mark(&self, txn: &dyn Txn) -> Mark {
        Mark { boot: self.stance.boot, commit: txn.commit_number() }
    }

    /// Checks a mark of the own store that somebody wrote down. One that is not in the lineage means
    /// that the store was rolled back: it gets a new incarnation, pre-keys that may have been handed
    /// out are worthless, and everybody must greet again. That happens once in a boot: the store is
    /// put back only while nobody has it open, and whoever still holds an old mark learns the new
    /// incarnation from our greeting; else one old mark, or a made-up one, would end all links again
    /// and again.
    fn check_mark(&mut self, mark: Option<&Mark>, txn: &mut dyn Txn) -> Result<bool, StoreError> {
        let Some(mark) = mark else { return Ok(true) };
        let boot = tidings_store::BootId(mark.boot.0);
        if self.has_renewed
            || self.is_sabotaged(Sabotage::NoLineageCheck)
            || self.lineage.contains(boot, mark.commit, txn.commit_number())
        {
            return Ok(true);
        }
        self.has_renewed = true;
        let incarnation = u64::from_be_bytes(self.random());
        Lineage::renew(txn, incarnation)?;
        self.stance.incarnation = incarnation;
        self.observe(Observed::RolledBack);
        self.look_for_own_addresses();
        self.forget_links();
        Ok(false)
    }

    /// True for a time that no honest clock can show yet.
    fn is_from_the_future(&self, created_ms: u64) -> bool {
        created_ms > self.now_ms + limits::CLOCK_SKEW_MS_MAX
            && !self.is_sabotaged(Sabotage::TakeFromTheFuture)
    }

    #[cfg(feature = "sabotage")]
    fn is_sabotaged(&self, how: Sabotage) -> bool {
        self.settings.sabotage == Some(how)
    }

    #[cfg(not(feature = "sabotage"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    const fn is_sabotaged(&self, _how: Sabotage) -> bool {
        false
    }
}

/// A clock that goes back by more than this was wrong before: half of what a device may be ahead.
const CLOCK_SET_BACK_MS: u64 = limits::CLOCK_SKEW_MS_MAX / 2;

/// The one key in [`schema::OWNER`].
const OWNER_KEY: &[u8] = b"node";
