//! Rules about what is written down beside the store: by logs, metrics and answers to administrators.
//! The shells print what the core counts ([`Observed`]), what it answers ([`AdminReply`]), errors, and
//! the names of frames; nothing else of it is printed today. So these say nothing of people, and the
//! debug form of everything else at least no secret and, where content is really encrypted, no text.
//! What really stands in log files and on the metrics page is read in `tests/process/canary.rs`.

use core::fmt::Debug;
use std::error::Error;

use tidings_client::Opening;
use tidings_core::{
    effect::{AdminReply, Observed},
    event::{AdminCommand, AdminToken, Event, NameCommand},
};

use crate::network::Machine;
use crate::options::SealerKind;
use crate::oracle::Violation;
use crate::people::CANARY;
use crate::world::World;

/// Names the questions of the simulator's administrators.
const TOKEN: AdminToken = AdminToken(1_000_000);
/// Debug forms of ids and keys are cut after so many characters.
const HEX_CHARS: usize = 12;

impl World {
    /// Whether debug forms are looked at in this world. It takes too long to do so in each.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.options.watched || self.request.sealer == SealerKind::Real
    }

    /// Administrators ask a node all that there is to ask.
    pub fn ask_node(&mut self, node: usize) {
        for command in [
            AdminCommand::Peers,
            AdminCommand::Queue { node: None },
            AdminCommand::Dead { node: None },
            AdminCommand::Log { from: 0 },
            AdminCommand::Names(NameCommand::List),
            AdminCommand::Status,
        ] {
            self.tell_node(node, Event::Admin { token: TOKEN, command });
        }
    }

    /// I34: what a node counts says nothing of people.
    pub fn i34_counted(&self, observed: Observed) -> Result<(), Violation> {
        if self.is_watched() { self.i34_is_silent("a counter", &observed) } else { Ok(()) }
    }

    /// I34: what a node answers to an administrator says nothing of people.
    pub fn i34_answered(&mut self, reply: &AdminReply) -> Result<(), Violation> {
        self.oracle.count("answers to administrators");
        self.i34_is_silent("an answer to an administrator", reply)
    }

    /// I34: an error says nothing of people, in any form and with all its causes.
    pub fn i34_failed(&self, error: &(dyn Error + 'static)) -> Result<(), Violation> {
        self.i34_is_silent("an error", error)?;
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.i34_is_silent("an error", &format_args!("{error}"))?;
            cause = error.source();
        }
        Ok(())
    }

    /// I34: nobody's debug form holds a secret key or a secret of an invite, and a node's no text. In
    /// worlds with the stub sealer texts do travel openly and are passed over.
    pub fn i34_debug_forms<T: Debug>(
        &mut self,
        machine: Machine,
        things: &[T],
    ) -> Result<(), Violation> {
        if !self.is_watched() {
            return Ok(());
        }
        let mut words = self.secrets();
        if matches!(machine, Machine::Node(_)) && self.request.sealer == SealerKind::Real {
            words.push(CANARY.to_owned());
        }
        for thing in things {
            self.oracle.count("debug forms");
            self.i34_lacks(&words, "a debug form", &format!("{thing:?}"))?;
        }
        Ok(())
    }

    /// I34, at the end: asks every node once more, and looks at the debug form of all that it holds.
    pub(super) fn i34_end(&mut self) -> Result<(), Violation> {
        const ANSWER_MS_MAX: u64 = 1_000;
        if !self.is_watched() {
            return Ok(());
        }
        for node in 0..self.nodes.len() {
            self.ask_node(node);
        }
        let pause_ms = self.now_ms() + ANSWER_MS_MAX;
        self.run_until(pause_ms)?;
        for node in 0..self.nodes.len() {
            let core = self.nodes[node].process.as_ref().map(|process| &process.core);
            let core = core.map(|core| format!("{core:?}"));
            let settings = format!("{:?}", self.node_settings(node));
            let forms = core.into_iter().chain([settings]).map(Plain).collect::<Vec<_>>();
            self.i34_debug_forms(Machine::Node(node), &forms)?;
        }
        for device in 0..self.devices.len() {
            let settings = self.owner_settings(device);
            let opening = Opening { settings, store_key: STORE_KEY, seed: STORE_KEY };
            self.i34_debug_forms(Machine::Device(device), &[opening])?;
            let identity = self.devices[device].identity.clone();
            self.i34_debug_forms(Machine::Device(device), &[identity])?;
        }
        Ok(())
    }

    /// Says neither text nor name nor device nor key.
    fn i34_is_silent<T: Debug + ?Sized>(&self, what: &str, said: &T) -> Result<(), Violation> {
        let text = format!("{said:?}");
        let mut words = self.secrets();
        words.push(CANARY.to_owned());
        words.extend(self.people.iter().map(|person| person.name.as_str().to_owned()));
        words.extend(self.oracle.devices.keys().map(|id| cut(&id.to_string())));
        let accounts = self.devices.iter().filter_map(|device| device.identity.as_ref());
        words.extend(accounts.filter_map(|own| own.account_key()).map(|key| cut(&key.to_string())));
        self.i34_lacks(&words, what, &text)
    }

    /// What nobody may print: secret keys of nodes, secrets of invites, keys of devices' stores.
    fn secrets(&self) -> Vec<String> {
        let seeds = self.nodes.iter().map(|node| *node.operational.seed());
        let raw = seeds.chain([STORE_KEY]);
        let mut words: Vec<String> = raw
            .flat_map(|seed| {
                let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
                let list: Vec<String> = seed.iter().take(8).map(u8::to_string).collect();
                [cut(&hex), list.join(", ")]
            })
            .collect();
        words.extend(self.oracle.invites.iter().map(|secret| cut(secret)));
        words
    }

    fn i34_lacks(&self, words: &[String], what: &str, text: &str) -> Result<(), Violation> {
        match words.iter().find(|word| says(text, word)) {
            Some(word) => Err(self.violated("I34", format!("{what} says '{word}'"))),
            None => Ok(()),
        }
    }
}

/// The key of every simulated device's store.
pub const STORE_KEY: [u8; 32] = [7; 32];

/// A debug form that was made already.
struct Plain(String);

impl Debug for Plain {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        out.write_str(&self.0)
    }
}

fn cut(hex: &str) -> String {
    hex.chars().take(HEX_CHARS).collect()
}

/// Whether a text has this word, and not only as part of a longer one: "bob" may stand in a node id.
fn says(text: &str, word: &str) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let is_long = word.len() >= HEX_CHARS;
    text.match_indices(word).any(|(at, _)| {
        let before = at.checked_sub(1).and_then(|at| bytes.get(at));
        is_long || !is_word(before) && !is_word(bytes.get(at + word.len()))
    })
}
