//! Feeds the target `node_frame`; what must hold is in `tests/fuzzed/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings_fuzzed::run("node_frame", bytes));
