//! Strangers who speak nonsense to every port. The node answers with the reason, counts it, and
//! serves everybody else as before.

use std::{net::UdpSocket, path::Path};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame, Ping},
    codec,
    frame::Frame,
    hello::{Challenge, ClientHello, Mark},
    id::{BootId, DeviceId, NodeId, Nonce},
    key::Signature,
    limits::{FRAME_BYTES_MAX, PROTOCOL_VERSION},
    refusal::RefusalCode,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, error::ProtocolError},
};

use crate::{
    cluster::{Cluster, in_time, test},
    server::{Server, until},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

fn random(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::from_seed([seed; 32]).fill_bytes(&mut bytes);
    bytes
}

fn framed(header: Vec<u8>) -> Message {
    let frame = Frame { header: header.into(), body: Bytes::new() };
    Message::Binary(frame.encode().expect("a small frame"))
}

fn frame_of(frame: &ClientFrame) -> Message {
    framed(codec::encode(frame))
}

/// A link on which the node has spoken.
async fn link(server: &Server) -> (Socket, Challenge) {
    let url = format!("ws://127.0.0.1:{}/v1/link", server.ports[1]);
    let (mut socket, _) = connect_async(url).await.expect("connecting");
    let first = in_time("the node to speak first", socket.next()).await;
    let NodeFrame::Challenge(challenge) = read(first.expect("a frame").expect("a frame")) else {
        panic!("the node does not begin with a challenge");
    };
    (socket, challenge)
}

fn read(message: Message) -> NodeFrame {
    let Message::Binary(bytes) = message else { panic!("{message:?}") };
    codec::decode(&Frame::decode(bytes).expect("a frame").header).expect("a frame of a node")
}

/// Says something, and reads why the node ends the link; `None` when it does not say why.
async fn insult(server: &Server, messages: Vec<Message>) -> Option<RefusalCode> {
    let (socket, _) = link(server).await;
    say(socket, messages).await
}

async fn say(mut socket: Socket, messages: Vec<Message>) -> Option<RefusalCode> {
    for message in messages {
        match socket.send(message).await {
            Ok(()) | Err(Error::Protocol(ProtocolError::SendAfterClosing)) => {}
            // It may have closed already.
            Err(Error::Io(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let mut why = None;
    let ending = async {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(_) = message
                && let NodeFrame::Refused(refused) = read(message)
            {
                why = Some(refused.refusal.code);
            }
        }
    };
    in_time("the node to end a link", ending).await;
    why
}

fn hello(challenge: &Challenge) -> ClientHello {
    ClientHello {
        version: PROTOCOL_VERSION,
        node: challenge.node,
        device: DeviceId([1; 16]),
        nonce: Nonce([2; 32]),
        yours: None,
        mine: Mark { boot: BootId([3; 16]), commit: 1 },
        signature: Signature([4; 64]),
    }
}

#[test]
fn nonsense_of_devices_is_refused_with_a_reason() {
    test(async |dir| {
        let mut server = Server::make("acme", dir.join("acme"), None, "").await;
        server.start().await;
        let too_long = u32::try_from(FRAME_BYTES_MAX + 1).expect("small").to_be_bytes();
        // An array of a tag that nobody knows and nothing else: a frame of a later version.
        let unknown = || framed(codec::encode(&(9_999u64, 1u64)));
        for (what, messages, expected) in [
            ("a text", vec![Message::text("hello")], RefusalCode::Malformed),
            ("no bytes", vec![Message::binary(vec![])], RefusalCode::Malformed),
            ("few bytes", vec![Message::binary(random(1, 9))], RefusalCode::TooLarge),
            ("a long frame", vec![Message::binary(too_long.to_vec())], RefusalCode::TooLarge),
            ("no header", vec![framed(vec![])], RefusalCode::Malformed),
            ("random header", vec![framed(random(2, 300))], RefusalCode::Malformed),
            (
                "too soon",
                vec![frame_of(&ClientFrame::Ping(Ping { number: 1 }))],
                RefusalCode::NotAuthorised,
            ),
            ("unknown, then a text", vec![unknown(), Message::text("")], RefusalCode::Malformed),
            (
                "unknown without end",
                (0..1_100).map(|_| unknown()).collect(),
                RefusalCode::Malformed,
            ),
        ] {
            assert_eq!(insult(&server, messages).await, Some(expected), "{what}");
        }
        // Far too long: the connection ends and nobody reads on.
        let huge = vec![Message::binary(vec![0; 4 * FRAME_BYTES_MAX])];
        assert_eq!(insult(&server, huge).await, None);
        wrong_hellos(&server).await;
        let refused = server.metric("tidings_refusals_total").await;
        assert!(refused >= 12.0, "{refused} refusals were counted");
        assert!(server.page("/livez").await.contains("200 OK"));
        server.stop().await;
    });
}

/// What is wrong, how it is made wrong, and the answer.
type Insult = (&'static str, fn(&mut ClientHello), RefusalCode);

async fn wrong_hellos(server: &Server) {
    let hellos: [Insult; 3] = [
        ("version", |hello| hello.version += 1, RefusalCode::Version),
        ("node", |hello| hello.node = NodeId([9; 32]), RefusalCode::WrongNode),
        ("signature", |_| {}, RefusalCode::NotAuthorised),
    ];
    for (what, change, expected) in hellos {
        let (socket, challenge) = link(server).await;
        let mut hello = hello(&challenge);
        change(&mut hello);
        let said = say(socket, vec![frame_of(&ClientFrame::Hello(hello))]).await;
        assert_eq!(said, Some(expected), "{what}");
    }
}

#[test]
fn strangers_do_not_disturb_others() {
    test(async |dir| {
        let mut cluster = Cluster::acquainted(dir).await;
        let (alice_links, bob_links) = (cluster.alice.seen().linked, cluster.bob.seen().linked);
        for round in 0..5 {
            cluster.send(&format!("round {round}"), 20).await;
            for server in [&cluster.acme, &cluster.globex] {
                disturb(server, round).await;
            }
        }
        cluster.all_is_well().await;
        assert_eq!(cluster.alice.seen().linked, alice_links, "alice's link was disturbed");
        assert_eq!(cluster.bob.seen().linked, bob_links, "bob's link was disturbed");
        for server in [&cluster.acme, &cluster.globex] {
            assert!(server.page("/livez").await.contains("200 OK"));
            assert!(server.page("/readyz").await.contains("200 OK"));
            let counted = server.metric("tidings_refusals_total").await;
            assert!(counted >= 10.0, "{} counted {counted} refusals", server.name);
        }
        cluster.end().await;
    });
}

/// Garbage on every port of a node, and links that say nothing at all.
async fn disturb(server: &Server, seed: u8) {
    assert!(insult(server, vec![Message::text("hello")]).await.is_some());
    assert!(insult(server, vec![framed(random(seed, 2_000))]).await.is_some());
    let _silent = link(server).await;
    // As nobody speaks HTTP, libp2p or QUIC.
    for port in server.ports {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connecting");
        // It may be closed in the middle.
        stream.write_all(&random(seed, 64 * 1024)).await.unwrap_or_default();
        let mut rest = Vec::new();
        stream.shutdown().await.unwrap_or_default();
        in_time("a port to close", stream.read_to_end(&mut rest)).await.unwrap_or_default();
    }
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for datagram in 0..100 {
        let bytes = random(datagram, 1_200);
        udp.send_to(&bytes, ("127.0.0.1", server.ports[0])).expect("sending");
    }
    nonsense_for_the_administrator(&server.folder).await;
}

async fn nonsense_for_the_administrator(folder: &Path) {
    let stream = UnixStream::connect(folder.join("admin.sock")).await.expect("connecting");
    let mut stream = BufReader::new(stream);
    stream.write_all(b"{\"ask\":\"everything\"}\n").await.expect("asking");
    let mut answer = String::new();
    in_time("an answer", stream.read_line(&mut answer)).await.expect("reading");
    assert!(answer.starts_with("{\"error\":"), "{answer}");
}

#[test]
fn places_for_devices_are_bounded_and_come_back() {
    test(async |dir| {
        let folder = dir.join("acme");
        let mut server = Server::make("acme", folder, None, "client_connections_max = 4\n").await;
        server.start().await;
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(link(&server).await);
        }
        // The fifth waits; it is served when a place is free.
        let mut waiting = Box::pin(link(&server));
        let is_early = futures::poll!(waiting.as_mut()).is_ready();
        assert!(!is_early);
        until("four links", async || server.count("devices_connected").await == 0).await;
        silent.pop();
        in_time("a place", waiting).await;
        server.stop().await;
    });
}
