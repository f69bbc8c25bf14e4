//! Questions about users that pass through this node: asked on by our own routes, and the answers
//! handed back, also when the device that asked was told that there are none: its node keeps them for the
//! next time. Who asks checks the answer: the user's node has signed it. Questions of own devices are in
//! `fetch.rs`.

use std::collections::BTreeMap;

use tidings_protocol::{
    id::NodeId,
    peer_frame::{FetchFor, PeerFrame, User},
    refusal::{Refusal, RefusalCode},
};

use crate::{Core, event::LinkId, fetch::LATE_MS_MAX, settings::Sabotage};

/// Questions that may be open at once; more are refused as busy.
const ASKED_MAX: usize = 4_096;

/// Questions that were asked on.
#[derive(Debug, Default)]
pub(crate) struct AskedOn {
    open: BTreeMap<u64, Asked>,
}

#[derive(Debug)]
struct Asked {
    /// Who asked, and how he calls his question.
    link: LinkId,
    request: u64,
    about: NodeId,
    way: NodeId,
    until_ms: u64,
}

impl AskedOn {
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.open.retain(|_, asked| asked.link != link);
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.open.values().map(|asked| asked.until_ms).min()
    }
}

impl Core {
    /// A peer asks for a user of a node that is reached through us.
    pub(crate) fn ask_on(&mut self, link: LinkId, node: &NodeId, asked: FetchFor) {
        if let Err(code) = self.try_ask_on(link, node, &asked) {
            self.answer_without(link, asked.request, code);
        }
    }

    fn try_ask_on(
        &mut self,
        link: LinkId,
        node: &NodeId,
        asked: &FetchFor,
    ) -> Result<(), RefusalCode> {
        if self.passing_terms(node, &asked.node).is_none() {
            return Err(RefusalCode::Refused);
        }
        let way = self.way_of(&asked.node);
        if way == *node && !self.is_sabotaged(Sabotage::ForwardBack) {
            return Err(RefusalCode::Loop);
        }
        let Some(hops_left) = asked.hops_left.checked_sub(1) else {
            return Err(RefusalCode::HopLimit);
        };
        if self.asked_on.open.len() >= ASKED_MAX {
            return Err(RefusalCode::Busy);
        }
        let Some(next) = self.peers.get(&way).and_then(|peer| peer.link) else {
            self.reach(&way);
            return Err(RefusalCode::Unreachable);
        };
        let request = self.fetches.number();
        let until_ms = self.now_ms + LATE_MS_MAX;
        let about = asked.node;
        let open = Asked { link, request: asked.request, about, way, until_ms };
        self.asked_on.open.insert(request, open);
        let frame = FetchFor { request, hops_left, ..asked.clone() };
        self.tell_peer(next, PeerFrame::FetchFor(frame));
        Ok(())
    }

    /// An answer to a question that was asked on. False when it is none.
    pub(crate) fn hand_back(&mut self, node: &NodeId, user: &User) -> bool {
        let is_asked = |asked: &Asked| asked.way == *node;
        if !self.asked_on.open.get(&user.request).is_some_and(is_asked) {
            return false;
        }
        if let Some(asked) = self.asked_on.open.remove(&user.request) {
            self.hear_delegation(&asked.about, user.delegation.clone());
            let user = User { request: asked.request, ..user.clone() };
            self.tell_peer(asked.link, PeerFrame::User(user));
        }
        true
    }

    /// Questions that were not answered in time.
    pub(crate) fn tick_asked_on(&mut self) {
        let now_ms = self.now_ms;
        let is_late = |(_, asked): &(&u64, &Asked)| asked.until_ms <= now_ms;
        let late: Vec<u64> =
            self.asked_on.open.iter().filter(is_late).map(|(number, _)| *number).collect();
        for number in late {
            if let Some(asked) = self.asked_on.open.remove(&number) {
                self.answer_without(asked.link, asked.request, RefusalCode::Unreachable);
            }
        }
    }

    fn answer_without(&mut self, link: LinkId, request: u64, code: RefusalCode) {
        let refusal = Some(Refusal::from(code));
        let (lists, bundles) = (Vec::new(), Vec::new());
        let user = User { request, refusal, lists, bundles, listing: None, delegation: None };
        self.tell_peer(link, PeerFrame::User(user));
    }
}
