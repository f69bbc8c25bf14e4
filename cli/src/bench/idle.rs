//! Many devices that are connected and say nothing: what each costs the node.

use std::time::Duration;

use super::Context;
use super::ledger::Stage;
use super::report::{Report, Used};
use super::run::{Load, Run};
use super::tls::Certificate;
use super::usage::{Usage, memory};
use super::world::{Shape, World};

/// Devices that connect at a time.
const CHUNK: usize = 200;

/// How many, how long, and whether with TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    /// How long they are watched. Each asks every 30 s whether the node is there.
    pub(super) hold: Duration,
    pub(super) with_tls: bool,
}

impl Idle {
    pub(super) async fn run(&self, context: &Context<'_>) -> anyhow::Result<Report> {
        let dir = context.folder(self.name)?;
        let (lines, tls) = if self.with_tls {
            let certificate = Certificate::make(&dir)?;
            (certificate.lines(), Some(certificate.connector()?))
        } else {
            (String::new(), None)
        };
        let mut world = World::start(&dir, Shape::Local, &lines).await?;
        let mut devices =
            World::people_with(world.acme()?, "alice", self.connections, tls.as_ref()).await?;
        let load = Load { messages: 0, window: 1, until: Stage::Ticked, body_bytes: 100 };
        let mut run = Run::start(self.name, Vec::new(), &[], load);
        let node = world.acme()?;
        let before = memory(&node.server)?.now_kib;
        while !devices.is_empty() {
            let rest = devices.split_off(CHUNK.min(devices.len()));
            run.receive(std::mem::replace(&mut devices, rest));
            run.until_linked().await?;
        }
        let busy = Usage::of(&node.server).await?.cpu_s;
        tokio::time::sleep(self.hold).await;
        let after = memory(&node.server)?;
        let cpu_s = Usage::of(&node.server).await?.cpu_s - busy;
        let used = Used {
            nodes: vec![(node.server.name, Usage::default(), after.peak_kib)],
            load_cpu_s: 0.0,
        };
        let how = if self.with_tls { "TLS" } else { "plain" };
        let what = format!("{} devices connected at acme, {how}", self.connections);
        let mut report = Report::new(self.name, what, &run.ledger, &used);
        let grown = after.now_kib.saturating_sub(before) as f64;
        report.figure("kib_per_connection", grown / self.connections as f64);
        report.figure("cpu_percent_while_idle", cpu_s / self.hold.as_secs_f64() * 100.0);
        run.stop().await?;
        world.stop().await?;
        Ok(report)
    }
}
