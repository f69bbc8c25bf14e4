//! Which devices an account has: a hash-chained, versioned list, signed by the account identity key
//! (AIK) or a device-signing subkey that it certified. What `join` makes is version 0.

use thiserror::Error;

use crate::{
    address::UserName,
    codec::{DecodeError, wire_struct},
    id::{AccountId, DeviceId, Hash, NodeId, hash},
    key::{PublicKey, Purpose, X25519Key},
    limits,
    signed::{OpenSignedError, Sign, Signed},
};

wire_struct! {
    /// One device of an account.
    pub struct Device {
        /// Its signing key; the device id is its hash.
        0 => key: PublicKey,
        /// Its X25519 identity for the handshake.
        1 => identity: X25519Key,
        /// Unix ms at which it was added.
        2 => added_ms: u64,
        /// What the owner calls it; at most 64 bytes.
        3 => label: String,
    }
}

wire_struct! {
    /// The account identity key lets a device sign lists.
    pub struct SubkeyCertificate {
        /// The account.
        0 => account: AccountId,
        /// The subkey.
        1 => subkey: PublicKey,
        /// The device that holds it; it must stand in the list before.
        2 => device: DeviceId,
    }
}

impl Sign for SubkeyCertificate {
    const PURPOSE: Purpose = Purpose::SubkeyCertificate;
}

wire_struct! {
    /// One version of the list.
    pub struct DeviceList {
        /// The account identity key.
        0 => identity: PublicKey,
        /// The node that hosts the account.
        1 => node: NodeId,
        /// Its name there.
        2 => name: UserName,
        /// From 0, step 1.
        3 => version: u64,
        /// Hash of the signed bytes of the version before; absent in version 0.
        4 => previous: Option<Hash>,
        /// The devices.
        5 => devices: Vec<Device>,
        /// Unix ms; owners sign anew each week, readers warn after two.
        6 => issued_ms: u64,
        /// The subkey that signs; absent when the account identity key does.
        7 => signer: Option<Signed<SubkeyCertificate>>,
    }
}

impl Sign for DeviceList {
    const PURPOSE: Purpose = Purpose::DeviceList;
}

/// A checked list, with the hash by which the next version and each envelope names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedList {
    /// The list.
    pub list: DeviceList,
    /// Hash of its signed bytes.
    pub hash: Hash,
}

/// Why a device list was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceListError {
    /// Not a list.
    #[error("reading a device list")]
    Decode(#[from] DecodeError),
    /// Signed by another key.
    #[error("checking a device list")]
    Signed(#[from] OpenSignedError),
    /// Another account than the one that is pinned: a lying node, or a new account of that name.
    #[error("the device list belongs to another account than before")]
    OtherAccount,
    /// The subkey is certified for another account, or its device is not in the list before.
    #[error("the device list is signed by a subkey that may not sign it")]
    SubkeyNotAllowed,
    /// An older or equal version than the one that is known.
    #[error("device list version {got} follows no version {known}")]
    Rollback {
        /// The version that is known.
        known: u64,
        /// The version that came.
        got: u64,
    },
    /// Two lists with one number, or a successor that does not name its predecessor.
    #[error("the device list does not continue the chain")]
    Fork,
    /// None, too many, or the same twice.
    #[error("a device list has 1 to {} different devices", limits::DEVICES_MAX)]
    Devices,
    /// A label is too long.
    #[error("a device label has at most {} bytes", limits::DEVICE_LABEL_BYTES_MAX)]
    Label,
}

impl CheckedList {
    /// Checks the first list that is seen of an account: the caller pins its identity key.
    ///
    /// # Errors
    /// [`DeviceListError`].
    pub fn first_seen(signed: &Signed<DeviceList>) -> Result<Self, DeviceListError> {
        let list = signed.peek()?;
        let key = match &list.signer {
            None => list.identity,
            Some(certificate) => {
                let certificate = certificate.open(&list.identity)?;
                if certificate.account != AccountId::of(&list.identity) {
                    return Err(DeviceListError::SubkeyNotAllowed);
                }
                certificate.subkey
            }
        };
        let list = signed.open(&key)?;
        check_shape(&list)?;
        Ok(Self { hash: list_hash(signed), list })
    }

    /// Checks the next version of a list that is known.
    ///
    /// # Errors
    /// [`DeviceListError`].
    pub fn then(&self, signed: &Signed<DeviceList>) -> Result<Self, DeviceListError> {
        let next = Self::first_seen(signed)?;
        let (known, new) = (&self.list, &next.list);
        if (new.identity, new.node, &new.name) != (known.identity, known.node, &known.name) {
            return Err(DeviceListError::OtherAccount);
        }
        if new.version == known.version && next.hash != self.hash {
            return Err(DeviceListError::Fork);
        }
        if new.version <= known.version {
            return Err(DeviceListError::Rollback { known: known.version, got: new.version });
        }
        if new.version != known.version + 1 || new.previous != Some(self.hash) {
            return Err(DeviceListError::Fork);
        }
        if let Some(certificate) = &new.signer
            && self.device(&certificate.peek()?.device).is_none()
        {
            return Err(DeviceListError::SubkeyNotAllowed);
        }
        Ok(next)
    }

    /// The account.
    #[must_use]
    pub fn account(&self) -> AccountId {
        AccountId::of(&self.list.identity)
    }

    /// A device of the list.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.list.devices.iter().find(|device| DeviceId::of(&device.key) == *id)
    }
}

impl Device {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::of(&self.key)
    }
}

/// The hash by which a list is named.
#[must_use]
pub fn list_hash(signed: &Signed<DeviceList>) -> Hash {
    hash("device list", &[signed.signed_bytes()])
}

fn check_shape(list: &DeviceList) -> Result<(), DeviceListError> {
    if list.version == 0 && list.previous.is_some() || list.version > 0 && list.previous.is_none() {
        return Err(DeviceListError::Fork);
    }
    let ids: std::collections::BTreeSet<_> = list.devices.iter().map(Device::id).collect();
    if list.devices.is_empty()
        || list.devices.len() > limits::DEVICES_MAX
        || ids.len() != list.devices.len()
    {
        return Err(DeviceListError::Devices);
    }
    if list.devices.iter().any(|device| device.label.len() > limits::DEVICE_LABEL_BYTES_MAX) {
        return Err(DeviceListError::Label);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{CheckedList, Device, DeviceList, DeviceListError, SubkeyCertificate, list_hash};
    use crate::address::UserName;
    use crate::id::{AccountId, DeviceId, NodeId};
    use crate::key::{SecretKey, X25519Key};
    use crate::signed::Signed;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn device(seed: u8) -> Device {
        let key = key(seed).public();
        Device { key, identity: X25519Key([seed; 32]), added_ms: 1, label: "phone".to_owned() }
    }

    fn version(number: u64, before: Option<&Signed<DeviceList>>, devices: &[u8]) -> DeviceList {
        DeviceList {
            identity: key(1).public(),
            node: NodeId([9; 32]),
            name: UserName::parse("alice").unwrap(),
            version: number,
            previous: before.map(list_hash),
            devices: devices.iter().map(|seed| device(*seed)).collect(),
            issued_ms: number,
            signer: None,
        }
    }

    fn certificate(seed: u8) -> Signed<SubkeyCertificate> {
        let certificate = SubkeyCertificate {
            account: AccountId::of(&key(1).public()),
            subkey: key(3).public(),
            device: DeviceId::of(&key(seed).public()),
        };
        Signed::new(&certificate, &key(1))
    }

    #[test]
    fn a_chain_is_followed_step_by_step_and_no_step_is_skipped() {
        let lists: Vec<Signed<DeviceList>> = (0..5).fold(Vec::new(), |mut lists, number| {
            let list = version(number, lists.last(), &[10, 11]);
            lists.push(Signed::new(&list, &key(1)));
            lists
        });
        let first = CheckedList::first_seen(&lists[0]).unwrap();
        let last = lists[1..].iter().try_fold(first.clone(), |known, next| known.then(next));
        assert_eq!(last.unwrap().list.version, 4);
        assert_eq!(first.then(&lists[2]), Err(DeviceListError::Fork));
        let third = CheckedList::first_seen(&lists[3]).unwrap();
        assert_eq!(third.then(&lists[1]), Err(DeviceListError::Rollback { known: 3, got: 1 }));
    }

    #[test]
    fn removing_a_device_takes_its_subkey_away() {
        let zero = Signed::new(&version(0, None, &[10, 11]), &key(1));
        let by_subkey = |number, before, devices: &[u8]| {
            let list = version(number, Some(before), devices);
            Signed::new(&DeviceList { signer: Some(certificate(11)), ..list }, &key(3))
        };
        // The device that signs may remove itself, and signs nothing after that.
        let one = by_subkey(1, &zero, &[10]);
        let known = CheckedList::first_seen(&zero).unwrap().then(&one).unwrap();
        assert!(known.device(&device(11).id()).is_none());
        let two = by_subkey(2, &one, &[10, 12]);
        assert_eq!(known.then(&two), Err(DeviceListError::SubkeyNotAllowed));
        let two = Signed::new(&version(2, Some(&one), &[10, 12]), &key(1));
        assert!(known.then(&two).is_ok());
    }

    #[test]
    fn the_last_version_there_is_has_no_successor_and_no_panic() {
        let zero = Signed::new(&version(0, None, &[10]), &key(1));
        let last = Signed::new(&version(u64::MAX, Some(&zero), &[10]), &key(1));
        let known = CheckedList::first_seen(&last).unwrap();
        let next = Signed::new(&version(1, Some(&last), &[10]), &key(1));
        assert_eq!(known.then(&next), Err(DeviceListError::Rollback { known: u64::MAX, got: 1 }));
    }

    #[test]
    fn a_list_names_its_account_and_its_devices() {
        let list = Signed::new(&version(0, None, &[10, 11]), &key(1));
        let checked = CheckedList::first_seen(&list).unwrap();
        assert_eq!(checked.account(), AccountId::of(&key(1).public()));
        assert_eq!(checked.hash, list_hash(&list));
        assert_eq!(checked.device(&device(11).id()), Some(&device(11)));
        assert_eq!(checked.device(&device(12).id()), None);
    }
}
