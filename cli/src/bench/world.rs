//! The nodes of one scenario: processes of their own on this machine, in a folder of their own, and
//! what they used in all their lives. Knows no scenario.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};

use super::device::Device;
use super::usage::Usage;
use crate::server::Server;

/// Accounts that are made at a time.
const JOINS: usize = 64;
/// A node that commits nothing for so long has nothing left to do.
const QUIET: Duration = Duration::from_millis(300);
/// Nodes get so long to finish what no person waits for.
const QUIET_TRIES: usize = 40;

/// A node.
pub(super) struct Node {
    pub(super) server: Server,
}

/// One or two nodes that know each other.
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
}

/// How many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// acme alone.
    Local,
    /// acme and globex.
    Federated,
}

impl Node {
    async fn start(dir: &Path, name: &'static str, lines: &str) -> anyhow::Result<Self> {
        let mut server = Server::make(dir, name, lines)?;
        server.start().await?;
        Ok(Self { server })
    }
}

impl World {
    /// Makes and starts the nodes; `lines` are added to their configuration.
    pub(super) async fn start(dir: &Path, shape: Shape, lines: &str) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        if shape == Shape::Federated {
            let globex = Node::start(dir, "globex", lines).await?;
            let (id, address) = (globex.server.id.to_text(), globex.server.address().await?);
            let known = format!("pinned = [\"{id} {address}\"]\n{lines}");
            nodes.push(Node::start(dir, "acme", &known).await?);
            nodes.push(globex);
        } else {
            nodes.push(Node::start(dir, "acme", lines).await?);
        }
        Ok(Self { nodes })
    }

    /// The senders' node.
    pub(super) fn acme(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.first_mut().context("there is no node")
    }

    /// The recipients' node: globex, or acme when it is alone.
    pub(super) fn globex(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.last_mut().context("there is no node")
    }

    /// People with an account at the first or last node.
    pub(super) async fn people(
        node: &Node,
        name: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Device>> {
        let server = &node.server;
        let invite = server.invite(u32::try_from(count)?).await?;
        let joins = (0..count).map(async |number| {
            let device = Device::new(&format!("{name}{number}"), server.id, &server.url)?;
            device.join(invite).await?;
            anyhow::Ok(device)
        });
        futures::stream::iter(joins).buffered(JOINS).try_collect().await
    }

    /// What each node used up to now.
    pub(super) async fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            all.push(Usage::of(&node.server).await?);
        }
        Ok(all)
    }

    /// Waits until no node commits any more.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let commits = async || {
            let used = self.usage().await?;
            anyhow::Ok(used.iter().map(|used| used.commits).sum::<f64>())
        };
        let mut before = commits().await?;
        for _ in 0..QUIET_TRIES {
            tokio::time::sleep(QUIET).await;
            let now = commits().await?;
            if now <= before {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// Stops all nodes; a node that does not end cleanly is an error.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        ensure!(!self.nodes.is_empty(), "there is no node");
        for node in &mut self.nodes {
            node.server.stop().await?;
        }
        Ok(())
    }
}
