//! The simulator on the command line. See `--help`.
fn main() {}
