//! The WebSocket to the node: one frame per binary message. Knows no meaning of frames.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame},
    codec,
    frame::Frame,
    limits::FRAME_BYTES_MAX,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

use super::{DriverError, Trust};
use crate::event::CertificateFault;

/// Where a node's client link is, unless the address names a path.
const PATH: &str = "/v1/link";
/// A connection that takes longer is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A write that takes longer ends the link.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Small buffers: a device has one link and small frames.
const BUFFER_BYTES: usize = 16 * 1024;

pub(super) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// The link is gone, and what a person may read about it; it is made again.
pub(super) struct Lost(pub(super) String);

impl Lost {
    fn said(error: &impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// No link came about; it is tried again, and a person may have to mend something.
pub(super) struct Unreached {
    pub(super) fault: Option<CertificateFault>,
    /// What the system says.
    pub(super) said: String,
}

/// Without TLS only this machine may be spoken to.
pub(super) fn check_url(url: &str) -> Result<(), DriverError> {
    let refused = |why| Err(DriverError::Url { url: url.to_owned(), why });
    if url.starts_with("wss://") {
        return Ok(());
    }
    let Some(rest) = url.strip_prefix("ws://") else {
        return refused("it looks like wss://acme.example or ws://127.0.0.1:7401");
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_loopback { Ok(()) } else { refused("without TLS only this machine may be spoken to") }
}

/// TLS for `wss`, nothing for `ws`.
pub(super) fn connector(url: &str, trust: &Trust) -> Option<Connector> {
    if !url.starts_with("wss:") {
        return None;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(Arc::clone(&trust.roots))
        .with_no_client_auth();
    Some(Connector::Rustls(Arc::new(config)))
}

/// The address with the path of the link, unless it names one.
pub(super) fn with_path(url: &str) -> String {
    let has_path = url.split("://").nth(1).is_some_and(|rest| rest.contains('/'));
    if has_path { url.to_owned() } else { format!("{url}{PATH}") }
}

pub(super) async fn connect(url: String, trust: Trust) -> Result<Socket, Unreached> {
    let url = with_path(&url);
    let connector = connector(&url, &trust);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(Some(2 * FRAME_BYTES_MAX))
        .max_frame_size(Some(2 * FRAME_BYTES_MAX));
    let connecting = connect_async_tls_with_config(url, Some(config), true, connector);
    match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _))) => Ok(Socket(socket)),
        Ok(Err(error)) => {
            let io = if let tungstenite::Error::Io(io) = &error { Some(io) } else { None };
            let said = io.map_or_else(|| error.to_string(), ToString::to_string);
            Err(Unreached { fault: certificate_fault(&error), said })
        }
        Err(_) => Err(Unreached { fault: None, said: "no answer".to_owned() }),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enums are not exhaustive")]
fn certificate_fault(error: &tungstenite::Error) -> Option<CertificateFault> {
    use rustls::CertificateError as Fault;
    let tungstenite::Error::Io(error) = error else { return None };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else { return None };
    Some(match fault {
        // The second: by somebody who has only the name of one that is trusted.
        Fault::UnknownIssuer | Fault::BadSignature => CertificateFault::UnknownIssuer,
        Fault::Expired
        | Fault::ExpiredContext { .. }
        | Fault::NotValidYet
        | Fault::NotValidYetContext { .. } => CertificateFault::OutOfDate,
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            CertificateFault::OtherName
        }
        _ => CertificateFault::Unusable,
    })
}

impl Socket {
    /// The next frame that this version knows.
    pub(super) async fn next(&mut self) -> Result<(NodeFrame, Bytes), Lost> {
        loop {
            let bytes = match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                Some(Err(error)) => return Err(Lost::said(&error)),
                Some(Ok(Message::Text(_) | Message::Close(_) | Message::Frame(_))) | None => {
                    return Err(Lost("the node ended the connection".to_owned()));
                }
            };
            let frame = Frame::decode(bytes).map_err(|error| Lost::said(&error))?;
            if codec::peek_tag(&frame.header).is_some_and(|tag| !NodeFrame::knows_tag(tag)) {
                // A newer node says something that we need not understand.
                continue;
            }
            let header = codec::decode::<NodeFrame>(&frame.header);
            let header = header.map_err(|error| Lost::said(&error))?;
            return Ok((header, frame.body));
        }
    }

    pub(super) async fn send(&mut self, frames: Vec<(ClientFrame, Bytes)>) -> Result<(), Lost> {
        let write = async {
            for (header, body) in frames {
                let frame = Frame { header: codec::encode(&header).into(), body };
                let bytes = frame.encode().map_err(|error| Lost::said(&error))?;
                let fed = self.0.feed(Message::Binary(bytes)).await;
                fed.map_err(|error| Lost::said(&error))?;
            }
            self.0.flush().await.map_err(|error| Lost::said(&error))
        };
        let written = timeout(WRITE_TIMEOUT, write).await;
        written.map_err(|_| Lost("the node takes nothing more".to_owned()))?
    }
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn only_this_machine_without_tls() {
        for good in [
            "ws://127.0.0.1:1/v1/link",
            "ws://localhost/v1/link",
            "ws://[::1]:9/v1/link",
            "wss://acme.example/v1/link",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        for bad in ["ws://acme.example/v1/link", "http://127.0.0.1", "ws://"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
