//! A command on a terminal of its own: keys go in, a screen comes out. A task reads all the time, so
//! that the command never waits for us; tests wait for what the screen shows.

use std::{
    ffi::OsStr,
    num::NonZeroU16,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, MutexGuard},
};

use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
    sync::watch,
    task::JoinSet,
};

use crate::{binary, cluster::in_time};

/// A terminal and the command that has it.
pub(crate) struct Tty {
    name: &'static str,
    keys: OwnedWritePty,
    /// The terminal's own side of the line, to ask how it is set.
    line: OwnedFd,
    parser: Arc<Mutex<vt100::Parser>>,
    /// Grows with whatever comes; closed when the command has closed the terminal.
    news: watch::Receiver<u64>,
    reader: JoinSet<()>,
    child: Child,
}

fn size(rows: u16, columns: u16) -> [NonZeroU16; 2] {
    [rows, columns].map(|count| NonZeroU16::new(count).expect("a size"))
}

impl Tty {
    /// Starts the binary on a new terminal.
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &'static str,
        [rows, columns]: [u16; 2],
        args: &[S],
    ) -> Self {
        Self::start_with(name, [rows, columns], args, &[])
    }

    /// The same with an environment.
    pub(crate) fn start_with<S: AsRef<OsStr>>(
        name: &'static str,
        [rows, columns]: [u16; 2],
        args: &[S],
        env: &[(&str, &str)],
    ) -> Self {
        let (pty, pts) = pty_process::open().expect("a terminal");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let mut command = pty_process::Command::new(binary::path()).args(args).kill_on_drop(true);
        for name in binary::SETTINGS.iter().chain(&["NO_COLOR"]) {
            command = command.env_remove(name);
        }
        let command =
            command.env("TERM", "xterm-256color").env("TZ", "UTC").envs(env.iter().copied());
        let child = command.spawn(pts).expect("starting a command on a terminal");
        let line = pty.as_fd().try_clone_to_owned().expect("a terminal");
        let (screen, keys) = pty.into_split();
        let [rows, columns] = size(rows, columns);
        let parser = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (tell, news) = watch::channel(0);
        let mut reader = JoinSet::new();
        reader.spawn(read(screen, Arc::clone(&parser), tell));
        Self { name, keys, line, parser, news, reader, child }
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.parser.lock().expect("no panic while reading a screen")
    }

    /// The screen, row by row.
    pub(crate) fn rows(&self) -> Vec<String> {
        let parser = self.parser();
        let columns = parser.screen().size().1.get();
        parser.screen().rows(0, columns).map(|row| row.trim_end().to_owned()).collect()
    }

    /// Types.
    pub(crate) async fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).await.expect("typing");
    }

    /// The window gets another size.
    pub(crate) fn resize(&self, [rows, columns]: [u16; 2]) {
        let [high, wide] = size(rows, columns);
        self.parser().set_size(high, wide);
        self.keys.resize(Size::new(rows, columns)).expect("a size");
    }

    /// Waits until the screen is as wanted.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let mut news = self.news.clone();
        let what = format!("{what} on the screen of {}", self.name);
        let waiting = async {
            while !is_so(self) {
                news.changed().await.expect("the command is still there");
            }
        };
        if tokio::time::timeout(crate::cluster::PATIENCE, waiting).await.is_err() {
            panic!("waited in vain for {what}; it shows\n{}", self.rows().join("\n"));
        }
    }

    /// Waits until a text stands somewhere.
    pub(crate) async fn shows(&mut self, wanted: &str) {
        let is_there = |tty: &Self| tty.rows().iter().any(|row| row.contains(wanted));
        self.until(&format!("{wanted:?}"), is_there).await;
    }

    /// Waits until a message has a tick.
    pub(crate) async fn ticks(&mut self, message: &str, tick: &str) {
        let (message, tick) = (format!("▎ {message}"), format!(" {tick}"));
        let is_there = |tty: &Self| {
            tty.rows().iter().any(|row| row.contains(&message) && row.ends_with(&tick))
        };
        self.until(&format!("{message:?} with{tick}"), is_there).await;
    }

    /// The colour of the last cell that shows a symbol.
    pub(crate) fn color_of(&self, symbol: &str) -> Option<vt100::Color> {
        let parser = self.parser();
        let (rows, columns) = parser.screen().size();
        let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |at| (row, at)));
        let mut cells = cells.filter_map(|(row, column)| parser.screen().cell(row, column));
        cells.rfind(|cell| cell.contents() == symbol).map(vt100::Cell::fgcolor)
    }

    /// SIGTERM.
    pub(crate) fn tell_to_stop(&self) {
        let id = i32::try_from(self.child.id().expect("a process")).expect("a process id");
        let pid = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    }

    /// Waits until the command has ended well and has given the terminal back as it was.
    pub(crate) async fn ended(self) {
        let said = self.ended_with(0).await;
        assert!(said.iter().all(String::is_empty), "{said:?}");
    }

    /// Waits until the command has ended with a code and has given the terminal back as it was;
    /// what it has left there.
    pub(crate) async fn ended_with(mut self, code: i32) -> Vec<String> {
        let ended = in_time("a command to end", self.child.wait()).await.expect("waiting");
        in_time("the end of its screen", self.reader.join_next()).await;
        let rows = self.rows();
        assert_eq!(ended.code(), Some(code), "{}: {ended}\n{}", self.name, rows.join("\n"));
        let parser = self.parser();
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "the screen is not given back");
        assert!(!screen.hide_cursor(), "the cursor is not given back");
        assert!(!screen.bracketed_paste(), "pasting is not given back");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        let modes = rustix::termios::tcgetattr(&self.line).expect("a terminal").local_modes;
        let cooked = rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON;
        assert!(modes.contains(cooked), "lines and their echo are not given back: {modes:?}");
        rows
    }
}

async fn read(
    mut screen: OwnedReadPty,
    parser: Arc<Mutex<vt100::Parser>>,
    tell: watch::Sender<u64>,
) {
    let mut bytes = [0; 4096];
    // The end of a terminal is an error on some systems.
    while let Ok(count @ 1..) = screen.read(&mut bytes).await {
        let mut parser = parser.lock().expect("no panic while reading a screen");
        parser.process(&bytes[..count]);
        drop(parser);
        tell.send_modify(|count| *count += 1);
    }
}
