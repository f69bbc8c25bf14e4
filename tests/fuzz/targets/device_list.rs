//! Feeds the target `device_list`; what must hold is in `tests/fuzzed/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings_fuzzed::run("device_list", bytes));
