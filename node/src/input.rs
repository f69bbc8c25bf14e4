//! What reaches the loop: the core's events, and what the shell itself has to say to its loop.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use tidings_core::effect::AdminReply;
use tidings_core::event::{AdminCommand, ClientInput, ConnId, Event, LinkId, PeerInput};
use tokio::sync::{mpsc, oneshot};

use crate::client_queue::ClientQueue;
use crate::limits::{ADMIN_ANSWER_TIMEOUT, LOOP_TURN_MAX};
use crate::p2p::LaneSenders;

/// One input.
#[derive(Debug)]
pub(crate) enum Input {
    /// Something happened.
    Event(Event),
    /// A device opened a connection; frames for it go into this queue.
    ClientUp { conn: ConnId, queue: Arc<ClientQueue> },
    /// A link to a peer is up; frames for it go to these lanes.
    PeerUp { link: LinkId, peer: PeerId, dialer: bool, lanes: LaneSenders },
    /// An administrator, or the metrics, ask.
    Ask { command: AdminCommand, answer: oneshot::Sender<AdminReply> },
    /// Are you turning? Answered after the batch that it came with.
    Beat { answer: oneshot::Sender<()> },
    /// Finish and end.
    Stop,
}

/// Bytes that an event brings into a batch, roughly: its body.
pub(crate) fn weight(event: &Event) -> usize {
    let body = if let Event::Client { input: ClientInput::Submit { envelopes, .. }, .. } = event {
        // The envelopes of one message share one body.
        envelopes.first().map_or(0, |envelope| envelope.shared.len())
    } else if let Event::Peer { input: PeerInput::Deliver(envelope), .. } = event {
        envelope.shared.len()
    } else if let Event::Peer { input: PeerInput::Forward(forward), .. } = event {
        forward.shared.len()
    } else {
        0
    };
    body + EVENT_BYTES
}

/// What an event without a body is taken for.
const EVENT_BYTES: usize = 256;

/// The bytes by which the core knows a libp2p peer.
pub(crate) fn transport_bytes(peer: PeerId) -> Bytes {
    Bytes::from(peer.to_bytes())
}

/// Asks the loop on behalf of somebody who waits.
#[derive(Clone, Debug)]
pub(crate) struct Asker(pub(crate) mpsc::Sender<Input>);

impl Asker {
    /// The core's answer; `None` when the loop is stuck or has ended.
    pub(crate) async fn ask(&self, command: AdminCommand) -> Option<AdminReply> {
        let (answer, answered) = oneshot::channel();
        self.send_and_wait(Input::Ask { command, answer }, answered, ADMIN_ANSWER_TIMEOUT).await
    }

    /// Whether the loop turned in time.
    pub(crate) async fn beat(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.send_and_wait(Input::Beat { answer }, answered, LOOP_TURN_MAX).await.is_some()
    }

    async fn send_and_wait<T>(
        &self,
        input: Input,
        answered: oneshot::Receiver<T>,
        time: Duration,
    ) -> Option<T> {
        tokio::time::timeout(time, async {
            self.0.send(input).await.ok()?;
            answered.await.ok()
        })
        .await
        .ok()?
    }
}
