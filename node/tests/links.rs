//! The wiring of real nodes on loopback: that the loop turns, that links carry frames and refusals,
//! that nodes find each other. The rules are tested in `node/core`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail like tests"
)]

mod device;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use device::{Device, Socket};
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, AskError, ask};
use tidings_node::config::Config;
use tidings_node::start::{Node, start};
use tidings_node::{clock, keys};
use tidings_protocol::address::UserName;
use tidings_protocol::client_frame::{
    ClientFrame, FetchBundle, InviteSecret, NodeFrame, Refusable,
};
use tidings_protocol::frame::Frame;
use tidings_protocol::limits::FRAME_BYTES_MAX;
use tidings_protocol::refusal::RefusalCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A node in a folder of its own.
struct Running {
    folder: tempfile::TempDir,
    bound: tidings_node::start::Bound,
    stop: oneshot::Sender<()>,
    ending: JoinSet<Result<(), tidings_node::start::RunError>>,
    id: tidings_protocol::id::NodeId,
}

fn configure(folder: &Path, more: &str) -> Config {
    let text = format!(
        "data = \".\"\nlisten_peers = [\"/ip4/127.0.0.1/udp/0/quic-v1\", \"/ip4/127.0.0.1/tcp/0\"]\n\
         allow_private_addresses = true\nlisten_clients = \"127.0.0.1:0\"\n\
         listen_admin = \"127.0.0.1:0\"\nballast_mib = 1\n{more}"
    );
    Config::parse(&text, &folder.join("node.toml")).unwrap()
}

async fn run(more: &str) -> Running {
    let folder = tempfile::tempdir().unwrap();
    keys::create(folder.path(), &[], clock::now_ms()).unwrap();
    run_in(folder, more).await
}

async fn run_in(folder: tempfile::TempDir, more: &str) -> Running {
    let node: Node = start(configure(folder.path(), more), None).await.unwrap();
    let (id, bound) = (node.id(), node.bound().clone());
    let (stop, stopped) = oneshot::channel();
    let mut ending = JoinSet::new();
    ending.spawn(node.run_until(async { stopped.await.unwrap_or_default() }));
    Running { folder, bound, stop, ending, id }
}

impl Running {
    async fn ask(&self, request: AdminRequest) -> Value {
        ask(self.folder.path(), &request).await.unwrap()
    }

    async fn invite(&self) -> InviteSecret {
        let answer = self.ask(AdminRequest::Invite { uses: 1, life_ms: 60_000 }).await;
        assert_eq!(answer["node"], self.id.to_text());
        assert_eq!(answer["url"], self.bound.client_url);
        InviteSecret::from_hex(answer["secret"].as_str().unwrap()).unwrap()
    }

    async fn connect(&self) -> Socket {
        Socket::connect(&self.bound.client_url).await
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.send(()).unwrap();
        self.ending.join_next().await.unwrap().unwrap().unwrap();
        self.folder
    }
}

async fn http(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: acme\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn raw(message: impl Into<Bytes>) -> Bytes {
    message.into()
}

#[tokio::test]
async fn bad_frames_are_refused_and_end_their_link_only() {
    let acme = run("").await;
    let frame =
        |header: Vec<u8>| Frame { header: header.into(), body: Bytes::new() }.encode().unwrap();
    let too_long = [
        (u32::try_from(FRAME_BYTES_MAX).unwrap() + 1).to_be_bytes().as_slice(),
        &[0; FRAME_BYTES_MAX + 1],
    ]
    .concat();
    for (name, message, code) in [
        ("nothing", raw(Vec::new()), RefusalCode::Malformed),
        ("half a frame", raw(vec![0, 0, 0, 9, 0]), RefusalCode::Malformed),
        ("a frame that is too long", raw(too_long), RefusalCode::TooLarge),
        ("no CBOR", frame(vec![0xff; 20]), RefusalCode::Malformed),
        (
            "a known frame without its payload",
            frame(vec![0x82, 0x01, 0xa0]),
            RefusalCode::Malformed,
        ),
    ] {
        let mut socket = acme.connect().await;
        assert!(matches!(socket.next().await, Some(NodeFrame::Challenge(_))), "{name}");
        socket.send_raw(message).await;
        let Some(NodeFrame::Refused(refused)) = socket.next().await else { panic!("{name}") };
        assert!(matches!(refused.what, Refusable::Link(_)), "{name}");
        assert_eq!(refused.refusal.code, code, "{name}");
        assert_eq!(socket.next().await, None, "{name}");
    }
    let mut socket = acme.connect().await;
    assert!(matches!(socket.next().await, Some(NodeFrame::Challenge(_))));
    socket.send_raw(frame(vec![0x82, 0x18, 200, 0xa0])).await;
    socket.send_text("hello").await;
    let Some(NodeFrame::Refused(_)) = socket.next().await else { panic!("text is no frame") };
    acme.stop().await;
}

#[tokio::test]
async fn a_device_joins_greets_and_is_told_to_come_back_when_the_node_stops() {
    let acme = run("").await;
    let mut alice = Device::new("alice", acme.id);
    let mut socket = acme.connect().await;
    alice.join(&mut socket, acme.invite().await).await;
    alice.greet(&mut socket).await;

    let mut again = acme.connect().await;
    let refused = Device::new("alice", acme.id).try_join(&mut again, acme.invite().await).await;
    assert_eq!(refused, Err(RefusalCode::NameTaken));
    let status = acme.ask(AdminRequest::Status).await;
    assert_eq!((&status["accounts"], &status["devices_connected"]), (&1.into(), &1.into()));

    let folder = acme.stop().await;
    let goaway = socket.next_but_pongs().await;
    assert!(matches!(goaway, Some(NodeFrame::Goaway(_))), "{goaway:?}");
    assert_eq!(socket.next().await, None);

    let acme = run_in(folder, "").await;
    alice.greet(&mut acme.connect().await).await;
    acme.stop().await;
}

#[tokio::test]
async fn health_and_metrics_are_shown() {
    let acme = run("").await;
    assert!(http(acme.bound.admin, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(http(acme.bound.admin, "/readyz").await.starts_with("HTTP/1.1 200"));
    let mut socket = acme.connect().await;
    Device::new("alice", acme.id).join(&mut socket, acme.invite().await).await;
    let metrics = http(acme.bound.admin, "/metrics").await;
    for line in [
        "tidings_node{what=\"accounts\"} 1",
        "tidings_commit_seconds_count",
        "tidings_store_total{work=\"commits\"}",
        "tidings_store_total{work=\"syncs\"}",
        "tidings_disk_bytes{space=\"free\"}",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    acme.stop().await;
}

#[tokio::test]
async fn an_administrator_is_refused_with_a_reason() {
    let acme = run("").await;
    let folder = acme.folder.path().to_owned();
    let refused = ask(&folder, &AdminRequest::Invite { uses: 0, life_ms: 1 }).await;
    assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
    let refused = ask(&folder, &AdminRequest::Queue { node: Some("acme".to_owned()) }).await;
    assert!(refused.unwrap_err().to_string().contains("56 characters"));
    let folder = acme.stop().await;
    let gone = ask(folder.path(), &AdminRequest::Status).await;
    assert!(matches!(gone, Err(AskError::NotRunning { .. })), "{gone:?}");
}

#[tokio::test]
async fn two_nodes_find_each_other_through_a_third() {
    let initech = run("").await;
    let address = initech.bound.peers.iter().find(|a| a.to_string().contains("tcp")).unwrap();
    let bootstrap = format!("bootstrap = [\"{address}\"]");
    let [acme, globex] = [run(&bootstrap).await, run(&bootstrap).await];

    let mut bob = Device::new("bob", globex.id);
    bob.join(&mut globex.connect().await, globex.invite().await).await;
    let mut alice = Device::new("alice", acme.id);
    let mut socket = acme.connect().await;
    alice.join(&mut socket, acme.invite().await).await;
    alice.greet(&mut socket).await;

    // Until globex has been published and its record reached, the answer is that it is not.
    let mut beat = tokio::time::interval(Duration::from_millis(500));
    for request in 1.. {
        beat.tick().await;
        let name = UserName::parse("bob").unwrap();
        socket
            .send(ClientFrame::FetchBundle(FetchBundle {
                request,
                node: globex.id,
                name,
                known_version: None,
                with_bundles: false,
            }))
            .await;
        match socket.next_but_pongs().await {
            Some(NodeFrame::Bundles(bundles)) => {
                let list = bundles.lists.first().unwrap().peek().unwrap();
                assert_eq!(list, bob.list);
                break;
            }
            Some(NodeFrame::Refused(refused)) => {
                assert_eq!(refused.refusal.code, RefusalCode::Unreachable, "{refused:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let peers = acme.ask(AdminRequest::Peers).await;
    let globex_there =
        peers.as_array().unwrap().iter().find(|peer| peer["node"] == globex.id.to_text());
    assert_eq!(globex_there.unwrap()["connected"], true);
    for node in [acme, globex, initech] {
        node.stop().await;
    }
}
