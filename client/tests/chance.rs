//! Two people with two devices each, for some hundred random days: links break, processes start
//! anew, nodes hold things back and are busy. In the end everybody has everything, once, in one order.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a failure here is a failed test")]

#[allow(dead_code, reason = "each test file uses its part")]
mod support;

use std::collections::BTreeSet;

use rand_core::{Rng as _, SeedableRng as _};
use support::World;
use tidings_client::{crypto::StubSealer, event::Status};
use tidings_protocol::{id::DeviceId, refusal::RefusalCode};
use tidings_store::Store as _;

struct Day {
    world: World<StubSealer>,
    rng: rand_chacha::ChaCha8Rng,
    sent: usize,
    messages: Vec<(usize, tidings_client::event::MessageRef)>,
    images: Option<std::collections::BTreeMap<usize, (DeviceId, tidings_store::Image)>>,
}

impl Day {
    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.rng.next_u64() % bound).unwrap()
    }

    /// A device is set back to an image of its disk, or the image is taken.
    fn image(&mut self, index: usize) {
        let Some(images) = &mut self.images else { return };
        // The second devices may not sign lists: they would stop.
        let disk = self.world.devices[index].disk.clone();
        let id = self.world.devices[index].core.device_id();
        // An image of before the last new id belongs to a device that is listed no more.
        match images.remove(&index).filter(|(of, _)| *of == id) {
            Some((_, image)) => {
                disk.restore(&image);
                self.world.restart(index);
                // It has forgotten what it knew, and may say it again.
                self.world.devices[index].statuses.clear();
            }
            None => {
                images.insert(index, (id, disk.image()));
            }
        }
    }

    fn step(&mut self) {
        let index = self.below(4);
        if self.below(20) == 0 {
            self.image(index % 2);
        }
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
        // A device that takes a new id hangs up once.
        for _ in 0..3 {
            for index in 0..4 {
                if !self.world.devices[index].online {
                    self.world.connect(index);
                }
            }
            self.world.run();
        }
        self.world.wait(400_000);
    }

    fn run(seed: u8, rolls_back: bool) -> Self {
        let mut world = World::new();
        let alice = world.join("alice", 1);
        let bob = world.join("bob", 2);
        world.link(alice);
        world.link(bob);
        let rng = rand_chacha::ChaCha8Rng::from_seed([seed; 32]);
        let images = rolls_back.then(std::collections::BTreeMap::new);
        let mut day = Self { world, rng, sent: 0, messages: Vec::new(), images };
        for _ in 0..120 {
            day.step();
        }
        day.heal();
        day
    }
}

fn one_day(seed: u8) {
    let day = Day::run(seed, false);
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
    for seed in 0..12 {
        one_day(seed);
    }
}

#[test]
fn devices_that_are_set_back_again_and_again_show_nothing_twice_and_come_to_rest() {
    for seed in 0..12 {
        let day = Day::run(seed, true);
        for index in 0..4 {
            let device = &day.world.devices[index];
            assert!(device.stopped.is_none(), "seed {seed}, device {index}: {:?}", device.stopped);
            let waiting = device.core.outbox_len();
            assert_eq!(waiting, 0, "seed {seed}, device {index}: {:?}", device.warnings);
        }
        // The second devices were never set back: they show everything at most once, and everything
        // that was sent by devices that were not set back either.
        for index in [2, 3] {
            let texts = day.world.texts(index);
            let once: BTreeSet<_> = texts.iter().collect();
            assert_eq!(texts.len(), once.len(), "seed {seed}: twice");
            let sibling = 5 - index;
            for (from, message) in day.messages.iter().filter(|(from, _)| *from == sibling) {
                let shown = &day.world.devices[index].shown;
                assert!(shown.iter().any(|s| s.message.msg == message.msg), "seed {seed}: {from}");
            }
        }
    }
}
