//! Feeds the target `name_record`; what must hold is in `tests/fuzzed/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings_fuzzed::run("name_record", bytes));
