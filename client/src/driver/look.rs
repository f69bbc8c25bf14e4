//! A look at a node's link from outside: who answers, by which certificate, and what time it is
//! there. Proves no key and opens no device, so nothing changes on either side.

use std::time::Duration;

use futures::StreamExt as _;
use thiserror::Error;
use tidings_protocol::{client_frame::NodeFrame, codec, frame::Frame, hello::Challenge};
use tokio::time::timeout;
use tokio_tungstenite::{
    MaybeTlsStream, connect_async_tls_with_config,
    tungstenite::{self, Message},
};

use super::{DriverError, Trust, link};

/// What answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The node's first frame.
    pub challenge: Challenge,
    /// The `Date` of the answer, as HTTP writes it: by the clock of the node, or of a proxy before it.
    pub date: Option<String>,
    /// The certificate that was shown and held, in DER.
    pub certificate: Option<Vec<u8>>,
}

/// Nothing of use answered.
#[derive(Debug, Error)]
pub enum LookError {
    /// The address is none, or not allowed.
    #[error(transparent)]
    Url(DriverError),
    /// No connection, no TLS, or no WebSocket.
    #[error("connecting to {url}")]
    Connect {
        /// The address.
        url: String,
        /// Why.
        source: Box<tungstenite::Error>,
    },
    /// Not within the time.
    #[error("connecting to {url}: no answer within {} s", .within.as_secs())]
    Silent {
        /// The address.
        url: String,
        /// How long was waited.
        within: Duration,
    },
    /// It answers, and is no node of ours.
    #[error("{url} is a WebSocket, but no node")]
    NoNode {
        /// The address.
        url: String,
    },
}

/// Connects to the link at `url`, reads the node's first frame, and hangs up.
///
/// # Errors
/// [`LookError`].
pub async fn look(url: &str, trust: &Trust, within: Duration) -> Result<Answer, LookError> {
    link::check_url(url).map_err(LookError::Url)?;
    let full = link::with_path(url);
    let asking = async {
        let connect =
            connect_async_tls_with_config(full.as_str(), None, true, link::connector(&full, trust));
        let (mut socket, response) = connect
            .await
            .map_err(|source| LookError::Connect { url: full.clone(), source: Box::new(source) })?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        let certificate = if let MaybeTlsStream::Rustls(tls) = socket.get_ref() {
            let chain = tls.get_ref().1.peer_certificates();
            chain.and_then(<[_]>::first).map(|der| der.to_vec())
        } else {
            None
        };
        let no_node = || LookError::NoNode { url: full.clone() };
        let Some(Ok(Message::Binary(bytes))) = socket.next().await else { return Err(no_node()) };
        let frame = Frame::decode(bytes).map_err(|_| no_node())?;
        match codec::decode(&frame.header) {
            Ok(NodeFrame::Challenge(challenge)) => {
                Ok(Answer { challenge, date: date.map(str::to_owned), certificate })
            }
            Ok(_) | Err(_) => Err(no_node()),
        }
    };
    timeout(within, asking)
        .await
        .unwrap_or_else(|_| Err(LookError::Silent { url: full.clone(), within }))
}
