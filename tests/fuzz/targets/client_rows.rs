//! Feeds the target `client_rows`; what must hold is in `tests/fuzzed/`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidings_fuzzed::run("client_rows", bytes));
