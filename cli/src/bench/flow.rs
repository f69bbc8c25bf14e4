//! The scenarios in which everybody is there: latency one at a time, throughput between two nodes
//! and on one.

use super::Context;
use super::device::{Contact, Device};
use super::ledger::Stage;
use super::report::{Report, Used};
use super::run::{Load, Run};
use super::usage::{Usage, cpu_seconds, peak_kib};
use super::world::{Shape, World};

/// Messages that go before those that count: the nodes have found each other after the first.
const WARM_UP: usize = 20;

/// Who writes to whom, and how much.
pub(super) struct Flow {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) senders: usize,
    pub(super) load: Load,
}

impl Flow {
    fn what(&self) -> String {
        let Load { messages, window, body_bytes, .. } = self.load;
        let Self { senders, .. } = self;
        let there = if self.shape == Shape::Federated { "globex" } else { "acme, one node" };
        format!(
            "{senders} at acme → {senders} at {there}; {messages} messages, bodies of {body_bytes} \
             bytes, {window} of each sender on their way"
        )
    }

    /// Runs it in nodes of its own.
    pub(super) async fn run(&self, context: &Context<'_>) -> anyhow::Result<Report> {
        let dir = context.folder(self.name)?;
        let mut world = World::start(&dir, self.shape, "").await?;
        warm_up(&mut world).await?;
        let senders = World::people(world.acme()?, "alice", self.senders).await?;
        let recipients = World::people(world.globex()?, "bob", self.senders).await?;
        let contacts: Vec<Contact> = recipients.iter().map(Device::contact).collect();
        let mut run = Run::start(self.name, senders, &contacts, self.load);
        run.receive(recipients);
        let meter = Meter::start(&world).await?;
        run.go().await?;
        run.until_all(Stage::Ticked).await?;
        world.settle().await?;
        let used = meter.stop(&world).await?;
        let report = Report::new(self.name, self.what(), &run.ledger, &used);
        run.stop().await?;
        world.stop().await?;
        Ok(report)
    }
}

/// The nodes get to know each other.
pub(super) async fn warm_up(world: &mut World) -> anyhow::Result<()> {
    let senders = World::people(world.acme()?, "warm-alice", 1).await?;
    let recipients = World::people(world.globex()?, "warm-bob", 1).await?;
    let contacts: Vec<Contact> = recipients.iter().map(Device::contact).collect();
    let load = Load { messages: WARM_UP, window: 1, until: Stage::Ticked, body_bytes: 100 };
    let mut run = Run::start("warming up", senders, &contacts, load);
    run.receive(recipients);
    run.go().await?;
    run.until_all(Stage::Ticked).await?;
    run.stop().await?;
    world.settle().await
}

/// What is used from one moment to another.
pub(super) struct Meter {
    nodes: Vec<Usage>,
    load_cpu_s: f64,
}

impl Meter {
    pub(super) async fn start(world: &World) -> anyhow::Result<Self> {
        Ok(Self { nodes: world.usage().await?, load_cpu_s: cpu_seconds(std::process::id())? })
    }

    pub(super) async fn stop(&self, world: &World) -> anyhow::Result<Used> {
        let mut nodes = Vec::new();
        let now = world.usage().await?;
        for ((node, before), now) in world.nodes.iter().zip(&self.nodes).zip(now) {
            nodes.push((node.server.name, now - *before, peak_kib(&node.server)?));
        }
        Ok(Used { nodes, load_cpu_s: cpu_seconds(std::process::id())? - self.load_cpu_s })
    }
}
