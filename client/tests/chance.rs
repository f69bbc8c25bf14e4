//! Two people with two devices each, for some hundred random days: links break, processes start
//! anew, nodes hold things back and are busy. In the end everybody has everything, once, in one order.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failure here is a failed test")]

#[expect(dead_code, reason = "each test file uses its part")]
mod support;

use std::collections::BTreeSet;

use rand_core::{Rng as _, SeedableRng as _};
use support::World;
use tidings_client::{crypto::StubSealer, event::Status};
use tidings_protocol::refusal::RefusalCode;
use tidings_store::Store as _;

struct Day {
    world: World<StubSealer>,
    rng: rand_chacha::ChaCha8Rng,
    sent: usize,
    messages: Vec<(usize, tidings_client::event::MessageRef)>,
}

impl Day {
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.rng.next_u64() % bound).unwrap()
    }

    fn step(&mut self) {
        let index = self.below(4);
        let node = self.world.node(1 + u8::try_from(index % 2).unwrap());
        match self.below(12) {
            0..=3 => {
                let text = format!("{index}-{}", self.sent);
                self.sent += 1;
                // Devices 0 and 2 are Alice's, 1 and 3 are Bob's.
                let message = self.world.send(index, 1 - index % 2, &text);
                self.messages.push((index, message));
            }
            4 => self.world.disconnect(index),
            5 => self.world.restart(index),
            6 | 7 => {
                if !self.world.devices[index].online {
                    self.world.connect(index);
                }
            }
            8 => {
                let held = &mut self.world.nodes.get_mut(&node).unwrap().hold_inbox;
                *held = !*held;
            }
            9 => {
                let busy = &mut self.world.nodes.get_mut(&node).unwrap().refuse;
                *busy = if busy.is_none() { Some(RefusalCode::Busy) } else { None };
            }
            10 => {
                let shown: Vec<_> =
                    self.world.devices[index].shown.iter().map(|s| s.message.clone()).collect();
                self.world.display(index, shown);
            }
            _ => self.world.run(),
        }
        let pause = u64::try_from(self.below(3_000)).unwrap();
        self.world.now_ms += pause;
    }

    fn heal(&mut self) {
        for node in self.world.nodes.values_mut() {
            node.hold_inbox = false;
            node.refuse = None;
        }
        for index in 0..4 {
            if !self.world.devices[index].online {
                self.world.connect(index);
            }
        }
        self.world.run();
        self.world.wait(400_000);
    }
}

fn one_day(seed: u8) {
    let mut world = World::new();
    let alice = world.join("alice", 1);
    let bob = world.join("bob", 2);
    world.link(alice);
    world.link(bob);
    let rng = rand_chacha::ChaCha8Rng::from_seed([seed; 32]);
    let mut day = Day { world, rng, sent: 0, messages: Vec::new() };
    for _ in 0..120 {
        day.step();
    }
    day.heal();
    let mut views = BTreeSet::new();
    for index in 0..4 {
        let device = &day.world.devices[index];
        let peer = day.world.devices[1 - index % 2].peer.clone();
        device
            .store
            .view(&mut |txn| {
                let view = device.core.conversation(txn, &peer, 1_000)?;
                views.insert(view.into_iter().map(|m| m.text).collect::<Vec<_>>());
                Ok(())
            })
            .unwrap();
        assert_eq!(
            device.core.outbox_len(),
            0,
            "seed {seed}, device {index}: {:?}",
            device.warnings
        );
        let texts = day.world.texts(index);
        assert_eq!(texts.len(), texts.iter().collect::<BTreeSet<_>>().len(), "seed {seed}: twice");
    }
    assert_eq!(views.len(), 1, "seed {seed}: {views:#?}");
    assert_eq!(views.first().unwrap().len(), day.sent, "seed {seed}");
    for (index, message) in &day.messages {
        let statuses = day.world.status(*index, message);
        assert!(
            statuses.len() == 2 && statuses.iter().all(|s| s.rank() >= Status::Delivered.rank()),
            "seed {seed}: {statuses:?}"
        );
    }
}

#[test]
fn random_days_end_with_everybody_having_everything_once() {
    for seed in 0..60 {
        one_day(seed);
    }
}
