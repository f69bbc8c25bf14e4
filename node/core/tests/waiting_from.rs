//! What waits at acme from one other node: counted as the inboxes are, bounded, and free again by every
//! end that a copy may have. Real cores on memory stores.

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

mod net;
mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidings_core::{
    effect::AdminReply,
    event::{AdminCommand, AdminToken, Event, PeerChange},
    schema::{self, INBOX, InboxRow, LimitsRow, SEEN, SeenRow},
};
use tidings_protocol::{
    client_frame::NodeFrame, id::NodeId, key::SecretKey, peer_frame::PeerFrame,
    refusal::RefusalCode,
};
use tidings_store::Store as _;

use net::{ACME, GLOBEX, INITECH, Net};
use support::{NOW_MS, Node, Pair, connect, pair, settle};

/// Copies and bytes.
type Waiting = (u64, u64);

/// What a node says of the others.
fn told(node: &mut Node) -> BTreeMap<NodeId, Waiting> {
    node.give([Event::Admin { token: AdminToken(1), command: AdminCommand::Peers }]);
    let Some(AdminReply::Peers(peers)) = node.replies.pop() else { panic!("no peers") };
    peers.into_iter().map(|peer| (peer.node, (peer.inbox, peer.inbox_bytes))).collect()
}

/// What its inboxes hold from others altogether, read row by row.
fn held(node: &Node) -> Waiting {
    let mut all = (0, 0);
    let read = node.store.view(&mut |txn| {
        let mut envelopes = BTreeMap::new();
        for (_, row) in txn.range(INBOX, &[], &[0xff; 33], usize::MAX)? {
            let row: InboxRow = schema::decode(&row)?;
            let seen: SeenRow = schema::get(txn, SEEN, row.eid.as_bytes())?.expect("a row");
            if seen.origin != 0 {
                all.0 += 1;
                envelopes.insert(row.eid, seen.bytes);
            }
        }
        all.1 = envelopes.values().sum();
        Ok(())
    });
    read.unwrap();
    all
}

fn is_counted_right(node: &mut Node) -> BTreeMap<NodeId, Waiting> {
    let told = told(node);
    let sum = told.values().fold((0, 0), |sum, (rows, bytes)| (sum.0 + rows, sum.1 + bytes));
    assert_eq!(sum, held(node), "{told:?}");
    told
}

const NO_LIMITS: LimitsRow = LimitsRow {
    envelopes: None,
    kib: None,
    statements: None,
    questions: None,
    rows: None,
    bytes: None,
    inbox_rows: None,
    inbox_bytes: None,
};

fn limited(limits: LimitsRow) -> Net {
    let mut net = Net::new();
    net.change(GLOBEX, PeerChange::Limit(limits));
    net
}

fn from_globex(net: &mut Net) -> Waiting {
    let globex = net.id(GLOBEX);
    is_counted_right(&mut net.nodes[ACME])[&globex]
}

#[test]
fn one_node_is_put_off_at_its_bound_while_others_go_on_and_nothing_is_lost() {
    let mut net = limited(LimitsRow { inbox_rows: Some(2), ..NO_LIMITS });
    for _ in 0..5 {
        net.write(GLOBEX, ACME);
    }
    net.carry(usize::MAX);
    assert_eq!(from_globex(&mut net).0, 2);
    let put_off = |(to, frame): &(usize, PeerFrame)| match frame {
        PeerFrame::Took(took) if *to == GLOBEX => took.answers.iter().any(|answer| {
            let refusal = answer.refusal.as_ref();
            refusal.is_some_and(|refusal| {
                refusal.code == RefusalCode::Quota && refusal.after_ms.is_some()
            })
        }),
        _ => false,
    };
    assert!(net.said().iter().any(put_off), "it is told to come back");
    net.write(INITECH, ACME);
    net.carry(usize::MAX);
    net.restart_acme();
    assert_eq!(from_globex(&mut net).0, 2, "a restart forgets nothing");
    assert_eq!(held(&net.nodes[ACME]).0, 3);
    net.rest();
    assert_eq!((from_globex(&mut net), held(&net.nodes[ACME])), ((0, 0), (0, 0)));
    assert!(net.messages.values().all(|message| message.delivered), "{:?}", net.messages);
}

#[test]
fn bytes_are_bounded_too_and_a_large_envelope_passes_all_the_same() {
    let mut net = limited(LimitsRow { inbox_bytes: Some(1), ..NO_LIMITS });
    for _ in 0..2 {
        net.write(GLOBEX, ACME);
    }
    net.carry(usize::MAX);
    let (rows, bytes) = from_globex(&mut net);
    assert!(rows == 1 && bytes > 1, "{rows} {bytes}");
    net.change(GLOBEX, PeerChange::Limit(NO_LIMITS));
    net.wait(61_000);
    assert_eq!(from_globex(&mut net).0, 2, "the limit was taken back");
}

#[test]
fn what_a_custodian_brings_counts_for_its_origin() {
    let mut net = limited(LimitsRow { inbox_rows: Some(2), ..NO_LIMITS });
    net.part(ACME, GLOBEX);
    net.part(ACME, INITECH);
    for _ in 0..4 {
        net.write(GLOBEX, ACME);
    }
    // It cannot reach acme, and hands over to initech.
    for _ in 0..6 {
        for dialled in net.dialled(GLOBEX) {
            let node = net.id(dialled);
            net.give(GLOBEX, Event::DialFailed { node });
        }
        net.wait(20_000);
    }
    net.connect(ACME, INITECH);
    net.carry(usize::MAX);
    assert_eq!(from_globex(&mut net).0, 2);
    net.rest();
    assert_eq!(from_globex(&mut net), (0, 0));
    assert!(net.messages.values().all(|message| message.delivered), "{:?}", net.messages);
}

/// bob writes to alice, whose phone takes nothing.
fn unread() -> (Pair, NodeId) {
    let mut pair = pair();
    connect(&mut pair.acme, 10, &mut pair.globex, 20);
    let (acme, globex) = (pair.acme.id, pair.globex.id);
    for number in 1..=3 {
        let mut head = pair.alice.envelope(globex, acme, number);
        if number == 3 {
            head.header.expires_ms = NOW_MS + 60_000;
        }
        pair.bob.submit(&mut pair.globex, head, number);
    }
    settle(&mut pair.acme, &mut pair.globex);
    assert_eq!(is_counted_right(&mut pair.acme)[&globex].0, 3);
    (pair, globex)
}

#[test]
fn what_expires_is_free() {
    let (mut pair, globex) = unread();
    pair.acme.wait(180_000);
    assert_eq!(is_counted_right(&mut pair.acme)[&globex].0, 2);
}

#[test]
fn what_was_for_a_device_that_is_removed_is_free() {
    let (mut pair, globex) = unread();
    let Pair { acme, alice, .. } = &mut pair;
    let (account, phone) = (SecretKey::from_seed(&[30; 32]), SecretKey::from_seed(&[99; 32]));
    acme.to_clients.clear();
    let answer = alice.publish(acme, &account, &[&phone]);
    assert!(matches!(answer, NodeFrame::Done(_)), "{answer:?}");
    assert_eq!(is_counted_right(acme)[&globex], (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize),
    Connect(usize),
    Part(usize),
    Carry(usize),
    Listen,
    Wait(u64),
    Restart,
    Limit(Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let other = || prop_oneof![2 => Just(GLOBEX), 1 => Just(INITECH)];
    let step = prop_oneof![
        6 => other().prop_map(Step::Write),
        2 => other().prop_map(Step::Connect),
        1 => other().prop_map(Step::Part),
        6 => (1..20usize).prop_map(Step::Carry),
        2 => Just(Step::Listen),
        3 => (1..100_000u64).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => prop::option::of(1..4u64).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 1..50)
}

fn run(steps: &[Step]) {
    let mut net = Net::new();
    let (globex, mut bound) = (net.id(GLOBEX), None);
    for step in steps {
        let before = from_globex(&mut net).0;
        match step {
            Step::Write(from) => drop(net.write(*from, ACME)),
            Step::Connect(other) => net.connect(ACME, *other),
            Step::Part(other) => net.part(ACME, *other),
            Step::Carry(count) => net.carry(*count),
            Step::Listen => net.listen(ACME),
            Step::Wait(ms) => net.wait(*ms),
            Step::Restart => net.restart_acme(),
            Step::Limit(most) => {
                bound = *most;
                let limits = LimitsRow { inbox_rows: *most, ..NO_LIMITS };
                net.change(GLOBEX, PeerChange::Limit(limits));
            }
        }
        let after = is_counted_right(&mut net.nodes[ACME])[&globex].0;
        let most = bound.unwrap_or(u64::MAX).max(before);
        assert!(after <= most, "{step:?}: {after} wait, of {most}");
    }
    net.change(GLOBEX, PeerChange::Limit(NO_LIMITS));
    net.rest();
    assert_eq!((from_globex(&mut net), held(&net.nodes[ACME])), ((0, 0), (0, 0)));
    assert!(net.messages.values().all(|message| message.delivered), "{:?}", net.messages);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_count_is_what_the_inboxes_hold_whatever_happens(steps in steps()) {
        run(&steps);
    }
}
