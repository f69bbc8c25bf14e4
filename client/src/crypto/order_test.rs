//! Any order, loss and repetition of delivery: the product keeps its promises within its limits, and
//! the test double gives the same answer to every single delivery.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    OpenError,
    testing::{Person, acquainted, pq, stub},
};

#[derive(Clone, Debug)]
enum Step {
    /// So many messages by alice (0) or bob (1).
    Send(usize, usize),
    /// One of the messages on the way to that side, by position.
    Deliver(usize, usize),
    /// One that was delivered before.
    Repeat(usize, usize),
    /// All on the way, in order.
    DeliverAll(usize),
    /// A new handshake.
    Start(usize),
}

fn steps(with_starts: bool) -> impl Strategy<Value = Vec<Step>> {
    let starts = u32::from(with_starts);
    let step = prop_oneof![
        6 => (0..2_usize, 1..6_usize).prop_map(|(side, count)| Step::Send(side, count)),
        1 => (0..2_usize, 30..70_usize).prop_map(|(side, count)| Step::Send(side, count)),
        12 => (0..2_usize, any::<usize>()).prop_map(|(side, which)| Step::Deliver(side, which)),
        3 => (0..2_usize, any::<usize>()).prop_map(|(side, which)| Step::Repeat(side, which)),
        2 => (0..2_usize).prop_map(Step::DeliverAll),
        starts => (0..2_usize).prop_map(Step::Start),
    ];
    proptest::collection::vec(step, 1..60)
}

/// One conversation; `answers` has what came of each delivery.
struct Run {
    people: [Person; 2],
    on_the_way: [Vec<(u32, Vec<u8>)>; 2],
    delivered: [Vec<(u32, Vec<u8>)>; 2],
    read: [BTreeSet<u32>; 2],
    next: u32,
    answers: Vec<String>,
}

impl Run {
    fn new(people: [Person; 2]) -> Self {
        let none = || [Vec::new(), Vec::new()];
        let read = [BTreeSet::new(), BTreeSet::new()];
        let (on_the_way, delivered) = (none(), none());
        Self { people, on_the_way, delivered, read, next: 0, answers: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send(side, count) => {
                for _ in 0..count {
                    let text = self.next.to_string();
                    if let Ok(sealed) = self.people[side].try_seal(text.as_bytes()) {
                        self.on_the_way[1 - side].push((self.next, sealed.bytes));
                        self.next += 1;
                    }
                }
            }
            Step::Deliver(side, which) => {
                let len = self.on_the_way[side].len();
                if len > 0 {
                    let part = self.on_the_way[side].remove(which % len);
                    self.deliver(side, &part);
                    self.delivered[side].push(part);
                }
            }
            Step::Repeat(side, which) => {
                let len = self.delivered[side].len();
                if len > 0 {
                    let part = self.delivered[side][which % len].clone();
                    self.deliver(side, &part);
                }
            }
            Step::DeliverAll(side) => {
                for part in std::mem::take(&mut self.on_the_way[side]) {
                    self.deliver(side, &part);
                    self.delivered[side].push(part);
                }
            }
            Step::Start(side) => {
                let bundle = self.people[1 - side].fallback();
                let them = self.people[1 - side].party();
                self.people[side].start(&them, &bundle).unwrap();
            }
        }
    }

    fn deliver(&mut self, side: usize, (number, part): &(u32, Vec<u8>)) {
        let them = self.people[1 - side].party();
        let answer = match self.people[side].open(&them, part) {
            Ok(opened) => {
                assert_eq!(opened.plaintext, number.to_string().into_bytes());
                assert!(self.read[side].insert(*number), "message {number} was read twice");
                "read".to_owned()
            }
            Err(OpenError::Corrupt) => panic!("an honest message was called forged"),
            Err(error) => {
                let is_duplicate = matches!(error, OpenError::Duplicate { .. });
                assert!(
                    !is_duplicate || self.read[side].contains(number),
                    "{number} is no duplicate"
                );
                format!("{error:?}")
            }
        };
        self.answers.push(format!("{side} {number} {answer}"));
    }
}

fn run(people: [Person; 2], steps: &[Step]) -> Run {
    let mut run = Run::new(people);
    // Bob cannot write before he has heard of alice.
    run.step(&Step::Send(0, 1));
    run.step(&Step::DeliverAll(1));
    for step in steps {
        run.step(step);
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_session_in_any_order(steps in steps(false)) {
        let real = run(acquainted(pq), &steps);
        for (answer, before) in real.answers.iter().zip(0..) {
            // A repetition of what was read is always a duplicate, and nothing needs repair but
            // what fell out of the limits.
            let repeated = real.answers[..before].iter().any(|earlier| {
                earlier.split(' ').take(2).eq(answer.split(' ').take(2)) && earlier.ends_with("read")
            });
            let fits = if repeated {
                answer.contains("Duplicate")
            } else {
                answer.ends_with("read") || answer.contains("Lost")
            };
            prop_assert!(fits, "{answer}");
        }
        prop_assert_eq!(real.answers, run(acquainted(stub), &steps).answers);
    }

    #[test]
    fn many_sessions_in_any_order(steps in steps(true)) {
        let real = run(acquainted(pq), &steps);
        prop_assert_eq!(real.answers, run(acquainted(stub), &steps).answers);
    }

    /// Reordering by less than the 40 kept keys, with repetitions, loses nothing.
    #[test]
    fn nothing_is_lost_within_the_limits(
        texts in 1..120_usize,
        shifts in proptest::collection::vec(0..40_usize, 120),
        turns in proptest::collection::vec(any::<bool>(), 120),
    ) {
        let [mut alice, mut bob] = acquainted(pq);
        let [a, b] = [alice.party(), bob.party()];
        let sealed: Vec<_> = (0..texts).map(|i| alice.seal(&i.to_string())).collect();
        let mut order: Vec<_> = (0..texts).collect();
        order.sort_by_key(|i| (i + shifts[*i], *i));
        for i in order {
            prop_assert_eq!(bob.reads(&a, &sealed[i]), i.to_string());
            if turns[i] {
                let is_duplicate =
                    matches!(bob.open(&a, &sealed[i]), Err(OpenError::Duplicate { .. }));
                prop_assert!(is_duplicate);
                let reply = bob.seal("reply");
                prop_assert_eq!(alice.reads(&b, &reply), "reply");
            }
        }
    }
}
