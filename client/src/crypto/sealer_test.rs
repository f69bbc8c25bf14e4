//! The sealer's promises, each checked with the product and with the test double.

use super::{
    Advice, Claim, HandshakeDue, OpenError, SESSION_AGE_MAX_MS, SESSION_MESSAGES_MAX, SESSIONS_MAX,
    SealError, SignatureError, StartError, StateError,
    bundle::BundleError,
    prekeys::{PREKEY_GRACE_MS, PREKEY_ROTATION_MS, PrekeyKind, PrekeySecrets},
    testing::{NOW_MS, Person, acquainted, people, pq, with_both},
};

fn parties(alice: &Person, bob: &Person) -> [super::Party; 2] {
    [alice.party(), bob.party()]
}

#[test]
fn a_conversation_goes_both_ways_and_the_handshake_ends_with_the_first_reply() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let [a, b] = parties(&alice, &bob);
        let first = alice.try_seal(b"hello").unwrap();
        let second = alice.try_seal(b"again").unwrap();
        assert!(first.handshake_pending && second.handshake_pending);

        // The second arrives first; it carries the handshake as well.
        let opened = bob.open(&a, &second.bytes).unwrap();
        assert!(opened.is_new_session);
        assert_eq!(opened.plaintext, b"again");
        let late = bob.open(&a, &first.bytes).unwrap();
        assert!(!late.is_new_session);
        assert_eq!((late.plaintext, late.session), (b"hello".to_vec(), opened.session));

        for turn in 0..10 {
            let reply = bob.seal("reply");
            assert_eq!(alice.reads(&b, &reply), "reply");
            let answer = alice.try_seal(format!("turn {turn}").as_bytes()).unwrap();
            assert!(!answer.handshake_pending);
            assert_eq!(bob.reads(&a, &answer.bytes), format!("turn {turn}"));
        }
    });
}

#[test]
fn tags_name_the_session_to_its_receiver() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let a = alice.party();
        let first = alice.try_seal(b"hello").unwrap();
        bob.open(&a, &first.bytes).unwrap();
        let reply = bob.try_seal(b"reply").unwrap();
        let tags =
            |person: &Person| person.sealer.receive_tags(person.state.as_deref().unwrap()).unwrap();
        assert_eq!(tags(&bob), [first.tag]);
        assert_eq!(tags(&alice), [reply.tag]);
        assert_ne!(first.tag, reply.tag);
    });
}

#[test]
fn duplicates_are_told_apart_and_never_repaired() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let [a, b] = parties(&alice, &bob);
        let first = alice.seal("one");
        bob.open(&a, &first).unwrap();
        let again = bob.open(&a, &first).unwrap_err();
        assert!(matches!(again, OpenError::Duplicate { index: 0 }), "{again:?}");
        assert_eq!(again.advice(), Advice::Acknowledge);

        let reply = bob.seal("reply");
        alice.open(&b, &reply).unwrap();
        assert!(matches!(alice.open(&b, &reply), Err(OpenError::Duplicate { .. })));
        // A duplicate from a chain that is long gone.
        for _ in 0..8 {
            let (ping, pong) = (alice.seal("ping"), bob.seal("pong"));
            alice.open(&b, &pong).unwrap();
            bob.open(&a, &ping).unwrap();
        }
        assert!(matches!(bob.open(&a, &first), Err(OpenError::Duplicate { .. })));
    });
}

#[test]
fn sixty_in_reverse_lose_nineteen_and_say_so() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let a = alice.party();
        let sealed: Vec<_> = (0..60).map(|i| alice.seal(&format!("{i}"))).collect();
        let results: Vec<_> = sealed.iter().rev().map(|part| bob.open(&a, part)).collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 41);
        for result in &results[41..] {
            let error = result.as_ref().unwrap_err();
            assert!(matches!(error, OpenError::Lost { .. }), "{error:?}");
            assert_eq!(error.advice(), Advice::Repair);
        }
    });
}

#[test]
fn a_gap_of_two_thousand_opens_and_one_more_does_not() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let a = alice.party();
        bob.open(&a, &alice.seal("first")).unwrap();
        for _ in 0..2_000 {
            alice.seal("lost");
        }
        let (at_limit, beyond) = (alice.seal("at the limit"), alice.seal("beyond"));
        let error = bob.open(&a, &beyond).unwrap_err();
        assert!(matches!(error, OpenError::GapTooLarge { gap: 2_001 }), "{error:?}");
        assert_eq!(error.advice(), Advice::Repair);
        assert_eq!(bob.reads(&a, &at_limit), "at the limit");
        assert_eq!(bob.reads(&a, &beyond), "beyond");
    });
}

#[test]
fn a_one_time_key_dies_with_the_first_message_and_a_frozen_one_still_opens() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let a = alice.party();
        let used = bob.keys.usable_one_time().last().copied().unwrap();
        bob.keys.freeze_one_time(NOW_MS);
        assert!(bob.keys.usable_one_time().is_empty());
        let first = alice.seal("hello");
        bob.open(&a, &first).unwrap();

        // Another sender was handed the same key: it is gone, which is cause for repair.
        let mut carol = Person::new("carol@acme", sealer(3), 3);
        let mut bundle = bob.fallback();
        bundle.one_time = Some(tidings_protocol::bundle::OneTimePrekey {
            id: used,
            key: tidings_protocol::key::X25519Key([9; 32]),
        });
        carol.start(&bob.party(), &bundle).unwrap();
        let error = bob.open(&carol.party(), &carol.seal("hello")).unwrap_err();
        let gone = OpenError::PrekeyGone { kind: PrekeyKind::OneTime, id: used };
        assert_eq!(format!("{error:?}"), format!("{gone:?}"));
        assert_eq!(error.advice(), Advice::Repair);
    });
}

#[test]
fn frozen_keys_are_forgotten_at_once_or_after_their_grace() {
    with_both(|sealer| {
        let [_, mut bob] = people(sealer);
        bob.keys.freeze_one_time(NOW_MS);
        bob.sealer.add_one_time(&mut bob.keys, 2).unwrap();
        assert_eq!(bob.keys.usable_one_time().len(), 2);
        assert!(!bob.keys.expire(NOW_MS + PREKEY_GRACE_MS - 1));
        assert!(bob.keys.expire(NOW_MS + PREKEY_GRACE_MS));
        bob.keys.freeze_one_time(NOW_MS);
        bob.keys.forget_frozen();
        assert!(bob.keys.usable_one_time().is_empty());
        assert!(bob.sealer.add_one_time(&mut bob.keys, 1_001).is_err());
        assert_eq!(bob.sealer.add_one_time(&mut bob.keys, 1_000).unwrap().len(), 1_000);
    });
}

#[test]
fn a_replayed_handshake_is_refused_with_and_without_one_time_key() {
    with_both(|sealer| {
        for with_one_time in [true, false] {
            let [mut alice, mut bob] = people(sealer);
            let [a, b] = parties(&alice, &bob);
            let bundle = if with_one_time { bob.bundle() } else { bob.fallback() };
            alice.start(&b, &bundle).unwrap();
            let first = alice.seal("pay 5");
            bob.open(&a, &first).unwrap();
            // Even when all sessions were lost, and after a round trip of the keys.
            bob.state = None;
            bob.keys = PrekeySecrets::from_bytes(&bob.keys.to_bytes()).unwrap();
            let error = bob.open(&a, &first).unwrap_err();
            assert!(matches!(error, OpenError::HandshakeReplayed), "{error:?}");
            assert_eq!(error.advice(), Advice::Acknowledge);
        }
    });
}

#[test]
fn signed_prekeys_rotate_and_old_ones_open_until_their_grace_ends() {
    with_both(|sealer| {
        let [mut alice, mut bob] = people(sealer);
        let [a, b] = parties(&alice, &bob);
        alice.start(&b, &bob.fallback()).unwrap();
        let late = alice.seal("late");
        let rotated_ms = NOW_MS + PREKEY_ROTATION_MS;
        assert!(!bob.keys.wants_rotation(rotated_ms - 1));
        assert!(bob.keys.wants_rotation(rotated_ms));
        let old = bob.fallback();
        bob.sealer.rotate_prekeys(&mut bob.keys, rotated_ms).unwrap();
        assert_ne!(bob.fallback(), old);
        assert!(!bob.keys.wants_rotation(rotated_ms));
        assert!(!bob.keys.expire(rotated_ms + PREKEY_GRACE_MS - 1));
        assert_eq!(bob.reads(&a, &late), "late");

        let mut carol = Person::new("carol@acme", sealer(3), 3);
        carol.start(&b, &old).unwrap();
        assert!(bob.keys.expire(rotated_ms + PREKEY_GRACE_MS));
        let error = bob.open(&carol.party(), &carol.seal("too late")).unwrap_err();
        assert!(matches!(error, OpenError::PrekeyGone { kind: PrekeyKind::Signed, .. }));
    });
}

#[test]
fn both_start_at_once_and_still_talk() {
    with_both(|sealer| {
        let [mut alice, mut bob] = people(sealer);
        let [a, b] = parties(&alice, &bob);
        let bundles = (alice.bundle(), bob.bundle());
        bob.start(&a, &bundles.0).unwrap();
        alice.start(&b, &bundles.1).unwrap();
        let (from_alice, from_bob) = (alice.seal("from alice"), bob.seal("from bob"));
        assert_eq!(alice.reads(&b, &from_bob), "from bob");
        assert_eq!(bob.reads(&a, &from_alice), "from alice");
        for _ in 0..3 {
            let sealed = alice.seal("ping");
            assert_eq!(bob.reads(&a, &sealed), "ping");
            let sealed = bob.seal("pong");
            assert_eq!(alice.reads(&b, &sealed), "pong");
        }
    });
}

#[test]
fn sessions_wear_out_by_time_and_by_messages() {
    with_both(|sealer| {
        let [mut alice, mut bob] = people(sealer);
        let due = |person: &Person, now_ms| {
            person.sealer.wants_handshake(person.state.as_deref(), now_ms).unwrap()
        };
        assert_eq!(due(&alice, NOW_MS), Some(HandshakeDue::NoSession));
        let [a, b] = parties(&alice, &bob);
        alice.start(&b, &bob.bundle()).unwrap();
        assert_eq!(due(&alice, NOW_MS + SESSION_AGE_MAX_MS - 1), None);
        assert_eq!(due(&alice, NOW_MS + SESSION_AGE_MAX_MS), Some(HandshakeDue::Old));
        for _ in 0..SESSION_MESSAGES_MAX {
            assert_eq!(due(&alice, NOW_MS), None);
            let sealed = alice.seal("m");
            bob.open(&a, &sealed).unwrap();
        }
        assert_eq!(due(&alice, NOW_MS), Some(HandshakeDue::Worn));
        assert_eq!(due(&bob, NOW_MS), Some(HandshakeDue::Worn));

        // A message still under way on the worn session does not bring it back to the front.
        let late = bob.seal("late");
        alice.start(&b, &bob.bundle()).unwrap();
        assert_eq!(alice.reads(&b, &late), "late");
        assert_eq!(due(&alice, NOW_MS), None);
        let sealed = alice.try_seal(b"on the new one").unwrap();
        assert!(sealed.handshake_pending);
        assert!(bob.open(&a, &sealed.bytes).unwrap().is_new_session);
        assert_eq!(due(&bob, NOW_MS), None);
    });
}

#[test]
fn four_sessions_are_kept_and_the_oldest_is_unknown() {
    with_both(|sealer| {
        let [mut alice, mut bob] = people(sealer);
        let [a, b] = parties(&alice, &bob);
        alice.start(&b, &bob.fallback()).unwrap();
        bob.open(&a, &alice.seal("oldest")).unwrap();
        let on_oldest = bob.seal("from the oldest");
        for _ in 0..SESSIONS_MAX {
            alice.start(&b, &bob.fallback()).unwrap();
        }
        assert_eq!(alice.sealer.receive_tags(alice.state.as_deref().unwrap()).unwrap().len(), 4);
        let error = alice.open(&b, &on_oldest).unwrap_err();
        assert!(matches!(error, OpenError::UnknownSession), "{error:?}");
        assert_eq!(error.advice(), Advice::Repair);
    });
}

#[test]
fn repair_after_a_lost_state() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let [a, b] = parties(&alice, &bob);
        bob.open(&a, &alice.seal("hello")).unwrap();
        alice.open(&b, &bob.seal("hello")).unwrap();
        bob.state = None;
        let lost = alice.seal("lost");
        assert_eq!(bob.open(&a, &lost).unwrap_err().advice(), Advice::Repair);
        bob.start(&a, &alice.fallback()).unwrap();
        let repair = bob.seal("please again");
        assert!(alice.open(&b, &repair).unwrap().is_new_session);
        let again = alice.seal("lost");
        assert_eq!(bob.reads(&a, &again), "lost");
    });
}

#[test]
fn signatures_are_introduced_pinned_and_checked() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let [a, b] = parties(&alice, &bob);
        let claim = Claim { chat: [1; 32], sequence: 1, plaintext_hash: [2; 32] };
        let sign = |person: &Person| {
            person.sealer.sign(&person.me, person.state.as_deref().unwrap(), &claim).unwrap()
        };
        let check = |person: &mut Person, them, session, claim, signature| {
            let state = person.state.as_mut().unwrap();
            person.sealer.check_signature(them, state, &session, &claim, &signature)
        };
        let signed = sign(&alice);
        assert!(signed.key.is_some());
        let session = bob.open(&a, &alice.seal("hello")).unwrap().session;

        let bare = super::SessionSignature { key: None, ..signed };
        let none = check(&mut bob, &a, session, claim, bare).unwrap_err();
        assert!(matches!(none, SignatureError::NoKey));
        let other = Claim { sequence: 2, ..claim };
        let bad = check(&mut bob, &a, session, other, signed).unwrap_err();
        assert!(matches!(bad, SignatureError::Bad));
        check(&mut bob, &a, session, claim, signed).unwrap();
        check(&mut bob, &a, session, claim, bare).unwrap();
        let changed = super::SessionSignature { key: Some([7; 32]), ..signed };
        let changed = check(&mut bob, &a, session, claim, changed).unwrap_err();
        assert!(matches!(changed, SignatureError::KeyChanged));
        let gone = check(&mut bob, &a, [0; 32], claim, signed).unwrap_err();
        assert!(matches!(gone, SignatureError::NoSession));

        // Bob introduces his own key until alice's second chain proves that she has it.
        let signed = sign(&bob);
        assert!(signed.key.is_some());
        let session = alice.open(&b, &bob.seal("reply")).unwrap().session;
        check(&mut alice, &b, session, claim, signed).unwrap();
        assert_eq!(sign(&alice).key, None);
        bob.open(&a, &alice.seal("third")).unwrap();
        assert_eq!(sign(&bob).key, None);
    });
}

#[test]
fn a_bundle_of_another_device_starts_nothing() {
    with_both(|sealer| {
        let [mut alice, mut bob] = people(sealer);
        let carol = Person::new("carol@globex", sealer(3), 3);
        let error = alice.start(&carol.party(), &bob.bundle()).unwrap_err();
        assert!(matches!(error, StartError::Bundle(BundleError::OtherDevice)), "{error:?}");
        assert!(alice.state.is_none());
    });
}

#[test]
fn introductions_reach_their_device_only() {
    with_both(|sealer| {
        let [mut alice, bob] = people(sealer);
        let sealed = alice.sealer.seal_introduction(&bob.party(), b"alice").unwrap();
        assert_eq!(bob.sealer.open_introduction(&bob.me, &sealed).unwrap(), b"alice");
        assert!(alice.sealer.open_introduction(&alice.me, &sealed).is_err());
    });
}

#[test]
fn broken_input_is_an_error_everywhere() {
    with_both(|sealer| {
        let [mut alice, mut bob] = acquainted(sealer);
        let a = alice.party();
        let sealed = alice.seal("hello");
        for len in 0..sealed.len() {
            assert!(bob.open(&a, &sealed[..len]).is_err());
        }
        assert!(matches!(bob.open(&a, &[9, 1, 2]), Err(OpenError::Malformed)));
        assert!(matches!(bob.try_seal(b"x"), Err(SealError::NoSession)));
        assert!(matches!(alice.try_seal(&vec![0; 60_000]), Err(SealError::TooLong { .. })));
        alice.state = Some(vec![1, 2, 3]);
        assert!(matches!(alice.try_seal(b"x"), Err(SealError::State(StateError::Decode(_)))));
        assert!(PrekeySecrets::from_bytes(&[1, 2, 3]).is_err());
    });
}

#[test]
fn sizes_on_the_wire_are_the_documented_ones() {
    let [mut alice, mut bob] = acquainted(pq);
    let [a, b] = parties(&alice, &bob);
    let first = alice.seal(&"x".repeat(100));
    assert_eq!(first.len(), 1 + 1_134 + 224);
    bob.open(&a, &first).unwrap();
    let reply = bob.seal(&"x".repeat(100));
    assert_eq!(reply.len(), 1 + 224);
    alice.open(&b, &reply).unwrap();
    assert!(alice.state.unwrap().len() < 2_000);
}
