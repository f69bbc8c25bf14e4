//! What a node's delegation should say, whether the one at hand says it, and a new one. Where it is kept
//! is in `keys.rs`.

use tidings_protocol::descriptor::Delegation;
use tidings_protocol::id::NodeId;
use tidings_protocol::key::{SecretKey, X25519Key};
use tidings_protocol::signed::Signed;
use x25519_dalek::{PublicKey, StaticSecret};

/// A delegation is good for a year, and renewed in its last quarter.
pub(crate) const DELEGATION_LIFE_MS: u64 = 365 * 24 * 3600 * 1000;
const RENEW_BEFORE_MS: u64 = DELEGATION_LIFE_MS / 4;

/// The one reason that may wait for the root key.
pub(crate) const RUNS_OUT: &str = "runs out soon";

/// What the delegation should say.
pub(crate) struct Wanted<'a> {
    pub(crate) operational: &'a SecretKey,
    pub(crate) sealing: &'a [u8; 32],
    pub(crate) domains: &'a [String],
    pub(crate) custodians: &'a [NodeId],
}

impl Wanted<'_> {
    fn sealing_key(&self) -> X25519Key {
        X25519Key(PublicKey::from(&StaticSecret::from(*self.sealing)).to_bytes())
    }

    pub(crate) fn differs_from(&self, held: &Delegation, now_ms: u64) -> Option<&'static str> {
        if held.not_after_ms <= now_ms {
            Some("is over")
        } else if held.operational != self.operational.public() {
            Some("is for another operational key")
        } else if held.sealing != self.sealing_key() {
            Some("is for another sealing key")
        } else if held.domains != self.domains {
            Some("names other domains than the configuration")
        } else if held.custodians != self.custodians {
            Some("names other custodians than the configuration")
        } else if held.not_after_ms <= now_ms + RENEW_BEFORE_MS {
            Some(RUNS_OUT)
        } else {
            None
        }
    }

    pub(crate) fn sign(
        &self,
        root: &SecretKey,
        serial_before: u64,
        now_ms: u64,
    ) -> Signed<Delegation> {
        let delegation = Delegation {
            node: NodeId::of(&root.public()),
            serial: now_ms.max(serial_before + 1),
            operational: self.operational.public(),
            sealing: self.sealing_key(),
            custodians: self.custodians.to_vec(),
            domains: self.domains.to_vec(),
            not_after_ms: now_ms + DELEGATION_LIFE_MS,
        };
        Signed::new(&delegation, root)
    }
}
