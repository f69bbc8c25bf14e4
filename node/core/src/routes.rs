//! Next hops that administrators have set: which node is spoken to in place of another one. What is
//! owed to a node with a next hop stays in that node's own outbox, and is sent over the link of the
//! hop. What a node does that passes on for others is in `gateway.rs`; the administrator's commands are
//! in `admin_routes.rs`.

use std::collections::{BTreeMap, BTreeSet};

use tidings_protocol::id::NodeId;
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    audit::Audits,
    event::{DeadPick, LinkId},
    peer::Sent,
    retry::Retry,
    schema::{self, ROUTES, RouteRow},
};

/// Routes that administrators may set on a running node: a federation has fewer nodes than this, and
/// all of them are kept in memory.
pub(crate) const ROUTES_MAX: usize = 10_000;
/// Stands in [`ROUTES`] for everybody who has no route: nobody can sign for this id.
const EVERYBODY: NodeId = NodeId([0; 32]);

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSource {
    /// From the configuration.
    Config,
    /// An administrator has set it on the running node; it stands above the configuration.
    Admin,
}

/// For which node a route is: absent for everybody who has none.
pub type RouteTo = Option<NodeId>;

/// All routes.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    config: BTreeMap<RouteTo, NodeId>,
    /// Absent for a node that is dialled itself, whatever the configuration says.
    stored: BTreeMap<RouteTo, Option<NodeId>>,
    /// All next hops. They are dialled themselves.
    hops: BTreeSet<NodeId>,
}

impl Routes {
    pub(crate) fn new(config: impl IntoIterator<Item = (RouteTo, NodeId)>) -> Self {
        let mut routes = Self { config: config.into_iter().collect(), ..Self::default() };
        routes.count_hops();
        routes
    }

    fn named(&self, to: &RouteTo) -> Option<Option<NodeId>> {
        self.stored.get(to).copied().or_else(|| self.config.get(to).copied().map(Some))
    }

    /// The node that is spoken to in place of this one.
    pub(crate) fn next_hop(&self, node: &NodeId) -> Option<NodeId> {
        if self.hops.is_empty() || self.hops.contains(node) {
            return None;
        }
        self.named(&Some(*node)).or_else(|| self.named(&None)).flatten()
    }

    /// True for a node that we have named as a next hop: we take from it what it passes on.
    pub(crate) fn is_hop(&self, node: &NodeId) -> bool {
        self.hops.contains(node)
    }

    pub(crate) fn hops(&self) -> impl Iterator<Item = &NodeId> {
        self.hops.iter()
    }

    /// All that is set, the route of everybody else first.
    pub(crate) fn all(&self) -> impl Iterator<Item = (RouteTo, Option<NodeId>, RouteSource)> {
        let tos: BTreeSet<RouteTo> =
            self.config.keys().chain(self.stored.keys()).copied().collect();
        let all: Vec<_> = tos
            .into_iter()
            .map(|to| match self.stored.get(&to) {
                Some(via) => (to, *via, RouteSource::Admin),
                None => (to, self.config.get(&to).copied(), RouteSource::Config),
            })
            .collect();
        all.into_iter()
    }

    pub(crate) fn is_full(&self, to: &RouteTo) -> bool {
        self.stored.len() >= ROUTES_MAX && !self.stored.contains_key(to)
    }

    /// A next hop that would itself be reached through another one, which is a mistake: a hop is a
    /// neighbour.
    pub(crate) fn conflict(&self, to: &RouteTo, via: &NodeId) -> Option<NodeId> {
        let through = self.named(&Some(*via)).flatten().filter(|other| other != via);
        let is_used = to.as_ref().filter(|to| self.hops.contains(to));
        through.or_else(|| is_used.copied())
    }

    pub(crate) fn set(&mut self, to: RouteTo, via: Option<NodeId>) {
        self.stored.insert(to, via);
        self.count_hops();
    }

    /// True when an administrator had set it.
    pub(crate) fn remove(&mut self, to: &RouteTo) -> bool {
        let was_set = self.stored.remove(to).is_some();
        self.count_hops();
        was_set
    }

    fn count_hops(&mut self) {
        self.hops = self.all().filter_map(|(_, via, _)| via).collect();
    }
}

/// The key of a route in [`ROUTES`].
pub(crate) fn route_key(to: &RouteTo) -> Vec<u8> {
    to.unwrap_or(EVERYBODY).as_bytes().to_vec()
}

impl Core {
    /// Reads what administrators have set. Before the peers are read.
    pub(crate) fn load_routes(&mut self, txn: &dyn Txn) -> Result<(), StoreError> {
        for (key, bytes) in txn.range(ROUTES, &[], &[0xff; 33], ROUTES_MAX)? {
            let row: RouteRow = schema::decode(&bytes)?;
            let to = NodeId::from_slice(&key);
            let to = to.ok_or_else(|| StoreError::corrupt("the key of a route"))?;
            self.routes.set((to != EVERYBODY).then_some(to), row.via);
        }
        Ok(())
    }

    /// The node on whose link the outbox of a node is sent: its next hop, or itself.
    pub(crate) fn way_of(&self, node: &NodeId) -> NodeId {
        self.routes.next_hop(node).unwrap_or(*node)
    }

    /// The link over which the outbox of a node is sent, if it is up.
    pub(crate) fn way_link(&self, node: &NodeId) -> Option<LinkId> {
        self.peers.get(&self.way_of(node)).and_then(|peer| peer.link)
    }

    /// The nodes whose outboxes are sent on the link of this one: itself, and those behind it.
    pub(crate) fn sent_through(&self, way: &NodeId) -> Vec<NodeId> {
        if !self.routes.is_hop(way) {
            let is_own = self.routes.next_hop(way).is_none();
            return if is_own { vec![*way] } else { Vec::new() };
        }
        self.peers.keys().filter(|node| self.way_of(node) == *way).copied().collect()
    }

    /// What was sent for a node on the link of its way and is not answered, but for what went ahead:
    /// that has its turn still.
    pub(crate) fn unanswered_of(&self, node: &NodeId) -> Vec<u64> {
        let way = self.way_of(node);
        let Some(through) = self.peers.get(&way) else { return Vec::new() };
        let is_ahead =
            |lsn: u64| self.peers.get(node).is_some_and(|peer| peer.newest.is_ahead(lsn));
        let own = through.inflight.values().filter(|sent| sent.owner(&way) == Some(*node));
        own.map(|sent| sent.lsn).filter(|lsn| !is_ahead(*lsn)).collect()
    }

    /// Changes routes. What was sent the old way and is not answered is sent the new one, and the
    /// new hop is asked for all that was ever sent: it need not have any of it.
    pub(crate) fn reroute(
        &mut self,
        txn: &mut dyn Txn,
        change: impl FnOnce(&mut Routes),
    ) -> Result<(), StoreError> {
        let before: Vec<(NodeId, NodeId, Vec<u64>)> = self
            .peers
            .keys()
            .map(|node| (*node, self.way_of(node), self.unanswered_of(node)))
            .collect();
        change(&mut self.routes);
        let hops: Vec<NodeId> = self.routes.hops().copied().collect();
        for hop in &hops {
            self.peer_number(hop, txn)?;
        }
        for (node, old, unanswered) in before {
            if self.way_of(&node) != old {
                self.rewind_on_new_way(&node, &old, &unanswered, txn)?;
            }
        }
        // They are held, so that what comes for us through them comes at once.
        self.batch.peers.extend(hops);
        Ok(())
    }

    fn rewind_on_new_way(
        &mut self,
        node: &NodeId,
        old: &NodeId,
        unanswered: &[u64],
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        if let Some(through) = self.peers.get_mut(old) {
            through.inflight.retain(|sent: &Sent| sent.owner(old) != Some(*node));
        }
        self.redrive(DeadPick::Peer(*node), txn)?;
        self.end_handing(node);
        self.closed.open(node);
        let is_up = self.way_link(node).is_some();
        let now_ms = self.now_ms;
        let Some(peer) = self.peers.get_mut(node) else { return Ok(()) };
        peer.dead.pardon();
        peer.rewind(unanswered);
        (peer.entrusted, peer.paused_until_ms, peer.refusal) = (None, 0, None);
        peer.audits = Audits::default();
        if is_up {
            peer.audits.linked(now_ms, true, peer.sent);
        }
        if peer.link.is_none() {
            peer.retry = Retry::default();
        }
        self.batch.peers.insert(*node);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidings_protocol::id::NodeId;

    use super::{RouteSource, Routes};

    const ACME: NodeId = NodeId([1; 32]);
    const HUB: NodeId = NodeId([2; 32]);
    const GLOBEX: NodeId = NodeId([3; 32]);
    const OTHER: NodeId = NodeId([4; 32]);

    #[test]
    fn what_an_administrator_sets_stands_above_the_configuration() {
        let mut routes = Routes::new([(Some(GLOBEX), HUB)]);
        assert_eq!((routes.next_hop(&GLOBEX), routes.next_hop(&ACME)), (Some(HUB), None));
        assert!(routes.is_hop(&HUB) && !routes.is_hop(&GLOBEX));
        routes.set(Some(GLOBEX), Some(OTHER));
        assert_eq!(routes.next_hop(&GLOBEX), Some(OTHER));
        assert!(!routes.is_hop(&HUB), "nobody is reached through it any more");
        routes.set(Some(GLOBEX), None);
        assert_eq!(routes.next_hop(&GLOBEX), None);
        assert_eq!(routes.all().collect::<Vec<_>>(), [(Some(GLOBEX), None, RouteSource::Admin)]);
        assert!(routes.remove(&Some(GLOBEX)) && !routes.remove(&Some(GLOBEX)));
        assert_eq!(routes.next_hop(&GLOBEX), Some(HUB));
    }

    #[test]
    fn the_default_is_for_everybody_but_hops_and_those_who_have_a_route() {
        let mut routes = Routes::new([(None, HUB), (Some(GLOBEX), OTHER)]);
        assert_eq!(routes.next_hop(&ACME), Some(HUB));
        assert_eq!(routes.next_hop(&GLOBEX), Some(OTHER));
        assert_eq!([HUB, OTHER].map(|hop| routes.next_hop(&hop)), [None, None]);
        routes.set(Some(ACME), None);
        assert_eq!(routes.next_hop(&ACME), None);
    }

    #[test]
    fn a_hop_is_a_neighbour() {
        let routes = Routes::new([(Some(GLOBEX), HUB)]);
        assert_eq!(
            routes.conflict(&Some(ACME), &GLOBEX),
            Some(HUB),
            "it is reached through another"
        );
        assert_eq!(routes.conflict(&Some(HUB), &OTHER), Some(HUB), "others are reached through it");
        assert_eq!(routes.conflict(&Some(ACME), &HUB), None);
        assert_eq!(routes.conflict(&None, &OTHER), None);
    }
}
