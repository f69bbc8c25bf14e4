//! The scenarios in which somebody is away and comes back: a device with a long inbox, a node that
//! is down for a while, a node that is down while very much is sent to it.

use std::time::Duration;

use anyhow::bail;

use super::Context;
use super::ledger::{Ledger, Stage};
use super::report::Report;
use super::run::{Load, Run};
use super::stage::{Meter, Set, WARM_UP};
use super::usage::{memory, scrape, value};
use super::world::{Shape, Side, World};

/// Looks at the recipients' node while it stores what is meant for a device that is away.
const LOOK: Duration = Duration::from_millis(50);
/// Looks without a change after which the node will not store more.
const LOOKS_MAX: u32 = 1_200;

/// Everything waits for one device.
pub(super) async fn drain(
    context: &Context<'_>,
    senders: usize,
    load: Load,
) -> anyhow::Result<Report> {
    let dir = context.folder("drain")?;
    let mut world = World::start(&dir, Shape::Federated, "").await?;
    WARM_UP.run(&mut world).await?;
    let set = Set::of(&mut world, senders, 1).await?;
    let meter = Meter::start(&world).await?;
    let stored = stored(&mut world).await?;
    let (mut run, bob) = set.senders_alone("drain", load);
    run.until_linked().await?;
    run.go();
    run.until_all(Stage::Accepted).await?;
    until_stored(&mut world, stored + load.messages as f64).await?;
    let draining = Meter::start(&world).await?;
    let back = run.ledger.now();
    run.receive(bob);
    run.until_all(Stage::Shown).await?;
    run.until_all(Stage::Ticked).await?;
    let drained = draining.stop(&world).await?;
    world.settle().await?;
    let used = meter.stop(&world).await?;
    let what = format!(
        "{} messages of {senders} at acme wait at globex for one device, then it comes",
        load.messages
    );
    let mut report = Report::new("drain", what, &run.ledger, &used);
    arrivals(&mut report, &run.ledger, senders, back);
    // Whether processors or commits kept everybody waiting meanwhile.
    for (name, used, _) in &drained.nodes {
        report.figure(&format!("{name}_cpu_while_draining_s"), used.cpu_s);
        report.figure(&format!("{name}_commits_while_draining_s"), used.commit_s);
    }
    report.figure("device_cpu_while_draining_s", drained.load_cpu_s);
    run.stop().await?;
    world.stop().await?;
    Ok(report)
}

/// How many envelopes globex has stored.
async fn stored(world: &mut World) -> anyhow::Result<f64> {
    let metrics = scrape(world.globex()?.server.admin).await?;
    Ok(value(&metrics, "tidings_envelopes_total{what=\"stored\"}"))
}

async fn until_stored(world: &mut World, all: f64) -> anyhow::Result<()> {
    let (mut before, mut looks) = (0.0, 0);
    loop {
        let now = stored(world).await?;
        if now >= all {
            return Ok(());
        }
        looks = if now > before { 0 } else { looks + 1 };
        if looks > LOOKS_MAX {
            bail!("globex has stored {now} of {all} envelopes and stores no more");
        }
        before = now;
        tokio::time::sleep(LOOK).await;
    }
}

/// A node that is away, and what is sent to it meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeAway {
    pub(super) name: &'static str,
    pub(super) pairs: usize,
    pub(super) load: Load,
    /// At least so long, and until everything was accepted.
    pub(super) away: Duration,
}

impl NodeAway {
    pub(super) async fn run(&self, context: &Context<'_>) -> anyhow::Result<Report> {
        let dir = context.folder(self.name)?;
        let mut world = World::start(&dir, Shape::Federated, "").await?;
        WARM_UP.run(&mut world).await?;
        let set = Set::of(&mut world, self.pairs, self.pairs).await?;
        let mut run = set.everybody(self.name, self.load);
        // Somebody who has nothing waiting, and writes last.
        let late = Set::named(&mut world, "late", 1, Side::Recipients, 1).await?;
        let mut late = late.everybody("late", Load { messages: 1, window: 1, ..self.load });
        run.until_linked().await?;
        late.until_linked().await?;
        let meter = Meter::start(&world).await?;
        world.globex()?.stop().await?;
        let down = run.ledger.now();
        run.go();
        run.until_all(Stage::Accepted).await?;
        let accepted = run.ledger.now().saturating_sub(down);
        tokio::time::sleep(self.away.saturating_sub(accepted)).await;
        late.go();
        late.until_all(Stage::Accepted).await?;
        let full = memory(&world.acme()?.server)?;
        let away = run.ledger.now().saturating_sub(down);
        world.globex()?.server.start().await?;
        let (back, late_back) = (run.ledger.now(), late.ledger.now());
        run.until_all(Stage::Ticked).await?;
        late.until_all(Stage::Shown).await?;
        world.settle().await?;
        let used = meter.stop(&world).await?;
        let shown = late.ledger.times().find_map(|times| times.shown).unwrap_or_default();
        late.stop().await?;
        let mut report = self.report(&run, &used, back, away);
        let written_last = shown.saturating_sub(late_back).as_secs_f64();
        report.figure("written_last_by_another_shown_after_return_s", written_last);
        report.figure("fill_messages_per_second", rate(self.load.messages, accepted));
        report.figure("acme_memory_with_all_queued_mib", full.now_kib as f64 / 1024.0);
        run.stop().await?;
        world.stop().await?;
        Ok(report)
    }

    fn report(
        &self,
        run: &Run,
        used: &super::report::Used,
        back: Duration,
        away: Duration,
    ) -> Report {
        let what = format!(
            "{} messages of {} at acme for as many at globex, which is down for {:.0} s",
            self.load.messages,
            self.pairs,
            away.as_secs_f64()
        );
        let mut report = Report::new(self.name, what, &run.ledger, used);
        arrivals(&mut report, &run.ledger, self.pairs, back);
        report
    }
}

fn rate(messages: usize, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64().max(0.001)
}

/// When what had waited arrived, counted from the moment at which somebody came back.
fn arrivals(report: &mut Report, ledger: &Ledger, senders: usize, back: Duration) {
    let after = |at: Option<Duration>| at.unwrap_or_default().saturating_sub(back);
    let shown = || ledger.times().filter_map(|times| times.shown);
    let (first, last) = (after(shown().min()), after(shown().max()));
    let ticked = after(ledger.times().filter_map(|times| times.ticked).max());
    report.only_waited();
    report.seconds = last.as_secs_f64();
    report.messages_per_second = rate(ledger.len(), last);
    report.figure("first_shown_after_return_s", first.as_secs_f64());
    report.figure("last_shown_after_return_s", last.as_secs_f64());
    report.figure("last_tick_after_return_s", ticked.as_secs_f64());
    let drained = rate(ledger.len(), last.saturating_sub(first));
    report.figure("drain_messages_per_second", drained);
    report.figure("out_of_order", ledger.out_of_order(senders) as f64);
}
