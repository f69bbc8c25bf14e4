//! Pre-keys: publishing our own, and taking in those of others. The cryptography is in `crypto/`.

use tidings_protocol::{
    bundle::{Bundle, PrekeyUpload},
    client_frame::{Bundles, ClientFrame, PublishPrekeys},
    device_list::Device,
    refusal::{Refusal, RefusalCode},
};
use tidings_store::{StoreError, Txn};

use crate::{
    crypto::{ONE_TIME_GOAL, Sealer},
    event::Warning,
    link::Request,
    machine::ClientCore,
    rows::PeerKey,
};

/// Below so many one-time pre-keys at the node, new ones are published.
pub(crate) const ONE_TIME_LOW: u64 = 20;
/// For how long a device without a bundle is passed over.
const WITHOUT_BUNDLE_MS: u64 = 60_000;
/// Bundles in memory at most; more are asked for again.
const BUNDLES_MAX: usize = 1_000;

impl<S: Sealer> ClientCore<S> {
    /// Publishes pre-keys. `node_has_none` after each start of the node: what it had before must not
    /// be handed out again, since its store may have been rolled back.
    pub(crate) fn publish_prekeys(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        node_has_none: bool,
    ) -> Result<(), StoreError> {
        if self.requests.values().any(|request| matches!(request, Request::Prekeys)) {
            return Ok(());
        }
        self.prekeys.expire(now_ms);
        if self.prekeys.wants_rotation(now_ms) {
            self.sealer.rotate_prekeys(&mut self.prekeys, now_ms).map_err(StoreError::work)?;
        }
        // An upload replaces what was there, so what was there is out of use from now on.
        self.prekeys.freeze_one_time(now_ms);
        let count = ONE_TIME_GOAL.min(tidings_protocol::limits::ONE_TIME_PREKEYS_MAX);
        let one_time = match self.sealer.add_one_time(&mut self.prekeys, count) {
            Ok(one_time) => one_time,
            Err(_) => {
                // Too many frozen ones: a node that restarts all the time. Give the oldest up.
                self.prekeys.forget_frozen();
                self.sealer.add_one_time(&mut self.prekeys, count).map_err(StoreError::work)?
            }
        };
        let fallback = self.sealer.publish(&self.local, &self.prekeys).map_err(StoreError::work)?;
        self.save_prekeys(txn)?;
        let upload = PrekeyUpload { fallback, one_time };
        let request = self.number_request();
        self.requests.insert(request, Request::Prekeys);
        self.counters.prekeys_lost += u64::from(node_has_none);
        self.tell_node(ClientFrame::PublishPrekeys(PublishPrekeys { request, upload }));
        Ok(())
    }

    pub(crate) fn on_bundles(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        answer: Bundles,
    ) -> Result<(), StoreError> {
        let Some(Request::Fetch(peer)) = self.requests.remove(&answer.request) else {
            return Ok(());
        };
        self.learn_lists(txn, now_ms, peer, answer.lists)?;
        if self.account.replacement.is_some() {
            return self.replace_device(txn, now_ms);
        }
        if self.stopped.is_some() {
            return Ok(());
        }
        if self.bundles.len() > BUNDLES_MAX {
            self.bundles.clear();
        }
        for bundle in answer.bundles {
            self.bundles.insert(bundle.device_id(), bundle);
        }
        for device in self.devices_of(txn, &peer)? {
            let id = device.id();
            if self.bundles.contains_key(&id) {
                self.without_bundle.remove(&id);
            } else {
                self.without_bundle.insert(id, now_ms + WITHOUT_BUNDLE_MS);
            }
        }
        self.queues.fetched(&peer);
        Ok(())
    }

    pub(crate) fn on_fetch_refused(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        peer: PeerKey,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let Some(row) = self.peer_row(txn, &peer)? else { return Ok(()) };
        let devices = self.devices_of(txn, &peer)?;
        let known = !devices.is_empty();
        for device in devices {
            // Sessions that are merely old go on for a while.
            self.without_bundle.insert(device.id(), now_ms + WITHOUT_BUNDLE_MS);
        }
        if known {
            self.queues.fetched(&peer);
            return Ok(());
        }
        if refusal.code == RefusalCode::UnknownRecipient {
            return self.fail_waiting(txn, now_ms, &peer);
        }
        let first = self.queues.is_first_failure(&peer);
        let attempts = self.queues.failures(&peer);
        let most = if refusal.code.may_retry() { 1_000 << attempts.min(6) } else { 600_000 };
        let after = refusal.after_ms.unwrap_or(0) + self.jitter(most).max(most / 8);
        self.queues.fetch_failed(&peer, now_ms + after);
        if first {
            self.warn(Warning::CannotLookUp { peer: row.peer(), code: refusal.code });
        }
        Ok(())
    }
}

/// The device of a bundle as the list names it, or nothing.
pub(crate) fn of_device(bundle: &Bundle, device: &Device) -> bool {
    bundle.device == device.key && bundle.identity == device.identity
}
