//! One message from alice at acme to bob at globex, through two real cores on memory stores, with
//! devices that are nothing but keys. Faults, time and the real clients are the simulator's.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers that tests share"
)]

mod support;

use bytes::Bytes;
use tidings_core::{
    Core, OpenCoreError,
    effect::AdminReply,
    event::{AdminCommand, AdminToken, ConnId, Event, LinkId},
    ingress::{Read, read_client_frame},
    schema::SCHEMA,
};
use tidings_protocol::{
    client_frame::{ClientFrame, InviteSecret, NodeFrame, Noted, ShowLists},
    codec,
    device_list::DeviceList,
    frame::Frame,
    key::SecretKey,
    limits,
    peer_frame::PeerFrame,
    refusal::RefusalCode,
    signed::Signed,
    statement::Claim,
};

use tidings_store::{MemDisk, MemStore, Opening, Store as _};

use support::{
    NOW_MS, Node, Pair, Phone, connect, identity, mark, pair, pending, settle, submission,
};

#[test]
fn a_message_walks_there_and_its_tick_walks_back() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    assert!(matches!(acme.next(alice.conn).0, NodeFrame::Accepted(_)));
    assert_eq!(acme.lookups, [globex.id], "an unknown node is looked up");
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    assert_eq!(bob.receive(&mut globex), 0, "nothing is left");
}

#[test]
fn the_same_submission_gets_the_same_answer_and_another_one_a_conflict() {
    let Pair { mut acme, globex, alice, bob, .. } = pair();
    for _ in 0..2 {
        let head = bob.envelope(acme.id, globex.id, 1);
        alice.submit(&mut acme, head, 1);
        assert!(matches!(acme.next(alice.conn).0, NodeFrame::Accepted(_)));
    }
    let head = bob.envelope(acme.id, globex.id, 2);
    alice.submit(&mut acme, head, 1);
    assert!(matches!(acme.next(alice.conn).0, NodeFrame::Refused(_)));
}

#[test]
fn a_node_that_was_rolled_back_gets_everything_again() {
    let Pair { mut acme, mut globex, globex_disk, alice, bob } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let image = globex_disk.image();
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    drop(globex);
    globex_disk.restore(&image);
    let mut globex = Node::open(20, &globex_disk, 5);
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    // Acme's mark tells globex that it was rolled back; it breaks the link and starts afresh.
    connect(&mut acme, 10, &mut globex, 20);
    acme.to_peer.clear();
    globex.to_peer.clear();
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    connect(&mut acme, 10, &mut globex, 20);
    let (bob, welcome) = bob.again(&mut globex, ConnId(77));
    assert_ne!(welcome.incarnation, 20, "a new incarnation");
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert!(alice.notes(&mut acme).contains(&Claim::Delivered));
}

#[test]
fn a_peer_that_answers_nothing_loses_its_link_and_gets_everything_on_the_next() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    // Nothing of it reaches globex' core; the link itself is well.
    acme.wait(limits::PEER_ANSWER_MS_MAX - 1);
    assert_eq!(acme.closed, []);
    acme.to_peer.clear();
    acme.wait(1);
    assert_eq!(acme.closed, [LinkId(1)]);
    let last: PeerFrame = codec::decode(&acme.to_peer.pop_back().unwrap().header).unwrap();
    assert!(matches!(last, PeerFrame::Farewell(_)), "{last:?}");
    acme.wait(249);
    assert_eq!(acme.dials, [], "not at once");
    acme.wait(1_000);
    assert_eq!(acme.lookups, [globex.id], "it may have moved");
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    acme.to_peer.clear();
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
}

#[test]
fn a_peer_that_answers_no_statement_loses_its_link_and_gets_them_on_the_next() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), 1);
    globex.to_peer.clear();
    globex.wait(limits::PEER_ANSWER_MS_MAX);
    assert_eq!(globex.closed, [LinkId(1)]);
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    globex.to_peer.clear();
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    acme.wait(2 * limits::PEER_ANSWER_MS_MAX);
    globex.wait(2 * limits::PEER_ANSWER_MS_MAX);
    assert_eq!((acme.closed.len(), globex.closed.len()), (0, 1), "nothing is owed any more");
}

#[test]
fn a_node_that_starts_again_counts_what_waits_for_devices() {
    let Pair { mut acme, mut globex, globex_disk, alice, bob } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    for number in 1..=3 {
        let head = bob.envelope(acme.id, globex.id, number);
        alice.submit(&mut acme, head, number);
    }
    settle(&mut acme, &mut globex);
    drop(globex);
    let mut globex = Node::open(20, &globex_disk, 5);
    globex.give([Event::Admin { token: AdminToken(1), command: AdminCommand::Status }]);
    let Some(AdminReply::Status(status)) = globex.replies.pop() else { panic!("no status") };
    assert_eq!((status.inbox, status.counting), (3, false));
}

#[test]
fn a_device_learns_the_mark_of_what_it_received_and_noted() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let head = bob.envelope(acme.id, globex.id, 1);
    alice.submit(&mut acme, head, 1);
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), 1);
    settle(&mut acme, &mut globex);
    assert_eq!(alice.notes(&mut acme), [Claim::Delivered]);
    let (_, welcome) = bob.again(&mut globex, ConnId(77));
    assert_eq!(welcome.yours, Some(mark(1_000)));
    let (_, welcome) = alice.again(&mut acme, ConnId(78));
    assert_eq!(welcome.yours, Some(mark(1_000)));
}

#[test]
fn rows_and_commits_per_message_stay_within_the_budget() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    let (acme_before, globex_before) = (pending(&acme), pending(&globex));
    let messages = 50;
    for number in 1..=messages {
        let head = bob.envelope(acme.id, globex.id, number);
        alice.submit(&mut acme, head, number);
    }
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), usize::try_from(messages).unwrap());
    settle(&mut acme, &mut globex);
    let _claims = alice.notes(&mut acme);
    settle(&mut acme, &mut globex);
    let (acme, globex) = (pending(&acme) - acme_before, pending(&globex) - globex_before);
    // The rows are the cost of a node; this is the schema's budget, batch overhead included.
    println!("origin: {acme:?}\ndestination: {globex:?}");
    assert!(acme.puts <= 5 * messages && acme.deletes <= 3 * messages);
    assert!(globex.puts <= 4 * messages && globex.deletes <= 2 * messages);
}

#[test]
fn a_batch_beyond_every_window_arrives_once_and_in_order() {
    let Pair { mut acme, mut globex, alice, bob, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    // More than is in flight between nodes, and far more than to a device: what was written in this
    // batch and fits is sent from memory, the rest is read from the store.
    let messages = limits::PEER_WINDOW_ENVELOPES as u64 + 500;
    let submissions = (1..=messages).map(|number| {
        let header = codec::encode(&submission(bob.envelope(acme.id, globex.id, number), number));
        let frame = Frame { header: header.into(), body: Bytes::from_static(b"sealed") };
        match read_client_frame(&frame) {
            Read::Input(input) => Event::Client { conn: alice.conn, input },
            other => panic!("the frame was not taken: {other:?}"),
        }
    });
    acme.give(submissions.collect::<Vec<_>>());
    let (mut numbers, mut claims) = (Vec::new(), Vec::new());
    loop {
        settle(&mut acme, &mut globex);
        claims.extend(alice.notes(&mut acme));
        let more = bob.receive_numbers(&mut globex);
        if more.is_empty() {
            break;
        }
        assert!(more.len() <= limits::CLIENT_WINDOW_ENVELOPES, "no more than the window");
        numbers.extend(more);
    }
    assert_eq!(numbers, (1..=messages).collect::<Vec<_>>());
    let delivered = claims.iter().filter(|claim| **claim == Claim::Delivered).count();
    assert_eq!(delivered as u64, messages, "one tick for each");
}

#[test]
fn nobody_lists_or_removes_a_device_of_somebody_else() {
    let Pair { mut globex, bob, .. } = pair();
    let (account, own) = (SecretKey::from_seed(&[90; 32]), SecretKey::from_seed(&[91; 32]));
    let mut phone = Phone::join(&mut globex, "mallory", 90);
    let answer = phone.publish(&mut globex, &account, &[&own, &bob.key]);
    assert!(matches!(answer, NodeFrame::Refused(_)));
}

#[test]
fn a_device_that_put_another_in_its_place_may_only_do_so_again() {
    let Pair { mut globex, .. } = pair();
    let [account, first, second, third, other] =
        [90, 91, 92, 93, 94].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let mut phone = Phone::join(&mut globex, "carol", 90);
    assert!(matches!(phone.publish(&mut globex, &account, &[&second]), NodeFrame::Done(_)));
    // Rolled back to before that, it may put a third in the place of the second,
    let (mut phone, welcome) = phone.again(&mut globex, ConnId(200));
    assert_eq!(welcome.list_version, 1);
    assert!(matches!(phone.publish(&mut globex, &account, &[&third]), NodeFrame::Done(_)));
    // and nothing else.
    let (phone, _) = phone.again(&mut globex, ConnId(201));
    let noted = Noted { notes: Vec::new(), mine: mark(1) };
    globex.send(phone.conn, &ClientFrame::Noted(noted), Bytes::new());
    assert!(matches!(globex.next(phone.conn).0, NodeFrame::Refused(_) | NodeFrame::Goaway(_)));
    // Once another device has removed the third, the first has no place to take.
    let list = phone.list;
    let at = |key: &SecretKey, conn, list| Phone { key: key.clone(), conn, list };
    let (mut third_phone, _) = at(&third, ConnId(0), list).again(&mut globex, ConnId(202));
    let answer = third_phone.publish(&mut globex, &account, &[&third, &other]);
    assert!(matches!(answer, NodeFrame::Done(_)));
    let (mut other_phone, _) =
        at(&other, ConnId(0), third_phone.list).again(&mut globex, ConnId(203));
    let answer = other_phone.publish(&mut globex, &account, &[&other]);
    assert!(matches!(answer, NodeFrame::Done(_)));
    for key in [&first, &second, &third] {
        let conn = ConnId(204);
        globex.give([Event::ClientConnected { conn }]);
        let (NodeFrame::Challenge(challenge), _) = globex.next(conn) else { panic!("silence") };
        let (answer, _) =
            at(key, conn, other_phone.list.clone()).answer_to_hello(&mut globex, &challenge);
        assert!(!matches!(answer, NodeFrame::Welcome(_)), "a removed device is not greeted");
        globex.give([Event::ClientClosed { conn }]);
        globex.to_clients.remove(&conn);
    }
}

/// Shows lists on a new link, and greets behind them: both answers.
fn show(
    node: &mut Node,
    conn: u64,
    key: &SecretKey,
    lists: &[Signed<DeviceList>],
    invite: Option<InviteSecret>,
) -> (NodeFrame, NodeFrame) {
    let conn = ConnId(conn);
    node.give([Event::ClientConnected { conn }]);
    let (NodeFrame::Challenge(challenge), _) = node.next(conn) else { panic!("silence") };
    let show = ShowLists { request: 1, lists: lists.to_vec(), invite };
    node.send(conn, &ClientFrame::ShowLists(show), Bytes::new());
    let answer = node.next(conn).0;
    let phone = Phone { key: key.clone(), conn, list: lists.last().unwrap().clone() };
    (answer, phone.answer_to_hello(node, &challenge).0)
}

fn refusal_of(frame: &NodeFrame) -> Option<RefusalCode> {
    match frame {
        NodeFrame::Refused(refused) => Some(refused.refusal.code),
        _ => None,
    }
}

#[test]
fn a_node_that_was_put_back_takes_the_lists_that_it_has_forgotten() {
    let Pair { mut globex, globex_disk, .. } = pair();
    let [account, second, third] = [90, 92, 93].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let mut phone = Phone::join(&mut globex, "carol", 90);
    let first = phone.key.clone();
    let mut lists = vec![phone.list.clone()];
    let image = globex_disk.image();
    for (conn, keys) in [(200, [&second].as_slice()), (201, &[&second, &third])] {
        assert!(matches!(phone.publish(&mut globex, &account, keys), NodeFrame::Done(_)));
        lists.push(phone.list.clone());
        (phone, _) = Phone { key: second.clone(), ..phone }.again(&mut globex, ConnId(conn));
    }
    drop(globex);
    globex_disk.restore(&image);
    let mut globex = Node::open(20, &globex_disk, 5);
    let (answer, hello) = show(&mut globex, 300, &third, &lists[..1], None);
    assert!(matches!(answer, NodeFrame::Done(_)), "nothing in it is new");
    globex.give([Event::ClientClosed { conn: ConnId(300) }]);
    let mut other = Phone::join(&mut Node::open(20, &MemDisk::default(), 6), "carol", 90);
    let forked = DeviceList { issued_ms: NOW_MS + 1, ..other.list.peek().unwrap() };
    other.list = Signed::new(&forked, &account);
    let (answer, _) = show(&mut globex, 299, &third, &[other.list], None);
    assert_eq!(refusal_of(&answer), Some(RefusalCode::Conflict), "another list of that number");
    assert_eq!(refusal_of(&hello), Some(RefusalCode::NotAuthorised));
    let (answer, _) = show(&mut globex, 301, &third, &lists[2..], None);
    assert_eq!(refusal_of(&answer), Some(RefusalCode::Conflict), "one is missing");
    let (answer, hello) = show(&mut globex, 302, &third, &lists, None);
    assert!(matches!(answer, NodeFrame::Done(_)));
    let NodeFrame::Welcome(welcome) = hello else { panic!("{hello:?}") };
    assert_eq!(welcome.list_version, 2);
    // The node knows again who put whom in its place.
    let at = |key: &SecretKey| Phone { key: key.clone(), conn: ConnId(0), list: lists[2].clone() };
    let (mut replaced, welcome) = at(&first).again(&mut globex, ConnId(303));
    assert_eq!(welcome.yours.map(|mark| mark.commit), Some(u64::MAX), "it was put back");
    let answer = replaced.publish(&mut globex, &account, &[&first, &third]);
    assert!(matches!(answer, NodeFrame::Done(_)));
}

#[test]
fn an_account_that_a_node_has_forgotten_comes_back_with_an_invite() {
    let Pair { mut globex, globex_disk, .. } = pair();
    let image = globex_disk.image();
    let phone = Phone::join(&mut globex, "carol", 90);
    let lists = [phone.list.clone()];
    drop(globex);
    globex_disk.restore(&image);
    let mut globex = Node::open(20, &globex_disk, 5);
    let secret = InviteSecret([7; 16]);
    for invite in [None, Some(secret)] {
        let (answer, _) = show(&mut globex, 300, &phone.key, &lists, invite);
        assert_eq!(refusal_of(&answer), Some(RefusalCode::BadInvite));
    }
    let command = AdminCommand::Invite { secret, uses: 1, life_ms: 60_000 };
    globex.give([Event::Admin { token: AdminToken(0), command }]);
    let (answer, hello) = show(&mut globex, 302, &phone.key, &lists, Some(secret));
    assert!(matches!((answer, hello), (NodeFrame::Done(_), NodeFrame::Welcome(_))));
    // The invite is used up. Another one shows that the name is taken, and that an account has one name.
    let fresh = InviteSecret([8; 16]);
    let command = AdminCommand::Invite { secret: fresh, uses: 1, life_ms: 60_000 };
    globex.give([Event::Admin { token: AdminToken(0), command }]);
    for (name, seed, invite, code) in [
        ("dora", 100, secret, RefusalCode::BadInvite),
        ("carol", 110, secret, RefusalCode::BadInvite),
        ("carol", 110, fresh, RefusalCode::NameTaken),
        ("dora", 90, fresh, RefusalCode::NotAuthorised),
    ] {
        let other = Phone::join(&mut Node::open(20, &MemDisk::default(), 6), name, seed);
        let (answer, _) = show(&mut globex, 310, &other.key, &[other.list], Some(invite));
        assert_eq!(refusal_of(&answer), Some(code), "{name} {seed}");
        globex.give([Event::ClientClosed { conn: ConnId(310) }]);
        globex.to_clients.remove(&ConnId(310));
    }
}

#[test]
fn lists_that_do_not_continue_each_other_end_the_link() {
    let Pair { mut globex, .. } = pair();
    let account = SecretKey::from_seed(&[90; 32]);
    let mut phone = Phone::join(&mut globex, "carol", 90);
    let first = phone.list.clone();
    let keys = [92, 93].map(|seed| SecretKey::from_seed(&[seed; 32]));
    let second = {
        phone.publish(&mut globex, &account, &[&phone.key.clone(), &keys[0]]);
        phone.list.clone()
    };
    let read = |lists: Vec<Signed<DeviceList>>| {
        let show = ClientFrame::ShowLists(ShowLists { request: 1, lists, invite: None });
        read_client_frame(&Frame { header: codec::encode(&show).into(), body: Bytes::new() })
    };
    let many = vec![first.clone(); limits::LISTS_PER_ANSWER_MAX + 1];
    for lists in [Vec::new(), many] {
        assert!(matches!(read(lists), Read::Broken(RefusalCode::Malformed)));
    }
    let back = vec![second.clone(), first.clone()];
    assert!(matches!(read(back), Read::Broken(RefusalCode::NotAuthorised)));
    assert!(matches!(read(vec![first, second]), Read::Input(_)));
}

#[test]
fn a_node_that_starts_dials_whom_it_knows_without_the_dht() {
    let Pair { mut acme, mut globex, globex_disk, .. } = pair();
    connect(&mut acme, 10, &mut globex, 20);
    drop(globex);
    let globex = Node::open(20, &globex_disk, 5);
    assert_eq!((globex.dials, globex.lookups), (vec![acme.id], vec![]));
}

#[test]
fn a_submission_from_the_future_may_be_repeated_and_one_from_the_past_may_not() {
    let Pair { mut acme, globex, alice, bob, .. } = pair();
    let (now_ms, skew, life) =
        (acme.now_ms, limits::CLOCK_SKEW_MS_MAX, limits::MESSAGE_LIFE_MS_MAX);
    let refused = |acme: &mut Node, created_ms: u64, number: u64| {
        let mut head = bob.envelope(acme.id, globex.id, number);
        (head.header.created_ms, head.header.expires_ms) = (created_ms, created_ms + life);
        alice.submit(acme, head, number);
        let NodeFrame::Refused(refused) = acme.next(alice.conn).0 else { return None };
        Some(refused.refusal.code.may_retry())
    };
    assert_eq!(refused(&mut acme, now_ms + skew, 1), None, "clocks differ by minutes");
    assert_eq!(refused(&mut acme, now_ms + skew + 1, 2), Some(true), "a clock was set back");
    assert_eq!(refused(&mut acme, now_ms - life, 3), Some(false), "its time is over");
}

#[test]
fn the_store_of_another_node_is_refused() {
    let disk = MemDisk::new();
    let acme = Node::open(10, &disk, 1);
    let owner = acme.id;
    drop(acme);
    drop(Node::open(10, &disk, 2));
    let (_, settings) = identity(30);
    let opening = Opening { boot: tidings_store::BootId([3; 16]), incarnation: 3 };
    let mut store = MemStore::open(&disk, SCHEMA, opening).unwrap();
    let lineage = store.lineage().clone();
    store
        .batch(&mut |txn| {
            let opened = Core::open(settings.clone(), &lineage, [3; 32], NOW_MS, txn);
            assert!(matches!(opened, Err(OpenCoreError::OtherNode { owner: o }) if o == owner));
            Ok(())
        })
        .unwrap();
}

/// Envelopes for globex that are not final, and those that wait to be handed over.
fn queue_of(acme: &mut Node) -> (u64, u64, bool, Vec<bool>) {
    let ask = |command| Event::Admin { token: AdminToken(1), command };
    acme.give([ask(AdminCommand::Peers), ask(AdminCommand::Queue { node: None })]);
    let Some(AdminReply::Queue(items)) = acme.replies.pop() else { panic!("no queue") };
    let Some(AdminReply::Peers(peers)) = acme.replies.pop() else { panic!("no peers") };
    let [peer] = peers.as_slice() else { panic!("one peer") };
    let items = items.iter().map(|item| item.waiting).collect();
    (peer.queued, peer.waiting, peer.oldest_ms.is_some(), items)
}

#[test]
fn what_waits_to_be_handed_over_is_told_from_what_the_peer_holds() {
    let acme_disk = MemDisk::new();
    let mut acme = Node::open(10, &acme_disk, 1);
    let mut globex = Node::open(20, &MemDisk::new(), 2);
    let alice = Phone::join(&mut acme, "alice", 30);
    let bob = Phone::join(&mut globex, "bob", 40);
    let globex_id = globex.id;
    let submit = |acme: &mut Node, numbers: core::ops::RangeInclusive<u64>| {
        for number in numbers {
            let head = bob.envelope(acme.id, globex_id, number);
            alice.submit(acme, head, number);
        }
    };
    submit(&mut acme, 1..=3);
    assert_eq!(queue_of(&mut acme), (3, 3, true, vec![true; 3]), "the peer is away");
    connect(&mut acme, 10, &mut globex, 20);
    submit(&mut acme, 4..=4);
    let rest = vec![false, false, false, true];
    assert_eq!(queue_of(&mut acme), (4, 1, true, rest), "one is sent, and not answered");
    settle(&mut acme, &mut globex);
    assert_eq!(queue_of(&mut acme), (4, 0, false, vec![false; 4]), "the device is away");
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    submit(&mut acme, 5..=6);
    let rest = vec![false, false, false, false, true, true];
    assert_eq!(queue_of(&mut acme), (6, 2, true, rest.clone()), "away again");
    drop(acme);
    let mut acme = Node::open(10, &acme_disk, 8);
    assert_eq!(queue_of(&mut acme), (6, 2, true, rest), "it is known after a start");
    connect(&mut acme, 10, &mut globex, 20);
    settle(&mut acme, &mut globex);
    assert_eq!(bob.receive(&mut globex), 6);
    settle(&mut acme, &mut globex);
    assert_eq!(queue_of(&mut acme), (0, 0, false, Vec::new()));
}

#[test]
fn a_node_says_that_its_keys_run_twice() {
    let mut acme = Node::open(10, &MemDisk::new(), 1);
    let mut globex = Node::open(20, &MemDisk::new(), 2);
    connect(&mut acme, 10, &mut globex, 20);
    settle(&mut acme, &mut globex);
    assert_eq!(acme.own_id_seen, 0);
    // A copy of acme, started later, greets globex in its place.
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    acme.give([Event::PeerClosed { link: LinkId(1) }]);
    let mut copy = Node::open_at(10, &MemDisk::new(), 3, NOW_MS + 1_000);
    connect(&mut copy, 10, &mut globex, 20);
    settle(&mut copy, &mut globex);
    assert_eq!(copy.own_id_seen, 0, "its addresses are the newest");
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    connect(&mut acme, 10, &mut globex, 20);
    settle(&mut acme, &mut globex);
    assert_eq!(acme.own_id_seen, 1, "globex introduces the copy");
    assert_eq!(acme.published_serial, copy.published_serial + 1);
    // And face to face.
    connect(&mut acme, 10, &mut copy, 10);
    settle(&mut acme, &mut copy);
    assert_eq!((acme.own_id_seen, copy.own_id_seen), (2, 1));
}

#[test]
fn a_node_that_was_put_back_with_a_clock_set_back_is_found_at_its_new_addresses() {
    let disk = MemDisk::new();
    let mut globex = Node::open(20, &MemDisk::new(), 2);
    let mut acme = Node::open(10, &disk, 1);
    let image = disk.image();
    drop(acme);
    acme = Node::open_at(10, &disk, 3, NOW_MS + 60_000);
    connect(&mut acme, 10, &mut globex, 20);
    settle(&mut acme, &mut globex);
    let known = acme.published_serial;
    drop(acme);
    globex.give([Event::PeerClosed { link: LinkId(1) }]);
    disk.restore(&image);
    acme = Node::open_at(10, &disk, 4, NOW_MS - 60_000);
    assert!(acme.published_serial < known, "its clock does not help it");
    connect(&mut acme, 10, &mut globex, 20);
    assert_eq!(acme.published_serial, known + 1);
    assert_eq!(acme.own_id_seen, 1);
    // Another peer may have heard of more: it asks around, for some hours at most.
    acme.wait(1_000);
    assert_eq!(acme.lookups, [acme.id]);
    acme.wait(24 * 3600 * 1000);
    assert_eq!(acme.lookups.iter().filter(|node| **node == acme.id).count(), 12);
}

#[test]
fn devices_are_greeted_anew_when_the_clock_was_set_back() {
    let mut acme = Node::open_at(10, &MemDisk::new(), 1, NOW_MS + 2 * 3600 * 1000);
    let alice = Phone::join(&mut acme, "alice", 30);
    let (alice, _) = alice.again(&mut acme, ConnId(7));
    acme.now_ms -= 2 * 3600 * 1000;
    acme.give([Event::Tick]);
    let mut frames = acme.to_clients.remove(&alice.conn).unwrap_or_default();
    assert!(matches!(frames.pop_back(), Some((NodeFrame::Refused(_) | NodeFrame::Goaway(_), _))));
    let (_, welcome) = alice.again(&mut acme, ConnId(8));
    assert_eq!(welcome.time_ms, acme.now_ms);
}
