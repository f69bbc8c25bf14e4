//! One simulated node: its disk, which survives, and the production core, which does not.

use std::collections::VecDeque;

use bytes::Bytes;
use tidings_core::{Core, OpenCoreError, event::Event, ingress::Opener, settings::Settings};
use tidings_protocol::{
    descriptor::{Delegation, Transport},
    id::{NodeId, hash},
    key::SecretKey,
    sealed::SealingSecret,
    signed::Signed,
};
use tidings_store::{BootId, OpenError, Opening, Store, StoreError};

use crate::chance::Chance;
use crate::disk::{SimDisk, SimImage, StoreKind};

/// A node.
pub struct SimNode {
    /// Its id.
    pub id: NodeId,
    /// Its root key.
    pub root: SecretKey,
    /// Its operational key.
    pub operational: SecretKey,
    /// Opens what is sealed to it.
    pub sealing: SealingSecret,
    /// By its root key.
    pub delegation: Signed<Delegation>,
    /// Its libp2p peer id.
    pub peer_id: Bytes,
    /// What survives.
    pub disk: SimDisk,
    /// An older image of it.
    pub image: Option<SimImage>,
    /// Own clock minus true time, in ms.
    pub offset_ms: i64,
    /// The same while nobody has set it wrong.
    pub usual_offset_ms: i64,
    /// How often it was started. What was planned for an older start is void.
    pub boot: u64,
    /// The running process.
    pub process: Option<Process>,
    /// Causes that wait.
    pub inbox: VecDeque<Event>,
    /// A step is planned.
    pub step_planned: bool,
    /// When the next tick is planned, by true time.
    pub timer_at_ms: Option<u64>,
    /// A start is planned.
    pub start_planned: bool,
    /// It lies to its peers.
    pub lies: bool,
    chance: Chance,
}

/// A running process.
pub struct Process {
    /// The open store.
    pub store: Box<dyn Store>,
    /// The production core.
    pub core: Core,
}

/// Why a process did not start.
#[derive(Debug)]
pub enum StartFailure {
    /// The disk.
    Open(OpenError),
    /// The first batch.
    First(StoreError),
    /// The core.
    Core(OpenCoreError),
}

impl SimNode {
    /// Node number `ix` of a world.
    #[must_use]
    pub fn new(seed: u64, ix: usize, store: StoreKind, offset_ms: i64) -> Self {
        let mut chance = Chance::new(seed, &format!("node {ix}"));
        let root = SecretKey::from_seed(&chance.bytes());
        let operational = SecretKey::from_seed(&chance.bytes());
        let id = NodeId::of(&root.public());
        let sealing = SealingSecret::from_bytes(&chance.bytes());
        let delegation = Signed::new(
            &Delegation {
                node: id,
                serial: 1,
                operational: operational.public(),
                sealing: sealing.public(),
                custodians: Vec::new(),
                domains: Vec::new(),
                not_after_ms: u64::MAX / 2,
            },
            &root,
        );
        Self {
            peer_id: peer_id(&id, 0),
            id,
            root,
            operational,
            sealing,
            delegation,
            disk: SimDisk::new(store),
            image: None,
            offset_ms,
            usual_offset_ms: offset_ms,
            boot: 0,
            process: None,
            inbox: VecDeque::new(),
            step_planned: false,
            timer_at_ms: None,
            start_planned: false,
            lies: false,
            chance,
        }
    }

    /// Its root key names others as its custodians.
    pub fn appoint(&mut self, custodians: Vec<NodeId>) {
        if let Ok(delegation) = self.delegation.peek() {
            self.delegation =
                Signed::new(&Delegation { custodians, serial: 2, ..delegation }, &self.root);
        }
    }

    /// What reads frames for it.
    #[must_use]
    pub fn opener(&self) -> Opener {
        Opener { node: self.id, secret: self.sealing.clone() }
    }

    /// It has a new sealing key, by a new delegation of its root key.
    pub fn renew_sealing(&mut self, clock_ms: u64) {
        let Ok(delegation) = self.delegation.peek() else { return };
        self.sealing = SealingSecret::from_bytes(&self.chance.bytes());
        let serial = clock_ms.max(delegation.serial + 1);
        let sealing = self.sealing.public();
        self.delegation = Signed::new(&Delegation { serial, sealing, ..delegation }, &self.root);
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

    /// How others may reach it.
    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport { peer_id: self.peer_id.clone(), multiaddrs: vec![MULTIADDR.to_owned()] }
    }

    /// Opens the store and the core. The effects of the first batch wait in the core.
    ///
    /// # Errors
    /// The disk failed, or the core did.
    pub fn start(
        &mut self,
        settings: Settings,
        true_ms: u64,
        rotate: bool,
    ) -> Result<(), StartFailure> {
        self.boot += 1;
        self.start_planned = false;
        if rotate {
            self.peer_id = peer_id(&self.id, self.boot);
        }
        let boot = BootId(self.chance.bytes());
        let opening = Opening { boot, incarnation: self.chance.number() };
        let mut store =
            self.disk.open(tidings_core::schema::SCHEMA, opening).map_err(StartFailure::Open)?;
        let seed = self.chance.bytes();
        let now_ms = self.clock_ms(true_ms);
        let lineage = store.lineage().clone();
        let mut opened = None;
        let mut settings = Some(settings);
        store
            .batch(&mut |txn| {
                let settings = settings.take().ok_or(StoreError::Poisoned)?;
                match Core::open(settings, &lineage, seed, now_ms, txn) {
                    Ok(mut core) => {
                        let done = core.finish(now_ms, txn);
                        opened = Some(Ok(core));
                        done
                    }
                    Err(error) => {
                        opened = Some(Err(error));
                        Ok(())
                    }
                }
            })
            .map_err(StartFailure::First)?;
        let core = opened.transpose().map_err(StartFailure::Core)?;
        self.process = core.map(|core| Process { store, core });
        self.inbox.clear();
        self.inbox.push_back(Event::Listening {
            peer_id: self.peer_id.clone(),
            multiaddrs: vec![MULTIADDR.to_owned()],
        });
        self.timer_at_ms = None;
        self.step_planned = false;
        Ok(())
    }

    /// The process is gone; the disk settles.
    pub fn kill(&mut self) {
        self.process = None;
        self.boot += 1;
        self.inbox.clear();
        self.step_planned = false;
        self.timer_at_ms = None;
        self.disk.power_cut(self.chance.number());
    }
}

/// Where every simulated node listens; who answers is decided by the peer id alone.
const MULTIADDR: &str = "/ip4/192.0.2.1/udp/4001/quic-v1";

fn peer_id(node: &NodeId, rotation: u64) -> Bytes {
    let digest = hash("simulated peer id", &[&node.0, &rotation.to_be_bytes()]);
    Bytes::copy_from_slice(&digest.0)
}
