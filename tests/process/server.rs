//! A node: its folder, its configuration, its process and what it says of itself. Decides nothing.

use std::{
    fs::{self, OpenOptions},
    net::{TcpListener, UdpSocket},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::Value;
use tidings_protocol::id::NodeId;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::Child,
};

use crate::{binary, cluster::in_time};

/// A node and its process.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) id: NodeId,
    pub(crate) folder: PathBuf,
    /// Ports for peers, devices and the administrator.
    pub(crate) ports: [u16; 3],
    /// What the process gets as its environment.
    pub(crate) env: Vec<(&'static str, String)>,
    /// The socket for devices, when it is not the node's own: as systemd holds one.
    pub(crate) held: Option<TcpListener>,
    /// Where peers reach it, and the network namespace that it runs in, if it has one of its own.
    pub(crate) host: &'static str,
    pub(crate) namespace: Option<String>,
    /// How many files the process may have open.
    pub(crate) files_max: Option<u64>,
    /// False for a `/proc` with processes alone, as some sandboxes have it.
    pub(crate) sees_machine: bool,
    child: Option<Child>,
}

/// A port that nobody uses, below those from which the system serves outgoing connections: a node
/// that is down for a while finds its own port free when it returns.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run at the same time begins elsewhere.
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below 20,000");
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST
            + u16::try_from((u32::from(start) * 37 + u32::from(step)) % 20_000)
                .expect("below 20,000");
        let tcp = TcpListener::bind(("127.0.0.1", port));
        if tcp.is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

impl Server {
    /// Makes keys and configuration in `folder`. `bootstrap` is all that the node knows; `extra` are
    /// more lines of its configuration.
    pub(crate) async fn make(
        name: &'static str,
        folder: PathBuf,
        bootstrap: Option<&str>,
        extra: &str,
    ) -> Self {
        let made = binary::json(&["init", text(&folder), "--json"]).await;
        let id = NodeId::parse(made["node"].as_str().expect("a node id")).expect("a node id");
        let ports = [free_port(), free_port(), free_port()];
        let server = Self {
            name,
            id,
            folder,
            ports,
            env: Vec::new(),
            held: None,
            host: "127.0.0.1",
            namespace: None,
            files_max: None,
            sees_machine: true,
            child: None,
        };
        server.configure(bootstrap, extra);
        server
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, bootstrap: Option<&str>, extra: &str) {
        let ([peers, clients, admin], host) = (self.ports, self.host);
        let known = bootstrap.map(|address| format!("\"{address}\"")).unwrap_or_default();
        let config = format!(
            "data = \".\"\n\
             listen_peers = [\"/ip4/{host}/udp/{peers}/quic-v1\", \"/ip4/{host}/tcp/{peers}\"]\n\
             listen_clients = \"127.0.0.1:{clients}\"\n\
             listen_admin = \"127.0.0.1:{admin}\"\n\
             bootstrap = [{known}]\n\
             allow_private_addresses = true\n\
             ballast_mib = 1\n\
             {extra}"
        );
        fs::write(self.folder.join("node.toml"), config).expect("writing node.toml");
    }

    /// Where the log is.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("node.log")
    }

    /// Starts the process and waits until it says that it serves.
    pub(crate) async fn start(&mut self) {
        assert!(self.launch(None).await, "{} did not start: see {:?}", self.name, self.log());
    }

    /// Starts a process that dies at the n-th pass of a failpoint, at the earliest while it starts.
    pub(crate) async fn start_doomed(&mut self, failpoint: &str, pass: u32) {
        self.launch(Some(format!("{failpoint}:{pass}"))).await;
    }

    /// True when the process serves, false when it ended before.
    async fn launch(&mut self, failpoint: Option<String>) -> bool {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        let args = ["node", "--json", "--data", text(&self.folder)];
        let mut command = match (&self.held, &self.namespace) {
            (None, None) => binary::command(&args),
            (Some(held), _) => binary::command_with_socket(&args, held),
            (None, Some(namespace)) => binary::command_in(namespace, &args),
        };
        if let Some(most) = self.files_max {
            binary::limit_files(&mut command, most);
        }
        if !self.sees_machine {
            binary::within(&mut command, &binary::WITHOUT_MACHINE);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(failpoint) = failpoint {
            command.env("TIDINGS_FAILPOINT", failpoint);
        }
        command.stdout(Stdio::piped()).stderr(log.expect("opening the log"));
        let mut child = command.spawn().expect("starting a node");
        let output = child.stdout.take().expect("what the node says");
        self.child = Some(child);
        let mut lines = BufReader::new(output).lines();
        let ready = in_time("a node to start", lines.next_line()).await.expect("a line");
        ready.is_some()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("a running node");
        let id = i32::try_from(child.id().expect("a process")).expect("a process id");
        let pid = rustix::process::Pid::from_raw(id).expect("a process id");
        rustix::process::kill_process(pid, signal).expect("sending a signal");
    }

    /// SIGTERM, without waiting.
    pub(crate) fn tell_to_stop(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGSTOP: the process stands still, and its links stay open.
    pub(crate) fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGHUP: read the configuration again.
    pub(crate) fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Waits until the process has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running node");
        in_time("a node to end", child.wait()).await.expect("waiting for a node")
    }

    /// Waits until the process has died at its failpoint.
    pub(crate) async fn died(&mut self) {
        const SIGABRT: i32 = 6;
        let ended = self.ended().await;
        assert_eq!(ended.signal(), Some(SIGABRT), "{} ended with {ended}", self.name);
    }

    /// True when the process has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        let child = self.child.as_mut().expect("a node that was started");
        child.try_wait().expect("asking for a process").is_some()
    }

    /// Stops the process as an administrator would; it must do so cleanly.
    pub(crate) async fn stop(&mut self) {
        self.tell_to_stop();
        let ended = self.ended().await;
        assert!(ended.success(), "{} ended with {ended}: see {:?}", self.name, self.log());
    }

    /// `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.child.take().expect("a running node").kill().await.expect("killing a node");
    }

    /// What `tidings admin` answers to `status`, `peers`, `queue` or `custody list`.
    pub(crate) async fn ask(&self, question: &str) -> Value {
        let mut args = vec!["admin"];
        args.extend(question.split(' '));
        args.extend(["--json", "--data", text(&self.folder)]);
        binary::json(&args).await
    }

    /// One number of `tidings admin status`.
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.ask("status").await[name].as_u64().expect("a number")
    }

    /// Where peers reach the node, `/p2p/` included.
    pub(crate) async fn address(&self) -> String {
        self.ask("status").await["addresses"][0].as_str().expect("an address").to_owned()
    }

    /// The invite's text, for so many accounts.
    pub(crate) async fn invite(&self, uses: u32) -> String {
        let uses = uses.to_string();
        let args = ["invite", "--json", "--uses", &uses, "--data", text(&self.folder)];
        binary::json(&args).await["invite"].as_str().expect("an invite").to_owned()
    }

    /// A page of the administrator's listener: `/metrics`, `/livez` or `/readyz`.
    pub(crate) async fn page(&self, path: &str) -> String {
        let address = ("127.0.0.1", self.ports[2]);
        let mut stream = TcpStream::connect(address).await.expect("connecting");
        let question =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await.expect("asking for a page");
        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        in_time("a page", reading).await.expect("reading a page");
        answer
    }

    /// The sum of a counter's series whose line begins so.
    pub(crate) async fn metric(&self, begin: &str) -> f64 {
        let page = self.page("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with(begin));
        let value = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok());
        lines.map(|line| value(line).expect("a number")).sum()
    }

    /// Copies what a backup would: everything but the log. The node must be stopped.
    pub(crate) fn back_up(&self, to: &Path) {
        assert!(self.child.is_none(), "a running store is not copied");
        fs::create_dir_all(to).expect("making the backup's folder");
        for entry in fs::read_dir(&self.folder).expect("the node's folder") {
            let entry = entry.expect("an entry");
            if entry.file_name() != "node.log" && entry.file_type().expect("a type").is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).expect("copying");
            }
        }
    }

    /// Puts a backup back.
    pub(crate) fn restore(&self, from: &Path) {
        assert!(self.child.is_none(), "a running store is not replaced");
        for entry in fs::read_dir(from).expect("the backup") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), self.folder.join(entry.file_name())).expect("copying");
        }
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// How often a condition is looked at that nobody announces.
const BEAT: Duration = Duration::from_millis(50);

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let mut beat = tokio::time::interval(BEAT);
    let looking = async {
        loop {
            beat.tick().await;
            if is_so().await {
                return;
            }
        }
    };
    in_time(what, looking).await;
}
