//! One simulated device: its disk, which survives, and the production client core, which does not.

use std::collections::VecDeque;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tidings_client::{
    ClientCore, Identity, OpenClientError, Opening as ClientOpening,
    event::{ClientEvent, Settings},
};
use tidings_protocol::id::DeviceId;
use tidings_store::{BootId, OpenError, Opening, Store, StoreError};

use crate::chance::Chance;
use crate::disk::{SimDisk, SimImage};
use crate::invariants::secrets::STORE_KEY;
use crate::options::Request;
use crate::sabotage::Broken;
use crate::sealer::AnySealer;

/// Where a device stands in the world.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSeed {
    /// Its owner, by number.
    pub person: usize,
    /// Which of the owner's devices, from 1.
    pub ordinal: usize,
    /// The owner's node, by number.
    pub node: usize,
    /// Own clock minus true time, in ms.
    pub offset_ms: i64,
}

/// A device.
pub struct SimDevice {
    /// Its owner, by number.
    pub person: usize,
    /// Which of the owner's devices, from 1.
    pub ordinal: usize,
    /// The owner's node, by number.
    pub node: usize,
    /// What survives.
    pub disk: SimDisk,
    /// An older image of it.
    pub image: Option<SimImage>,
    /// Own clock minus true time, in ms.
    pub offset_ms: i64,
    /// How often it was started or ended. What was planned for an older run is void.
    pub boot: u64,
    /// The running program.
    pub process: Option<DeviceProcess>,
    /// Causes that wait.
    pub inbox: VecDeque<ClientEvent>,
    /// A step is planned.
    pub step_planned: bool,
    /// When the next tick is planned, by true time.
    pub timer_at_ms: Option<u64>,
    /// A start is planned.
    pub start_planned: bool,
    /// The link to the node, while this side believes in it.
    pub link: Option<u64>,
    /// A dial is planned.
    pub dial_planned: bool,
    /// It has no network.
    pub away: bool,
    /// The core said that it can do nothing more.
    pub stopped: bool,
    /// The core said that the link serves.
    pub served: bool,
    /// What the device begins with; made by `join`, or by the first device.
    pub identity: Option<Identity>,
    /// Its store holds a device.
    pub created: bool,
    /// The invite has been handed to it.
    pub invited: bool,
    request: Request,
    chance: Chance,
}

/// A running program.
pub struct DeviceProcess {
    /// The open store.
    pub store: Box<dyn Store>,
    /// The production core.
    pub core: ClientCore<AnySealer>,
}

/// Why a program did not start.
#[derive(Debug)]
pub enum DeviceStartFailure {
    /// The disk.
    Open(OpenError),
    /// The commit of the first batch.
    Commit(StoreError),
    /// The core.
    Core(OpenClientError),
}

impl SimDevice {
    /// Device number `ix` of a world.
    #[must_use]
    pub fn new(request: &Request, seed: DeviceSeed, ix: usize) -> Self {
        Self {
            person: seed.person,
            ordinal: seed.ordinal,
            node: seed.node,
            disk: SimDisk::new(request.store),
            image: None,
            offset_ms: seed.offset_ms,
            boot: 0,
            process: None,
            inbox: VecDeque::new(),
            step_planned: false,
            timer_at_ms: None,
            start_planned: false,
            link: None,
            dial_planned: false,
            away: false,
            stopped: false,
            served: false,
            identity: None,
            created: false,
            invited: false,
            request: *request,
            chance: Chance::new(request.seed, &format!("device {ix}")),
        }
    }

    /// Its clock.
    #[must_use]
    pub fn clock_ms(&self, true_ms: u64) -> u64 {
        true_ms.saturating_add_signed(self.offset_ms)
    }

    /// The true time at which its clock shows `clock_ms`.
    #[must_use]
    pub fn true_ms(&self, clock_ms: u64) -> u64 {
        clock_ms.saturating_add_signed(-self.offset_ms)
    }

    /// The id that it has at the moment, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<DeviceId> {
        self.process.as_ref().map(|process| process.core.device_id())
    }

    /// Opens the store and the core; the first time, writes the device into the store.
    ///
    /// # Errors
    /// The disk failed, or the core did.
    pub fn start(&mut self, settings: Settings, true_ms: u64) -> Result<(), DeviceStartFailure> {
        self.boot += 1;
        self.start_planned = false;
        let now_ms = self.clock_ms(true_ms);
        let boot = BootId(self.chance.bytes());
        let opening = Opening { boot, incarnation: self.chance.number() };
        let mut store = self
            .disk
            .open(tidings_client::schema::SCHEMA, opening)
            .map_err(DeviceStartFailure::Open)?;
        let lineage = store.lineage().clone();
        let opening = ClientOpening { settings, store_key: STORE_KEY, seed: self.chance.bytes() };
        let sealer = AnySealer::new(self.request.sealer, self.chance.bytes());
        let create = self.identity_to_create(&opening.settings, now_ms);
        let mut opened = None;
        let mut sealer = Some(sealer);
        let committed = store.batch(&mut |txn| {
            let sealer = sealer.take().ok_or(StoreError::Poisoned)?;
            let core = match &create {
                Some(identity) => {
                    ClientCore::create(txn, &lineage, sealer, &opening, identity, now_ms)
                }
                None => ClientCore::open(txn, &lineage, sealer, &opening, now_ms),
            };
            match core {
                Ok(mut core) => {
                    core.sabotage(self.request.broken.and_then(Broken::of_client));
                    let done = core.finish(txn);
                    opened = Some(Ok(core));
                    done
                }
                Err(error) => {
                    opened = Some(Err(error));
                    Ok(())
                }
            }
        });
        committed.map_err(DeviceStartFailure::Commit)?;
        self.created = true;
        let core = opened.transpose().map_err(DeviceStartFailure::Core)?;
        self.process = core.map(|core| DeviceProcess { store, core });
        self.inbox.clear();
        self.timer_at_ms = None;
        self.step_planned = false;
        self.link = None;
        self.dial_planned = false;
        Ok(())
    }

    fn identity_to_create(&mut self, settings: &Settings, now_ms: u64) -> Option<Identity> {
        if self.created {
            return None;
        }
        if self.identity.is_none() {
            let mut rng = ChaCha20Rng::from_seed(self.chance.bytes());
            let label = format!("device {}", self.ordinal);
            self.identity = Some(Identity::new_account(&mut rng, settings, &label, now_ms));
        }
        self.identity.clone()
    }

    /// The program is gone; the disk settles.
    pub fn kill(&mut self) {
        self.process = None;
        self.boot += 1;
        self.inbox.clear();
        self.step_planned = false;
        self.timer_at_ms = None;
        self.link = None;
        self.served = false;
        self.dial_planned = false;
        self.disk.power_cut(self.chance.number());
    }
}
