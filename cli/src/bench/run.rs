//! One run: devices that send and receive, told when to begin and when to stop, and waited for.
//! What is done to the nodes meanwhile is the scenario's.

use std::io::{IsTerminal as _, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tidings_node::clock::Stopwatch;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::device::{Contact, Device, Phase, Plan};
use super::ledger::{Ledger, Stage};

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// When nothing at all has moved for so long, it does not come any more. Longer than the longest
/// pause of a node that retries a peer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Looks between two lines of progress.
const LOOKS_PER_LINE: u32 = 40;

/// How much is sent and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Messages in all.
    pub(super) messages: usize,
    /// Messages of one sender on their way at a time.
    pub(super) window: usize,
    /// When a message is no longer on its way.
    pub(super) until: Stage,
    /// Bytes of the shared body.
    pub(super) body_bytes: usize,
}

/// Devices that play their parts.
pub(super) struct Run {
    pub(super) ledger: Arc<Ledger>,
    load: Load,
    phase: watch::Sender<Phase>,
    devices: JoinSet<anyhow::Result<Device>>,
    progress: Progress,
}

impl Run {
    /// Senders write to the recipients in turn. Recipients that are not handed over here are away.
    pub(super) fn start(name: &str, senders: Vec<Device>, to: &[Contact], load: Load) -> Self {
        // Runs of one world differ in the time at which they begin.
        let ledger = Arc::new(Ledger::new(tidings_node::clock::now_ms(), load.messages));
        let (phase, _) = watch::channel(Phase::Ready);
        let mut run =
            Self { ledger, load, phase, devices: JoinSet::new(), progress: Progress::new(name) };
        let ranges = share(load.messages, senders.len());
        let contacts = to.iter().copied().cycle();
        for ((sender, numbers), contact) in senders.into_iter().zip(ranges).zip(contacts) {
            run.add(sender, Some((contact, numbers)));
        }
        run
    }

    /// Recipients come.
    pub(super) fn receive(&mut self, devices: Vec<Device>) {
        for device in devices {
            self.add(device, None);
        }
    }

    fn add(&mut self, device: Device, to: Option<(Contact, Range<u64>)>) {
        let plan = Plan {
            ledger: Arc::clone(&self.ledger),
            to,
            window: self.load.window,
            until: self.load.until,
            body_bytes: self.load.body_bytes,
        };
        self.devices.spawn(device.run(plan, self.phase.subscribe()));
    }

    /// Waits until all devices are greeted.
    pub(super) async fn until_linked(&mut self) -> anyhow::Result<()> {
        let all = self.devices.len();
        self.until("all devices to be greeted", |ledger| {
            ledger.linked.load(Ordering::Relaxed) >= all
        })
        .await
    }

    /// Lets the senders begin.
    pub(super) fn go(&self) {
        self.phase.send_replace(Phase::Go);
    }

    /// Waits until all messages have got so far.
    pub(super) async fn until_all(&mut self, stage: Stage) -> anyhow::Result<()> {
        let all = self.load.messages;
        let what = format!("{all} messages to be {}", stage.name());
        self.until(&what, |ledger| ledger.count(stage) >= all).await
    }

    /// Waits for something that the ledger shows.
    pub(super) async fn until(
        &mut self,
        what: &str,
        is_so: impl Fn(&Ledger) -> bool,
    ) -> anyhow::Result<()> {
        let mut moved = Stopwatch::start();
        let mut before = 0;
        let mut looks = 0_u32;
        while !is_so(&self.ledger) {
            if let Some(ended) = self.devices.try_join_next() {
                ended.context("a load client has ended")??;
                bail!("a load client has left while others waited for {what}");
            }
            let counts = [Stage::Accepted, Stage::Shown, Stage::Ticked];
            let now: usize = counts.map(|stage| self.ledger.count(stage)).iter().sum();
            let now = now + self.ledger.linked.load(Ordering::Relaxed);
            if now != before {
                (before, moved) = (now, Stopwatch::start());
            }
            if moved.elapsed() > PATIENCE {
                bail!("waited in vain for {what}: nothing has moved for {} s", PATIENCE.as_secs());
            }
            if looks.is_multiple_of(LOOKS_PER_LINE) {
                self.progress.show(&self.ledger);
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// All devices leave.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.phase.send_replace(Phase::Stop);
        while let Some(ended) = self.devices.join_next().await {
            ended.context("a load client has ended")??;
        }
        Ok(())
    }
}

/// Shares numbers from 0 among so many, the first ones getting what is left over.
pub(super) fn share(messages: usize, parts: usize) -> impl Iterator<Item = Range<u64>> {
    let (each, more) = match parts {
        0 => (0, 0),
        parts => (messages / parts, messages % parts),
    };
    let mut next = 0_u64;
    (0..parts).map(move |part| {
        let count = each + usize::from(part < more);
        let range = next..next + count as u64;
        next = range.end;
        range
    })
}

/// One line on the terminal that says how far it is; nothing when there is no terminal.
struct Progress {
    name: String,
    is_shown: bool,
}

impl Progress {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), is_shown: std::io::stderr().is_terminal() }
    }

    fn show(&self, ledger: &Ledger) {
        let of = |stage: Stage| format!("{} {}", stage.name(), ledger.count(stage));
        self.line(&format!(
            "{}: of {}  {}  {}  {}",
            self.name,
            ledger.len(),
            of(Stage::Accepted),
            of(Stage::Shown),
            of(Stage::Ticked)
        ));
    }

    fn line(&self, text: &str) {
        if self.is_shown {
            // A terminal that cannot be written to is nothing to stop a measurement for.
            write!(std::io::stderr(), "\r\x1b[K{text}").unwrap_or_default();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line("");
    }
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn every_number_is_shared_out_once() {
        let ranges: Vec<_> = share(10, 4).collect();
        assert_eq!(ranges, [0..3, 3..6, 6..8, 8..10]);
        assert_eq!(share(1, 3).map(|range| range.count()).sum::<usize>(), 1);
        assert_eq!(share(5, 0).count(), 0);
    }
}
