//! The own descriptor: where this node can be reached, signed afresh before it expires.

use bytes::Bytes;
use tidings_protocol::{
    client_frame::{Goaway, NodeFrame},
    descriptor::{Addresses, CheckedDescriptor, Descriptor, NodeState, Transport},
    limits,
    peer_frame::{Announce, Farewell, PeerFrame},
    refusal::{Refusal, RefusalCode},
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, Effect, Observed},
    schema::{self, META},
};

/// How often the addresses are signed afresh and published: every six hours.
const RENEW_MS: u64 = 6 * 3600 * 1000;
/// When a node that was put back first looks up what others find of it. The time between doubles.
const LOOK_MS_MIN: u64 = 1_000;
/// The longest time between two look-ups, after which there is no other: six hours are soon over.
const LOOK_MS_MAX: u64 = 3600 * 1000;
/// In [`META`]: since when this node is gone for good.
const RETIRED: &[u8] = b"retired";
/// How long clients wait before they come back after a stop, at least.
const RETURN_MS_MIN: u64 = 500;

/// The own descriptor, and what it is made of.
#[derive(Debug, Default)]
pub(crate) struct OwnDescriptor {
    current: Option<Descriptor>,
    /// Since when this node is gone for good, in Unix ms.
    pub(crate) retired_ms: Option<u64>,
    transports: Vec<Transport>,
    /// When it is signed afresh, in Unix ms.
    renew_ms: Option<u64>,
    /// When it is looked up what others find, in Unix ms, and the time that had passed before.
    look: Option<(u64, u64)>,
}

impl OwnDescriptor {
    pub(crate) const fn current(&self) -> Option<&Descriptor> {
        self.current.as_ref()
    }

    /// Addresses of this node that this process did not sign, and that are as new as its own or newer:
    /// of another process with the same keys, or of this node before its store was put back.
    pub(crate) fn is_outdone_by(&self, found: &CheckedDescriptor) -> bool {
        let Some(current) = &self.current else { return false };
        let (Ok(delegation), Ok(addresses)) = (current.delegation.peek(), current.addresses.peek())
        else {
            return false;
        };
        delegation.serial <= found.delegation.serial
            && addresses.serial <= found.addresses.serial
            && addresses != found.addresses
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.renew_ms.into_iter().chain(self.look.map(|(look_ms, _)| look_ms)).min()
    }

    pub(crate) fn multiaddrs(&self) -> Vec<String> {
        self.transports.iter().flat_map(|transport| transport.multiaddrs.iter().cloned()).collect()
    }
}

impl Core {
    pub(crate) fn on_listening(
        &mut self,
        peer_id: Bytes,
        mut multiaddrs: Vec<String>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        multiaddrs.truncate(limits::MULTIADDRS_MAX);
        let transport = Transport { peer_id, multiaddrs };
        if self.own.transports == [transport.clone()] {
            return Ok(());
        }
        self.own.transports = vec![transport];
        self.sign_descriptor(txn)?;
        self.wake_wanted();
        Ok(())
    }

    pub(crate) fn tick_descriptor(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        if let Some((look_ms, step_ms)) = self.own.look
            && look_ms <= self.now_ms
        {
            let next_ms = step_ms * 2;
            self.own.look = (next_ms <= LOOK_MS_MAX).then_some((self.now_ms + next_ms, next_ms));
            self.effects.push_back(Effect::Lookup { node: self.node });
        }
        if self.own.renew_ms.is_some_and(|renew_ms| renew_ms <= self.now_ms) && !self.draining {
            self.sign_descriptor(txn)?;
        }
        Ok(())
    }

    /// This node was put back: others may know addresses that it signed later.
    pub(crate) const fn look_for_own_addresses(&mut self) {
        self.own.look = Some((self.now_ms + LOOK_MS_MIN, LOOK_MS_MIN));
    }

    /// Addresses of this node as others know them. While nothing newer than those is signed, a node
    /// that was put back, and whose clock was too, is not found where it is.
    pub(crate) fn on_own_addresses<'a>(
        &mut self,
        known: impl Iterator<Item = &'a CheckedDescriptor>,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let outdone =
            known.filter(|known| known.node() == self.node && self.own.is_outdone_by(known));
        let Some(serial) = outdone.map(|known| known.addresses.serial).max() else { return Ok(()) };
        self.observe(Observed::OwnIdElsewhere);
        if self.draining {
            return Ok(());
        }
        schema::put(txn, META, b"addresses serial", &serial)?;
        self.sign_descriptor(txn)
    }

    /// This node says that it is gone for good, or that it is not. It goes on running, so that what it
    /// owes others is handed over; it takes nothing new.
    pub(crate) fn goodbye(
        &mut self,
        is_taken_back: bool,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if self.own.current.is_none() {
            return Ok(AdminReply::Refused("the node does not listen yet: try again".to_owned()));
        }
        if is_taken_back {
            txn.delete(META, RETIRED)?;
            self.own.retired_ms = None;
        } else {
            let since_ms = self.own.retired_ms.unwrap_or(self.now_ms);
            schema::put(txn, META, RETIRED, &since_ms)?;
            self.own.retired_ms = Some(since_ms);
        }
        self.sign_descriptor(txn)?;
        Ok(AdminReply::Done)
    }

    pub(crate) fn load_goodbye(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        self.own.retired_ms = schema::get(txn, META, RETIRED)?;
        Ok(())
    }

    fn sign_descriptor(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        let state = match self.own.retired_ms {
            Some(_) => NodeState::Retired,
            None if self.draining => NodeState::Draining,
            None => NodeState::Serving,
        };
        let stored: Option<u64> = schema::get(txn, META, b"addresses serial")?;
        let serial = stored.map_or(self.now_ms, |stored| self.now_ms.max(stored + 1));
        schema::put(txn, META, b"addresses serial", &serial)?;
        let addresses = Addresses {
            node: self.node,
            serial,
            transports: self.own.transports.clone(),
            state,
            expires_ms: self.now_ms + limits::ADDRESSES_LIFE_MS_MAX,
        };
        let delegation = self.settings.delegation.clone();
        let descriptor = Descriptor::sign(delegation, &addresses, &self.settings.operational);
        self.own.current = Some(descriptor.clone());
        self.own.renew_ms = Some(self.now_ms + RENEW_MS);
        let announce = Announce { descriptor: Bytes::from(descriptor.encode()) };
        self.effects.push_back(Effect::Publish { descriptor });
        if !self.draining {
            // Who is linked need not wait until it finds it.
            let links: Vec<_> = self.links.keys().copied().collect();
            for link in links {
                self.tell_peer(link, PeerFrame::Announce(announce.clone()));
            }
        }
        Ok(())
    }

    /// The node stops: peers and devices are told, and nothing new is taken.
    pub(crate) fn on_drain(&mut self, txn: &mut dyn Txn) -> Result<(), StoreError> {
        self.draining = true;
        self.sign_descriptor(txn)?;
        let refusal = Refusal { code: RefusalCode::Draining, after_ms: None };
        let conns: Vec<_> = self.sessions.keys().copied().collect();
        for conn in conns {
            let jitter = u64::from(u16::from_be_bytes(self.random())) % 2_000;
            let after_ms = RETURN_MS_MIN + jitter;
            let frame = NodeFrame::Goaway(Goaway { after_ms, refusal: refusal.clone() });
            self.tell_client(conn, frame);
            self.effects.push_back(Effect::CloseClient { conn });
        }
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.tell_peer(link, PeerFrame::Farewell(Farewell { refusal: refusal.clone() }));
            self.effects.push_back(Effect::ClosePeer { link });
        }
        Ok(())
    }
}
