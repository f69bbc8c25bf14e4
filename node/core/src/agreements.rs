//! What this node is ready to hold for others: as the configuration says, until an administrator grants
//! something else, or takes it back, while the node runs. Each change is told at once to whom it is about;
//! what is held already stays until its end. What follows from the terms is in `custody.rs`.

use tidings_protocol::{
    custody::Consent, id::NodeId, limits::MESSAGE_LIFE_MS_MAX, peer_frame::PeerFrame,
    signed::Signed,
};
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, CustodyStatus, HeldBy, HeldFor},
    schema::{self, CONSENTS, CUSTODY, CustodyRow},
    settings::CustodyTerms,
};

impl Core {
    /// What administrators have granted and taken back.
    pub(crate) fn load_terms(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(CUSTODY, &[], &[0xff; 33], usize::MAX)? {
            let node = NodeId::from_slice(&key)
                .ok_or_else(|| StoreError::corrupt("the key of an agreement"))?;
            self.granted.insert(node, schema::decode(&bytes)?);
        }
        Ok(())
    }

    /// What this node is ready to hold for another one, if anything.
    pub(crate) fn custody_terms(&self, node: &NodeId) -> Option<CustodyTerms> {
        let terms = match self.granted.get(node) {
            Some(row) => Some(row.terms(*node)),
            None => self.settings.custody.iter().find(|terms| terms.node == *node).copied(),
        };
        terms.filter(|terms| terms.rows > 0)
    }

    /// Our half of the agreement with a node, as it is now.
    pub(crate) fn consent_for(&self, node: &NodeId) -> PeerFrame {
        let terms = self.custody_terms(node);
        let consent = Consent {
            custodian: self.node,
            node: *node,
            issued_ms: self.now_ms,
            rows: terms.map_or(0, |terms| terms.rows),
            bytes: terms.map_or(0, |terms| terms.bytes),
            life_ms: terms.map_or(0, |terms| terms.life_ms),
            users: terms.map_or(0, |terms| terms.users),
        };
        PeerFrame::Consent(Signed::new(&consent, &self.settings.operational))
    }

    /// An administrator is ready to hold so much for a node from now on.
    pub(crate) fn grant(
        &mut self,
        terms: CustodyTerms,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if terms.node == self.node {
            return Ok(refused("a node holds nothing for itself: name another one"));
        }
        let is_something = terms.rows > 0 && terms.bytes > 0;
        if !is_something || !(1..=MESSAGE_LIFE_MS_MAX).contains(&terms.life_ms) {
            return Ok(refused("say how many envelopes, how many MiB, and 1 to 30 days"));
        }
        self.change_terms(terms, txn)
    }

    /// An administrator takes back what this node was ready to hold for a node.
    pub(crate) fn revoke(
        &mut self,
        node: NodeId,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if self.custody_terms(&node).is_none() {
            let advice =
                "nothing is granted to this node: `tidings admin custody list` shows to whom";
            return Ok(refused(advice));
        }
        self.change_terms(CustodyTerms { node, rows: 0, bytes: 0, life_ms: 0, users: 0 }, txn)
    }

    fn change_terms(
        &mut self,
        terms: CustodyTerms,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let CustodyTerms { node, rows, bytes, life_ms, users } = terms;
        let row = CustodyRow { rows, bytes, life_ms, users, changed_ms: self.now_ms };
        schema::put(txn, CUSTODY, node.as_bytes(), &row)?;
        self.granted.insert(node, row);
        self.peer_number(&node, txn)?;
        match self.peers.get(&node).and_then(|peer| peer.link) {
            Some(link) => {
                let consent = self.consent_for(&node);
                self.tell_peer(link, consent);
            }
            None => self.reach(&node),
        }
        Ok(AdminReply::Done)
    }

    /// What is held for others, and what others hold for this node.
    pub(crate) fn custody_status(&self, txn: &dyn Txn) -> Result<CustodyStatus, StoreError> {
        let mut nodes: Vec<NodeId> = self.settings.custody.iter().map(|terms| terms.node).collect();
        nodes.extend(self.granted.keys());
        let has_left = self.peers.iter().filter(|(_, peer)| peer.held > 0 || peer.users > 0);
        nodes.extend(has_left.map(|(node, _)| *node));
        nodes.sort_unstable();
        nodes.dedup();
        let held_for = nodes.iter().map(|node| self.held_for(node)).collect();
        let mut held_by = Vec::with_capacity(self.custodians.len());
        for node in &self.custodians {
            let signed: Option<Signed<Consent>> = schema::get(txn, CONSENTS, node.as_bytes())?;
            let is_connected = self.is_linked(node);
            let consent = signed.and_then(|signed| signed.peek().ok());
            held_by.push(HeldBy { node: *node, consent, is_connected });
        }
        Ok(CustodyStatus { held_for, held_by })
    }

    fn held_for(&self, node: &NodeId) -> HeldFor {
        let peer = self.peers.get(node);
        HeldFor {
            terms: self.custody_terms(node).unwrap_or(CustodyTerms {
                node: *node,
                rows: 0,
                bytes: 0,
                life_ms: 0,
                users: 0,
            }),
            changed_ms: self.granted.get(node).map(|row| row.changed_ms),
            is_named: self.custodians_of(node).contains(&self.node),
            is_connected: self.is_linked(node),
            rows: peer.map_or(0, |peer| peer.held),
            bytes: peer.map_or(0, |peer| peer.held_bytes),
            users: peer.map_or(0, |peer| peer.users),
        }
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.link.is_some())
    }
}

impl CustodyRow {
    const fn terms(&self, node: NodeId) -> CustodyTerms {
        let Self { rows, bytes, life_ms, users, .. } = *self;
        CustodyTerms { node, rows, bytes, life_ms, users }
    }
}

fn refused(advice: &str) -> AdminReply {
    AdminReply::Refused(advice.to_owned())
}
