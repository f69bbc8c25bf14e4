//! The scenario in which one peer's trouble must be its own: acme writes to globex, one message at a
//! time, while a third node is well, stands still, is down, and is back and takes all that waited.

use super::Context;
use super::ledger::Stage;
use super::report::Report;
use super::run::Load;
use super::stage::{Meter, Set, WARM_UP};
use super::world::{Shape, Side, World};

/// Messages that wait for the third node, for each one that is measured.
const WAITING_EACH: usize = 50;

/// What goes to globex, and what waits for the third node meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub(super) pairs: usize,
    /// One at a time.
    pub(super) measured: Load,
    pub(super) window: usize,
}

impl Beside {
    pub(super) async fn run(
        &self,
        context: &Context<'_>,
        tell: &mut dyn FnMut(Report),
    ) -> anyhow::Result<()> {
        let dir = context.folder("beside")?;
        let mut world = World::start(&dir, Shape::Three, "").await?;
        WARM_UP.run(&mut world).await?;
        tell(self.measure(&mut world, "beside-well", "initech has nothing to do").await?);
        let messages = self.measured.messages * WAITING_EACH;
        let load = Load { messages, window: self.window, until: Stage::Accepted, ..self.measured };
        let set = Set::named(&mut world, "many", self.pairs, Side::Neighbours, self.pairs).await?;
        let (mut waiting, recipients) = set.senders_alone("filling", load);
        waiting.until_linked().await?;
        world.neighbour()?.freeze()?;
        waiting.go();
        waiting.until_all(Stage::Accepted).await?;
        let still = format!("initech stands still with its links open, {messages} wait for it");
        tell(self.measure(&mut world, "beside-still", &still).await?);
        world.neighbour()?.kill_frozen().await?;
        let down = format!("initech is down, {messages} wait for it");
        tell(self.measure(&mut world, "beside-down", &down).await?);
        world.neighbour()?.server.start().await?;
        waiting.receive(recipients);
        let back = format!("initech is back and takes {messages}");
        tell(self.measure(&mut world, "beside-back", &back).await?);
        waiting.until_all(Stage::Ticked).await?;
        waiting.stop().await?;
        world.stop().await
    }

    /// From somebody at acme to somebody at globex, who have not written before.
    async fn measure(
        &self,
        world: &mut World,
        name: &'static str,
        meanwhile: &str,
    ) -> anyhow::Result<Report> {
        let set = Set::named(world, name, 1, Side::Recipients, 1).await?;
        let mut run = set.everybody(name, self.measured);
        run.until_linked().await?;
        let meter = Meter::start(world).await?;
        run.go();
        run.until_all(Stage::Ticked).await?;
        let used = meter.stop(world).await?;
        let messages = self.measured.messages;
        let what =
            format!("1 at acme → 1 at globex, {messages} messages one at a time; {meanwhile}");
        let report = Report::new(name, what, &run.ledger, &used);
        run.stop().await?;
        Ok(report)
    }
}
