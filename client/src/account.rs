//! The secrets of an account on one device, and the device lists that they sign. Made once by `join`
//! in the final form; a second device gets its own from the first. No store, no link.

use rand_core::CryptoRng;
use tidings_protocol::{
    device_list::{CheckedList, Device, DeviceList, DeviceListError, SubkeyCertificate},
    id::{AccountId, DeviceId},
    key::{PublicKey, SecretKey, X25519Key},
    signed::Signed,
};

use crate::{
    crypto::{DeviceSecrets, LocalDevice},
    event::{Peer, Settings},
    rows::{AccountRow, Seed},
};

/// Everything that a device must know to be one: its own secrets, those of the account that it
/// holds, and the chain of the account's device lists.
#[derive(Clone)]
pub struct Identity {
    pub(crate) owner: Peer,
    pub(crate) device: DeviceSecrets,
    /// The account identity key; on the first device only.
    pub(crate) aik: Option<SecretKey>,
    /// The right to link and remove devices.
    pub(crate) subkey: Option<(SecretKey, Signed<SubkeyCertificate>)>,
    /// Every version, oldest first.
    pub(crate) lists: Vec<Signed<DeviceList>>,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Identity").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Fresh secret bytes.
pub(crate) fn draw<const N: usize>(rng: &mut dyn CryptoRng) -> [u8; N] {
    let mut out = [0; N];
    rng.fill_bytes(&mut out);
    out
}

/// What the device list says of a device.
pub(crate) fn listed(secrets: &DeviceSecrets, label: &str, now_ms: u64) -> Device {
    Device {
        key: PublicKey(secrets.device_key()),
        identity: X25519Key(secrets.identity_key()),
        added_ms: now_ms,
        label: label.to_owned(),
    }
}

impl Identity {
    /// A new account with its first device: identity key, device-signing subkey, device keys and
    /// version 0 of the device list.
    pub fn new_account(
        rng: &mut dyn CryptoRng,
        settings: &Settings,
        label: &str,
        now_ms: u64,
    ) -> Self {
        let aik = SecretKey::from_seed(&draw(rng));
        let subkey = SecretKey::from_seed(&draw(rng));
        let device = DeviceSecrets::generate(rng);
        let first = listed(&device, label, now_ms);
        let certificate = SubkeyCertificate {
            account: AccountId::of(&aik.public()),
            subkey: subkey.public(),
            device: first.id(),
        };
        let list = DeviceList {
            identity: aik.public(),
            node: settings.node,
            name: settings.name.clone(),
            version: 0,
            previous: None,
            devices: vec![first],
            issued_ms: now_ms,
            signer: None,
        };
        Self {
            owner: Peer { node: settings.node, name: settings.name.clone() },
            device,
            lists: vec![Signed::new(&list, &aik)],
            subkey: Some((subkey, Signed::new(&certificate, &aik))),
            aik: Some(aik),
        }
    }

    /// A device for the same account, with the next version of the list that names it. `None` when
    /// this device may not sign lists. The new device may link others only when this one holds the
    /// account identity key.
    pub fn link(&self, rng: &mut dyn CryptoRng, label: &str, now_ms: u64) -> Option<Self> {
        let device = DeviceSecrets::generate(rng);
        let current = self.newest().ok()?;
        let mut devices = current.list.devices.clone();
        let entry = listed(&device, label, now_ms);
        let subkey = self.aik.as_ref().map(|aik| {
            let subkey = SecretKey::from_seed(&draw(rng));
            let certificate = SubkeyCertificate {
                account: current.account(),
                subkey: subkey.public(),
                device: entry.id(),
            };
            (subkey, Signed::new(&certificate, aik))
        });
        devices.push(entry);
        let mut lists = self.lists.clone();
        lists.push(self.next_list(devices, now_ms)?);
        Some(Self { owner: self.owner.clone(), device, aik: None, subkey, lists })
    }

    /// The next version of the list, with these devices. `None` when this device may not sign it.
    pub(crate) fn next_list(
        &self,
        devices: Vec<Device>,
        now_ms: u64,
    ) -> Option<Signed<DeviceList>> {
        let current = self.newest().ok()?;
        let (key, signer) = match (&self.aik, &self.subkey) {
            (Some(aik), _) => (aik, None),
            (None, Some((subkey, certificate))) => {
                let holder = certificate.peek().ok()?.device;
                current.device(&holder)?;
                (subkey, Some(certificate.clone()))
            }
            (None, None) => return None,
        };
        let list = DeviceList {
            version: current.list.version + 1,
            previous: Some(current.hash),
            devices,
            issued_ms: now_ms.max(current.list.issued_ms),
            signer,
            ..current.list
        };
        let signed = Signed::new(&list, key);
        // What others would refuse (too many devices, a label too long) is not made.
        self.newest().ok()?.then(&signed).ok()?;
        Some(signed)
    }

    /// The newest list. It was checked when it was taken up.
    pub(crate) fn newest(&self) -> Result<CheckedList, DeviceListError> {
        newest(&self.lists)
    }

    /// The device's id.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of(&PublicKey(self.device.device_key()))
    }

    /// The account, as a trust root for [`tidings_protocol::evidence`].
    #[must_use]
    pub fn account_key(&self) -> Option<PublicKey> {
        self.newest().ok().map(|list| list.list.identity)
    }

    pub(crate) fn local(&self) -> Option<LocalDevice> {
        let key = self.account_key()?;
        Some(LocalDevice::new(self.device.clone(), &party_name(&self.owner), key.0))
    }

    pub(crate) fn to_row(&self, joined: bool) -> AccountRow {
        AccountRow {
            node: self.owner.node,
            name: self.owner.name.clone(),
            device: self.device.to_bytes().to_vec(),
            aik: self.aik.as_ref().map(|key| Seed(*key.seed())),
            subkey: self.subkey.as_ref().map(|(key, cert)| (Seed(*key.seed()), cert.clone())),
            lists: self.lists.clone(),
            joined,
            invite: None,
            replacement: None,
        }
    }

    pub(crate) fn from_row(row: &AccountRow) -> Option<Self> {
        Some(Self {
            owner: Peer { node: row.node, name: row.name.clone() },
            device: DeviceSecrets::from_bytes(&row.device).ok()?,
            aik: row.aik.map(|seed| SecretKey::from_seed(&seed.0)),
            subkey: row
                .subkey
                .as_ref()
                .map(|(seed, cert)| (SecretKey::from_seed(&seed.0), cert.clone())),
            lists: row.lists.clone(),
        })
    }
}

/// The name that enters handshakes: `name@nodeid`.
pub(crate) fn party_name(peer: &Peer) -> Vec<u8> {
    format!("{}@{}", peer.name.as_str(), peer.node.to_text()).into_bytes()
}

/// The last of a chain of lists that were checked before.
pub(crate) fn newest(lists: &[Signed<DeviceList>]) -> Result<CheckedList, DeviceListError> {
    let signed = lists.last().ok_or(DeviceListError::Devices)?;
    let list = signed.peek()?;
    Ok(CheckedList { hash: tidings_protocol::device_list::list_hash(signed), list })
}
