//! A node on this machine, for `demo` and `bench`: its folder, its configuration, and its process,
//! which may be stopped, killed and started again. Speaks to it as an administrator would.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use tidings_node::{
    admin_link::{AdminRequest, ask},
    clock,
    config::FILE_NAME,
    keys,
};
use tidings_protocol::{client_frame::InviteSecret, id::NodeId};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// How long a node may take to start.
const START: Duration = Duration::from_secs(30);
/// How often a node is asked for what nobody announces.
const BEAT: Duration = Duration::from_millis(50);
/// How long a node may take to stop.
const STOP: Duration = Duration::from_secs(15);

/// A node and its process.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) id: NodeId,
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    /// Where `/metrics` is.
    pub(crate) admin: SocketAddr,
    child: Option<Child>,
}

/// First and number of the ports that are tried: below those from which the system serves outgoing
/// connections, so that a node that is down for a while finds its own port free when it returns.
const PORT_FIRST: u16 = 10_000;
const PORTS: u16 = 20_000;

/// A port that is free for both TCP and UDP.
fn free_port() -> anyhow::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run at the same time begins elsewhere.
    let start = std::process::id().wrapping_mul(37) % u32::from(PORTS);
    for _ in 0..PORTS {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(PORTS)).unwrap_or_default();
        let port = PORT_FIRST + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok()
            && UdpSocket::bind(("127.0.0.1", port)).is_ok()
        {
            return Ok(port);
        }
    }
    bail!("looking for a port that is free for TCP and UDP: none is from {PORT_FIRST} upwards")
}

impl Server {
    /// Makes the keys and the configuration of a new node; `lines` are added to the latter.
    pub(crate) fn make(dir: &Path, name: &'static str, lines: &str) -> anyhow::Result<Self> {
        let folder = dir.join(name);
        let id = keys::create(&folder, &[], clock::now_ms())?;
        let [peers, clients, admin] = [free_port()?, free_port()?, free_port()?];
        let config = format!(
            "# Node {name}.\n\
             data = \".\"\n\
             listen_peers = [\"/ip4/127.0.0.1/udp/{peers}/quic-v1\", \"/ip4/127.0.0.1/tcp/{peers}\"]\n\
             listen_clients = \"127.0.0.1:{clients}\"\n\
             listen_admin = \"127.0.0.1:{admin}\"\n\
             allow_private_addresses = true\n\
             ballast_mib = 1\n\
             {lines}\n"
        );
        let path = folder.join(FILE_NAME);
        std::fs::write(&path, config).with_context(|| format!("writing {}", path.display()))?;
        let url = format!("ws://127.0.0.1:{clients}");
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, admin));
        Ok(Self { name, id, folder, url, admin, child: None })
    }

    /// Adds lines to the configuration, for the next start.
    pub(crate) fn configure(&self, lines: &str) -> anyhow::Result<()> {
        let path = self.folder.join(FILE_NAME);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        writeln!(file, "{lines}").with_context(|| format!("writing {}", path.display()))
    }

    /// Waits until another node has consented to be this one's custodian.
    pub(crate) async fn until_agreed(&self, custodian: NodeId) -> anyhow::Result<()> {
        let mut beat = tokio::time::interval(BEAT);
        let id = custodian.to_text();
        let agreed = async {
            loop {
                beat.tick().await;
                let peers = self.ask(&AdminRequest::Peers).await?;
                let rows = |peer: &Value| peer.get("consent_rows").and_then(Value::as_u64);
                let is_it = |peer: &&Value| peer.get("node").and_then(Value::as_str) == Some(&id);
                let peer = peers.as_array().into_iter().flatten().find(is_it);
                if peer.and_then(rows).is_some_and(|rows| rows > 0) {
                    return Ok(());
                }
            }
        };
        let agreed = tokio::time::timeout(START, agreed).await;
        agreed.with_context(|| format!("{} has no custodian that consents", self.name))?
    }

    /// Waits until this node keeps so many users of the first node that it holds for.
    pub(crate) async fn until_users(&self, count: u64) -> anyhow::Result<()> {
        let mut beat = tokio::time::interval(BEAT);
        let kept = async {
            loop {
                beat.tick().await;
                let custody = self.ask(&AdminRequest::Custody).await?;
                let users = custody.pointer("/held_for/0/users_kept").and_then(Value::as_u64);
                if users.is_some_and(|users| users >= count) {
                    return Ok(());
                }
            }
        };
        let kept = tokio::time::timeout(START, kept).await;
        kept.with_context(|| format!("{} does not keep {count} users", self.name))?
    }

    /// Copies the folder's files, but for the log. The node must be stopped.
    pub(crate) fn copy_to(&self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
        copy_files(&self.folder, to)
    }

    /// Puts such a copy back.
    pub(crate) fn put_back(&self, from: &Path) -> anyhow::Result<()> {
        copy_files(from, &self.folder)
    }

    /// Starts the process and waits until it says that it serves.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("looking for the path of this program")?;
        let log = self.folder.join("node.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("writing {}", log.display()))?;
        let mut child = Command::new(program)
            .args(["node", "--json", "--while-input", "--data"])
            .arg(&self.folder)
            // Held open while this process lives: the node does not outlive it, however it ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let output = child.stdout.take().context("reading what the node says")?;
        self.child = Some(child);
        let mut lines = BufReader::new(output).lines();
        let ready = tokio::time::timeout(START, lines.next_line()).await;
        match ready {
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None) | Err(_)) | Err(_) => {
                bail!("{} did not start: see {}", self.name, self.folder.join("node.log").display())
            }
        }
    }

    /// Stops the process as an administrator would.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
            let pid = rustix::process::Pid::from_raw(id).context("the node's process id")?;
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .with_context(|| format!("telling {} to stop", self.name))?;
        }
        let status = tokio::time::timeout(STOP, child.wait()).await;
        let status = status.with_context(|| format!("{} did not stop in time", self.name))?;
        let status = status.with_context(|| format!("waiting for {}", self.name))?;
        if status.success() { Ok(()) } else { bail!("{} ended with {status}", self.name) }
    }

    /// The process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    async fn ask(&self, request: &AdminRequest) -> anyhow::Result<Value> {
        ask(&self.folder, request).await.with_context(|| format!("asking {}", self.name))
    }

    /// Where peers reach the node, `/p2p/` included.
    pub(crate) async fn address(&self) -> anyhow::Result<String> {
        let status = self.ask(&AdminRequest::Status).await?;
        let addresses = status.get("addresses").and_then(Value::as_array);
        let first = addresses.and_then(|all| all.first()).and_then(Value::as_str);
        Ok(first.with_context(|| format!("{} listens nowhere", self.name))?.to_owned())
    }

    /// How many envelopes wait for peers.
    pub(crate) async fn queued(&self) -> anyhow::Result<u64> {
        let status = self.ask(&AdminRequest::Status).await?;
        Ok(status.get("queued").and_then(Value::as_u64).unwrap_or(u64::MAX))
    }

    /// An invite for so many accounts.
    pub(crate) async fn invite(&self, uses: u32) -> anyhow::Result<InviteSecret> {
        let request = AdminRequest::Invite { uses, life_ms: 600_000 };
        let answer = self.ask(&request).await?;
        answer
            .get("secret")
            .and_then(Value::as_str)
            .and_then(InviteSecret::from_hex)
            .context("the node's answer is no invite")
    }
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copying = || format!("copying {} to {}", from.display(), to.display());
    for entry in std::fs::read_dir(from).with_context(copying)? {
        let entry = entry.with_context(copying)?;
        let is_file = entry.file_type().with_context(copying)?.is_file();
        if is_file && entry.file_name() != "node.log" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).with_context(copying)?;
        }
    }
    Ok(())
}
