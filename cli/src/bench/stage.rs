//! What scenarios have in common: accounts on both sides, nodes that know each other, and what the
//! processes used from one moment to another.

use super::device::{Contact, Device};
use super::ledger::Stage;
use super::report::Used;
use super::run::{Load, Run};
use super::usage::{Usage, cpu_seconds};
use super::world::{Side, World};

/// Senders at acme and recipients at the last node.
pub(super) struct Set {
    senders: Vec<Device>,
    pub(super) recipients: Vec<Device>,
    contacts: Vec<Contact>,
}

impl Set {
    /// Makes their accounts.
    pub(super) async fn of(
        world: &mut World,
        senders: usize,
        recipients: usize,
    ) -> anyhow::Result<Self> {
        Self::named(world, "usual", senders, Side::Recipients, recipients).await
    }

    /// The same, for a world with several sets: each has a name, and a side for which it writes.
    pub(super) async fn named(
        world: &mut World,
        name: &str,
        senders: usize,
        side: Side,
        recipients: usize,
    ) -> anyhow::Result<Self> {
        let senders = world.people(Side::Senders, &format!("{name}-alice"), senders).await?;
        let recipients = world.people(side, &format!("{name}-bob"), recipients).await?;
        let contacts = recipients.iter().map(Device::contact).collect();
        Ok(Self { senders, recipients, contacts })
    }

    /// A run in which everybody is there.
    pub(super) fn everybody(self, name: &str, load: Load) -> Run {
        let mut run = Run::start(name, self.senders, &self.contacts, load);
        run.receive(self.recipients);
        run
    }

    /// A run in which the recipients are away; they come with [`Run::receive`].
    pub(super) fn senders_alone(self, name: &str, load: Load) -> (Run, Vec<Device>) {
        (Run::start(name, self.senders, &self.contacts, load), self.recipients)
    }
}

/// Messages that go before those that count.
pub(super) struct WarmUp(Load);

/// The nodes have found each other after the first; the others fill caches.
pub(super) const WARM_UP: WarmUp =
    WarmUp(Load { messages: 20, window: 1, until: Stage::Ticked, body_bytes: 100 });

impl WarmUp {
    pub(super) async fn run(&self, world: &mut World) -> anyhow::Result<()> {
        let senders = world.people(Side::Senders, "warm-alice", 1).await?;
        let recipients = world.people(Side::Recipients, "warm-bob", 1).await?;
        let contacts: Vec<Contact> = recipients.iter().map(Device::contact).collect();
        let mut run = Run::start("warming up", senders, &contacts, self.0);
        run.receive(recipients);
        run.until_linked().await?;
        run.go();
        run.until_all(Stage::Ticked).await?;
        run.stop().await?;
        world.settle().await
    }
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
            nodes.push((node.server.name, now - *before, node.peak_kib()?));
        }
        Ok(Used { nodes, load_cpu_s: cpu_seconds(std::process::id())? - self.load_cpu_s })
    }
}
