//! What is fuzzed: one function for each target, from bytes to rules that must hold for all of them.
//! `tests/fuzz/` feeds them bytes that libFuzzer makes up, `tests/replay.rs` those that are kept in
//! `corpus/` and the protocol's vectors. A rule that does not hold is a panic.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a rule that does not hold ends the process: that is how a fuzzer learns of it"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a rule looks at some frames only")]

mod agree;
mod frames;
mod node_core;
mod rows;
mod rules;
mod signed;
mod texts;
mod world;

/// A target: its name, its function, and the folders of `tests/vectors/` whose bytes it is given.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, as `cargo fuzz run` takes it.
    pub name: &'static str,
    /// What must hold for the bytes.
    pub body: fn(&[u8]),
    /// Rules of vectors whose bytes it is given.
    pub vectors: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", body: frames::frame, vectors: &["frame"] },
    Target { name: "client_frame", body: frames::client_frame, vectors: &["client_frame"] },
    Target { name: "node_frame", body: frames::node_frame, vectors: &["node_frame"] },
    Target { name: "peer_frame", body: frames::peer_frame, vectors: &["peer_frame"] },
    Target { name: "hello", body: frames::hello, vectors: &["client_hello", "welcome"] },
    Target { name: "envelope", body: signed::envelope, vectors: &["envelope_head"] },
    Target { name: "statement", body: signed::statement, vectors: &["statement", "proof"] },
    Target { name: "evidence", body: signed::evidence, vectors: &["evidence"] },
    Target { name: "record", body: signed::record, vectors: &["descriptor"] },
    Target { name: "device_list", body: signed::device_list, vectors: &["device_list"] },
    Target {
        name: "content",
        body: signed::content,
        vectors: &["content", "part", "part_inside", "introduction"],
    },
    Target { name: "address", body: texts::address, vectors: &["address", "user_name", "node_id"] },
    Target { name: "invite", body: texts::invite, vectors: &["invite"] },
    Target { name: "name_record", body: texts::name_record, vectors: &["name_record"] },
    Target { name: "dial_filter", body: texts::dial_filter, vectors: &[] },
    Target { name: "config", body: texts::config, vectors: &[] },
    Target { name: "node_rows", body: rows::node, vectors: &["device_list", "proof"] },
    Target { name: "client_rows", body: rows::client, vectors: &["proof", "device_list"] },
    Target { name: "node_core", body: node_core::program, vectors: &[] },
];

/// Runs the target of this name.
///
/// # Panics
/// There is none, or a rule does not hold for these bytes.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    (target.body)(bytes);
}
