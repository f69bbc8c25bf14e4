//! The nodes of one scenario: processes of their own on this machine, in a folder of their own, and
//! what they used in all their lives; or nodes that run already, of which only the door is known.
//! Knows no scenario.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use rustix::process::{Pid, Signal, kill_process};
use tidings_node::clock;
use tidings_protocol::client_frame::InviteSecret;
use tidings_protocol::id::NodeId;
use tidings_protocol::invite::InviteText;
use tokio_tungstenite::Connector;

use super::device::Device;
use super::socket::Door;
use super::usage::{self, Usage};
use crate::server::Server;

/// Accounts that one invite makes at most.
const INVITE_USES: usize = 10_000;
/// Accounts that are made at a time.
const JOINS: usize = 64;
/// A node that writes no row for so long has nothing left to do.
const QUIET: Duration = Duration::from_millis(300);
/// Nodes get so long to finish what no person waits for.
const QUIET_TRIES: usize = 40;

/// A node, with what its earlier processes used.
pub(super) struct Node {
    pub(super) server: Server,
    gone: Usage,
    peak_kib: u64,
    /// It stands still, and answers nothing.
    is_frozen: bool,
}

/// One or two nodes that know each other.
pub(super) struct World {
    /// Those that were started here.
    pub(super) nodes: Vec<Node>,
    /// Those that run already; then there are none of ours.
    told: Vec<InviteText>,
}

/// Whose node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The senders'.
    Senders,
    /// The recipients'.
    Recipients,
    /// The third one.
    Neighbours,
}

/// How many nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// acme alone.
    Local,
    /// acme and globex.
    Federated,
    /// acme, globex and initech, which acme knows too.
    Three,
}

impl Node {
    async fn start(dir: &Path, name: &'static str, lines: &str) -> anyhow::Result<Self> {
        let mut server = Server::make(dir, name, lines)?;
        server.start().await?;
        Ok(Self { server, gone: Usage::default(), peak_kib: 0, is_frozen: false })
    }

    /// What it used up to now.
    pub(super) async fn usage(&self) -> anyhow::Result<Usage> {
        let mut used = self.gone;
        if self.server.pid().is_some() && !self.is_frozen {
            used += Usage::of(&self.server).await?;
        }
        Ok(used)
    }

    /// The most memory that one of its processes had, in KiB.
    pub(super) fn peak_kib(&self) -> anyhow::Result<u64> {
        if self.server.pid().is_none() {
            return Ok(self.peak_kib);
        }
        Ok(self.peak_kib.max(usage::memory(&self.server)?.peak_kib))
    }

    async fn keep_account(&mut self) -> anyhow::Result<()> {
        self.gone = self.usage().await?;
        self.peak_kib = self.peak_kib()?;
        Ok(())
    }

    /// `kill -9`, with the account of what it used up to then.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.keep_account().await?;
        self.server.kill().await
    }

    /// Lets the process stand still, with its links open; what it used is known no more.
    pub(super) fn freeze(&mut self) -> anyhow::Result<()> {
        let pid = self.server.pid().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("the node does not run")?;
        kill_process(pid, Signal::STOP).context("letting a node stand still")?;
        self.is_frozen = true;
        Ok(())
    }

    /// `kill -9` of a node that stands still.
    pub(super) async fn kill_frozen(&mut self) -> anyhow::Result<()> {
        self.is_frozen = false;
        self.server.kill().await
    }

    /// Stops it as an administrator would.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.keep_account().await?;
        self.server.stop().await
    }
}

impl World {
    /// Makes and starts the nodes; `lines` are added to their configuration.
    pub(super) async fn start(dir: &Path, shape: Shape, lines: &str) -> anyhow::Result<Self> {
        let others: &[&str] = match shape {
            Shape::Local => &[],
            Shape::Federated => &["globex"],
            Shape::Three => &["initech", "globex"],
        };
        let (mut nodes, mut pins) = (Vec::new(), Vec::new());
        for name in others {
            let other = Node::start(dir, name, lines).await?;
            let (id, address) = (other.server.id.to_text(), other.server.address().await?);
            pins.push(format!("\"{id} {address}\""));
            nodes.push(other);
        }
        let known = format!("pinned = [{}]\n{lines}", pins.join(", "));
        nodes.insert(0, Node::start(dir, "acme", &known).await?);
        Ok(Self { nodes, told: Vec::new() })
    }

    /// Nodes that run already: the senders' first, the recipients' last.
    pub(super) const fn told(invites: Vec<InviteText>) -> Self {
        Self { nodes: Vec::new(), told: invites }
    }

    /// The senders' node.
    pub(super) fn acme(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.first_mut().context("there is no node of our own")
    }

    /// The recipients' node: globex, or acme when it is alone.
    pub(super) fn globex(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.last_mut().context("there is no node of our own")
    }

    /// The third node.
    pub(super) fn neighbour(&mut self) -> anyhow::Result<&mut Node> {
        self.nodes.get_mut(1).context("there is no third node")
    }

    /// People with an account at the node of one side.
    pub(super) async fn people(
        &mut self,
        side: Side,
        name: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Device>> {
        let told = match side {
            Side::Senders => self.told.first(),
            Side::Recipients => self.told.last(),
            Side::Neighbours => None,
        };
        let Some(InviteText { node, secret, url }) = told else {
            let node = match side {
                Side::Senders => self.acme()?,
                Side::Recipients => self.globex()?,
                Side::Neighbours => self.neighbour()?,
            };
            return Self::people_with(node, name, count, None).await;
        };
        // Accounts of an earlier run may still be there.
        let name = format!("b{:x}-{name}", clock::now_ms());
        let door = Door { url: url.clone(), tls: None };
        join_all(&name, 0..count, *node, &door, *secret).await.with_context(|| {
            format!(
                "making {count} accounts at {url}: has the invite that many uses left? `tidings \
                 invite --uses <number>` makes one"
            )
        })
    }

    /// People with an account at a node of ours, over TLS when there is a connector.
    pub(super) async fn people_with(
        node: &Node,
        name: &str,
        count: usize,
        tls: Option<&Connector>,
    ) -> anyhow::Result<Vec<Device>> {
        let server = &node.server;
        let door = match tls {
            None => Door { url: server.url.clone(), tls: None },
            Some(tls) => {
                Door { url: server.url.replacen("ws:", "wss:", 1), tls: Some(tls.clone()) }
            }
        };
        let mut people = Vec::with_capacity(count);
        while people.len() < count {
            let numbers = people.len()..count.min(people.len() + INVITE_USES);
            let invite = server.invite(u32::try_from(numbers.len())?).await?;
            people.extend(join_all(name, numbers, server.id, &door, invite).await?);
        }
        Ok(people)
    }

    /// What each node used up to now.
    pub(super) async fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        let mut all = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            all.push(node.usage().await?);
        }
        Ok(all)
    }

    /// Waits until no node writes any more.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let written = async || {
            let used = self.usage().await?;
            anyhow::Ok(used.iter().map(|used| used.puts + used.deletes).sum::<f64>())
        };
        let mut before = written().await?;
        for _ in 0..QUIET_TRIES {
            tokio::time::sleep(QUIET).await;
            let now = written().await?;
            if now <= before {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    /// Stops all nodes; a node that does not end cleanly is an error.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            node.server.stop().await?;
        }
        Ok(())
    }
}

async fn join_all(
    name: &str,
    numbers: Range<usize>,
    node: NodeId,
    door: &Door,
    invite: InviteSecret,
) -> anyhow::Result<Vec<Device>> {
    let joins = numbers.map(async |number| {
        let device = Device::new(&format!("{name}{number}"), node, door.clone())?;
        device.join(invite).await?;
        anyhow::Ok(device)
    });
    futures::stream::iter(joins).buffered(JOINS).try_collect().await
}
