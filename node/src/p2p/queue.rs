//! What waits to be written on one lane: frames under a byte budget, taken in batches.
//!
//! Knows no stream and no clock; `session.rs` writes what it hands out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use thiserror::Error;
use tidings_protocol::frame::{Frame, LENGTH_BYTES};
use tidings_protocol::limits::FRAME_BYTES_MAX;
use tokio::sync::Notify;

use super::Lane;
use super::limits::{QUEUE_FRAMES_MAX, WRITE_BYTES_MAX};

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendRefused {
    /// The lane's budget is used up; [`super::P2pEvent::Writable`] follows when half is free.
    #[error("the lane is full")]
    Full,
    /// The link has ended or is being closed.
    #[error("the link has ended")]
    Closed,
    /// The frame is over the limit of the protocol. It never fits.
    #[error("the frame is over the limit")]
    TooLong,
}

/// The writing ends of a link's two lanes. Clones write to the same link.
#[derive(Clone, Debug)]
pub struct LaneSenders {
    control: Arc<LaneQueue>,
    bulk: Arc<LaneQueue>,
}

impl LaneSenders {
    pub(crate) fn new(control: Arc<LaneQueue>, bulk: Arc<LaneQueue>) -> Self {
        Self { control, bulk }
    }

    /// Queues a frame. Never waits; being queued is no proof of arrival.
    ///
    /// # Errors
    /// [`SendRefused`]; the frame was not taken.
    pub fn send(&self, lane: Lane, frame: Frame) -> Result<(), SendRefused> {
        match lane {
            Lane::Control => self.control.push(frame),
            Lane::Bulk => self.bulk.push(frame),
        }
    }

    /// Bytes waiting on a lane, for fairness and metrics.
    #[must_use]
    pub fn waiting_bytes(&self, lane: Lane) -> usize {
        match lane {
            Lane::Control => self.control.lock().bytes,
            Lane::Bulk => self.bulk.lock().bytes,
        }
    }
}

/// One lane's waiting frames.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    waiting: Mutex<Waiting>,
    bytes_max: usize,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    closed: bool,
    /// A frame was refused for want of room, and nobody was told yet that there is room again.
    refused: bool,
}

/// What the writer finds in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Bytes were appended. `room` tells once that a refused sender may try again.
    Batch {
        /// Whether half of the budget is free after a refusal.
        room: bool,
    },
    /// Nothing waits.
    Empty,
    /// Nothing waits, and nothing will follow.
    Closed,
}

impl LaneQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), bytes_max, changed: Notify::new() }
    }

    fn push(&self, frame: Frame) -> Result<(), SendRefused> {
        let bytes = frame.wire_bytes();
        if bytes > LENGTH_BYTES + FRAME_BYTES_MAX {
            return Err(SendRefused::TooLong);
        }
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(SendRefused::Closed);
            }
            if waiting.bytes + bytes > self.bytes_max || waiting.frames.len() >= QUEUE_FRAMES_MAX {
                waiting.refused = true;
                return Err(SendRefused::Full);
            }
            waiting.bytes += bytes;
            waiting.frames.push_back(frame);
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Appends waiting frames to `out`, as many as fit into one write, at least one.
    pub(crate) fn take_batch(&self, out: &mut BytesMut) -> Taken {
        let mut waiting = self.lock();
        let mut taken = false;
        while let Some(frame) = waiting.frames.front() {
            if taken && out.len() + frame.wire_bytes() > WRITE_BYTES_MAX {
                break;
            }
            let Some(frame) = waiting.frames.pop_front() else { break };
            waiting.bytes = waiting.bytes.saturating_sub(frame.wire_bytes());
            // `push` measured the frame, so it always encodes; the error arm only skips it.
            if let Err(error) = frame.encode_into(out) {
                tracing::error!(%error, "a queued frame does not encode and is dropped");
            }
            taken = true;
        }
        let room = waiting.refused && waiting.bytes <= self.bytes_max / 2;
        match (taken, waiting.closed) {
            (true, _) => {
                waiting.refused &= !room;
                Taken::Batch { room }
            }
            (false, false) => Taken::Empty,
            (false, true) => Taken::Closed,
        }
    }

    /// Waits until something changed since the last look.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Refuses all that follows; what waits may still be taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves the counters at worst a frame off; the link is ending anyway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn frame(body: usize) -> Frame {
        Frame { header: Bytes::from_static(b"h"), body: Bytes::from(vec![7; body]) }
    }

    #[test]
    fn small_frames_leave_together_and_in_order() {
        let queue = LaneQueue::new(1 << 20);
        for body in [1, 2, 3] {
            queue.push(frame(body)).expect("there is room");
        }
        let mut out = BytesMut::new();
        assert_eq!(queue.take_batch(&mut out), Taken::Batch { room: false });
        for body in [1, 2, 3] {
            assert_eq!(Frame::take_from(&mut out), Ok(Some(frame(body))));
        }
        assert_eq!(queue.take_batch(&mut out), Taken::Empty);
    }

    #[test]
    fn a_batch_ends_at_the_size_of_one_write() {
        let queue = LaneQueue::new(1 << 20);
        for _ in 0..3 {
            queue.push(frame(30_000)).expect("there is room");
        }
        let mut out = BytesMut::new();
        assert_eq!(queue.take_batch(&mut out), Taken::Batch { room: false });
        assert_eq!(out.len(), 2 * frame(30_000).wire_bytes());
    }

    #[test]
    fn a_refused_sender_hears_once_that_there_is_room() {
        let queue = LaneQueue::new(100_000);
        queue.push(frame(60_000)).expect("there is room");
        assert_eq!(queue.push(frame(60_000)), Err(SendRefused::Full));
        let mut out = BytesMut::new();
        assert_eq!(queue.take_batch(&mut out), Taken::Batch { room: true });
        queue.push(frame(1)).expect("there is room again");
        out.clear();
        assert_eq!(queue.take_batch(&mut out), Taken::Batch { room: false });
    }

    #[test]
    fn a_frame_over_the_limit_is_never_taken() {
        let queue = LaneQueue::new(1 << 20);
        assert_eq!(queue.push(frame(FRAME_BYTES_MAX)), Err(SendRefused::TooLong));
        assert_eq!(queue.push(frame(FRAME_BYTES_MAX - 3)), Ok(()), "the longest frame fits");
    }

    #[test]
    fn a_closed_queue_drains_and_takes_nothing() {
        let queue = LaneQueue::new(1 << 20);
        queue.push(frame(1)).expect("there is room");
        queue.close();
        assert_eq!(queue.push(frame(1)), Err(SendRefused::Closed));
        let mut out = BytesMut::new();
        assert_eq!(queue.take_batch(&mut out), Taken::Batch { room: false });
        assert_eq!(queue.take_batch(&mut out), Taken::Closed);
    }
}
