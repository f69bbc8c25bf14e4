//! Standard output: the one place that writes to it. A reader that goes away ends the program without
//! a word, as SIGPIPE would; what cannot be written for another reason ends it with that reason. Nothing
//! panics, and nothing is lost: what was to be kept is on disk before anything is said of it.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;

use crate::exit::Code;
use crate::style;

/// Prints one line, as `println!` does.
macro_rules! say {
    ($($text:tt)*) => { $crate::out::line(::std::format_args!($($text)*)) };
}

/// Prints one line; styles stay where the terminal shows them.
pub(crate) fn line(text: impl Display) {
    let line = format!("{text}\n");
    let mut output = anstream::stdout();
    or_end(output.write_all(line.as_bytes()).and_then(|()| output.flush()));
}

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    or_end(output.write_all(bytes).and_then(|()| output.flush()));
}

fn or_end(written: io::Result<()>) {
    let code = match written {
        Ok(()) => return,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Code::NobodyReads,
        Err(error) => {
            let error = Err::<(), _>(error).context("writing to standard output").err();
            error.iter().for_each(style::error);
            Code::Failed
        }
    };
    std::process::exit(code as i32);
}
