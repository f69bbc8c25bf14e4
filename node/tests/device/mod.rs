//! A device as the node sees it: keys, one list, frames. It encrypts nothing.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tidings_node::chance::draw;
use tidings_node::clock;
use tidings_protocol::address::UserName;
use tidings_protocol::client_frame::{ClientFrame, InviteSecret, Join, NodeFrame};
use tidings_protocol::codec;
use tidings_protocol::device_list::{self, DeviceList};
use tidings_protocol::frame::Frame;
use tidings_protocol::hello::{Challenge, ClientHello, Mark, client_transcript};
use tidings_protocol::id::{BootId, DeviceId, NodeId, Nonce};
use tidings_protocol::key::{Purpose, SecretKey, Signature, X25519Key};
use tidings_protocol::limits::PROTOCOL_VERSION;
use tidings_protocol::refusal::RefusalCode;
use tidings_protocol::signed::Signed;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// One connection to a node.
pub(crate) struct Socket {
    inner: WebSocketStream<MaybeTlsStream<TcpStream>>,
    challenge: Option<Challenge>,
}

/// No test waits longer for one frame.
const PATIENCE: Duration = Duration::from_secs(60);

impl Socket {
    pub(crate) async fn connect(url: &str) -> Self {
        let (inner, _) = connect_async(format!("{url}/v1/link")).await.unwrap();
        Self { inner, challenge: None }
    }

    pub(crate) async fn send(&mut self, frame: ClientFrame) {
        let header = Bytes::from(codec::encode(&frame));
        self.send_raw(Frame { header, body: Bytes::new() }.encode().unwrap()).await;
    }

    pub(crate) async fn send_raw(&mut self, message: Bytes) {
        self.inner.send(Message::Binary(message)).await.unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.inner.send(Message::text(text)).await.unwrap();
    }

    /// The next frame; `None` when the node has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<NodeFrame> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.inner.next()).await.unwrap();
            match message {
                Some(Ok(Message::Binary(bytes))) => {
                    let frame = codec::decode(&Frame::decode(bytes).unwrap().header).unwrap();
                    if let NodeFrame::Challenge(challenge) = &frame {
                        self.challenge = Some(challenge.clone());
                    }
                    return Some(frame);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn next_but_pongs(&mut self) -> Option<NodeFrame> {
        loop {
            match self.next().await {
                Some(NodeFrame::Pong(_)) => {}
                other => return other,
            }
        }
    }

    async fn challenge(&mut self) -> Challenge {
        while self.challenge.is_none() {
            assert!(self.next().await.is_some(), "the node closed before it said anything");
        }
        self.challenge.clone().unwrap()
    }
}

/// Keys and list of a person with one device.
pub(crate) struct Device {
    account: SecretKey,
    key: SecretKey,
    pub(crate) list: DeviceList,
}

impl Device {
    pub(crate) fn new(name: &str, node: NodeId) -> Self {
        let account = SecretKey::from_seed(&draw().unwrap());
        let key = SecretKey::from_seed(&draw().unwrap());
        let device = device_list::Device {
            key: key.public(),
            identity: X25519Key(draw().unwrap()),
            added_ms: clock::now_ms(),
            label: "test".to_owned(),
        };
        let list = DeviceList {
            identity: account.public(),
            node,
            name: UserName::parse(name).unwrap(),
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: clock::now_ms(),
            signer: None,
        };
        Self { account, key, list }
    }

    pub(crate) async fn join(&mut self, socket: &mut Socket, invite: InviteSecret) {
        self.try_join(socket, invite).await.unwrap();
    }

    pub(crate) async fn try_join(
        &mut self,
        socket: &mut Socket,
        invite: InviteSecret,
    ) -> Result<(), RefusalCode> {
        let challenge = socket.challenge().await;
        let list = Signed::new(&self.list, &self.account);
        let proof = self.key.sign(Purpose::Join, challenge.nonce.as_bytes());
        socket.send(ClientFrame::Join(Join { request: 1, invite, list, proof })).await;
        match socket.next().await {
            Some(NodeFrame::Joined(_)) => Ok(()),
            Some(NodeFrame::Refused(refused)) => Err(refused.refusal.code),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn greet(&mut self, socket: &mut Socket) {
        let challenge = socket.challenge().await;
        let mut hello = ClientHello {
            version: PROTOCOL_VERSION,
            node: self.list.node,
            device: DeviceId::of(&self.key.public()),
            nonce: Nonce(draw().unwrap()),
            yours: None,
            mine: Mark { boot: BootId([1; 16]), commit: 1 },
            signature: Signature([0; 64]),
        };
        let transcript = client_transcript(&challenge, &hello);
        hello.signature = self.key.sign(Purpose::ClientHello, transcript.as_bytes());
        socket.send(ClientFrame::Hello(hello)).await;
        let answer = socket.next().await;
        assert!(matches!(answer, Some(NodeFrame::Welcome(_))), "{answer:?}");
    }
}
