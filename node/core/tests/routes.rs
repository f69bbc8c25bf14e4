//! Next hops and gateways: real cores on memory stores, several links at once, carried by hand. Lying
//! gateways, crashes and the real clients are the simulator's.

#![allow(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers that tests share"
)]

mod gateways;
mod support;

use std::collections::BTreeSet;

use bytes::Bytes;
use tidings_core::{
    effect::AdminReply,
    event::{AdminCommand, Event, PeerInput},
    routes::RouteSource,
    settings::CustodyTerms,
};
use tidings_protocol::{
    client_frame::NodeFrame, codec, frame::Frame, id::NodeId, key::SecretKey, limits,
    peer_frame::PeerFrame, refusal::RefusalCode, statement::Claim,
};
use tidings_store::MemDisk;

use gateways::{Config, Net, for_node, id_of, leaf, link_to, peer_id, seed_of};
use support::{NOW_MS, Node};

#[test]
fn what_goes_through_a_gateway_comes_and_its_ticks_come_back() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    let NodeFrame::Bundles(found) = net.ask_for_bob() else { panic!("bob is not found") };
    assert_eq!(found.lists, [net.bob.list.clone()]);
    net.write(1..=3);
    assert_eq!(net.alice_hears(), [Claim::Custody; 3], "the gateway says that it has them");
    let held = net.peer(1, 0);
    assert_eq!((held.passing, net.peer(1, 2).in_custody), (3, 3));
    assert_eq!(net.bob_receives(), [1, 2, 3]);
    assert_eq!(net.alice_hears(), [Claim::Delivered; 3]);
    assert!(net.is_over());
    assert_eq!((net.peer(1, 0).passing, net.peer(1, 2).in_custody), (0, 0));
    let dialled: BTreeSet<NodeId> = net.nodes[0].dials.iter().copied().collect();
    assert_eq!(dialled, BTreeSet::from([id_of(1)]), "nobody but the neighbour is dialled");
    assert!(net.nodes[0].lookups.iter().all(|node| *node == id_of(1)));
}

#[test]
fn a_gateway_that_starts_anew_goes_on_with_what_it_has() {
    let mut net = Net::star(vec![for_node(2, 100)]);
    net.ask_for_bob();
    net.part(1, 2);
    net.write(1..=2);
    let gate =
        Config { neighbours: vec![0, 2], routes: Vec::new(), gateway_for: vec![for_node(2, 100)] };
    net.restart(1, &gate, None);
    assert_eq!(net.peer(1, 2).passing, 2);
    net.link(1, 2);
    assert_eq!(net.bob_receives(), [1, 2]);
    net.link(0, 1);
    assert_eq!(
        net.alice_hears(),
        [Claim::Custody, Claim::Custody, Claim::Delivered, Claim::Delivered]
    );
    assert!(net.is_over());
}

#[test]
fn a_gateway_that_has_lost_what_it_took_is_found_out() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    net.ask_for_bob();
    net.part(1, 2);
    net.write(1..=2);
    assert_eq!(net.peer(0, 2).waiting, 0);
    let gate =
        Config { neighbours: vec![0, 2], routes: Vec::new(), gateway_for: vec![for_node(0, 100)] };
    net.restart(1, &gate, Some(MemDisk::new()));
    net.link(1, 2);
    assert_eq!(net.bob_receives(), [0; 0]);
    net.link(0, 1);
    // Its peers still knew marks of the store that is gone: it greets everybody anew.
    for other in [0, 2] {
        net.part(1, other);
        net.link(1, other);
    }
    net.wait(61_000);
    assert_eq!(net.bob_receives(), [1, 2], "acme offered them again, and they were not there");
}

#[test]
fn nothing_is_passed_on_without_an_agreement() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    net.ask_for_bob();
    let gate = Config { neighbours: vec![0, 2], ..Config::default() };
    net.restart(1, &gate, None);
    net.link(0, 1);
    net.link(1, 2);
    net.write(1..=1);
    let route = &net.routes(0)[0];
    assert_eq!((route.to, route.via, route.source), (None, Some(id_of(1)), RouteSource::Config));
    let status = net.peer(0, 2);
    assert_eq!((status.via, status.waiting), (Some(id_of(1)), 1));
    assert_eq!(status.refusal, Some(RefusalCode::Refused), "the administrator sees why");
    assert_eq!(net.queue(0)[0].refusal, Some(RefusalCode::Refused));
    assert!(net.alice_hears().is_empty());
    let gate = Config { gateway_for: vec![for_node(0, 100)], ..gate };
    net.restart(1, &gate, None);
    net.link(0, 1);
    net.link(1, 2);
    assert_eq!(net.bob_receives(), [1]);
    assert_eq!(net.peer(0, 2).refusal, None);
}

#[test]
fn a_destination_takes_from_those_alone_whom_it_has_named() {
    let gate =
        Config { neighbours: vec![0, 2], routes: Vec::new(), gateway_for: vec![for_node(0, 100)] };
    let mut net = Net::of(&[leaf(1), gate, Config { neighbours: vec![1], ..Config::default() }]);
    net.ask_for_bob();
    net.write(1..=1);
    assert_eq!(net.bob_receives(), [0; 0]);
    assert_eq!(net.peer(1, 2).refusal, Some(RefusalCode::NotAuthorised), "the gateway sees why");
    assert_eq!(net.peer(1, 2).in_custody, 1);
    net.set_route(2, None, Some(id_of(1)));
    net.wait(61_000);
    assert_eq!(net.bob_receives(), [1], "now it has named the gateway");
}

/// acme, two gateways and globex; the second one sends back what is for globex.
fn circle() -> Net {
    let first = Config {
        neighbours: vec![0, 2],
        routes: vec![(Some(3), 2)],
        gateway_for: vec![for_node(0, 100)],
    };
    let second = Config {
        neighbours: vec![1, 3],
        routes: vec![(Some(3), 1), (Some(0), 1)],
        gateway_for: vec![for_node(3, 100)],
    };
    let mut net = Net::of(&[leaf(1), first, second, leaf(2)]);
    // Before, the way was right, and acme has met globex.
    net.set_route(2, Some(id_of(3)), None);
    net.ask_for_bob();
    assert_eq!(net.ask(2, AdminCommand::RemoveRoute { to: Some(id_of(3)) }), AdminReply::Done);
    net
}

#[test]
fn what_goes_in_a_circle_is_given_back_and_its_origin_sees_why() {
    let mut net = circle();
    net.write(1..=2);
    assert_eq!(net.alice_hears(), [Claim::Custody; 2]);
    assert_eq!(net.peer(1, 3).refusal, Some(RefusalCode::Loop));
    assert_eq!([1, 2].map(|at| net.queue(at).len()), [0, 0], "nobody on the way keeps it");
    net.wait(61_000);
    let queue = net.queue(0);
    assert!(queue.iter().all(|item| item.waiting && item.refusal == Some(RefusalCode::Loop)));
    assert_eq!((queue.len(), net.peer(0, 3).refusal), (2, Some(RefusalCode::Loop)));
    assert_eq!(net.routes(0)[0].refusal, None, "the route to everybody is not at fault alone");
    net.set_route(2, Some(id_of(3)), None);
    net.wait(10 * 60_000 + 1);
    assert_eq!(net.bob_receives(), [1, 2]);
    let heard = net.alice_hears();
    assert_eq!(heard.iter().filter(|claim| **claim == Claim::Delivered).count(), 2, "{heard:?}");
    assert!(net.is_over());
}

#[test]
fn what_is_in_a_circle_ends_by_its_time_if_nobody_mends_it() {
    let mut net = circle();
    net.write(1..=1);
    assert_eq!(net.alice_hears(), [Claim::Custody]);
    for day in 0..31 {
        net.wait(24 * 3_600_000);
        assert_eq!(net.bob_receives(), [0; 0], "on day {day}");
    }
    assert_eq!(net.alice_hears().last(), Some(&Claim::Failed));
    assert!(net.is_over());
}

#[test]
fn a_larger_circle_is_closed_by_the_one_who_has_it_already() {
    let gate = |neighbours: [usize; 2], via| Config {
        neighbours: neighbours.to_vec(),
        routes: vec![(Some(4), via)],
        gateway_for: vec![for_node(0, 100), for_node(4, 100)],
    };
    let mut first = gate([2, 3], 2);
    first.neighbours.push(0);
    let mut third = gate([1, 2], 1);
    third.neighbours.push(4);
    let mut net = Net::of(&[leaf(1), first, gate([1, 3], 3), third, leaf(3)]);
    net.set_route(3, Some(id_of(4)), None);
    net.ask_for_bob();
    net.ask(3, AdminCommand::RemoveRoute { to: Some(id_of(4)) });
    net.write(1..=1);
    assert_eq!([1, 2, 3].map(|at| net.queue(at).len()), [1, 1, 0]);
    assert_eq!(net.peer(3, 4).refusal, Some(RefusalCode::Loop), "the first one has it");
    net.wait(5 * 60_000);
    assert_eq!([1, 2, 3].map(|at| net.queue(at).len()), [0, 0, 0], "back, hop by hop");
    assert_eq!(net.peer(0, 4).refusal, Some(RefusalCode::Loop));
    net.set_route(3, Some(id_of(4)), None);
    net.wait(11 * 60_000);
    assert_eq!(net.bob_receives(), [1]);
    assert!(net.is_over());
}

#[test]
fn a_route_may_be_only_so_long() {
    let gates = usize::from(limits::HOPS_MAX) + 1;
    let last = gates + 1;
    let gate = |ix: usize| Config {
        neighbours: vec![ix - 1, ix + 1],
        routes: vec![(Some(last), ix + 1), (Some(0), ix - 1)],
        gateway_for: vec![for_node(0, 100), for_node(last, 100)],
    };
    let mut configs = vec![leaf(1)];
    configs.extend((1..=gates).map(gate));
    configs.push(leaf(gates));
    let mut net = Net::of(&configs);
    let frame = net.try_to_ask_for_bob();
    assert!(frame.is_none(), "it is too far: {frame:?}");
    assert_eq!(net.peer(0, last).refusal, Some(RefusalCode::HopLimit));
    // Without one of them it is near enough.
    net.set_route(gates - 1, Some(id_of(last)), None);
    net.link(gates - 1, last);
    net.ask_for_bob();
    assert_eq!(
        net.ask(gates - 1, AdminCommand::RemoveRoute { to: Some(id_of(last)) }),
        AdminReply::Done
    );
    net.write(1..=1);
    assert_eq!(net.peer(gates - 1, last).refusal, Some(RefusalCode::HopLimit));
    assert_eq!(net.bob_receives(), [0; 0]);
}

#[test]
fn a_route_that_is_set_takes_what_waits_and_outlives_a_start() {
    let gate =
        Config { neighbours: vec![0, 2], routes: Vec::new(), gateway_for: vec![for_node(0, 100)] };
    let direct = Config { neighbours: vec![1, 2], ..Config::default() };
    let mut net = Net::of(&[direct.clone(), gate, leaf(1)]);
    net.ask_for_bob();
    net.part(0, 2);
    net.write(1..=1);
    assert_eq!(net.peer(0, 2).waiting, 1);
    net.set_route(0, Some(id_of(2)), Some(id_of(1)));
    assert_eq!(net.bob_receives(), [1]);
    assert_eq!(net.alice_hears(), [Claim::Custody, Claim::Delivered]);
    net.restart(0, &direct, None);
    let routes = net.routes(0);
    let route = routes.first().expect("the route");
    assert_eq!((route.via, route.source), (Some(id_of(1)), RouteSource::Admin));
    let command = AdminCommand::RemoveRoute { to: Some(id_of(2)) };
    assert_eq!(net.ask(0, command.clone()), AdminReply::Done);
    assert_eq!(net.routes(0), []);
    assert!(matches!(net.ask(0, command), AdminReply::Refused(_)));
}

#[test]
fn routes_that_cannot_be_are_refused() {
    let mut net = Net::star(Vec::new());
    let [own, gate, other] = [0, 1, 2].map(id_of);
    for (to, via) in [(Some(own), Some(gate)), (Some(other), Some(own)), (Some(gate), Some(gate))] {
        let reply = net.ask(0, AdminCommand::SetRoute { to, via });
        assert!(matches!(reply, AdminReply::Refused(_)), "{to:?} {via:?}");
    }
    let reply = net.ask(0, AdminCommand::SetRoute { to: Some(gate), via: Some(other) });
    assert!(matches!(reply, AdminReply::Refused(_)), "others are reached through it");
}

#[test]
fn a_gateway_keeps_only_so_much_as_was_agreed() {
    let mut net = Net::star(vec![for_node(2, 2)]);
    net.ask_for_bob();
    net.part(1, 2);
    net.write(1..=5);
    assert_eq!((net.peer(1, 2).passing, net.peer(0, 2).waiting), (2, 3));
    assert_eq!(net.peer(0, 2).refusal, Some(RefusalCode::Quota));
    net.link(1, 2);
    assert_eq!(net.bob_receives(), [1, 2]);
    net.wait(60_001);
    assert_eq!(net.bob_receives(), [3, 4]);
}

#[test]
fn what_was_spoiled_on_the_way_goes_at_all_who_hold_it_and_comes_anew() {
    let mut net = Net::row();
    net.ask_for_bob();
    let head = net.bob.envelope(id_of(0), id_of(3), 1);
    net.alice.submit(&mut net.nodes[0], head, 1);
    for (to, mut frame) in net.drain(0) {
        if let Ok(PeerFrame::Forward(mut forward)) = codec::decode(&frame.header) {
            forward.targets.sealed = Bytes::from(vec![7; 64]);
            frame.header = codec::encode(&PeerFrame::Forward(forward)).into();
        }
        net.carry(0, to, &frame);
    }
    net.settle();
    assert_eq!(net.bob_receives(), [0; 0], "nobody can open it");
    let held = (net.peer(1, 3).in_custody, net.peer(2, 3).in_custody);
    assert_eq!(held, (1, 0), "the last one has let it go; the first one has not heard of it");
    net.wait(5 * 60_000);
    assert_eq!(net.bob_receives(), [1], "it was refused along the way, and sealed again");
    assert!(net.is_over());
}

#[test]
fn an_answer_that_comes_late_is_kept_for_the_next_question() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    net.begin_to_ask_for_bob();
    for (at, to) in [(0, 1), (1, 2)] {
        for (for_whom, frame) in net.drain(at) {
            assert_eq!(for_whom, to);
            net.carry(at, to, &frame);
        }
    }
    let answer = net.drain(2);
    for node in &mut net.nodes {
        node.now_ms += 6_000;
        node.give([Event::Tick]);
    }
    let refused = net.next_answer();
    assert!(matches!(refused, Some(NodeFrame::Refused(_))), "{refused:?}");
    for (to, frame) in answer {
        net.carry(2, to, &frame);
    }
    net.settle();
    net.part(0, 1);
    let NodeFrame::Bundles(found) = net.ask_for_bob() else { panic!("nothing was kept") };
    assert_eq!(found.lists, [net.bob.list.clone()]);
    assert_eq!(net.try_to_ask_for_bob(), None, "once, since one-time pre-keys may be in it");
    net.wait(6_000);
    let Some(NodeFrame::Bundles(found)) = net.next_answer() else { panic!("nothing is cached") };
    assert_eq!(found.lists, [net.bob.list.clone()]);
}

#[test]
fn newer_device_lists_come_back_along_the_route() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    net.ask_for_bob();
    let (from, to) = (net.nodes[0].id, net.nodes[2].id);
    let head = net.bob.envelope(from, to, 1);
    let account = SecretKey::from_seed(&[40; 32]);
    let phone = net.bob.key.clone();
    let tablet = SecretKey::from_seed(&[77; 32]);
    net.bob.publish(&mut net.nodes[2], &account, &[&phone, &tablet]);
    net.settle();
    net.alice.submit(&mut net.nodes[0], head, 1);
    net.settle();
    let frames = net.nodes[0].to_clients.remove(&net.alice.conn).unwrap();
    let lists = frames.into_iter().find_map(|(frame, _)| {
        if let NodeFrame::NewerLists(newer) = frame { Some(newer.lists) } else { None }
    });
    assert_eq!(lists, Some(vec![net.bob.list.clone()]));
}

#[test]
fn those_behind_one_hop_take_turns() {
    let mut net = Net::star(vec![for_node(0, 1_000)]);
    net.ask_for_bob();
    let body = Bytes::from(vec![7; 50 * 1024]);
    let (from, far) = (net.nodes[0].id, net.nodes[2].id);
    let window = limits::PEER_WINDOW_BYTES / body.len();
    for number in 1..=(2 * window as u64) {
        let head = net.bob.envelope(from, far, number);
        let frame = support::submission(head, number);
        net.nodes[0].send(net.alice.conn, &frame, body.clone());
    }
    let head = net.bob.envelope(from, id_of(1), 9_999);
    net.nodes[0].send(net.alice.conn, &support::submission(head, 9_999), body);
    let sent = net.drain(0);
    let is_full = |frame: &Frame| matches!(codec::decode(&frame.header), Ok(PeerFrame::Forward(_)));
    assert!(sent.iter().filter(|(_, frame)| is_full(frame)).count() > window / 2);
    // One place in the window is free: it is the other's turn, though it came last.
    let first = sent.iter().find(|(_, frame)| is_full(frame)).unwrap().1.clone();
    net.carry(0, 1, &first);
    for (to, frame) in net.drain(1) {
        if to == 0 {
            net.carry(1, 0, &frame);
        }
    }
    let next: Vec<PeerFrame> =
        net.drain(0).iter().map(|(_, frame)| codec::decode(&frame.header).unwrap()).collect();
    assert!(next.iter().any(|frame| matches!(frame, PeerFrame::Deliver(_))), "{next:?}");
}

#[test]
fn a_word_that_a_gateway_makes_up_ends_nothing() {
    let mut net = Net::star(vec![for_node(0, 100)]);
    net.ask_for_bob();
    net.part(1, 2);
    net.write(1..=1);
    net.alice_hears();
    let item = net.queue(0)[0].clone();
    let forger = SecretKey::from_seed(&[seed_of(1) + 1; 32]);
    for claim in [Claim::Delivered, Claim::Failed, Claim::Closed, Claim::AtDest] {
        let node = (!claim.is_by_device()).then(|| id_of(1));
        let proof = support::claim(claim, item.eid, &forger, node);
        let input = PeerInput::Statements { rows: vec![1], checked: vec![proof.check().unwrap()] };
        net.nodes[0].give([Event::Peer { link: link_to(1), input }]);
    }
    assert_eq!(net.alice_hears(), []);
    assert_eq!(net.queue(0).len(), 1);
}

#[test]
fn what_is_for_a_node_that_nobody_can_dial_goes_to_its_custodians_at_once() {
    let custodian = CustodyTerms { node: id_of(2), ..for_node(2, 100) };
    let mut hidden = Config { neighbours: vec![0, 1], ..Config::default() }.settings(2).1;
    let named = support::identity_with(seed_of(2), vec![id_of(1)]).1;
    hidden.delegation = named.delegation;
    let mut net = Net::of(&[
        Config { neighbours: vec![1], ..Config::default() },
        Config { neighbours: vec![0], ..Config::default() },
        Config::default(),
    ]);
    let (_, mut settings) = Config { neighbours: vec![0], ..Config::default() }.settings(1);
    settings.custody = vec![custodian];
    net.nodes[1] = Node::open_as(seed_of(1), (id_of(1), settings), &net.disks[1], 2, NOW_MS);
    net.nodes[2] = Node::open_as(seed_of(2), (id_of(2), hidden), &net.disks[2], 2, NOW_MS);
    let conn = tidings_core::event::ConnId(99);
    (net.bob, _) = net.bob.again(&mut net.nodes[2], conn);
    net.nodes[2].give([Event::Listening { peer_id: peer_id(2), multiaddrs: Vec::new() }]);
    assert!(net.nodes[2].dials.contains(&id_of(1)), "it dials its custodian itself");
    net.link(0, 1);
    net.link(2, 1);
    // It has spoken to acme once, and says there that it cannot be dialled.
    net.link(2, 0);
    net.part(2, 0);
    net.nodes[0].dials.clear();
    net.write(1..=1);
    assert_eq!(net.bob_receives(), [1], "through the custodian, without a failure before");
    assert!(!net.nodes[0].dials.contains(&id_of(2)));
    assert!(net.alice_hears().contains(&Claim::Delivered));
}
