//! The WebSocket of a load client: one frame per binary message, many frames per write. Knows no
//! meaning of frames.

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use tidings_protocol::client_frame::{ClientFrame, NodeFrame, WithBody};
use tidings_protocol::codec;
use tidings_protocol::frame::{Frame, FrameError};
use tidings_protocol::limits::FRAME_BYTES_MAX;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
};

/// Small, since ten thousand of them idle in one process.
const BUFFER_BYTES: usize = 4 * 1024;

/// Where a node takes devices, and how it proves itself there.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) url: String,
    pub(super) tls: Option<Connector>,
}

/// The link is gone, whatever the reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost;

/// One connection to a node.
#[derive(Debug)]
pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// A frame as it is written.
pub(super) fn encode(header: &ClientFrame, body: Bytes) -> Result<Bytes, FrameError> {
    Frame { header: codec::encode(header).into(), body }.encode()
}

impl Socket {
    pub(super) async fn connect(door: &Door) -> Result<Self, Lost> {
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(2 * FRAME_BYTES_MAX))
            .max_frame_size(Some(2 * FRAME_BYTES_MAX));
        let url = format!("{}/v1/link", door.url);
        let tls = door.tls.clone();
        let opened = connect_async_tls_with_config(url, Some(config), true, tls).await;
        opened.map(|(socket, _)| Self(socket)).map_err(|_| Lost)
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<WithBody<NodeFrame>, Lost> {
        loop {
            let bytes = match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Ok(Message::Text(_) | Message::Close(_) | Message::Frame(_)) | Err(_))
                | None => return Err(Lost),
            };
            let frame = Frame::decode(bytes).map_err(|_| Lost)?;
            let header = codec::decode::<NodeFrame>(&frame.header).map_err(|_| Lost)?;
            return Ok(WithBody { frame: header, body: frame.body });
        }
    }

    /// The next frame, if it is here already.
    pub(super) fn next_now(&mut self) -> Option<Result<WithBody<NodeFrame>, Lost>> {
        self.next().now_or_never()
    }

    /// Puts an encoded frame behind those that wait to be written.
    pub(super) async fn feed(&mut self, frame: Bytes) -> Result<(), Lost> {
        self.0.feed(Message::Binary(frame)).await.map_err(|_| Lost)
    }

    /// Writes what waits.
    pub(super) async fn flush(&mut self) -> Result<(), Lost> {
        self.0.flush().await.map_err(|_| Lost)
    }

    /// Writes one frame.
    pub(super) async fn send(&mut self, header: &ClientFrame) -> Result<(), Lost> {
        self.feed(encode(header, Bytes::new()).map_err(|_| Lost)?).await?;
        self.flush().await
    }
}
