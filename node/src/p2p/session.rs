//! One link while it is up: reads and writes both lanes until something ends it.
//!
//! One task per link; both lanes are read and written in it, so the halves of a stream share one
//! waker. Knows nothing of connections: the swarm task tells when they close, because Yamux wakes
//! neither reader nor writer when this side closes.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures::future::{Either, join, select, try_join};
use futures::io::{ReadHalf, WriteHalf};
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::swarm::Stream;
use thiserror::Error;
use tidings_protocol::frame::{Frame, FrameError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::lanes::Pair;
use super::limits::{FLUSH_TIMEOUT, READ_BYTES_MAX, WRITE_BYTES_MAX};
use super::queue::{LaneQueue, LaneSenders, Taken};
use super::{Lane, P2pEvent, P2pLimits};

/// What the swarm task tells a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The connection is gone, or another link takes this one's place.
    Now(&'static str),
    /// Write what is queued, then end.
    AfterFlush,
}

/// Why a session ended.
#[derive(Debug, Error)]
pub(crate) enum Ended {
    /// The swarm task said so.
    #[error("{0}")]
    Told(&'static str),
    /// A lane gave out; its connection may still carry another offer.
    #[error("the {lane} lane failed")]
    LaneFailed { lane: Lane, source: io::Error },
    /// The peer finished a lane.
    #[error("the peer closed the {lane} lane")]
    LaneClosed { lane: Lane },
    /// What arrived is no frame.
    #[error("the peer broke the {lane} lane")]
    NoFrame { lane: Lane, source: FrameError },
    /// Nothing arrived for too long.
    #[error("nothing arrived for {0:?}")]
    Idle(Duration),
    /// Nobody reads our events any more.
    #[error("this node is stopping")]
    Stopping,
}

impl Ended {
    /// The reason in one line, the source included: the error itself ends here.
    pub(crate) fn why(&self) -> String {
        match self {
            Self::LaneFailed { source, .. } => format!("{self}: {source}"),
            Self::NoFrame { source, .. } => format!("{self}: {source}"),
            Self::Told(_) | Self::LaneClosed { .. } | Self::Idle(_) | Self::Stopping => {
                self.to_string()
            }
        }
    }

    /// Whether the connection is not to be trusted with another link.
    pub(crate) fn spoils_connection(&self) -> bool {
        match self {
            Self::NoFrame { .. } | Self::Idle(_) | Self::Stopping => true,
            Self::Told(_) | Self::LaneFailed { .. } | Self::LaneClosed { .. } => false,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        })
    }
}

/// One link that is to run.
#[derive(Debug)]
pub(crate) struct Session {
    link: u64,
    peer: PeerId,
    events: mpsc::Sender<P2pEvent>,
    read_idle: Duration,
    control: Arc<LaneQueue>,
    bulk: Arc<LaneQueue>,
}

impl Session {
    /// The session, and where frames for it go.
    pub(crate) fn new(
        link: u64,
        peer: PeerId,
        events: mpsc::Sender<P2pEvent>,
        limits: &P2pLimits,
    ) -> (Self, LaneSenders) {
        let control = Arc::new(LaneQueue::new(limits.control_bytes_max));
        let bulk = Arc::new(LaneQueue::new(limits.bulk_bytes_max));
        let senders = LaneSenders::new(Arc::clone(&control), Arc::clone(&bulk));
        (Self { link, peer, events, read_idle: limits.read_idle, control, bulk }, senders)
    }

    /// Runs the link once `announced` says that the caller knows of it, until something ends it.
    pub(crate) async fn run(
        self,
        pair: Box<Pair>,
        announced: oneshot::Receiver<()>,
        end: oneshot::Receiver<End>,
    ) -> Ended {
        let ended = match announced.await {
            Ok(()) => self.drive(pair, end).await,
            Err(_) => Ended::Stopping,
        };
        // Senders may outlive the link.
        self.control.close();
        self.bulk.close();
        ended
    }

    async fn drive(&self, pair: Box<Pair>, end: oneshot::Receiver<End>) -> Ended {
        let reads = Reads::default();
        let (control_in, control_out) = pair.control.split();
        let (bulk_in, bulk_out) = pair.bulk.split();
        let mut readers = pin!(async {
            let control = pin!(self.read(control_in, Lane::Control, &reads));
            let bulk = pin!(self.read(bulk_in, Lane::Bulk, &reads));
            match select(control, bulk).await {
                // A peer that finishes one lane may still have something to say on the other.
                Either::Left((Ended::LaneClosed { .. }, bulk)) => bulk.await,
                Either::Right((Ended::LaneClosed { .. }, control)) => control.await,
                Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
            }
        });
        let mut writers = pin!(try_join(
            self.write(control_out, Lane::Control, &self.control),
            self.write(bulk_out, Lane::Bulk, &self.bulk),
        ));
        let told = tokio::select! {
            biased;
            told = end => told.unwrap_or(End::Now("the peer link is stopping")),
            ended = &mut readers => return ended,
            written = &mut writers => return match written {
                Err(ended) => ended,
                // Only a closed queue ends a writer well, and queues are closed below.
                Ok(_) => Ended::Stopping,
            },
            ended = reads.watch(self.read_idle) => return ended,
        };
        match told {
            End::Now(why) => Ended::Told(why),
            End::AfterFlush => {
                self.control.close();
                self.bulk.close();
                // The peer ends its side when it has read ours to the end; only then is it safe
                // to close a QUIC connection without losing what was written last.
                let finished = timeout(FLUSH_TIMEOUT, join(writers, readers)).await;
                Ended::Told(match finished {
                    Ok(_) => "closed by this node",
                    Err(_) => "closed by this node, perhaps before all was written",
                })
            }
        }
    }

    async fn read(&self, mut stream: ReadHalf<Stream>, lane: Lane, reads: &Reads) -> Ended {
        let mut chunk = vec![0; READ_BYTES_MAX];
        let mut buffer = BytesMut::new();
        loop {
            loop {
                match Frame::take_from(&mut buffer) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        let Self { link, peer, .. } = *self;
                        let event = P2pEvent::Frame { link, peer, lane, frame };
                        // A full event channel stops the reading, and so at last the peer.
                        reads.waiting.fetch_add(1, Ordering::Relaxed);
                        let sent = self.events.send(event).await;
                        reads.waiting.fetch_sub(1, Ordering::Relaxed);
                        if sent.is_err() {
                            return Ended::Stopping;
                        }
                    }
                    Err(source) => return Ended::NoFrame { lane, source },
                }
            }
            match stream.read(&mut chunk).await {
                Ok(0) => return Ended::LaneClosed { lane },
                Ok(len) => {
                    reads.count.fetch_add(1, Ordering::Relaxed);
                    buffer.extend_from_slice(chunk.get(..len).unwrap_or_default());
                }
                Err(source) => return Ended::LaneFailed { lane, source },
            }
        }
    }

    /// Writes batches until the queue is closed and empty, then finishes the stream.
    async fn write(
        &self,
        mut stream: WriteHalf<Stream>,
        lane: Lane,
        queue: &LaneQueue,
    ) -> Result<(), Ended> {
        let failed = |source| Ended::LaneFailed { lane, source };
        let mut batch = BytesMut::new();
        loop {
            match queue.take_batch(&mut batch) {
                Taken::Batch { room } => {
                    stream.write_all(&batch).await.map_err(failed)?;
                    stream.flush().await.map_err(failed)?;
                    batch.clear();
                    if room {
                        let event = P2pEvent::Writable { link: self.link, peer: self.peer, lane };
                        self.events.send(event).await.map_err(|_| Ended::Stopping)?;
                    }
                }
                Taken::Empty => {
                    // A quiet link keeps no large buffer.
                    if batch.capacity() > WRITE_BYTES_MAX / 8 {
                        batch = BytesMut::new();
                    }
                    queue.changed().await;
                }
                Taken::Closed => return stream.close().await.map_err(failed),
            }
        }
    }
}

/// Signs of life of both lanes.
#[derive(Debug, Default)]
struct Reads {
    count: AtomicU64,
    /// Lanes whose reader waits for the node, not for the peer.
    waiting: AtomicU64,
}

impl Reads {
    /// Ends when nothing was read for `idle`, seen in quarters of it.
    async fn watch(&self, idle: Duration) -> Ended {
        let mut seen = None;
        let mut quiet = 0;
        while quiet < 4 {
            sleep(idle / 4).await;
            let count = self.count.load(Ordering::Relaxed);
            let waiting = self.waiting.load(Ordering::Relaxed) > 0;
            quiet = if waiting || seen != Some(count) { 0 } else { quiet + 1 };
            seen = Some(count);
        }
        Ended::Idle(idle)
    }
}
