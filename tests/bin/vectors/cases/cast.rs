//! The people and nodes of every vector, with keys from fixed seeds. Never use them elsewhere.

use bytes::Bytes;
use tidings_protocol::{
    address::UserName,
    bundle::{Bundle, KemPrekey, OneTimePrekey, SignedPrekey},
    codec,
    descriptor::{Addresses, Delegation, Descriptor, NodeState, Transport},
    device_list::{Device, DeviceList, list_hash},
    envelope::{Auth, Class, EnvelopeHead, Header, Recipient, SlotMac, Target},
    hello::Mark,
    id::{BootId, CopyId, DeviceId, Eid, Hash, NodeId, SlotId},
    key::{Purpose, SecretKey, Signature, X25519Key},
    signed::Signed,
    statement::{Claim, Proof, Signer, Stance, Statement},
};

/// The present of every vector: 15 January 2027.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;
/// One hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;
/// What lies beside a body, for vectors that hash one.
pub(crate) const SHARED: &[u8] = b"sealed content";

/// Whose key it is.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Who {
    AcmeRoot = 1,
    Acme = 2,
    GlobexRoot = 3,
    Globex = 4,
    AliceAccount = 10,
    AliceLaptop = 11,
    AlicePhone = 12,
    AliceSubkey = 13,
    BobAccount = 20,
    BobPhone = 21,
    Mallory = 66,
}

impl Who {
    pub(crate) fn key(self) -> SecretKey {
        SecretKey::from_seed(&[self as u8; 32])
    }
    pub(crate) fn device(self) -> DeviceId {
        DeviceId::of(&self.key().public())
    }
    pub(crate) fn node(self) -> NodeId {
        NodeId::of(&self.key().public())
    }
}

pub(crate) fn acme() -> NodeId {
    Who::AcmeRoot.node()
}

pub(crate) fn globex() -> NodeId {
    Who::GlobexRoot.node()
}

pub(crate) fn name(text: &str) -> UserName {
    UserName::parse(text).expect("a user name")
}

/// Bytes that say which field they are.
pub(crate) fn fill<const N: usize>(byte: u8) -> [u8; N] {
    [byte; N]
}

pub(crate) fn mark(n: u8) -> Mark {
    Mark { boot: BootId(fill(n)), commit: 1_000 + u64::from(n) }
}

/// `[bytes, signature]` over any bytes, canonical or not.
pub(crate) fn signed_raw(purpose: Purpose, key: &SecretKey, bytes: &[u8]) -> Vec<u8> {
    codec::encode(&(Bytes::copy_from_slice(bytes), key.sign(purpose, bytes)))
}

pub(crate) fn delegation() -> Delegation {
    Delegation {
        node: acme(),
        serial: NOW_MS - HOUR_MS,
        operational: Who::Acme.key().public(),
        sealing: X25519Key(fill(0x31)),
        custodians: vec![globex()],
        domains: vec!["acme.example".to_owned()],
        not_after_ms: NOW_MS + 365 * 24 * HOUR_MS,
    }
}

pub(crate) fn addresses() -> Addresses {
    Addresses {
        node: acme(),
        serial: NOW_MS,
        transports: vec![Transport {
            peer_id: Bytes::from_static(b"\x00\x24\x08\x01\x12\x20peer id of a transport of acme"),
            multiaddrs: vec![
                "/ip4/203.0.113.7/udp/4001/quic-v1".to_owned(),
                "/ip4/203.0.113.7/tcp/4001".to_owned(),
            ],
        }],
        state: NodeState::Serving,
        expires_ms: NOW_MS + 24 * HOUR_MS,
    }
}

pub(crate) fn descriptor() -> Descriptor {
    let delegation = Signed::new(&delegation(), &Who::AcmeRoot.key());
    Descriptor::sign(delegation, &addresses(), &Who::Acme.key())
}

pub(crate) fn device(who: Who, label: &str) -> Device {
    Device {
        key: who.key().public(),
        identity: X25519Key(fill(0x40 + who as u8)),
        added_ms: NOW_MS - HOUR_MS,
        label: label.to_owned(),
    }
}

/// Version 0 of Alice's list: her laptop.
pub(crate) fn list_0() -> DeviceList {
    DeviceList {
        identity: Who::AliceAccount.key().public(),
        node: acme(),
        name: name("alice"),
        version: 0,
        previous: None,
        devices: vec![device(Who::AliceLaptop, "laptop")],
        issued_ms: NOW_MS - HOUR_MS,
        signer: None,
    }
}

/// Version 1: her phone as well.
pub(crate) fn list_1() -> DeviceList {
    DeviceList {
        version: 1,
        previous: Some(list_hash(&signed_list(&list_0()))),
        devices: vec![device(Who::AliceLaptop, "laptop"), device(Who::AlicePhone, "phone")],
        issued_ms: NOW_MS,
        ..list_0()
    }
}

/// A list, signed by Alice's account key.
pub(crate) fn signed_list(list: &DeviceList) -> Signed<DeviceList> {
    Signed::new(list, &Who::AliceAccount.key())
}

pub(crate) fn header() -> Header {
    Header {
        version: 1,
        origin: acme(),
        destination: globex(),
        created_ms: NOW_MS,
        expires_ms: NOW_MS + 24 * HOUR_MS,
        class: Class::Message,
    }
}

pub(crate) fn target(to: Recipient) -> Target {
    Target {
        to,
        auth: None,
        list_version: 3,
        list_hash: Hash(fill(0x51)),
        part: Bytes::from_static(b"sealed part"),
    }
}

/// To Bob's phone, and to a slot with its proof of admission.
pub(crate) fn head() -> EnvelopeHead {
    let slot = Target {
        auth: Some(Auth::Slot(SlotMac(fill(0x52)))),
        ..target(Recipient::Slot(SlotId(fill(0x53))))
    };
    EnvelopeHead {
        header: header(),
        targets: vec![target(Recipient::Device(Who::BobPhone.device())), slot],
    }
}

/// Id and copies of [`head`] with [`SHARED`].
pub(crate) fn ids() -> (Eid, Vec<CopyId>) {
    head().ids(&tidings_protocol::envelope::shared_hash(SHARED))
}

pub(crate) fn statement(claim: Claim) -> Statement {
    let (eid, copies) = ids();
    Statement {
        claim,
        eid,
        copy: claim.is_by_device().then(|| copies[0]),
        at_ms: NOW_MS + 5,
        reason: None,
        until_ms: None,
    }
}

/// How acme's operational key signs.
pub(crate) fn acme_stance() -> Stance {
    let signer =
        Signer { key: Who::Acme.key().public(), node: Some(acme()), version: delegation().serial };
    Stance { signer, incarnation: 7, boot: BootId(fill(0x61)) }
}

/// How Bob's phone signs.
pub(crate) fn bob_stance() -> Stance {
    let signer = Signer { key: Who::BobPhone.key().public(), node: None, version: 3 };
    Stance { signer, incarnation: 9, boot: BootId(fill(0x62)) }
}

/// Acceptance of [`head`] by acme.
pub(crate) fn accepted() -> Proof {
    sign(&[statement(Claim::Accepted)], &acme_stance(), Who::Acme)
}

/// Delivery of its first copy to Bob's phone.
pub(crate) fn delivered() -> Proof {
    sign(&[statement(Claim::Delivered)], &bob_stance(), Who::BobPhone)
}

/// One batch.
pub(crate) fn sign(statements: &[Statement], stance: &Stance, who: Who) -> Proof {
    Proof::sign(statements, stance, &fill(0x63), &who.key()).expect("some statements")
}

pub(crate) fn one_time(id: u32) -> OneTimePrekey {
    OneTimePrekey { id, key: X25519Key(fill(0x71)) }
}

/// A bundle whose pre-key signatures are only bytes: nodes do not check them.
pub(crate) fn bundle(one_time: Option<OneTimePrekey>) -> Bundle {
    Bundle {
        device: Who::AliceLaptop.key().public(),
        identity: X25519Key(fill(0x40 + Who::AliceLaptop as u8)),
        signed_prekey: SignedPrekey {
            id: 1,
            key: X25519Key(fill(0x72)),
            signature: Signature(fill(0x73)),
        },
        kem_prekey: KemPrekey {
            id: 1,
            key: Bytes::from(vec![0x74; 1184]),
            signature: Signature(fill(0x75)),
        },
        one_time,
    }
}
