//! With whom acme deals: whatever an administrator says, in whatever order, nothing is sent to a node or
//! taken from it that he keeps out at that moment, by any way; and what was accepted is delivered or its
//! sender is told. Three real cores on memory stores.

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

use proptest::prelude::*;
use tidings_core::{
    effect::AdminReply,
    event::{AdminCommand, Event, PeerChange},
    policy::{Federation, Standing},
    rates::Limits,
    schema::LimitsRow,
};
use tidings_protocol::{
    address::UserName,
    client_frame::{ClientFrame, FetchBundle},
    id::Eid,
    peer_frame::PeerFrame,
    refusal::RefusalCode,
    statement::{Claim, Reason},
};

use net::{ACME, GLOBEX, INITECH, Net};

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Connect(usize, usize),
    Part(usize, usize),
    Carry(usize),
    Listen(usize),
    Wait(u64),
    FailDials(usize, usize),
    Fetch(usize),
    Change(usize, PeerChange),
    Mode(Option<Federation>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pair = || (0..3usize, 1..3usize).prop_map(|(one, step)| (one, (one + step) % 3));
    let other = || prop_oneof![Just(GLOBEX), Just(INITECH)];
    let change = prop_oneof![
        Just(PeerChange::Allow),
        Just(PeerChange::Deny),
        Just(PeerChange::Pause),
        Just(PeerChange::Resume),
        Just(PeerChange::Retire),
        Just(PeerChange::Pin(Vec::new())),
    ];
    let mode = prop_oneof![
        Just(None),
        Just(Some(Federation::Open)),
        Just(Some(Federation::Request)),
        Just(Some(Federation::Closed)),
    ];
    let step = prop_oneof![
        6 => pair().prop_map(|(from, to)| Step::Write(from, to)),
        3 => pair().prop_map(|(one, other)| Step::Connect(one, other)),
        2 => pair().prop_map(|(one, other)| Step::Part(one, other)),
        6 => (1..20usize).prop_map(Step::Carry),
        3 => (0..3usize).prop_map(Step::Listen),
        2 => (1..100_000u64).prop_map(Step::Wait),
        1 => pair().prop_map(|(one, other)| Step::FailDials(one, other)),
        1 => other().prop_map(Step::Fetch),
        4 => (other(), change).prop_map(|(about, change)| Step::Change(about, change)),
        1 => mode.prop_map(Step::Mode),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// What was said of a node, as the test remembers it: apart from the code that is tested.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    denied: bool,
    allowed: bool,
    paused: bool,
    retired: bool,
    /// A user at acme has written to it or asked for somebody there.
    wanted: bool,
}

struct Model {
    said: [Said; 3],
    mode: Federation,
    closed: Vec<Eid>,
    taken: usize,
}

impl Model {
    /// Nothing at all passes between acme and this node.
    fn is_shut(&self, place: usize) -> bool {
        let said = &self.said[place];
        // initech is acme's custodian: it stands in the configuration.
        let is_listed = said.allowed || place == INITECH;
        said.denied
            || said.paused
            || match self.mode {
                Federation::Open => false,
                Federation::Request => !is_listed && !said.wanted,
                Federation::Closed => !is_listed,
            }
    }

    fn change(&mut self, about: usize, change: &PeerChange) {
        let said = &mut self.said[about];
        match change {
            PeerChange::Allow | PeerChange::Pin(_) => {
                (said.denied, said.allowed, said.retired) = (false, true, false);
            }
            PeerChange::Deny => (said.denied, said.allowed) = (true, false),
            PeerChange::Pause => said.paused = true,
            PeerChange::Resume => said.paused = false,
            PeerChange::Retire => said.retired = true,
            PeerChange::RetryNow | PeerChange::Limit(_) => {}
        }
    }

    /// Looks at everything that acme did since the last look.
    fn check(&mut self, net: &mut Net, step: &Step) {
        for (to, frame) in net.said() {
            let is_greeting = matches!(
                frame,
                PeerFrame::Hello(_) | PeerFrame::Farewell(_) | PeerFrame::Announce(_)
            );
            assert!(!self.is_shut(to) || is_greeting, "{step:?}: acme says {frame:?} to {to}");
            let destination = match &frame {
                PeerFrame::Deliver(head) => Some(head.header.destination),
                PeerFrame::Forward(forward) => Some(forward.header.destination),
                PeerFrame::Offer(offer) => Some(offer.destination),
                PeerFrame::FetchUser(_) => Some(net.id(to)),
                _ => None,
            };
            let place = destination.and_then(|node| (0..3).find(|place| net.id(*place) == node));
            if let Some(place) = place {
                assert!(!self.is_shut(place), "{step:?}: {frame:?} is for {place}");
                assert!(!self.said[place].retired, "{step:?}: {frame:?} is for {place}");
            }
            if let PeerFrame::Statements(statements) = &frame {
                for proof in &statements.proofs {
                    let checked = proof.check().unwrap();
                    let closed =
                        checked.statements.iter().filter(|(s, _)| s.claim == Claim::Closed);
                    self.closed.extend(closed.map(|(statement, _)| statement.eid));
                }
            }
        }
        for place in net.dialled(ACME) {
            let is_gone = self.said[place].retired;
            assert!(!self.is_shut(place) && !is_gone, "{step:?}: acme dials {place}");
        }
        // What is taken while both are shut comes from acme's own phone, which writes to others only.
        if self.is_shut(GLOBEX) && self.is_shut(INITECH) {
            assert_eq!(net.nodes[ACME].taken, self.taken, "{step:?}: acme takes something");
        }
        self.taken = net.nodes[ACME].taken;
    }
}

fn fetch(net: &mut Net, at: usize) {
    let node = net.id(at);
    let name = UserName::parse(["alice", "bob", "carol"][at]).unwrap();
    let fetch = FetchBundle { request: 9, node, name, known_version: None, with_bundles: false };
    net.ask(ACME, &ClientFrame::FetchBundle(fetch));
}

fn run(steps: &[Step]) {
    let mut net = Net::new();
    let mut model =
        Model { said: [Said::default(); 3], mode: Federation::Open, closed: Vec::new(), taken: 0 };
    net.said();
    net.dialled(ACME);
    for step in steps {
        match step {
            Step::Write(from, to) => {
                let eid = net.write(*from, *to);
                if *from == ACME {
                    let is_accepted = net.messages[&eid].accepted;
                    let said = &mut model.said[*to];
                    let is_listed = said.allowed || *to == INITECH;
                    let is_refused = said.denied
                        || said.retired
                        || (model.mode == Federation::Closed && !is_listed);
                    assert_eq!(is_accepted, !is_refused, "{said:?} {:?}", model.mode);
                    said.wanted |= is_accepted;
                }
            }
            Step::Connect(one, other) => net.connect(*one, *other),
            Step::Part(one, other) => net.part(*one, *other),
            Step::Carry(count) => net.carry(*count),
            Step::Listen(place) => net.listen(*place),
            Step::Wait(ms) => net.wait(*ms),
            Step::FailDials(place, about) => {
                let node = net.id(*about);
                for _ in 0..3 {
                    net.give(*place, Event::DialFailed { node });
                }
            }
            Step::Fetch(at) => {
                model.said[*at].wanted = true;
                fetch(&mut net, *at);
            }
            Step::Change(about, change) => {
                model.change(*about, change);
                net.change(*about, change.clone());
            }
            Step::Mode(mode) => {
                model.mode = mode.unwrap_or(Federation::Open);
                net.admin(ACME, AdminCommand::SetFederation(*mode));
            }
            Step::Restart => {
                net.restart_acme();
                model.taken = 0;
            }
        }
        model.check(&mut net, step);
    }
    for about in [GLOBEX, INITECH] {
        net.change(about, PeerChange::Allow);
        net.change(about, PeerChange::Resume);
    }
    net.rest();
    nothing_is_lost(&net, &model);
}

fn nothing_is_lost(net: &Net, model: &Model) {
    for (eid, message) in &net.messages {
        let times = net.received.iter().filter(|received| **received == (*eid, message.to)).count();
        assert!(times <= 1, "{message:?} came {times} times");
        if !message.accepted {
            assert!(message.refused.is_some() && times == 0, "{message:?} is answered by nothing");
            continue;
        }
        let is_told = message.failed.is_some() || model.closed.contains(eid);
        assert!(times == 1 || is_told, "{message:?} is lost");
    }
    let unknown = net.received.iter().filter(|(eid, _)| !net.messages.contains_key(eid)).count();
    assert_eq!(unknown, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_passes_a_shut_door_and_nothing_accepted_is_lost(steps in steps()) {
        run(&steps);
    }
}

fn standing(net: &mut Net, place: usize) -> Standing {
    let node = net.id(place);
    let AdminReply::Peers(peers) = net.admin(ACME, AdminCommand::Peers) else { panic!("no peers") };
    peers.into_iter().find(|peer| peer.node == node).expect("a peer").standing
}

#[test]
fn a_denied_node_is_told_and_what_waits_for_it_fails_with_the_reason() {
    let mut net = Net::new();
    net.part(ACME, GLOBEX);
    let waiting = net.write(ACME, GLOBEX);
    net.change(GLOBEX, PeerChange::Deny);
    net.listen(ACME);
    assert_eq!(net.messages[&waiting].failed, Some(Some(Reason::Policy)));
    let refused = net.write(ACME, GLOBEX);
    assert_eq!(net.messages[&refused].refused, Some(RefusalCode::Refused));
    net.said();
    for _ in 0..4 {
        net.connect(GLOBEX, ACME);
        net.carry(usize::MAX);
        let said = net.said();
        let [.., (GLOBEX, PeerFrame::Farewell(farewell))] = said.as_slice() else {
            panic!("no farewell: {said:?}")
        };
        assert_eq!(farewell.refusal.code, RefusalCode::Refused);
    }
    let transport = bytes::Bytes::from(vec![net::SEEDS[GLOBEX]; 34]);
    assert_eq!(net.nodes[ACME].bars, [(transport.clone(), true)], "told three times, then barred");
    net.change(GLOBEX, PeerChange::Allow);
    assert_eq!(net.nodes[ACME].bars[1..], [(transport, false)]);
    assert_eq!(standing(&mut net, GLOBEX), Standing::Allowed);
}

#[test]
fn whom_an_administrator_lets_in_is_called_at_once() {
    let mut net = Net::new();
    net.change(GLOBEX, PeerChange::Deny);
    net.carry(usize::MAX);
    net.dialled(ACME);
    net.wait(60_000);
    assert!(net.dialled(ACME).is_empty());
    net.change(GLOBEX, PeerChange::Allow);
    assert!(net.dialled(ACME).contains(&GLOBEX), "though nothing waits for it here");
    net.wait(3_600_000);
    assert!(net.dialled(ACME).is_empty(), "and once: nothing waits for it here");
}

#[test]
fn a_pause_keeps_everything_and_its_end_lets_it_flow() {
    let mut net = Net::new();
    net.change(GLOBEX, PeerChange::Pause);
    let [out, back] = [net.write(ACME, GLOBEX), net.write(GLOBEX, ACME)];
    net.rest();
    assert!(net.messages[&out].accepted && net.received.is_empty());
    net.change(GLOBEX, PeerChange::Resume);
    net.rest();
    assert_eq!(net.received.len(), 2);
    assert!(net.messages[&out].delivered && net.messages[&back].delivered);
}

#[test]
fn a_stranger_waits_until_somebody_here_writes_to_it_or_lets_it_in() {
    let mut net = Net::new();
    net.part(ACME, GLOBEX);
    net.admin(ACME, AdminCommand::SetFederation(Some(Federation::Request)));
    let from_bob = net.write(GLOBEX, ACME);
    net.connect(GLOBEX, ACME);
    net.carry(usize::MAX);
    assert_eq!(standing(&mut net, GLOBEX), Standing::Requested);
    assert!(!net.messages[&from_bob].delivered && net.received.is_empty());
    net.write(ACME, GLOBEX);
    assert_eq!(standing(&mut net, GLOBEX), Standing::Introduced);
    net.rest();
    assert_eq!(net.received.len(), 2);
    net.admin(ACME, AdminCommand::SetFederation(Some(Federation::Closed)));
    let closed = net.write(ACME, GLOBEX);
    assert_eq!(net.messages[&closed].refused, Some(RefusalCode::Refused), "closed is closed");
    net.change(GLOBEX, PeerChange::Allow);
    let open = net.write(ACME, GLOBEX);
    assert!(net.messages[&open].accepted);
}

#[test]
fn a_goodbye_stops_retries_everywhere_and_can_be_taken_back() {
    let mut net = Net::new();
    net.part(ACME, GLOBEX);
    net.part(GLOBEX, INITECH);
    let from_alice = net.write(ACME, GLOBEX);
    let from_carol = net.write(INITECH, GLOBEX);
    // globex comes back for long enough to say goodbye to initech, and acme hears it from there.
    net.admin(GLOBEX, AdminCommand::Goodbye { is_taken_back: false });
    net.connect(GLOBEX, INITECH);
    net.carry(usize::MAX);
    net.part(GLOBEX, INITECH);
    net.part(ACME, INITECH);
    net.connect(ACME, INITECH);
    net.carry(usize::MAX);
    for (place, eid) in [(ACME, from_alice), (INITECH, from_carol)] {
        net.listen(place);
        assert_eq!(net.messages[&eid].failed, Some(Some(Reason::Retired)), "{place}");
        net.dialled(place);
        net.wait(3 * 3_600_000);
        assert!(!net.dialled(place).contains(&GLOBEX), "{place} goes on trying");
        let again = net.write(place, GLOBEX);
        assert_eq!(net.messages[&again].refused, Some(RefusalCode::Retired));
    }
    assert_eq!(standing(&mut net, GLOBEX), Standing::Retired);
    net.restart_acme();
    assert_eq!(standing(&mut net, GLOBEX), Standing::Retired, "it is remembered");
    net.admin(GLOBEX, AdminCommand::Goodbye { is_taken_back: true });
    net.connect_all();
    net.carry(usize::MAX);
    let revived = net.write(ACME, GLOBEX);
    net.rest();
    assert!(net.messages[&revived].delivered);
}

#[test]
fn who_is_linked_hears_a_goodbye_at_once_and_the_node_takes_nothing_more() {
    let mut net = Net::new();
    let on_its_way = net.write(GLOBEX, ACME);
    net.admin(ACME, AdminCommand::Goodbye { is_taken_back: false });
    net.carry(usize::MAX);
    let late = net.write(GLOBEX, ACME);
    assert_eq!(net.messages[&late].refused, Some(RefusalCode::Retired));
    let own = net.write(ACME, GLOBEX);
    assert_eq!(net.messages[&own].refused, Some(RefusalCode::Retired));
    net.rest();
    let first = &net.messages[&on_its_way];
    assert!(first.delivered || first.failed.is_some(), "{first:?}");
}

#[test]
fn whom_an_administrator_declares_gone_is_back_when_it_signs_anew() {
    let mut net = Net::new();
    net.part(ACME, GLOBEX);
    let waiting = net.write(ACME, GLOBEX);
    net.change(GLOBEX, PeerChange::Retire);
    net.listen(ACME);
    assert_eq!(net.messages[&waiting].failed, Some(Some(Reason::Retired)));
    net.dialled(ACME);
    net.wait(60_000);
    assert!(net.dialled(ACME).is_empty());
    // Six hours later globex signs its addresses afresh, and greets.
    net.wait(7 * 3_600_000);
    net.connect(GLOBEX, ACME);
    net.carry(usize::MAX);
    let revived = net.write(ACME, GLOBEX);
    assert!(net.messages[&revived].accepted);
    net.rest();
    assert!(net.messages[&revived].delivered);
}

#[test]
fn what_comes_too_fast_is_put_off_and_nothing_of_it_is_lost() {
    let mut net = Net::new();
    let limits = LimitsRow {
        envelopes: Some(5),
        kib: None,
        statements: None,
        questions: None,
        rows: Some(30),
        bytes: None,
        inbox_rows: None,
        inbox_bytes: None,
    };
    net.change(GLOBEX, PeerChange::Limit(limits));
    for _ in 0..100 {
        net.write(GLOBEX, ACME);
    }
    net.carry(usize::MAX);
    net.listen(ACME);
    let at_once = net.received.len();
    assert!(at_once < 30, "{at_once} at once");
    net.rest();
    assert_eq!(net.received.len(), 100);
    let node = net.id(GLOBEX);
    let AdminReply::Peer(detail) = net.admin(ACME, AdminCommand::Peer { node }) else {
        panic!("no peer")
    };
    assert_eq!(detail.limits, Limits { envelopes: 5, ..Limits::default() });
    assert!(detail.counts.limited > 0 && detail.counts.envelopes_in == 100, "{detail:?}");
    assert_eq!(detail.status.dead, 0);
    // And no more than thirty wait here for it.
    net.part(ACME, GLOBEX);
    let refused = (0..40).filter(|_| {
        let eid = net.write(ACME, GLOBEX);
        net.messages[&eid].refused == Some(RefusalCode::Quota)
    });
    assert_eq!(refused.count(), 10);
}

#[test]
fn what_administrators_change_is_one_chain() {
    use tidings_core::admin_log::entry_hash;
    let mut net = Net::new();
    let node = net.id(GLOBEX);
    let deny = AdminCommand::ChangePeer { node, change: PeerChange::Deny, note: "spam".into() };
    net.admin(ACME, AdminCommand::By { who: 1_000, command: Box::new(deny) });
    net.admin(ACME, AdminCommand::Peers);
    let nothing = AdminCommand::ChangePeer { node, change: PeerChange::RetryNow, note: "".into() };
    assert!(matches!(net.admin(ACME, nothing), AdminReply::Refused(_)));
    net.restart_acme();
    net.change(GLOBEX, PeerChange::Allow);
    let AdminReply::Log(entries) = net.admin(ACME, AdminCommand::Log { from: 0 }) else {
        panic!("no log")
    };
    // The invite by which alice joined, and the two changes: what was only asked or refused is none.
    let what: Vec<&str> = entries.iter().map(|entry| entry.row.what.as_str()).collect();
    assert_eq!(what, ["invite", "peers deny", "peers allow"]);
    assert_eq!(entries[1].row.who, Some(1_000));
    assert_eq!(entries[1].row.about, node.to_text());
    let mut previous = None;
    for (seq, entry) in (1..).zip(&entries) {
        assert_eq!((entry.seq, entry.row.previous), (seq, previous));
        previous = Some(entry_hash(entry.seq, &entry.row));
        assert_eq!(previous, Some(entry.hash));
    }
}

#[test]
fn a_node_that_an_administrator_points_at_is_let_in_when_it_answers() {
    let mut net = Net::new();
    net.part(ACME, GLOBEX);
    net.admin(ACME, AdminCommand::SetFederation(Some(Federation::Closed)));
    let peer_id = bytes::Bytes::from(vec![net::SEEDS[GLOBEX]; 34]);
    let transport = tidings_protocol::descriptor::Transport {
        peer_id,
        multiaddrs: vec!["/ip4/192.0.2.1/tcp/7400".to_owned()],
    };
    net.admin(ACME, AdminCommand::Meet { transport: transport.clone() });
    assert_eq!(net.nodes[ACME].met, [transport]);
    net.connect(ACME, GLOBEX);
    net.carry(usize::MAX);
    assert_eq!(standing(&mut net, GLOBEX), Standing::Allowed);
    net.write(ACME, GLOBEX);
    net.rest();
    assert_eq!(net.received.len(), 1);
}

#[test]
fn who_breaks_the_protocol_again_and_again_is_left_alone_unless_it_is_listed() {
    for is_listed in [false, true] {
        let mut net = Net::new();
        if is_listed {
            net.change(GLOBEX, PeerChange::Allow);
        }
        for _ in 0..5 {
            net.break_protocol(GLOBEX);
            net.connect(GLOBEX, ACME);
            net.carry(usize::MAX);
        }
        let said = net.said();
        let last = said.iter().rev().find(|(to, _)| *to == GLOBEX).map(|(_, frame)| frame);
        let is_refused = matches!(last, Some(PeerFrame::Farewell(farewell))
            if farewell.refusal.code == RefusalCode::Busy && farewell.refusal.after_ms.is_some());
        assert_eq!(is_refused, !is_listed, "{last:?}");
        net.write(GLOBEX, ACME);
        net.carry(usize::MAX);
        net.listen(ACME);
        assert_eq!(net.received.len(), usize::from(is_listed));
        net.rest();
        assert_eq!(net.received.len(), 1, "ten minutes later it is heard again");
    }
}
