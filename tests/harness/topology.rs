//! Worlds in which not everybody speaks to everybody: a gateway in the middle of all, gateways in a
//! row, gateways that lead in a circle for a while, and a node that nobody can dial. Who is whose
//! neighbour is drawn once and never changes; what the nodes believe about it may be wrong for a while.

use tidings_core::{
    event::{AdminCommand, AdminToken, Event},
    routes::RouteTo,
    settings::{CustodyTerms, Settings},
};
use tidings_protocol::{id::NodeId, limits};

use crate::faults::FaultAction;
use crate::network::Machine;
use crate::world::{Action, World};

/// Who is whose neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Everybody speaks to everybody.
    Whole,
    /// The last node is everybody's only neighbour.
    Star,
    /// The first node, the third and those that follow, and at the other end the second node.
    Chain,
    /// The same; for a while the last gateway sends back what is for the second node.
    Circle,
}

impl Topology {
    /// The nodes in the order in which they are neighbours; empty when that is no row.
    fn row(self, nodes: usize) -> Vec<usize> {
        match self {
            Self::Whole | Self::Star => Vec::new(),
            Self::Chain | Self::Circle => [0].into_iter().chain(2..nodes).chain([1]).collect(),
        }
    }

    /// Where the last gateway of a circle sends what is for the second node: to the first gateway.
    const fn turn(self) -> Option<usize> {
        match self {
            Self::Circle => Some(2),
            Self::Whole | Self::Star | Self::Chain => None,
        }
    }

    /// Whether two nodes can reach each other at all.
    #[must_use]
    pub fn are_neighbours(self, nodes: usize, one: usize, other: usize) -> bool {
        match self {
            Self::Whole => true,
            Self::Star => one + 1 == nodes || other + 1 == nodes,
            Self::Chain | Self::Circle => {
                let row = self.row(nodes);
                let place = |node: usize| row.iter().position(|at| *at == node);
                let is_turn =
                    |one: usize, other: usize| one + 1 == nodes && self.turn() == Some(other);
                let are_next = match (place(one), place(other)) {
                    (Some(one), Some(other)) => one.abs_diff(other) == 1,
                    _ => false,
                };
                are_next || is_turn(one, other) || is_turn(other, one)
            }
        }
    }

    /// The right next hop from one node to another, unless they are neighbours.
    fn next_hop(self, nodes: usize, from: usize, to: usize) -> Option<usize> {
        if from == to || self.are_neighbours(nodes, from, to) {
            return None;
        }
        match self {
            Self::Whole => None,
            Self::Star => Some(nodes - 1),
            Self::Chain | Self::Circle => {
                let row = self.row(nodes);
                let place = |node: usize| row.iter().position(|at| *at == node);
                let (at, goal) = (place(from)?, place(to)?);
                row.get(if goal > at { at + 1 } else { at.checked_sub(1)? }).copied()
            }
        }
    }

    /// Whether a node may be told to send through a third what is for its neighbour.
    #[must_use]
    pub fn may_be_misled(self, nodes: usize, node: usize, to: usize) -> bool {
        self.turn().is_some() && node + 1 == nodes && to == 1
    }

    /// Whether a node passes on for others.
    #[must_use]
    pub fn is_gateway(self, nodes: usize, node: usize) -> bool {
        match self {
            Self::Whole => false,
            Self::Star => node + 1 == nodes,
            Self::Chain | Self::Circle => node >= 2,
        }
    }
}

impl World {
    /// Cuts for ever what is no neighbourhood.
    pub(crate) fn lay_out(&mut self) {
        let (topology, nodes) = (self.options.topology, self.nodes.len());
        for one in 0..nodes {
            for other in (0..nodes).filter(|other| *other != one) {
                if !topology.are_neighbours(nodes, one, other) {
                    self.net.severed.insert((Machine::Node(one), Machine::Node(other)));
                }
            }
        }
    }

    /// What a node is told of routes. Those with one neighbour have a route for everybody else.
    pub(crate) fn add_routes(&self, node: usize, settings: &mut Settings) {
        let (topology, nodes) = (self.options.topology, self.nodes.len());
        let hops: Vec<(RouteTo, NodeId)> = (0..nodes)
            .filter_map(|to| topology.next_hop(nodes, node, to).map(|via| (to, via)))
            .map(|(to, via)| (Some(self.nodes[to].id), self.nodes[via].id))
            .collect();
        if topology.is_gateway(nodes, node) {
            settings.routes = hops;
            let terms = |other: &crate::node::SimNode| CustodyTerms {
                node: other.id,
                rows: self.options.custody_rows,
                bytes: u64::MAX,
                life_ms: limits::MESSAGE_LIFE_MS_MAX,
                users: 0,
            };
            settings.gateway_for = self.nodes.iter().map(terms).collect();
        } else if let Some((_, via)) = hops.first() {
            settings.routes = vec![(None, *via)];
        }
        if self.options.hidden {
            settings.pinned.retain(|(pinned, _)| *pinned != self.nodes[0].id);
        }
    }

    /// Plans when the circle closes, and when it is mended.
    pub(crate) fn plan_circle(&mut self) {
        if self.options.topology == Topology::Circle {
            let safety_ms = self.options.safety_ms;
            let begin_ms = self.fault_chance.below(safety_ms / 2);
            let for_ms = self.fault_chance.between(safety_ms / 8, safety_ms);
            let close = FaultAction::Circle { is_closed: true };
            self.schedule.plan(begin_ms, Action::Fault(close));
            let mend = FaultAction::Circle { is_closed: false };
            self.schedule.plan(begin_ms + for_ms, Action::Fault(mend));
        }
    }

    /// An administrator of the last gateway sets the wrong route, or takes it back.
    pub(crate) fn turn_back(&mut self, is_closed: bool) {
        let (topology, last) = (self.options.topology, self.nodes.len() - 1);
        let Some(turn) = topology.turn() else { return };
        if self.nodes[last].process.is_none() {
            let again = FaultAction::Circle { is_closed };
            self.schedule.plan(1_000, Action::Fault(again));
            return;
        }
        // With two gateways the first one is the neighbour that everything comes from.
        let (to, via) = (Some(self.nodes[1].id), self.nodes[turn].id);
        let command = if is_closed {
            AdminCommand::SetRoute { to, via: Some(via) }
        } else {
            AdminCommand::RemoveRoute { to }
        };
        self.tell_node(last, Event::Admin { token: AdminToken(7), command });
    }
}
