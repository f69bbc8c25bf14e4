//! Frames of both links, from the length word to the input that a core takes.

use bytes::{Bytes, BytesMut};
use tidings_core::event::{ClientInput, PeerInput};
use tidings_core::ingress::{Opener, Read, read_client_frame, read_peer_frame};
use tidings_protocol::{
    client_frame::{ClientFrame, NodeFrame},
    descriptor::Descriptor,
    envelope::shared_hash,
    frame::Frame,
    hello::{Challenge, ClientHello, PeerHello, Welcome, client_transcript, node_transcript},
    id::{NodeId, Nonce},
    key::SecretKey,
    limits,
    peer_frame::PeerFrame,
    sealed::SealingSecret,
};

use crate::agree;

/// A time within the life of the vectors, in Unix ms.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// The first byte says into how large pieces the rest is cut, as a socket would.
pub(crate) fn frame(bytes: &[u8]) {
    let Some((&piece, stream)) = bytes.split_first() else { return };
    let whole = cut(stream, stream.len().max(1));
    assert_eq!(cut(stream, usize::from(piece) + 1), whole, "pieces change what is cut");
    let (frames, _) = whole;
    let mut written = BytesMut::new();
    for frame in &frames {
        assert!(frame.wire_bytes() <= limits::FRAME_BYTES_MAX + 4);
        frame.encode_into(&mut written).expect("what was cut fits into a frame");
        let alone = frame.encode().expect("what was cut fits into a frame");
        assert_eq!(Frame::decode(alone).as_ref(), Ok(frame));
    }
    assert!(stream.starts_with(&written), "frames are not the bytes that they were cut from");
    if let Ok(one) = Frame::decode(Bytes::copy_from_slice(stream)) {
        assert_eq!(frames, [one], "a message that is one frame");
    }
}

/// The frames of a stream, and whether it broke.
fn cut(stream: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for part in stream.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            match Frame::take_from(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// Header, and behind it as much body as the last two bytes say.
fn header_and_body(bytes: &[u8]) -> Frame {
    let (header, body) = match bytes.split_last_chunk::<2>() {
        Some((rest, len)) => {
            let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
            // A header that is whole is worth more than any body.
            if len > rest.len() / 2 { (bytes, &[][..]) } else { rest.split_at(rest.len() - len) }
        }
        None => (bytes, &[][..]),
    };
    Frame { header: Bytes::copy_from_slice(header), body: Bytes::copy_from_slice(body) }
}

pub(crate) fn client_frame(bytes: &[u8]) {
    agree::outlined::<ClientFrame>(bytes);
    agree::read::<ClientFrame>(bytes);
    let frame = header_and_body(bytes);
    let Read::Input(input) = read_client_frame(&frame) else { return };
    match input {
        ClientInput::Submit { envelopes, .. } => {
            assert!((1..=limits::ENVELOPES_PER_SUBMIT_MAX).contains(&envelopes.len()));
            for envelope in envelopes {
                let ids = envelope.head.ids(&shared_hash(&frame.body));
                assert_eq!(ids, (envelope.eid, envelope.copies));
                assert!(envelope.head.check(frame.body.len()).is_ok());
            }
        }
        ClientInput::Received { items, checked, .. } => {
            assert_eq!(items.len(), checked.statements.len());
            agree::shown::<ClientFrame>(&frame.header);
        }
        ClientInput::PublishPrekeys(publish) => {
            assert!(publish.upload.one_time.len() <= limits::ONE_TIME_PREKEYS_MAX);
        }
        ClientInput::Join(join) => assert_eq!(join.0.list.peek().as_ref(), Ok(&join.1.list)),
        ClientInput::PublishList(list) => assert_eq!(list.0.list.peek().as_ref(), Ok(&list.1.list)),
        ClientInput::ShowLists(shown) => {
            let lists: Vec<_> = shown.1.iter().map(|list| Ok(list.list.clone())).collect();
            let peeked: Vec<_> = shown.0.lists.iter().map(|list| list.peek()).collect();
            assert_eq!(peeked, lists);
        }
        ClientInput::Hello(_)
        | ClientInput::Noted { .. }
        | ClientInput::FetchBundle(_)
        | ClientInput::Resolve(_)
        | ClientInput::Ping { .. } => {}
    }
}

pub(crate) fn node_frame(bytes: &[u8]) {
    agree::outlined::<NodeFrame>(bytes);
    let Some(NodeFrame::Welcome(welcome)) = agree::read::<NodeFrame>(bytes) else { return };
    judge_welcome(&welcome);
}

/// Globex of the vectors, to which the forwarded envelope among them is sealed.
fn opener() -> Opener {
    let node = NodeId::of(&SecretKey::from_seed(&[3; 32]).public());
    Opener { node, secret: SealingSecret::from_bytes(&[0x32; 32]) }
}

pub(crate) fn peer_frame(bytes: &[u8]) {
    agree::outlined::<PeerFrame>(bytes);
    agree::read::<PeerFrame>(bytes);
    let frame = header_and_body(bytes);
    let Read::Input(input) = read_peer_frame(&frame, NOW_MS, &opener()) else { return };
    match input {
        PeerInput::Hello(hello) => {
            assert!(hello.introductions.len() <= limits::INTRODUCTIONS_MAX);
            assert_eq!(hello.descriptor.0.check(NOW_MS).as_ref(), Ok(&hello.descriptor.1));
        }
        PeerInput::Deliver(envelope) => {
            let ids = envelope.head.ids(&shared_hash(&frame.body));
            assert_eq!(ids, (envelope.eid, envelope.copies));
        }
        PeerInput::Statements { checked, .. } => {
            let count: usize = checked.iter().map(|checked| checked.statements.len()).sum();
            assert!(count <= limits::STATEMENTS_PER_FRAME_MAX);
        }
        PeerInput::Offer { eids, .. } => assert!(eids.len() <= limits::OFFER_EIDS_MAX),
        PeerInput::Forward(forward) => {
            let origin = forward.origin.as_ref().map(|origin| origin.delegation.node);
            assert!(origin.is_none_or(|node| node == forward.forward.header.origin));
            assert_eq!(forward.eid, forward.forward.eid());
            if let Some(Ok(opened)) = &forward.opened {
                let ids = opened.head.ids(&shared_hash(&frame.body));
                assert_eq!(ids, (opened.eid, opened.copies.clone()));
            }
        }
        PeerInput::Audit { eids } => assert!(eids.len() <= limits::AUDIT_EIDS_MAX),
        PeerInput::NewerListsFor(newer) => {
            assert!(newer.lists.len() <= limits::LISTS_PER_ANSWER_MAX);
        }
        PeerInput::Took { .. }
        | PeerInput::StatementsTook { .. }
        | PeerInput::AuditAnswer { .. }
        | PeerInput::FetchUser(_)
        | PeerInput::User(_)
        | PeerInput::KeepAlive { .. }
        | PeerInput::Consent(_)
        | PeerInput::Wanted { .. }
        | PeerInput::FetchFor(_)
        | PeerInput::Directory(_)
        | PeerInput::DirectoryWanted(_)
        | PeerInput::DirectoryEntry(_)
        | PeerInput::Announce(_)
        | PeerInput::Farewell { .. } => {}
    }
}

/// Hellos of both links. Nobody can make up a signature, so none of them proves anything.
pub(crate) fn hello(bytes: &[u8]) {
    agree::read::<Challenge>(bytes);
    if let Some(hello) = agree::read::<ClientHello>(bytes) {
        let other = Challenge { nonce: Nonce([8; 32]), ..challenge() };
        assert_ne!(client_transcript(&challenge(), &hello), client_transcript(&other, &hello));
    }
    if let Some(welcome) = agree::read::<Welcome>(bytes) {
        judge_welcome(&welcome);
    }
    if let Some(hello) = agree::read::<PeerHello>(bytes)
        && let Ok((descriptor, checked)) = Descriptor::read(&hello.descriptor, NOW_MS)
    {
        assert_eq!(descriptor.encode(), hello.descriptor);
        assert!(!checked.is_newer_than(&checked));
    }
}

const fn challenge() -> Challenge {
    Challenge { version: limits::PROTOCOL_VERSION, node: NodeId([7; 32]), nonce: Nonce([9; 32]) }
}

fn judge_welcome(welcome: &Welcome) {
    let hello: ClientHello = ClientHello {
        version: limits::PROTOCOL_VERSION,
        node: NodeId([7; 32]),
        device: tidings_protocol::id::DeviceId([1; 16]),
        nonce: Nonce([2; 32]),
        yours: None,
        mine: welcome.mine.clone(),
        signature: welcome.signature,
    };
    let later = Welcome { time_ms: welcome.time_ms ^ 1, ..welcome.clone() };
    assert_ne!(
        node_transcript(&challenge(), &hello, welcome),
        node_transcript(&challenge(), &hello, &later)
    );
    if let Ok(checked) = welcome.descriptor.check(NOW_MS) {
        assert_eq!(checked.node(), checked.addresses.node);
    }
}
