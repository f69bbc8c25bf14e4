//! What an administrator sees of routes, and sets on the running node. What a route does is in
//! `routes.rs`.

use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, RouteStatus},
    routes::{ROUTES_MAX, RouteTo, route_key},
    schema::{self, ROUTES, RouteRow},
};

impl Core {
    /// All routes that are set.
    pub(crate) fn route_statuses(&self) -> Vec<RouteStatus> {
        let status = |(to, via, source): (RouteTo, Option<_>, _)| {
            let peer = to.as_ref().and_then(|to| self.peers.get(to));
            let hop = via.or(to).and_then(|hop| self.peers.get(&hop));
            RouteStatus {
                to,
                via,
                source,
                connected: hop.is_some_and(|hop| hop.link.is_some()),
                waiting: peer.map_or(0, crate::peer::Peer::waiting),
                refusal: peer.and_then(|peer| peer.refusal),
            }
        };
        self.routes.all().map(status).collect()
    }

    /// Sets a route on the running node; it stands above the configuration, also after a start.
    pub(crate) fn set_route(
        &mut self,
        to: RouteTo,
        via: RouteTo,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        if to == Some(self.node) || via == Some(self.node) {
            return Ok(refused("this is the node itself: name two others".to_owned()));
        }
        if to.is_some() && to == via {
            let advice = "a node is no way to itself: leave out --via, and it is dialled itself";
            return Ok(refused(advice.to_owned()));
        }
        if self.routes.is_full(&to) {
            return Ok(refused(format!("{ROUTES_MAX} routes are set: remove some first")));
        }
        if let Some(via) = &via
            && let Some(other) = self.routes.conflict(&to, via)
        {
            return Ok(refused(format!(
                "a next hop is a neighbour, and one of the two is not: look for {} in `tidings admin \
                 routes list`, and remove or set its route first",
                other.to_text()
            )));
        }
        schema::put(txn, ROUTES, &route_key(&to), &RouteRow { via })?;
        self.reroute(txn, |routes| routes.set(to, via))?;
        Ok(AdminReply::Done)
    }

    /// Takes back what an administrator has set: the configuration holds again.
    pub(crate) fn remove_route(
        &mut self,
        to: RouteTo,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        let mut was_set = false;
        self.reroute(txn, |routes| was_set = routes.remove(&to))?;
        if !was_set {
            let advice = "no such route was set on the running node: those of node.toml are changed \
                          there, or set to something else here";
            return Ok(refused(advice.to_owned()));
        }
        txn.delete(ROUTES, &route_key(&to))?;
        Ok(AdminReply::Done)
    }
}

const fn refused(why: String) -> AdminReply {
    AdminReply::Refused(why)
}
