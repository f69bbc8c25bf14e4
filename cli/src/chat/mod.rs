//! `tidings chat`: conversations in a terminal. State (`model.rs`), how it changes (`update.rs`) and
//! how it looks (`view/`) are pure; `runtime.rs` brings them to the terminal and the device.

mod editor;
mod emoji;
mod keys;
mod model;
mod mouse;
mod pager;
mod panes;
mod runtime;
pub(crate) mod screen;
#[cfg(test)]
mod tests;
mod text;
mod tick;
mod update;
mod view;

use std::io::{IsTerminal as _, stdin, stdout};

use anyhow::{Context as _, ensure};
use jiff::tz::TimeZone;
use ratatui::layout::Size;
use tidings_node::clock;

use crate::device;
use crate::domain::Recipient;
use crate::home::HomeFolder;
use crate::show;

/// Chat in this terminal: conversations, live ticks, search. F1 shows the keys.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings chat --home alice
  tidings chat bob@globex.example
  tidings chat bob@aebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa6aaq

What is sent while the node cannot be reached stays as · and goes out later, with this or another
command. What you began to write is kept. Colours are left out when NO_COLOR is set.")]
pub(crate) struct Args {
    /// Open the conversation with this address; a bare name is somebody at your own node.
    with: Option<String>,
    /// Do not tell others what was displayed here: their ticks never turn blue.
    #[arg(long)]
    no_receipts: bool,
    /// Leave the mouse to the terminal.
    #[arg(long)]
    no_mouse: bool,
    #[command(flatten)]
    folder: HomeFolder,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        stdin().is_terminal() && stdout().is_terminal(),
        "a chat needs a terminal: in a script use `tidings send` and `tidings inbox --follow --json`"
    );
    let mut home = args.folder.home()?;
    if args.no_receipts {
        home = home.without_receipts();
    }
    let trust = home.trust()?;
    let (account, driver) = home.open()?;
    let with = args.with.as_ref().map(|with| account.recipient(with)).transpose()?;
    let me = account.peer()?;
    let is_me = with.as_ref() == Some(&Recipient::Peer(me.clone()));
    ensure!(!is_me, "that is your own address: name somebody else");
    show::block_on(async {
        let running = device::start(driver, &account, &trust)?;
        let (width, height) = crossterm::terminal::size().context("asking for the size")?;
        let size = Size { width, height };
        let mut model = model::Model::new(account, me, TimeZone::system(), clock::now_ms(), size);
        model.color = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        model.first = with;
        let screen = screen::Screen::take(!args.no_mouse).context("taking the terminal over")?;
        runtime::run(model, running, screen).await
    })
}
