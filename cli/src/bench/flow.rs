//! The scenarios in which everybody is there: latency one at a time, throughput between two nodes
//! and on one, and the same while a node is killed.

use std::time::Duration;

use super::Context;
use super::ledger::{Ledger, Stage};
use super::report::Report;
use super::run::{Load, Run};
use super::stage::{Meter, Set, WARM_UP};
use super::world::{Shape, Side, World};

/// Who writes to whom, and how much.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) senders: usize,
    /// Accounts beside theirs at each node, who are not there.
    pub(super) crowd: usize,
    pub(super) load: Load,
}

/// Which node is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// The senders' node.
    Acme,
    /// The recipients' node.
    Globex,
}

impl Flow {
    pub(super) fn what(&self) -> String {
        let Load { messages, window, body_bytes, .. } = self.load;
        let Self { senders, crowd, .. } = self;
        let there = if self.shape == Shape::Local { "acme, one node" } else { "globex" };
        let among = match crowd {
            0 => String::new(),
            _ => format!("; {crowd} other accounts at each node"),
        };
        format!(
            "{senders} at acme → {senders} at {there}; {messages} messages, bodies of {body_bytes} \
             bytes, {window} of each sender on their way{among}"
        )
    }

    /// Runs it in nodes of its own. A victim is killed with -9 at one third and at two thirds of the
    /// messages, and started again at once.
    pub(super) async fn run(
        &self,
        context: &Context<'_>,
        victim: Option<Victim>,
    ) -> anyhow::Result<Report> {
        let mut world = if context.args.at.is_empty() {
            World::start(&context.folder(self.name)?, self.shape, "").await?
        } else {
            World::told(context.args.at.clone())
        };
        for side in [Side::Senders, Side::Recipients] {
            world.people(side, "crowd", self.crowd).await?;
        }
        WARM_UP.run(&mut world).await?;
        let set = Set::of(&mut world, self.senders, self.senders).await?;
        let mut run = set.everybody(self.name, self.load);
        run.until_linked().await?;
        let meter = Meter::start(&world).await?;
        run.go();
        if let Some(victim) = victim {
            self.kill_twice(victim, &mut run, &mut world).await?;
        }
        run.until_all(Stage::Ticked).await?;
        world.settle().await?;
        let used = meter.stop(&world).await?;
        let mut report = Report::new(self.name, self.what(), &run.ledger, &used);
        if victim.is_some() {
            report.what.push_str("; killed with -9 twice under load, started again at once");
            let pause = longest_pause(&run.ledger).as_secs_f64();
            report.figure("longest_pause_between_ticks_s", pause);
        }
        run.stop().await?;
        world.stop().await?;
        Ok(report)
    }

    async fn kill_twice(
        &self,
        victim: Victim,
        run: &mut Run,
        world: &mut World,
    ) -> anyhow::Result<()> {
        for third in 1..=2 {
            let enough = self.load.messages * third / 3;
            run.until("a third of the messages", |ledger| ledger.count(Stage::Ticked) >= enough)
                .await?;
            let node = match victim {
                Victim::Acme => world.acme()?,
                Victim::Globex => world.globex()?,
            };
            node.kill().await?;
            node.server.start().await?;
        }
        Ok(())
    }
}

/// The longest time in which no ✓✓ came.
fn longest_pause(ledger: &Ledger) -> Duration {
    let mut ticked: Vec<Duration> = ledger.times().filter_map(|times| times.ticked).collect();
    ticked.sort_unstable();
    let pauses = ticked.iter().zip(ticked.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a));
    pauses.max().unwrap_or_default()
}
