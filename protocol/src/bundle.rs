//! The public pre-keys of one device, as `client/src/crypto/` makes and checks them. To nodes they
//! are opaque bytes with ids; only clients verify their signatures.

use bytes::Bytes;

use crate::{
    codec::wire_struct,
    id::DeviceId,
    key::{PublicKey, Signature, X25519Key},
};

wire_struct! {
    /// A medium-term X25519 pre-key, signed by the device.
    pub struct SignedPrekey {
        /// Its number at the device.
        0 => id: u32,
        /// The key.
        1 => key: X25519Key,
        /// By the device's signing key.
        2 => signature: Signature,
    }
}

wire_struct! {
    /// A medium-term ML-KEM-768 pre-key, signed by the device.
    pub struct KemPrekey {
        /// Its number at the device.
        0 => id: u32,
        /// The encapsulation key: 1,184 bytes (FIPS 203).
        1 => key: Bytes,
        /// By the device's signing key.
        2 => signature: Signature,
    }
}

wire_struct! {
    /// An X25519 pre-key that is handed out once.
    pub struct OneTimePrekey {
        /// Its number at the device.
        0 => id: u32,
        /// The key.
        1 => key: X25519Key,
    }
}

wire_struct! {
    /// What a stranger needs to write to one device that is away.
    pub struct Bundle {
        /// The device's signing key.
        0 => device: PublicKey,
        /// The device's X25519 identity; the device list must name the same.
        1 => identity: X25519Key,
        /// The signed pre-key.
        2 => signed_prekey: SignedPrekey,
        /// The signed ML-KEM pre-key.
        3 => kem_prekey: KemPrekey,
        /// A one-time pre-key, while the node has one.
        4 => one_time: Option<OneTimePrekey>,
    }
}

wire_struct! {
    /// Everything that a device leaves at its node for strangers; replaces what was there.
    pub struct PrekeyUpload {
        /// Bundle without a one-time pre-key; handed out when those have run out.
        0 => fallback: Bundle,
        /// Fresh one-time pre-keys, each handed out at most once.
        1 => one_time: Vec<OneTimePrekey>,
    }
}

impl Bundle {
    /// The device that it belongs to.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of(&self.device)
    }
}
