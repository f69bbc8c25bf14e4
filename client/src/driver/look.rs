//! A look at a node's link from outside: who answers, by which certificate, and what time it is
//! there; and what it says to a device that greets, which then hangs up: nothing changes on either side.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use thiserror::Error;
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame},
    codec,
    frame::Frame,
    hello::{Challenge, ClientHello, Mark, client_transcript},
    id::{BootId, DeviceId, NodeId, Nonce},
    key::{Purpose, SecretKey, Signature},
    limits::PROTOCOL_VERSION,
    refusal::RefusalCode,
};
use tidings_store::{StoreError, Txn};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{self, Message},
};
use zeroize::Zeroizing;

use super::{DriverError, Trust, link, random};
use crate::{
    account::Identity, crypto::at_rest::open_row, machine::ACCOUNT, rows::AccountRow, schema::SELF,
};

/// A device as it greets its node, read out of a store that nobody runs.
pub struct Caller {
    node: NodeId,
    device: DeviceId,
    key: SecretKey,
    /// The version of the account's device list that this device has.
    pub list_version: u64,
}

impl core::fmt::Debug for Caller {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.debug_struct("Caller").field("device", &self.device).finish_non_exhaustive()
    }
}

/// The device that is in a store; none before it has joined.
///
/// # Errors
/// Its row does not open under this key, or is none.
pub fn caller(txn: &dyn Txn, store_key: &[u8; 32]) -> Result<Option<Caller>, StoreError> {
    let Some(sealed) = txn.get(SELF, ACCOUNT)? else { return Ok(None) };
    let plain = open_row(store_key, SELF.name, ACCOUNT, &sealed).map_err(StoreError::work)?;
    let plain = Zeroizing::new(plain);
    let row: AccountRow =
        codec::decode(&plain).map_err(|error| StoreError::corrupt(error.to_string()))?;
    let identity = Identity::from_row(&row).filter(|_| row.joined);
    Ok(identity.and_then(|identity| {
        Some(Caller {
            node: row.node,
            device: identity.device_id(),
            key: SecretKey::from_seed(identity.device.signing_seed()),
            list_version: identity.newest().ok()?.list.version,
        })
    }))
}

/// What answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The node's first frame.
    pub challenge: Challenge,
    /// The `Date` of the answer, as HTTP writes it: by the clock of the node, or of a proxy before it.
    pub date: Option<String>,
    /// The certificate that was shown and held, in DER.
    pub certificate: Option<Vec<u8>>,
    /// What it said to the device, if one called, and if it is that device's node.
    pub greeted: Option<Greeted>,
}

/// What a node says to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeted {
    /// It knows the device; this is the version of the account's device list at the node.
    Welcome(u64),
    /// It does not serve it.
    Refused(RefusalCode),
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

/// Connects to the link at `url`, reads the node's first frame, greets if there is a caller, and hangs
/// up.
///
/// # Errors
/// [`LookError`].
pub async fn look(
    url: &str,
    trust: &Trust,
    within: Duration,
    caller: Option<&Caller>,
) -> Result<Answer, LookError> {
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
        let NodeFrame::Challenge(challenge) = next(&mut socket).await.ok_or_else(no_node)? else {
            return Err(no_node());
        };
        let mut answer =
            Answer { challenge, date: date.map(str::to_owned), certificate, greeted: None };
        if let Some(caller) = caller.filter(|caller| {
            (caller.node, PROTOCOL_VERSION) == (answer.challenge.node, answer.challenge.version)
        }) {
            answer.greeted = greet(&mut socket, &answer.challenge, caller).await;
        }
        Ok(answer)
    };
    timeout(within, asking)
        .await
        .unwrap_or_else(|_| Err(LookError::Silent { url: full.clone(), within }))
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn next(socket: &mut Socket) -> Option<NodeFrame> {
    let Some(Ok(Message::Binary(bytes))) = socket.next().await else { return None };
    codec::decode(&Frame::decode(bytes).ok()?.header).ok()
}

/// The node writes nothing down about a device that sends nothing after its hello.
async fn greet(socket: &mut Socket, challenge: &Challenge, caller: &Caller) -> Option<Greeted> {
    let mut hello = ClientHello {
        version: PROTOCOL_VERSION,
        node: caller.node,
        device: caller.device,
        nonce: Nonce(random().ok()?),
        yours: None,
        mine: Mark { boot: BootId([0; 16]), commit: 0 },
        signature: Signature([0; 64]),
    };
    let transcript = client_transcript(challenge, &hello);
    hello.signature = caller.key.sign(Purpose::ClientHello, transcript.as_bytes());
    let header = codec::encode(&ClientFrame::Hello(hello)).into();
    let bytes = Frame { header, body: Bytes::new() }.encode().ok()?;
    socket.send(Message::Binary(bytes)).await.ok()?;
    match next(socket).await? {
        NodeFrame::Welcome(welcome) => Some(Greeted::Welcome(welcome.list_version)),
        NodeFrame::Refused(refused) => Some(Greeted::Refused(refused.refusal.code)),
        NodeFrame::Goaway(goaway) => Some(Greeted::Refused(goaway.refusal.code)),
        NodeFrame::Challenge(_)
        | NodeFrame::Joined(_)
        | NodeFrame::Accepted(_)
        | NodeFrame::Deliver(_)
        | NodeFrame::Notes(_)
        | NodeFrame::Bundles(_)
        | NodeFrame::Done(_)
        | NodeFrame::NewerLists(_)
        | NodeFrame::Pong(_)
        | NodeFrame::Resolved(_) => None,
    }
}
