//! `tidings admin top`: a running node, live. Asks its socket once a second and changes nothing.

mod view;

use std::io::{IsTerminal as _, stdin, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use crossterm::event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers};
use futures::StreamExt as _;
use serde_json::Value;
use tidings_node::admin_link::{AdminRequest, ask};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Common;
use crate::chat::screen::Screen;
use crate::show;
use view::{Sort, Top};

/// How often the node is asked.
const EVERY: Duration = Duration::from_secs(1);

/// A running node, live: what it does in a second, what waits, its peers. `q` ends it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tidings admin top --data /var/lib/tidings\n  tidings admin top --data /var/lib/tidings --once"
)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Print one picture as text and end. Rates need a second: it takes one.
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let data = args.common.folder.data()?;
    show::block_on(async {
        if args.common.json {
            return stream(&data, args.once).await;
        }
        if args.once {
            return once(&data).await;
        }
        ensure!(
            stdin().is_terminal() && stdout().is_terminal(),
            "a live picture needs a terminal: --once prints one as text, --json one line each second"
        );
        live(&data).await
    })
}

async fn look(data: &Path) -> anyhow::Result<Value> {
    Ok(ask(data, &AdminRequest::Top).await?)
}

/// One line each second, until nobody reads or the node is gone.
async fn stream(data: &Path, once: bool) -> anyhow::Result<()> {
    let mut beat = tokio::time::interval(EVERY);
    loop {
        beat.tick().await;
        show::json(&look(data).await?);
        if once {
            return Ok(());
        }
    }
}

async fn once(data: &Path) -> anyhow::Result<()> {
    let mut top = Top::default();
    top.take(look(data).await?);
    tokio::time::sleep(EVERY).await;
    top.take(look(data).await?);
    for line in top.lines(view::WIDTH_MIN, usize::MAX) {
        say!("{}", line.text.trim_end());
    }
    Ok(())
}

async fn live(data: &Path) -> anyhow::Result<()> {
    let mut top = Top::default();
    top.color = crate::style::is_coloured();
    top.take(look(data).await?);
    let mut keys = EventStream::new();
    let mut terminate = signal(SignalKind::terminate()).context("waiting for signals")?;
    let mut beat = tokio::time::interval(EVERY);
    let mut screen = Screen::take(false).context("taking the terminal")?;
    loop {
        screen.draw_by(|frame| view::draw(&mut top, frame)).context("drawing")?;
        tokio::select! {
            _ = beat.tick() => match look(data).await {
                Ok(answer) => top.take(answer),
                Err(error) => top.lost = Some(format!("{error:#}")),
            },
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL)
                        && key.code == KeyCode::Char('c');
                    if is_interrupt || !pressed(&mut top, key.code) {
                        return Ok(());
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            _ = terminate.recv() => return Ok(()),
        }
    }
}

/// False when that was enough.
#[expect(clippy::wildcard_enum_match_arm, reason = "other keys mean nothing here")]
fn pressed(top: &mut Top, key: KeyCode) -> bool {
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('o') => top.sort = Sort::Oldest,
        KeyCode::Char('w') => top.sort = Sort::Waiting,
        KeyCode::Char('l') => top.sort = Sort::Standing,
        KeyCode::Char('s') => top.sort = Sort::Score,
        KeyCode::Down => top.first = top.first.saturating_add(1),
        KeyCode::Up => top.first = top.first.saturating_sub(1),
        _ => {}
    }
    true
}
