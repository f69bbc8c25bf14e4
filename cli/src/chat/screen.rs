//! The terminal: taken over at the start and given back at the end, whatever that end is.

use std::io::{self, Stdout, Write as _, stdout};
use std::panic;
use std::sync::Once;

use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, EnableBracketedPaste, EnableFocusChange,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use super::model::Model;
use super::view::view;

/// Clicks and the wheel, but not every movement of the mouse.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// A terminal that is ours until this is dropped.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    has_mouse: bool,
    _back: GiveBack,
}

impl Screen {
    pub(crate) fn take(has_mouse: bool) -> io::Result<Self> {
        give_back_on_panic();
        let back = GiveBack;
        enter(has_mouse)?;
        let terminal = Terminal::new(CrosstermBackend::new(stdout()))?;
        Ok(Self { terminal, has_mouse, _back: back })
    }

    pub(crate) fn draw(&mut self, model: &Model) -> io::Result<()> {
        self.terminal.draw(|frame| view(model, frame)).map(|_| ())
    }

    /// Draws something else than a chat.
    pub(crate) fn draw_by(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Draws everything anew the next time.
    pub(crate) fn forget(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Gives the terminal back and stops this process; goes on when it is continued.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        leave();
        let stop = rustix::process::Signal::TSTP;
        rustix::process::kill_process(rustix::process::getpid(), stop)?;
        enter(self.has_mouse)?;
        self.forget()
    }
}

/// Gives the terminal back when it is dropped.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        leave();
    }
}

fn enter(has_mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    let mut out = stdout();
    execute!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange)?;
    if has_mouse {
        out.write_all(MOUSE_ON)?;
    }
    out.flush()
}

/// Undoes all of it, as far as the terminal is still there.
fn leave() {
    let mut out = stdout();
    let undone = out.write_all(MOUSE_OFF).and_then(|()| {
        execute!(out, DisableFocusChange, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show)
    });
    // Nobody is there to read what went wrong when the terminal is gone.
    drop(undone.and_then(|()| disable_raw_mode()));
}

/// The message of a panic is to be read on the terminal as it was.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
    });
}
