//! One seed from beginning to end; a panic anywhere inside counts as a violation.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::options::Request;
use crate::oracle::Violation;
use crate::world::{EPOCH_MS, World};

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all that happened.
    pub trace_hash: [u8; 32],
    /// Things that happened.
    pub steps: u64,
    /// Virtual ms.
    pub virtual_ms: u64,
    /// Messages that were composed.
    pub messages: u64,
    /// How often things worth counting happened.
    pub counts: BTreeMap<&'static str, u64>,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Lines for people, when asked for.
    pub lines: Vec<String>,
}

/// Runs one seed.
#[must_use]
pub fn run(request: Request) -> Outcome {
    let mut world = World::new(request);
    let violation = world.live().err();
    let now_ms = world.now_ms();
    if let Some(violation) = &violation {
        world.trace.say(now_ms, || violation.to_string());
    }
    let steps = world.trace.steps();
    let messages = world.oracle.messages_composed();
    let counts = world.oracle.counts;
    let (trace_hash, lines) = world.trace.finish();
    let virtual_ms = now_ms - EPOCH_MS;
    Outcome { trace_hash, steps, virtual_ms, messages, counts, violation, lines }
}

/// Runs one seed; a panic is a violation like any other.
#[must_use]
pub fn run_caught(request: Request) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(request))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = text.unwrap_or_else(|| "something panicked".to_owned());
        Outcome {
            trace_hash: [0; 32],
            steps: 0,
            virtual_ms: 0,
            messages: 0,
            counts: BTreeMap::new(),
            violation: Some(Violation { id: "panic", what, at_ms: 0 }),
            lines: Vec::new(),
        }
    })
}
