//! globex is away, and its custodian tells strangers who its users are: and what becomes of a custodian
//! that makes users up, of an agreement that is full, and of one that is taken back.

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

#[path = "support/three.rs"]
mod three;

use bytes::Bytes;
use tidings_core::{
    effect::{AdminReply, CustodyStatus},
    event::{AdminCommand, AdminToken, Event, LinkId, PeerInput},
    settings::CustodyTerms,
};
use tidings_protocol::{
    address::UserName,
    bundle::{Bundle, KemPrekey, PrekeyUpload, SignedPrekey},
    client_frame::{Bundles, ClientFrame, FetchBundle, NodeFrame, PublishPrekeys},
    codec,
    device_list::{CheckedList, DeviceList},
    directory::Listing,
    id::NodeId,
    key::{SecretKey, Signature, X25519Key},
    peer_frame::{PeerFrame, User},
    refusal::RefusalCode,
    signed::Signed,
};

use three::{
    ACME, GLOBEX, INITECH, Three, connect, fail_to_reach, part, peer, settle,
    support::{Node, Phone},
    terms, three,
};

fn name(text: &str) -> UserName {
    UserName::parse(text).unwrap()
}

fn bundle(phone: &Phone, id: u32) -> Bundle {
    let signature = Signature([1; 64]);
    let signed_prekey = SignedPrekey { id, key: X25519Key([2; 32]), signature };
    let kem_prekey = KemPrekey { id, key: Bytes::from(vec![3; 1184]), signature };
    let identity = X25519Key([4; 32]);
    Bundle { device: phone.key.public(), identity, signed_prekey, kem_prekey, one_time: None }
}

fn publish(phone: &Phone, node: &mut Node, id: u32) {
    let upload = PrekeyUpload { fallback: bundle(phone, id), one_time: Vec::new() };
    let frame = ClientFrame::PublishPrekeys(PublishPrekeys { request: 3, upload });
    node.send(phone.conn, &frame, Bytes::new());
    assert!(matches!(node.next(phone.conn).0, NodeFrame::Done(_)));
}

impl Three {
    /// globex is gone for acme, which has a link to initech.
    fn globex_goes(&mut self) {
        part(&mut self.initech, &mut self.globex);
        let globex = self.globex.id;
        fail_to_reach(&mut self.acme, globex);
        connect(&mut self.acme, ACME, &mut self.initech, INITECH);
    }

    /// alice's device asks for a user of globex; what acme wants to send for that waits.
    fn ask(&mut self, user: &str) {
        let (node, name) = (self.globex.id, name(user));
        let fetch = FetchBundle { request: 9, node, name, known_version: None, with_bundles: true };
        self.acme.send(self.alice.conn, &ClientFrame::FetchBundle(fetch), Bytes::new());
        self.acme.give([Event::Tick]);
    }

    fn answer(&mut self) -> Result<Bundles, RefusalCode> {
        self.acme.give([Event::Tick]);
        match self.acme.next(self.alice.conn).0 {
            NodeFrame::Bundles(bundles) => Ok(bundles),
            NodeFrame::Refused(refused) => Err(refused.refusal.code),
            other => panic!("{other:?}"),
        }
    }

    fn fetch(&mut self, user: &str) -> Result<Bundles, RefusalCode> {
        self.ask(user);
        settle(&mut self.acme, &mut self.initech);
        self.answer()
    }

    fn custody(node: &mut Node) -> CustodyStatus {
        node.give([Event::Admin { token: AdminToken(1), command: AdminCommand::Custody }]);
        let Some(AdminReply::Custody(status)) = node.replies.pop() else { panic!("no status") };
        *status
    }

    fn kept(&mut self) -> u64 {
        let status = Self::custody(&mut self.initech);
        status.held_for.first().expect("globex").users
    }
}

#[test]
fn a_stranger_learns_of_a_user_whose_node_is_away() {
    let mut three = three(Some(terms(100)), true);
    publish(&three.bob, &mut three.globex, 1);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    three.globex_goes();
    let found = three.fetch("bob").unwrap();
    assert_eq!(found.lists, [three.bob.list.clone()]);
    assert_eq!(found.bundles, [bundle(&three.bob, 1)]);
    part(&mut three.acme, &mut three.initech);
    assert_eq!(three.fetch("bob").unwrap().lists, [three.bob.list.clone()], "acme has kept it");
    three.ask("carol");
    // Nobody can be asked for her, and that takes its time.
    three.acme.now_ms += 6_000;
    assert_eq!(three.answer().unwrap_err(), RefusalCode::Unreachable);
}

#[test]
fn what_changes_while_both_are_up_is_told_at_once() {
    let mut three = three(Some(terms(100)), true);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.kept(), 1);
    let carol = Phone::join(&mut three.globex, "carol", 60);
    publish(&carol, &mut three.globex, 5);
    settle(&mut three.initech, &mut three.globex);
    assert_eq!(three.kept(), 2);
    publish(&carol, &mut three.globex, 6);
    settle(&mut three.initech, &mut three.globex);
    three.globex_goes();
    let found = three.fetch("carol").unwrap();
    assert_eq!((found.lists, found.bundles), (vec![carol.list.clone()], vec![bundle(&carol, 6)]));
}

#[test]
fn more_users_than_a_page_holds_come_over_and_those_that_are_gone_go() {
    let mut three = three(Some(terms(100)), true);
    for number in 0..70u8 {
        Phone::join(&mut three.globex, &format!("user{number:02}"), 100 + number);
    }
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.kept(), 71);
    part(&mut three.initech, &mut three.globex);
    // globex is made anew by the same root key, without its old users.
    let identity = three::support::identity_with(GLOBEX, vec![three.initech.id]);
    let disk = tidings_store::MemDisk::new();
    three.globex = Node::open_as(GLOBEX, identity, &disk, 9, three::support::NOW_MS);
    Phone::join(&mut three.globex, "user05", 90);
    // The first greeting tells it that its store is not the one that initech knew.
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    part(&mut three.initech, &mut three.globex);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.kept(), 1);
}

#[test]
fn no_more_users_are_kept_than_was_agreed() {
    let few = CustodyTerms { users: 2, ..terms(100) };
    let mut three = three(Some(few), true);
    for (seed, user) in [(60, "carol"), (62, "dave"), (64, "erin")] {
        Phone::join(&mut three.globex, user, seed);
    }
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    assert_eq!(three.kept(), 2);
    three.globex_goes();
    assert!(three.fetch("bob").is_ok() && three.fetch("carol").is_ok());
    assert_eq!(three.fetch("dave").unwrap_err(), RefusalCode::Unreachable);
}

/// A list of bob's that a custodian makes up.
fn made_up(node: NodeId) -> (Signed<DeviceList>, CheckedList) {
    let account = SecretKey::from_seed(&[200; 32]);
    let key = SecretKey::from_seed(&[201; 32]);
    let list = DeviceList {
        identity: account.public(),
        node,
        name: name("bob"),
        version: 0,
        previous: None,
        devices: vec![three::support::listed(&key)],
        issued_ms: three::support::NOW_MS,
        signer: None,
    };
    let signed = Signed::new(&list, &account);
    let checked = CheckedList::first_seen(&signed).unwrap();
    (signed, checked)
}

#[test]
fn a_custodian_that_makes_a_user_up_is_not_believed() {
    let mut three = three(Some(terms(100)), true);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    three.globex_goes();
    three.ask("bob");
    settle(&mut three.acme, &mut three.initech);
    let honest = three.answer().unwrap();
    let (forged, checked) = made_up(three.globex.id);
    let listing = |signer: &SecretKey, hash| {
        Signed::new(
            &Listing {
                node: three.globex.id,
                name: name("bob"),
                account: checked.account(),
                list_version: 0,
                list_hash: hash,
                issued_ms: three::support::NOW_MS,
                expires_ms: u64::MAX,
                serial: 1,
            },
            signer,
        )
    };
    let initech = SecretKey::from_seed(&[INITECH + 1; 32]);
    let word = listing(&initech, checked.hash);
    for (reason, listing) in [("no word", None), ("initech's word", Some(word))] {
        let mut other = Three::again();
        connect(&mut other.initech, INITECH, &mut other.globex, GLOBEX);
        other.globex_goes();
        other.ask("bob");
        let asked = other.acme.to_peer.iter().find_map(|frame| {
            match codec::decode(&frame.header).unwrap() {
                PeerFrame::FetchFor(fetch) => Some(fetch.request),
                _ => None,
            }
        });
        other.acme.to_peer.clear();
        let user = User {
            request: asked.expect("a question"),
            refusal: None,
            lists: vec![forged.clone()],
            bundles: Vec::new(),
            listing,
            delegation: None,
        };
        let input = PeerInput::User(Box::new(user));
        other.acme.give([Event::Peer { link: LinkId(1), input }]);
        assert_eq!(other.answer().unwrap_err(), RefusalCode::Unreachable, "{reason}");
    }
    assert_eq!(honest.lists, [three.bob.list.clone()]);
}

impl Three {
    fn again() -> Self {
        three(Some(terms(100)), true)
    }
}

#[test]
fn a_consent_is_taken_back_while_the_node_runs_and_what_is_held_stays() {
    let mut three = three(Some(terms(100)), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 1);
    part(&mut three.acme, &mut three.initech);
    let node = three.globex.id;
    let command = AdminCommand::Revoke { node };
    three.initech.give([Event::Admin { token: AdminToken(2), command }]);
    assert!(matches!(three.initech.replies.pop(), Some(AdminReply::Done)));
    assert_eq!(three.held(), 1, "what is held stays");
    let head = three.bob.envelope(three.acme.id, three.globex.id, 2);
    three.alice.submit(&mut three.acme, head, 2);
    fail_to_reach(&mut three.acme, node);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 1, "nothing new is taken");
    part(&mut three.acme, &mut three.initech);
    connect(&mut three.initech, INITECH, &mut three.globex, GLOBEX);
    let initech = three.initech.id;
    assert_eq!(peer(&mut three.globex, initech).consent_rows, Some(0));
    assert_eq!(three.bob.receive_numbers(&mut three.globex), [1]);
    settle(&mut three.initech, &mut three.globex);
    three.initech.wait(61_000);
    assert_eq!(three.kept(), 0, "its users are forgotten");
    // And granted anew, on the link.
    three.initech.to_peer.clear();
    let command = AdminCommand::Grant(terms(5));
    three.initech.give([Event::Admin { token: AdminToken(3), command }]);
    three.globex.now_ms = three.initech.now_ms;
    settle(&mut three.initech, &mut three.globex);
    assert_eq!(peer(&mut three.globex, initech).consent_rows, Some(5));
    assert_eq!(three.kept(), 1);
}

#[test]
fn what_was_held_too_long_is_let_go() {
    let day_ms = 24 * 3600 * 1000;
    let mut three = three(Some(CustodyTerms { life_ms: day_ms, ..terms(100) }), true);
    three.write(1);
    connect(&mut three.acme, ACME, &mut three.initech, INITECH);
    assert_eq!(three.held(), 1);
    part(&mut three.acme, &mut three.initech);
    three.initech.now_ms += day_ms + 120_000;
    three.initech.give([Event::Tick]);
    assert_eq!(three.held(), 0);
}
