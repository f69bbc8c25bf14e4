//! The client link: one WebSocket per device at `/v1/link`, one frame per binary message.
//!
//! Frames are decoded, hashed and checked here, on the connection's own task; what they mean is the
//! core's. Who the device is, nobody knows here.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tidings_core::event::{ConnId, Event};
use tidings_core::ingress::{Read, read_client_frame};
use tidings_protocol::codec;
use tidings_protocol::frame::{Frame, FrameError};
use tidings_protocol::limits::FRAME_BYTES_MAX;
use tidings_protocol::refusal::RefusalCode;
use tokio::sync::mpsc;
use tracing::{debug, error};

use crate::client_listener::Gate;
use crate::client_queue::ClientQueue;
use crate::failpoint::{self, Step};
use crate::input::Input;
use crate::limits::{
    BROKEN_LINK_TIMEOUT, CLIENT_BEAT, CLIENT_GREETING_TIMEOUT, CLIENT_WRITE_TIMEOUT,
    UNKNOWN_FRAMES_MAX, WS_READ_BUFFER_BYTES, WS_WRITE_BUFFER_BYTES, WS_WRITE_BUFFER_BYTES_MAX,
};

/// The routes for devices.
pub(crate) fn router(inputs: mpsc::Sender<Input>) -> Router {
    let links = Arc::new(Links { inputs, next: AtomicU64::new(1) });
    Router::new().route("/v1/link", get(upgrade)).with_state(links)
}

struct Links {
    inputs: mpsc::Sender<Input>,
    next: AtomicU64,
}

async fn upgrade(
    State(links): State<Arc<Links>>,
    ConnectInfo(gate): ConnectInfo<Gate>,
    socket: WebSocketUpgrade,
) -> Response {
    socket
        .read_buffer_size(WS_READ_BUFFER_BYTES)
        .write_buffer_size(WS_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WS_WRITE_BUFFER_BYTES_MAX)
        // Twice a frame: what is a little too long gets an answer, what is far too long does not.
        .max_message_size(2 * FRAME_BYTES_MAX)
        .max_frame_size(2 * FRAME_BYTES_MAX)
        .on_upgrade(async move |socket| {
            gate.open();
            serve(socket, &links).await;
        })
}

async fn serve(socket: WebSocket, links: &Links) {
    let inputs = &links.inputs;
    let conn = ConnId(links.next.fetch_add(1, Ordering::Relaxed));
    let queue = Arc::new(ClientQueue::default());
    if inputs.send(Input::ClientUp { conn, queue: Arc::clone(&queue) }).await.is_err() {
        return;
    }
    let (mut sink, mut stream) = socket.split();
    let written = tokio::select! {
        written = write(&mut sink, &queue) => written,
        () = read(&mut stream, conn, inputs) => Written::Broken,
    };
    queue.break_off();
    if inputs.send(Input::Event(Event::ClientClosed { conn })).await.is_err() {
        debug!("a device left after the loop");
    }
    if written == Written::Whole {
        say_goodbye(&mut sink, &mut stream).await;
    }
}

/// How writing ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    /// All that was queued before the queue closed has left.
    Whole,
    /// The connection is of no more use.
    Broken,
}

async fn write(sink: &mut SplitSink<WebSocket, Message>, queue: &ClientQueue) -> Written {
    while let Some(frames) = queue.take().await {
        failpoint::pass(Step::BeforeClientSend);
        let batch = async {
            for (header, body) in frames {
                if let Some(message) = encode(&header, body) {
                    sink.feed(message).await?;
                }
            }
            sink.flush().await
        };
        match tokio::time::timeout(CLIENT_WRITE_TIMEOUT, batch).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Written::Broken,
        }
    }
    Written::Whole
}

fn encode(header: &tidings_protocol::client_frame::NodeFrame, body: Bytes) -> Option<Message> {
    let frame = Frame { header: Bytes::from(codec::encode(header)), body };
    match frame.encode() {
        Ok(bytes) => Some(Message::Binary(bytes)),
        Err(error) => {
            error!(%error, frame = header.name(), "a frame for a device is too long and is dropped");
            None
        }
    }
}

/// Reads until the device leaves or breaks the protocol; in that case the core gets some time to
/// say so and to close the queue.
async fn read(stream: &mut SplitStream<WebSocket>, conn: ConnId, inputs: &mpsc::Sender<Input>) {
    let End::Broke(code) = read_frames(stream, conn, inputs).await else { return };
    if inputs.send(Input::Event(Event::ClientBroke { conn, code })).await.is_ok() {
        tokio::time::sleep(BROKEN_LINK_TIMEOUT).await;
    }
}

/// Why reading ended.
enum End {
    Gone,
    Broke(RefusalCode),
}

async fn read_frames(
    stream: &mut SplitStream<WebSocket>,
    conn: ConnId,
    inputs: &mpsc::Sender<Input>,
) -> End {
    let mut unknown = 0;
    // No clock is read per frame: a beat that finds the second silence in a row ends the link.
    let mut silences = 1;
    let mut beat = pin!(tokio::time::sleep(CLIENT_GREETING_TIMEOUT));
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            () = &mut beat => {
                silences += 1;
                if silences > 1 {
                    return End::Gone;
                }
                let next = beat.deadline() + CLIENT_BEAT;
                beat.as_mut().reset(next);
                continue;
            }
        };
        let bytes = match message {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                silences = 0;
                continue;
            }
            Some(Ok(Message::Text(_))) => return End::Broke(RefusalCode::Malformed),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return End::Gone,
        };
        silences = 0;
        let input = match Frame::decode(bytes).map(|frame| read_client_frame(&frame)) {
            Err(FrameError::TooLong { .. }) => return End::Broke(RefusalCode::TooLarge),
            Err(FrameError::HeaderOverrun { .. } | FrameError::NotOneFrame { .. }) => {
                return End::Broke(RefusalCode::Malformed);
            }
            Ok(Read::Broken(code)) => return End::Broke(code),
            Ok(Read::Unknown) if unknown < UNKNOWN_FRAMES_MAX => {
                unknown += 1;
                continue;
            }
            Ok(Read::Unknown) => return End::Broke(RefusalCode::Malformed),
            Ok(Read::Input(input)) => input,
        };
        failpoint::pass(Step::AfterClientRead);
        if inputs.send(Input::Event(Event::Client { conn, input })).await.is_err() {
            return End::Gone;
        }
    }
}

/// Closes from our side and reads what is on its way: a socket that is dropped with unread bytes
/// takes back what was written last.
async fn say_goodbye(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
) {
    let goodbye = async {
        if sink.close().await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    if tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await.is_err() {
        debug!("a device did not close its side");
    }
}

/// Time for the closing handshake.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
