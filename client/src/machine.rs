//! The state machine of one device: one event, inside one transaction; effects leave after the
//! commit. Here are its state and its doors; what happens behind each is in the other files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde::{Serialize, de::DeserializeOwned};
use tidings_protocol::{
    client_frame::ClientFrame,
    device_list::CheckedList,
    hello::Mark,
    id::{BootId, ChatId, DeviceId, MsgId, timed_id},
    key::SecretKey,
    statement::{Signer, Stance, Statement},
};
use tidings_store::{Lineage, StoreError, Table, Txn, prefix_end};

use crate::{
    account::{self, Identity},
    crypto::{self, LocalDevice, PrekeySecrets, Sealer},
    event::{ClientEffect, ClientEvent, CloseWhy, Peer, Settings, StopWhy, Warning},
    hold::Hold,
    link::Link,
    names::Names,
    outbox::Queues,
    rows::{AccountRow, NodeRow, OutboxRow, PeerKey, PeerRow},
    schema::{HELD, OUTBOX, PEERS, SELF},
    show_lists::Lists,
    vault::Vault,
};

pub(crate) const ACCOUNT: &[u8] = b"account";
pub(crate) const NODE: &[u8] = b"node";
pub(crate) const PREKEYS: &[u8] = b"prekeys";

/// What a device is opened with.
#[derive(Clone)]
pub struct Opening {
    /// What the owner decided.
    pub settings: Settings,
    /// The key under which the store's values are sealed; how it is kept is the caller's part.
    pub store_key: [u8; 32],
    /// Fresh randomness; the same seed must never be used twice with one store.
    pub seed: [u8; 32],
}

impl core::fmt::Debug for Opening {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Opening").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One device of one account.
pub struct ClientCore<S: Sealer> {
    pub(crate) settings: Settings,
    pub(crate) sealer: S,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) vault: Vault,
    pub(crate) lineage: Lineage,
    pub(crate) account: AccountRow,
    pub(crate) identity: Identity,
    pub(crate) local: LocalDevice,
    pub(crate) key: SecretKey,
    pub(crate) device: DeviceId,
    pub(crate) own_list: CheckedList,
    pub(crate) own_key: PeerKey,
    pub(crate) prekeys: PrekeySecrets,
    pub(crate) node: NodeRow,
    pub(crate) node_dirty: bool,
    pub(crate) link: Link,
    pub(crate) lists: Lists,
    pub(crate) clock_offset_ms: i64,
    pub(crate) queues: Queues,
    pub(crate) names: Names,
    pub(crate) requests: BTreeMap<u64, crate::link::Request>,
    pub(crate) next_request: u64,
    /// Bundles that have come and are not yet used.
    pub(crate) bundles: BTreeMap<DeviceId, tidings_protocol::bundle::Bundle>,
    /// Devices that had no bundle, and until when they are passed over.
    pub(crate) without_bundle: BTreeMap<DeviceId, u64>,
    /// Statements to sign in this batch: inbox number, statement.
    pub(crate) to_sign: Vec<(u64, Statement)>,
    /// Chats and devices with messages that wait for earlier ones, and until when.
    pub(crate) holds: BTreeMap<(ChatId, DeviceId), Hold>,
    pub(crate) expiries: BTreeSet<(u64, u64)>,
    pub(crate) next_sweep_ms: u64,
    /// The newest id that was made since the device was opened.
    last_msg: MsgId,
    pub(crate) stopped: Option<StopWhy>,
    pub(crate) effects: VecDeque<ClientEffect>,
    pub(crate) counters: crate::Counters,
    #[cfg(feature = "sabotage")]
    pub(crate) sabotage: Option<crate::Sabotage>,
}

/// The store does not hold a device, or one that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenClientError {
    /// The store failed.
    #[error("opening a device")]
    Store(#[from] StoreError),
    /// There is no device in it: join or link first.
    #[error("opening a device: the store holds none")]
    NoDevice,
    /// Keys or lists in it do not read back.
    #[error("opening a device: its {what} cannot be read")]
    Broken {
        /// What.
        what: &'static str,
    },
    /// Pre-keys could not be made or read.
    #[error("opening a device")]
    Prekeys(#[from] crypto::prekeys::PrekeyError),
}

impl<S: Sealer> ClientCore<S> {
    /// Writes a new device into an empty store, and opens it.
    ///
    /// # Errors
    /// [`OpenClientError`].
    pub fn create(
        txn: &mut dyn Txn,
        lineage: &Lineage,
        mut sealer: S,
        opening: &Opening,
        identity: &Identity,
        now_ms: u64,
    ) -> Result<Self, OpenClientError> {
        let mut rng = ChaCha20Rng::from_seed(opening.seed);
        let vault = Vault::new(opening.store_key);
        // A device that another one has linked belongs to an account that exists.
        let joined = identity.lists.len() > 1;
        vault.put(&mut rng, txn, SELF, ACCOUNT, &identity.to_row(joined))?;
        let prekeys = sealer.create_prekeys(now_ms)?;
        let bytes = Bytes::from(prekeys.to_bytes().to_vec());
        vault.put(&mut rng, txn, SELF, PREKEYS, &bytes)?;
        let own = PeerRow {
            node: identity.owner.node,
            name: identity.owner.name.clone(),
            lists: identity.lists.clone(),
            offered: None,
            chat: None,
        };
        let own_key = vault.peer(&identity.owner);
        vault.put(&mut rng, txn, PEERS, &own_key.0, &own)?;
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self::open(txn, lineage, sealer, &Opening { seed, ..opening.clone() }, now_ms)
    }

    /// Opens the device that is in the store; everything is rebuilt from there.
    ///
    /// # Errors
    /// [`OpenClientError`].
    pub fn open(
        txn: &mut dyn Txn,
        lineage: &Lineage,
        sealer: S,
        opening: &Opening,
        now_ms: u64,
    ) -> Result<Self, OpenClientError> {
        let vault = Vault::new(opening.store_key);
        let account: AccountRow =
            vault.get(txn, SELF, ACCOUNT)?.ok_or(OpenClientError::NoDevice)?;
        let broken = |what| OpenClientError::Broken { what };
        let identity = Identity::from_row(&account).ok_or_else(|| broken("account"))?;
        let own_list = identity.newest().map_err(|_| broken("device list"))?;
        let local = identity.local().ok_or_else(|| broken("account"))?;
        let prekeys: Bytes = vault.get(txn, SELF, PREKEYS)?.ok_or_else(|| broken("pre-keys"))?;
        let mut core = Self {
            settings: opening.settings.clone(),
            sealer,
            rng: ChaCha20Rng::from_seed(opening.seed),
            lineage: lineage.clone(),
            key: SecretKey::from_seed(identity.device.signing_seed()),
            device: identity.device_id(),
            own_key: vault.peer(&identity.owner),
            prekeys: PrekeySecrets::from_bytes(&prekeys)?,
            node: vault.get(txn, SELF, NODE)?.unwrap_or_default(),
            node_dirty: false,
            vault,
            account,
            identity,
            local,
            own_list,
            link: Link::Down,
            lists: Lists::default(),
            clock_offset_ms: 0,
            queues: Queues::default(),
            names: Names::default(),
            requests: BTreeMap::new(),
            next_request: 1,
            bundles: BTreeMap::new(),
            without_bundle: BTreeMap::new(),
            to_sign: Vec::new(),
            holds: BTreeMap::new(),
            expiries: BTreeSet::new(),
            next_sweep_ms: now_ms,
            last_msg: MsgId([0; 16]),
            stopped: None,
            effects: VecDeque::new(),
            counters: crate::Counters::default(),
            #[cfg(feature = "sabotage")]
            sabotage: None,
        };
        core.rebuild(txn)?;
        Ok(core)
    }

    fn rebuild(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        let mut from = Vec::new();
        loop {
            let rows = txn.range(OUTBOX, &from, &prefix_end(&[]), 1_000)?;
            let Some((last, _)) = rows.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for (key, sealed) in &rows {
                let row: OutboxRow = self.vault.open(OUTBOX, key, sealed)?;
                let seq = number(key)?;
                self.expiries.insert((row.expires_ms, seq));
                self.queues.restore(seq, &row);
            }
        }
        let mut from = Vec::new();
        while let Some((key, _)) = txn.range(HELD, &from, &prefix_end(&[]), 1)?.pop() {
            if let Some((chat, rest)) = key.split_first_chunk::<32>()
                && let Some((device, _)) = rest.split_first_chunk::<16>()
            {
                self.holds.insert((ChatId(*chat), DeviceId(*device)), Hold::offline());
            }
            from = prefix_end(key.get(..48).unwrap_or(&key));
        }
        Ok(())
    }

    /// Takes one event. Effects it caused may leave once the batch is committed.
    ///
    /// # Errors
    /// Only from the store; the batch is void then and the caller ends.
    pub fn handle(
        &mut self,
        event: ClientEvent,
        now_ms: u64,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        match event {
            ClientEvent::Connected => self.on_connected(now_ms),
            ClientEvent::Disconnected => self.on_disconnected(Some(now_ms)),
            ClientEvent::Frame { frame, body } => self.on_frame(txn, now_ms, frame, &body)?,
            ClientEvent::Join { invite } => {
                if self.account.joined {
                    self.lists.invite = Some(invite);
                } else {
                    self.account.invite = Some(invite);
                    self.save_account(txn)?;
                    self.greet(txn, now_ms)?;
                }
            }
            ClientEvent::Send(send) => self.on_send(txn, now_ms, send)?,
            ClientEvent::Displayed { messages } => self.on_displayed(txn, now_ms, &messages)?,
            ClientEvent::AcceptKey { peer, key } => {
                self.on_accept_key(txn, now_ms, &peer, &key)?;
            }
            ClientEvent::Resolve { domain, token } => self.on_resolve(txn, domain, token)?,
            ClientEvent::AcceptNode { domain, node } => {
                self.on_accept_node(txn, now_ms, &domain, &node)?;
            }
            ClientEvent::Tick => {}
        }
        self.on_time(txn, now_ms)
    }

    /// Ends a batch, before its commit: signs what was received in it, notes where the node stands.
    ///
    /// # Errors
    /// Only from the store.
    pub fn finish(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.sign_received(txn);
        if self.node_dirty {
            self.node_dirty = false;
            let row = core::mem::take(&mut self.node);
            self.put(txn, SELF, NODE, &row)?;
            self.node = row;
        }
        Ok(())
    }

    /// The next effect. To be asked for only after the commit.
    pub fn poll_effect(&mut self) -> Option<ClientEffect> {
        self.effects.pop_front()
    }

    /// When [`ClientEvent::Tick`] is wanted at the latest, in Unix ms.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let online = self.link.is_up();
        let holds = self.holds.values().filter_map(|hold| hold.until_ms).min();
        [
            self.link.deadline(),
            Some(self.next_sweep_ms),
            // They are dated by the node's clock.
            self.expiries.first().map(|(at, _)| at.saturating_add_signed(-self.clock_offset_ms)),
            holds.filter(|_| online),
            self.queues.next_retry().filter(|_| online),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_time(&mut self, txn: &mut dyn Txn, now_ms: u64) -> Result<(), StoreError> {
        self.watch_link(now_ms);
        self.expire_outbox(txn, now_ms)?;
        self.release_overdue(txn, now_ms)?;
        if self.next_sweep_ms <= now_ms {
            self.next_sweep_ms = now_ms + crate::inbox::SWEEP_EVERY_MS;
            self.sweep(txn, now_ms)?;
        }
        if self.link.is_up() {
            self.retry_waits(txn, now_ms)?;
            self.pump(txn, now_ms)?;
        }
        Ok(())
    }

    /// The device's id.
    #[must_use]
    pub const fn device_id(&self) -> DeviceId {
        self.device
    }

    /// The account's newest device list.
    #[must_use]
    pub const fn device_list(&self) -> &CheckedList {
        &self.own_list
    }

    /// Whether the account exists at the node.
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        self.account.joined
    }

    /// Whether the link is up and every request to the node was answered: own pre-keys and lists are
    /// there, so that others can write to this device while it is away.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.link.is_up() && self.requests.is_empty()
    }

    /// Whether the link is up and the node has taken everything that can be sent now. What waits for a
    /// peer that cannot be written to yet does not count.
    #[must_use]
    pub fn has_handed_over(&self) -> bool {
        self.is_settled() && self.queues.are_empty()
    }

    /// What was counted since the device was opened.
    #[must_use]
    pub const fn counters(&self) -> &crate::Counters {
        &self.counters
    }

    /// Links another device: makes its secrets, signs and publishes the next device list. The result
    /// goes into the other device's store with [`Self::create`]. `None` when this device may not.
    ///
    /// # Errors
    /// Only from the store.
    pub fn link_device(
        &mut self,
        txn: &mut dyn Txn,
        label: &str,
        now_ms: u64,
    ) -> Result<Option<Identity>, StoreError> {
        let Some(new) = self.identity.link(&mut self.rng, label, now_ms) else {
            return Ok(None);
        };
        self.take_own_lists(txn, new.lists.clone())?;
        self.publish_lists();
        Ok(Some(new))
    }

    // What all files share.

    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        txn: &dyn Txn,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.vault.get(txn, table, key)
    }

    pub(crate) fn put<T: Serialize>(
        &mut self,
        txn: &mut dyn Txn,
        table: Table,
        key: &[u8],
        value: &T,
    ) -> Result<(), StoreError> {
        self.vault.put(&mut self.rng, txn, table, key, value)
    }

    pub(crate) fn save_account(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.vault.put(&mut self.rng, txn, SELF, ACCOUNT, &self.account)
    }

    pub(crate) fn save_prekeys(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let bytes = self.prekeys.to_bytes();
        let bytes = Bytes::from(bytes.to_vec());
        self.put(txn, SELF, PREKEYS, &bytes)
    }

    pub(crate) fn effect(&mut self, effect: ClientEffect) {
        self.effects.push_back(effect);
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        self.counters.warnings += 1;
        self.effect(ClientEffect::Warn(warning));
    }

    pub(crate) fn tell_node(&mut self, frame: ClientFrame) {
        self.effect(ClientEffect::ToNode { frame, body: Bytes::new() });
    }

    pub(crate) fn close(&mut self, why: CloseWhy) {
        self.on_disconnected(None);
        self.effect(ClientEffect::CloseLink(why));
    }

    pub(crate) fn stop(&mut self, why: StopWhy) {
        self.stopped = Some(why);
        self.on_disconnected(None);
        self.effect(ClientEffect::Stopped(why));
    }

    pub(crate) fn own_peer(&self) -> Peer {
        self.identity.owner.clone()
    }

    /// A mark of the own store that this batch's commit makes true.
    pub(crate) fn own_mark(&self, txn: &dyn Txn) -> Mark {
        Mark { boot: BootId(self.lineage.boot.0), commit: txn.commit_number() }
    }

    /// The time as the own node sees it.
    pub(crate) const fn node_time(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add_signed(self.clock_offset_ms)
    }

    /// Ids of one run grow, also within a millisecond and when a clock is set back: pages of a
    /// conversation are cut by them.
    pub(crate) fn new_msg_id(&mut self, now_ms: u64) -> MsgId {
        let fresh = u128::from_be_bytes(timed_id(now_ms, account::draw(&mut self.rng)));
        // By as much as the last 32 bits say, which are random.
        let step = (fresh & u128::from(u32::MAX)) + 1;
        let behind = u128::from_be_bytes(self.last_msg.0).saturating_add(step);
        self.last_msg = MsgId(fresh.max(behind).to_be_bytes());
        self.last_msg
    }

    /// What this device says about itself under statements.
    pub(crate) fn stance(&self) -> Stance {
        Stance {
            signer: Signer {
                key: self.key.public(),
                node: None,
                version: self.own_list.list.version,
            },
            incarnation: self.lineage.incarnation,
            boot: BootId(self.lineage.boot.0),
        }
    }

    /// Up to `most` milliseconds, at random: full jitter.
    pub(crate) fn jitter(&mut self, most: u64) -> u64 {
        self.rng.next_u64() % most.max(1)
    }
}

impl<S: Sealer> core::fmt::Debug for ClientCore<S> {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("ClientCore").field("device", &self.device).finish_non_exhaustive()
    }
}

/// Reads the number that is a key.
pub(crate) fn number(key: &[u8]) -> Result<u64, StoreError> {
    let bytes = key.try_into().map_err(|_| StoreError::corrupt("a number that is a key"))?;
    Ok(u64::from_be_bytes(bytes))
}
