//! What happened to each message of one run: written by the devices' tasks without a lock, read by
//! scenarios. Sends and measures nothing itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tidings_node::clock::Stopwatch;

use super::run::share;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// ✓: the sender's node has it on disk.
    Accepted,
    /// The recipient's device has it.
    Shown,
    /// ✓✓: the recipient's signed word is back at the sender.
    Ticked,
}

/// All messages of one run, by number from 0.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Stands in each body, so that what an earlier run left is told apart.
    pub(super) run: u64,
    began: Stopwatch,
    messages: Vec<Message>,
    counts: [AtomicUsize; 3],
    /// Devices whose node has welcomed them.
    pub(super) linked: AtomicUsize,
    /// Copies that came under a second inbox number: the node has stored a message twice.
    doubled: AtomicU64,
    /// Copies that were pushed once more after a link broke; a device knows them by their envelope.
    again: AtomicU64,
    /// Submissions that were refused for a while and sent again.
    refused: AtomicU64,
    /// Messages that a node says will not be delivered.
    failed: AtomicU64,
}

/// Times in nanoseconds since the run began, plus one; 0 while it has not happened.
#[derive(Debug, Default)]
struct Message {
    sent: AtomicU64,
    stages: [AtomicU64; 3],
    /// The inbox number under which it came first, plus one.
    inbox: AtomicU64,
}

/// When one message went through its stages, since the run began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) sent: Duration,
    pub(super) accepted: Option<Duration>,
    pub(super) shown: Option<Duration>,
    pub(super) ticked: Option<Duration>,
}

impl Times {
    /// When a stage was reached.
    pub(super) const fn at(&self, stage: Stage) -> Option<Duration> {
        match stage {
            Stage::Accepted => self.accepted,
            Stage::Shown => self.shown,
            Stage::Ticked => self.ticked,
        }
    }

    /// How long after sending that was.
    pub(super) fn after(&self, stage: Stage) -> Option<Duration> {
        self.at(stage).map(|at| at.saturating_sub(self.sent))
    }
}

impl Stage {
    const fn index(self) -> usize {
        match self {
            Self::Accepted => 0,
            Self::Shown => 1,
            Self::Ticked => 2,
        }
    }

    /// How people call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "✓",
            Self::Shown => "shown",
            Self::Ticked => "✓✓",
        }
    }
}

impl Ledger {
    /// For so many messages; `run` differs from that of other runs in the same world.
    pub(super) fn new(run: u64, messages: usize) -> Self {
        let mut all = Vec::new();
        all.resize_with(messages, Message::default);
        Self {
            run,
            began: Stopwatch::start(),
            messages: all,
            counts: Default::default(),
            linked: AtomicUsize::new(0),
            doubled: AtomicU64::new(0),
            again: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Number of messages.
    pub(super) const fn len(&self) -> usize {
        self.messages.len()
    }

    /// Since the run began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn stamp(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX - 1) + 1
    }

    fn message(&self, number: u64) -> Option<&Message> {
        self.messages.get(usize::try_from(number).ok()?)
    }

    /// A sender writes the message to its socket.
    pub(super) fn sent(&self, number: u64) {
        if let Some(message) = self.message(number) {
            message.sent.store(self.stamp(), Ordering::Relaxed);
        }
    }

    fn reach(&self, number: u64, stage: Stage) {
        let Some(message) = self.message(number) else { return };
        let Some(at) = message.stages.get(stage.index()) else { return };
        if at.compare_exchange(0, self.stamp(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Some(count) = self.counts.get(stage.index())
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// ✓ has come.
    pub(super) fn accepted(&self, number: u64) {
        self.reach(number, Stage::Accepted);
    }

    /// ✓✓ has come.
    pub(super) fn ticked(&self, number: u64) {
        self.reach(number, Stage::Ticked);
    }

    /// A device was handed the message under this number of its inbox.
    pub(super) fn shown(&self, number: u64, inbox: u64) {
        let Some(message) = self.message(number) else { return };
        let first = message.inbox.compare_exchange(
            0,
            inbox.saturating_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        match first {
            Ok(_) => self.reach(number, Stage::Shown),
            Err(known) if known == inbox.saturating_add(1) => {
                self.again.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                self.doubled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A submission was refused for a while.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A node says that a message will not be delivered.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages have got so far.
    pub(super) fn count(&self, stage: Stage) -> usize {
        self.counts.get(stage.index()).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// What came twice, came again, was refused for a while, and failed.
    pub(super) fn faults(&self) -> Faults {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let lost = self.times().filter(|times| times.shown.is_none() && times.accepted.is_some());
        Faults {
            lost: lost.count() as u64,
            doubled: of(&self.doubled),
            pushed_again: of(&self.again),
            refused: of(&self.refused),
            failed: of(&self.failed),
        }
    }

    /// Messages that were shown before one of the same sender with a lower number. Numbers are shared
    /// out among the senders in ranges.
    pub(super) fn out_of_order(&self, senders: usize) -> usize {
        let shown = |number: u64| {
            self.message(number)
                .and_then(|message| message.stages.get(Stage::Shown.index()))
                .map_or(0, |at| at.load(Ordering::Relaxed))
        };
        let of_one = |range: std::ops::Range<u64>| {
            let mut latest = 0;
            range
                .filter(|number| {
                    let at = shown(*number);
                    let is_early = at < latest;
                    latest = latest.max(at);
                    is_early
                })
                .count()
        };
        share(self.len(), senders).map(of_one).sum()
    }

    /// Every message that was sent.
    pub(super) fn times(&self) -> impl Iterator<Item = Times> {
        let at = |stamp: &AtomicU64| match stamp.load(Ordering::Relaxed) {
            0 => None,
            stamp => Some(Duration::from_nanos(stamp - 1)),
        };
        self.messages.iter().filter_map(move |message| {
            let [accepted, shown, ticked] = &message.stages;
            Some(Times {
                sent: at(&message.sent)?,
                accepted: at(accepted),
                shown: at(shown),
                ticked: at(ticked),
            })
        })
    }
}

/// What must not happen, and what may.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Faults {
    /// Accepted and never shown.
    pub(super) lost: u64,
    /// Stored twice at the recipient's node.
    pub(super) doubled: u64,
    /// Pushed again after a link broke, and known to the device.
    pub(super) pushed_again: u64,
    /// Refused for a while, then sent again.
    pub(super) refused: u64,
    /// Given up by a node, with its word.
    pub(super) failed: u64,
}

#[cfg(test)]
mod tests {
    use super::{Ledger, Stage};

    #[test]
    fn a_message_is_counted_once_for_each_stage() {
        let ledger = Ledger::new(1, 2);
        ledger.sent(0);
        ledger.accepted(0);
        ledger.accepted(0);
        assert_eq!(ledger.count(Stage::Accepted), 1);
        assert_eq!(ledger.faults().lost, 1);
        ledger.shown(0, 7);
        ledger.shown(0, 7);
        ledger.ticked(0);
        let faults = ledger.faults();
        assert_eq!((faults.lost, faults.doubled, faults.pushed_again), (0, 0, 1));
        ledger.shown(0, 8);
        assert_eq!(ledger.faults().doubled, 1);
        let times: Vec<_> = ledger.times().collect();
        assert_eq!(times.len(), 1, "the second was not sent");
        assert!(times[0].after(Stage::Ticked) >= times[0].after(Stage::Accepted));
        // A number of another run changes nothing.
        ledger.ticked(9);
        assert_eq!(ledger.count(Stage::Ticked), 1);
    }
}
