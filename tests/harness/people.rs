//! Scripted people: who lives where with how many devices, what they write and when they read.

use tidings_client::event::{ClientEvent, MessageRef, Peer, SendText, Settings};
use tidings_protocol::{address::UserName, id::MsgId, limits};

use crate::chance::Chance;
use crate::device::{DeviceSeed, SimDevice};
use crate::options::{Options, Request};
use crate::oracle::Written;
use crate::world::{Action, World};

/// A person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The account's name.
    pub name: UserName,
    /// The node that hosts it, by number.
    pub node: usize,
    /// The devices, by number.
    pub devices: Vec<usize>,
}

/// Something that a person does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes a text.
    Write {
        /// On which device.
        device: usize,
        /// To whom, by number.
        to: usize,
        /// Names the text.
        token: u64,
    },
    /// Looks at a message.
    Look {
        /// On which device.
        device: usize,
        /// The message.
        message: MessageRef,
    },
}

/// How every text begins, so that it can be searched for where it must not be.
pub const CANARY: &str = "a private message, number";

const NAMES: [&str; 8] = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

/// All people and devices of a world.
#[must_use]
pub fn settle(
    request: &Request,
    options: &Options,
    mut offset_ms: impl FnMut() -> i64,
) -> (Vec<Person>, Vec<SimDevice>) {
    let mut chance = Chance::new(request.seed, "settle");
    let mut people = Vec::new();
    let mut devices = Vec::new();
    for (ix, name) in NAMES.iter().enumerate().take(options.people) {
        // The first ones live apart, so that each node has somebody.
        let node = if ix < options.nodes { ix } else { chance.index(options.nodes) };
        let mut own = vec![devices.len()];
        while own.len() < 3 && chance.happens(options.more_devices) {
            own.push(devices.len() + own.len());
        }
        for ordinal in 1..=own.len() {
            let offset_ms = offset_ms();
            let seed = DeviceSeed { person: ix, ordinal, node, offset_ms };
            devices.push(SimDevice::new(request, seed, devices.len()));
        }
        if let Ok(name) = UserName::parse(name) {
            people.push(Person { name, node, devices: own });
        }
    }
    (people, devices)
}

impl World {
    /// The address of a person.
    #[must_use]
    pub fn address(&self, person: usize) -> Peer {
        let person = &self.people[person];
        Peer { node: self.nodes[person.node].id, name: person.name.clone() }
    }

    /// What the owner of a device decided.
    #[must_use]
    pub fn owner_settings(&self, device: usize) -> Settings {
        let Peer { node, name } = self.address(self.devices[device].person);
        let message_life_ms =
            if self.options.short_life { 240_000 } else { limits::MESSAGE_LIFE_MS_MAX };
        Settings { node, name, read_receipts: true, message_life_ms }
    }

    /// Draws who writes what to whom, and when.
    pub fn plan_messages(&mut self) {
        for token in 1..=self.options.messages {
            let device = self.people_chance.index(self.devices.len());
            let from = self.devices[device].person;
            let others: Vec<usize> = (0..self.people.len()).filter(|to| *to != from).collect();
            let to = *self.people_chance.pick(&others);
            let in_ms = self.people_chance.below(self.options.safety_ms);
            self.plan_act(in_ms, Act::Write { device, to, token });
        }
    }

    /// A person does something, if the device is on.
    pub fn person_acts(&mut self, act: Act) {
        self.acts_planned = self.acts_planned.saturating_sub(1);
        match act {
            Act::Write { device, to, token } => {
                let Some(device_id) = self.devices[device].id() else { return };
                let text = format!("{CANARY} {token}");
                let from = self.devices[device].person;
                let peer = self.address(to);
                let shown = self.oracle.shown.range((device_id, MsgId([0; 16]))..);
                let after = shown
                    .take_while(|((id, _), _)| *id == device_id)
                    .filter(|(_, shown)| shown.message.peer == peer)
                    .map(|((_, msg), _)| *msg)
                    .collect();
                let written = Written {
                    after,
                    text: text.clone(),
                    from,
                    to,
                    message: None,
                    device,
                    device_id,
                    maybe_lost: false,
                };
                self.oracle.wrote(token, written);
                let send = SendText { to: self.address(to), text, reply_to: None, token };
                self.tell_device(device, ClientEvent::Send(send));
            }
            Act::Look { device, message } => {
                self.tell_device(device, ClientEvent::Displayed { messages: vec![message] });
            }
        }
    }

    /// A message was shown: its owner looks at it sooner or later, or never.
    pub fn somebody_may_look(&mut self, device: usize, message: MessageRef) {
        if self.people_chance.happens(700) {
            let in_ms = self.people_chance.between(100, 60_000);
            self.plan_act(in_ms, Act::Look { device, message });
        }
    }

    fn plan_act(&mut self, in_ms: u64, act: Act) {
        self.acts_planned += 1;
        self.schedule.plan(in_ms, Action::Person(act));
    }
}
