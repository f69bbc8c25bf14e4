//! What of the configuration changes while the node runs, all of it in one batch. What needs a start is
//! the shell's to say.

use tidings_protocol::{descriptor::Transport, id::NodeId};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, Effect},
    policy::Federation,
    rates::Limits,
    settings::{CustodyTerms, Settings},
};

/// The part of [`Settings`] that may change while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSettings {
    /// As in [`Settings`].
    pub federation: Federation,
    /// As in [`Settings`].
    pub pinned: Vec<(NodeId, Vec<Transport>)>,
    /// As in [`Settings`].
    pub custody: Vec<CustodyTerms>,
    /// As in [`Settings`].
    pub limits: Limits,
    /// As in [`Settings`].
    pub device_rows_max: u64,
    /// As in [`Settings`].
    pub peer_rows_max: u64,
    /// As in [`Settings`].
    pub disk_percent_max: u64,
}

impl Settings {
    /// Takes them over.
    pub fn set_live(&mut self, live: LiveSettings) {
        let LiveSettings {
            federation,
            pinned,
            custody,
            limits,
            device_rows_max,
            peer_rows_max,
            disk_percent_max,
        } = live;
        (self.federation, self.limits) = (federation, limits);
        (self.pinned, self.custody) = (pinned, custody);
        self.device_rows_max = device_rows_max;
        self.peer_rows_max = peer_rows_max;
        self.disk_percent_max = disk_percent_max;
    }
}

impl Core {
    pub(crate) fn reconfigure(
        &mut self,
        live: LiveSettings,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let before = self.settings.custody.clone();
        self.settings.set_live(live);
        self.note_configured();
        let pinned = self.settings.pinned.clone();
        let custody = self.settings.custody.iter().map(|terms| terms.node);
        let named: Vec<NodeId> = pinned.iter().map(|(node, _)| *node).chain(custody).collect();
        for node in named {
            if node != self.node {
                self.peer_number(&node, txn)?;
            }
        }
        for transport in pinned.into_iter().flat_map(|(_, transports)| transports) {
            self.effects.push_back(Effect::Pin { transport });
        }
        let after = &self.settings.custody;
        let changed = |terms: &&CustodyTerms| !before.contains(terms) || !after.contains(terms);
        let changed: Vec<NodeId> =
            before.iter().chain(after).filter(changed).map(|terms| terms.node).collect();
        for node in changed {
            self.repeat_consent(&node);
        }
        self.forget_rates();
        self.enforce_all();
        Ok(AdminReply::Done)
    }

    /// The terms for a node have changed: it is told, if it is here to hear it.
    fn repeat_consent(&mut self, node: &NodeId) {
        let link = self.peers.get(node).and_then(|peer| peer.link);
        if let Some(link) = link {
            let consent = self.consent_for(node);
            self.tell_peer(link, consent);
        }
    }
}
