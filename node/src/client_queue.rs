//! What waits to be written to one device: frames under a byte budget, taken all at once.
//!
//! Knows no socket; `client_link.rs` encodes and writes what it hands out. An idle queue holds no
//! memory but its own two words, which is why it is no channel.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tidings_protocol::client_frame::NodeFrame;
use tokio::sync::Notify;

use crate::limits::{CLIENT_QUEUE_BYTES_MAX, CLIENT_QUEUE_FRAMES_MAX, FRAME_HEADER_BYTES};

/// The queue is full: the device does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Frames that wait for one device.
#[derive(Debug, Default)]
pub(crate) struct ClientQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<(NodeFrame, Bytes)>,
    bytes: usize,
    closed: bool,
}

impl ClientQueue {
    /// Queues a frame; a closed queue swallows it.
    pub(crate) fn push(&self, frame: NodeFrame, body: Bytes) -> Result<(), Full> {
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Ok(());
            }
            let bytes = body.len() + FRAME_HEADER_BYTES;
            if waiting.bytes + bytes > CLIENT_QUEUE_BYTES_MAX
                || waiting.frames.len() >= CLIENT_QUEUE_FRAMES_MAX
            {
                return Err(Full);
            }
            waiting.bytes += bytes;
            waiting.frames.push_back((frame, body));
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Takes nothing more; what waits is still written.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes nothing more and forgets what waits.
    pub(crate) fn break_off(&self) {
        {
            let mut waiting = self.lock();
            waiting.closed = true;
            waiting.frames = VecDeque::new();
            waiting.bytes = 0;
        }
        self.changed.notify_one();
    }

    /// Waits for frames and takes them all; `None` when the queue is closed and empty.
    pub(crate) async fn take(&self) -> Option<VecDeque<(NodeFrame, Bytes)>> {
        loop {
            {
                let mut waiting = self.lock();
                if !waiting.frames.is_empty() {
                    waiting.bytes = 0;
                    return Some(std::mem::take(&mut waiting.frames));
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves the counters at worst a frame off; the link is ending anyway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidings_protocol::client_frame::{NodeFrame, Ping};

    use super::{ClientQueue, Full};

    fn pong(number: u64) -> NodeFrame {
        NodeFrame::Pong(Ping { number })
    }

    #[tokio::test]
    async fn waiting_frames_leave_together_and_a_closed_queue_ends() {
        let queue = ClientQueue::default();
        queue.push(pong(1), Bytes::new()).unwrap();
        queue.push(pong(2), Bytes::new()).unwrap();
        queue.close();
        queue.push(pong(3), Bytes::new()).unwrap();
        let frames = queue.take().await.unwrap();
        assert_eq!(frames, [(pong(1), Bytes::new()), (pong(2), Bytes::new())]);
        assert_eq!(queue.take().await, None);
    }

    #[tokio::test]
    async fn a_full_queue_says_so_and_can_be_broken_off() {
        let queue = ClientQueue::default();
        let body = Bytes::from(vec![0; 60_000]);
        let taken = (0..1000).take_while(|&n| queue.push(pong(n), body.clone()).is_ok()).count();
        assert_eq!(taken, 34);
        assert_eq!(queue.push(pong(0), body), Err(Full));
        queue.break_off();
        assert_eq!(queue.take().await, None);
    }
}
