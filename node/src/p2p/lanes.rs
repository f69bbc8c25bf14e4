//! Opens and accepts the two lane streams, always as a pair and on one named connection.
//!
//! Stands where `libp2p_stream` would: that hands streams over without their connection, opens
//! on a random one of two, and drops an inbound stream when the accepting loop is busy. On the
//! wire both are the same. Knows nothing of who wants a link; see `peers.rs`.
//!
//! The opener negotiates control first and asks for bulk only after that. So at the acceptor a
//! control stream begins an offer and the next bulk stream completes it; a bulk stream alone is a
//! leftover and is dropped.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, StreamUpgradeError};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, SubstreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::Lane;
use super::limits::LANE_TIMEOUT;

/// Pairs that wait for the swarm task per connection; a peer that offers faster loses some.
const PAIRS_MAX: usize = 4;

/// Both streams of a link, negotiated and unused.
pub(crate) struct Pair {
    pub(crate) control: Stream,
    pub(crate) bulk: Stream,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// Which side opened the streams of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opener {
    Us,
    Them,
}

/// What became of a connection's lanes.
#[derive(Debug)]
pub(crate) struct LanesEvent {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) what: Happened,
}

/// See [`LanesEvent`].
#[derive(Debug)]
pub(crate) enum Happened {
    Opened { pair: Box<Pair>, opener: Opener },
    OpenFailed { why: String },
}

/// The behaviour: a letter box between the swarm task and the handlers.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    // Bounded by its feeders: one `Open` per dial, and handlers stop while the swarm is not polled.
    queue: VecDeque<ToSwarm<LanesEvent, OpenLanes>>,
}

/// The one thing that a handler is told: open both lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLanes;

impl Behaviour {
    /// Asks the peer at the end of `connection` for both lanes. Answered by one [`LanesEvent`],
    /// unless the connection closes.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: OpenLanes,
        });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = LanesEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        what: Happened,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(LanesEvent { peer, connection, what }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LanesEvent, OpenLanes>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's lanes.
#[derive(Debug, Default)]
pub(crate) struct Handler {
    ours: Opening,
    /// A control stream that the peer opened and whose bulk stream has not come yet.
    offered_control: Option<Stream>,
    happened: VecDeque<Happened>,
}

/// How far we are with opening lanes.
#[derive(Debug, Default)]
enum Opening {
    #[default]
    Idle,
    AskControl,
    ControlAsked,
    AskBulk(Stream),
    BulkAsked(Stream),
}

impl Handler {
    fn opened(&mut self, stream: Stream) {
        match std::mem::take(&mut self.ours) {
            Opening::ControlAsked => self.ours = Opening::AskBulk(stream),
            Opening::BulkAsked(control) => {
                let pair = Box::new(Pair { control, bulk: stream });
                self.happened.push_back(Happened::Opened { pair, opener: Opener::Us });
            }
            // Nothing was asked for, so there is nothing to answer.
            Opening::Idle | Opening::AskControl | Opening::AskBulk(_) => {}
        }
    }

    fn offered(&mut self, mut stream: Stream, lane: Lane) {
        match lane {
            Lane::Control => {
                // Half an offer must not keep a connection open.
                stream.ignore_for_keep_alive();
                self.offered_control = Some(stream);
            }
            Lane::Bulk => {
                let Some(control) = self.offered_control.take() else { return };
                if self.happened.len() < PAIRS_MAX {
                    let pair = Box::new(Pair { control, bulk: stream });
                    self.happened.push_back(Happened::Opened { pair, opener: Opener::Them });
                }
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = OpenLanes;
    type ToBehaviour = Happened;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        SubstreamProtocol::new(LaneUpgrade { lanes: &[Lane::Control, Lane::Bulk] }, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<LaneUpgrade, (), Happened>> {
        if let Some(happened) = self.happened.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(happened));
        }
        let lanes: &'static [Lane] = match std::mem::take(&mut self.ours) {
            Opening::AskControl => {
                self.ours = Opening::ControlAsked;
                &[Lane::Control]
            }
            Opening::AskBulk(control) => {
                self.ours = Opening::BulkAsked(control);
                &[Lane::Bulk]
            }
            other @ (Opening::Idle | Opening::ControlAsked | Opening::BulkAsked(_)) => {
                self.ours = other;
                return Poll::Pending;
            }
        };
        let protocol = SubstreamProtocol::new(LaneUpgrade { lanes }, ()).with_timeout(LANE_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, OpenLanes: OpenLanes) {
        if matches!(self.ours, Opening::Idle) {
            self.ours = Opening::AskControl;
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is not exhaustive")]
    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(inbound) => {
                let (stream, lane) = inbound.protocol;
                self.offered(stream, lane);
            }
            ConnectionEvent::FullyNegotiatedOutbound(outbound) => self.opened(outbound.protocol.0),
            ConnectionEvent::DialUpgradeError(failed) => {
                self.ours = Opening::Idle;
                let why = match failed.error {
                    StreamUpgradeError::Timeout => "the peer did not answer in time".to_owned(),
                    StreamUpgradeError::NegotiationFailed => "the peer has no lanes".to_owned(),
                    StreamUpgradeError::Io(error) => format!("opening a lane: {error}"),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.happened.push_back(Happened::OpenFailed { why });
            }
            _ => {}
        }
    }
}

/// Negotiates one of some lanes by its protocol name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneUpgrade {
    lanes: &'static [Lane],
}

/// A lane as its protocol name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneName(Lane);

impl AsRef<str> for LaneName {
    fn as_ref(&self) -> &str {
        match self.0 {
            Lane::Control => "/tidings/control/1",
            Lane::Bulk => "/tidings/bulk/1",
        }
    }
}

impl UpgradeInfo for LaneUpgrade {
    type Info = LaneName;
    type InfoIter =
        std::iter::Map<std::iter::Copied<std::slice::Iter<'static, Lane>>, fn(Lane) -> LaneName>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.lanes.iter().copied().map(LaneName)
    }
}

impl InboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Stream, Lane);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: LaneName) -> Self::Future {
        ready(Ok((stream, name.0)))
    }
}

impl OutboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Stream, Lane);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: LaneName) -> Self::Future {
        ready(Ok((stream, name.0)))
    }
}
