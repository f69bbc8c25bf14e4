//! Real nodes on machines of their own, as far as the network is concerned: a network namespace each,
//! joined by a router in another one. Where this machine does not allow that, the test is skipped and
//! says why. `network.rs` has the same faults and more without namespaces.
//!
//! People are commands in the namespace of their node. Everything is taken down at the end, whatever
//! happens; what a killed run left is taken down by the next one.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text, until},
    tools::{self, Size},
};

/// What all names of ours begin with.
const PREFIX: &str = "tidings-";

/// A router, and machines that reach each other through it.
struct Lan {
    ip: PathBuf,
    nft: PathBuf,
    tc: PathBuf,
    router: String,
}

impl Lan {
    /// `None`, with a word, where it cannot be.
    fn build(machines: &[&'static str]) -> Option<Self> {
        let ip = tools::program("ip", "iproute2", Size::Small)?;
        let tc = tools::program("tc", "iproute2", Size::Small)?;
        let nft = tools::program("nft", "nftables", Size::Small)?;
        let lan = Self { ip, nft, tc, router: namespace("router") };
        lan.sweep();
        match lan.try_build(machines) {
            Ok(()) => {
                // What may be made must also work.
                lan.connect(machines).expect("addresses, routes and rules");
                Some(lan)
            }
            Err(why) => {
                tools::skipped(format_args!("network namespaces cannot be made: {}", why.trim()));
                None
            }
        }
    }

    /// Namespaces, and a cable from each to the router's: what a machine may forbid.
    fn try_build(&self, machines: &[&'static str]) -> Result<(), String> {
        let router = &self.router;
        self.ip(&format!("netns add {router}"))?;
        for machine in machines {
            let name = namespace(machine);
            self.ip(&format!("netns add {name}"))?;
            let cable = format!("{machine} netns {router} type veth peer name lan0 netns {name}");
            self.ip(&format!("link add {cable}"))?;
        }
        let rules = "add chain ip faults forward { type filter hook forward priority 0 ; }";
        self.nft("add table ip faults")?;
        self.nft(rules)
    }

    fn connect(&self, machines: &[&'static str]) -> Result<(), String> {
        let router = &self.router;
        for (number, machine) in machines.iter().enumerate() {
            let name = namespace(machine);
            let (here, gateway) = (address(number), format!("10.91.{number}.1"));
            self.ip(&format!("-n {router} addr add {gateway}/24 dev {machine}"))?;
            self.ip(&format!("-n {router} link set dev {machine} up"))?;
            self.ip(&format!("-n {name} addr add {here}/24 dev lan0"))?;
            self.ip(&format!("-n {name} link set dev lo up"))?;
            self.ip(&format!("-n {name} link set dev lan0 up"))?;
            self.ip(&format!("-n {name} route add default via {gateway}"))?;
        }
        self.in_router(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).map(drop)
    }

    fn ip(&self, words: &str) -> Result<(), String> {
        let words: Vec<&str> = words.split(' ').collect();
        tools::run(&self.ip, &words).map(drop)
    }

    fn in_router(&self, words: &[&str]) -> Result<String, String> {
        tools::run(&self.ip, &[&["netns", "exec", &self.router], words].concat())
    }

    fn nft(&self, words: &str) -> Result<(), String> {
        let words: Vec<&str> = [text(&self.nft)].into_iter().chain(words.split(' ')).collect();
        self.in_router(&words).map(drop)
    }

    /// Nothing passes from one machine to another, and what does not is counted.
    fn cut(&self, from: usize, to: usize) {
        let (from, to) = (address(from), address(to));
        let rule = format!("add rule ip faults forward ip saddr {from} ip daddr {to} counter drop");
        self.nft(&rule).expect("a rule");
    }

    fn heal(&self) {
        self.nft("flush chain ip faults forward").expect("no rules");
    }

    /// Packets that cuts have stopped since the last healing.
    fn stopped(&self) -> u64 {
        let listed = self.in_router(&[text(&self.nft), "-j", "list", "ruleset"]);
        let listed: Value = serde_json::from_str(&listed.expect("rules")).expect("JSON");
        let rules = listed["nftables"].as_array().into_iter().flatten();
        let words = rules.filter_map(|item| item["rule"]["expr"].as_array()).flatten();
        words.filter_map(|word| word["counter"]["packets"].as_u64()).sum()
    }

    /// So much passes to a machine and no more.
    fn narrow(&self, machine: &str, rate: &str) -> Result<(), String> {
        let words =
            format!("qdisc replace dev {machine} root tbf rate {rate} burst 16kb latency 400ms");
        let words: Vec<&str> = [text(&self.tc)].into_iter().chain(words.split(' ')).collect();
        self.in_router(&words).map(drop)
    }

    /// Takes down what is ours, and what runs left whose process is gone.
    fn sweep(&self) {
        let listed = tools::run(&self.ip, &["netns", "list"]).unwrap_or_default();
        let own = std::process::id().to_string();
        for name in listed.lines().filter_map(|line| line.split(' ').next()) {
            let Some(pid) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next())
            else {
                continue;
            };
            if pid == own || !Path::new("/proc").join(pid).exists() {
                // One that is just going is gone.
                self.ip(&format!("netns del {name}")).unwrap_or_default();
            }
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.sweep();
    }
}

fn namespace(machine: &str) -> String {
    format!("{PREFIX}{}-{machine}", std::process::id())
}

fn address(machine: usize) -> String {
    ["10.91.0.2", "10.91.1.2", "10.91.2.2"][machine].to_owned()
}

/// A node on the machine of its name.
async fn node(name: &'static str, number: usize, dir: &Path, known: Option<&str>) -> Server {
    let mut server = Server::make(name, dir.join(name), None, "").await;
    server.host = ["10.91.0.2", "10.91.1.2", "10.91.2.2"][number];
    server.namespace = Some(namespace(name));
    server.configure(known, "");
    server.start().await;
    server
}

async fn command(machine: &str, args: &[&str]) -> Said {
    let done = binary::command_in(&namespace(machine), args).output();
    let done = in_time("a command", done).await.expect("running a command");
    Said {
        code: done.status.code(),
        out: String::from_utf8_lossy(&done.stdout).into_owned(),
        err: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

async fn join(name: &str, at: &Server, dir: &Path) -> PathBuf {
    let (home, invite) = (dir.join(name), at.invite(1).await);
    let args = ["join", &invite, "--name", name, "--home", text(&home)];
    let said = command(at.name, &args).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    home
}

/// Somebody who writes.
struct Writer<'a> {
    home: PathBuf,
    to: String,
    at: &'a str,
}

impl Writer<'_> {
    /// Writes, and waits so far; gives the message's id.
    async fn write(&self, text_of: &str, wait: &str) -> String {
        let args = ["send", &self.to, text_of, "--wait", wait, "--timeout", "80", "--json"];
        let home = ["--home", text(&self.home)];
        let said = command(self.at, &[args.as_slice(), &home].concat()).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let said: Value = serde_json::from_str(&said.out).expect("one line of JSON");
        said["message"].as_str().expect("an id").to_owned()
    }

    /// What is known of a message, as of the last connection.
    async fn status(&self, message: &str) -> String {
        let args = ["status", message, "--json", "--home", text(&self.home)];
        let said = command(self.at, &args).await;
        let said: Value = serde_json::from_str(&said.out).expect("one line of JSON");
        said["devices"][0]["status"].as_str().unwrap_or_default().to_owned()
    }

    /// Connects, so that what the node knows comes.
    async fn look(&self) {
        let said = command(self.at, &["inbox", "--home", text(&self.home)]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

/// Somebody who reads all the time.
struct Reader {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Reader {
    fn start(at: &str, home: &Path) -> Self {
        let args = ["inbox", "--follow", "--json", "--home", text(home)];
        let mut command = binary::command_in(&namespace(at), &args);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starting a reader");
        let output = child.stdout.take().expect("what it says");
        Self { lines: BufReader::new(output).lines(), _child: child }
    }

    async fn next(&mut self) -> String {
        let line = in_time("a message", self.lines.next_line()).await.expect("a line");
        let message: Value = serde_json::from_str(&line.expect("a message")).expect("JSON");
        assert_eq!(message["missing_before"], 0, "{message}");
        message["text"].as_str().expect("a text").to_owned()
    }
}

#[test]
fn nodes_on_machines_of_their_own_find_each_other_and_survive_cuts() {
    let Some(lan) = Lan::build(&["hub", "acme", "globex"]) else { return };
    const ACME: usize = 1;
    const GLOBEX: usize = 2;
    test(async |dir| {
        // Two know a third one alone, which is cut off from nobody; each finds the other in its table.
        let mut hub = node("hub", 0, dir, None).await;
        let known = hub.address().await;
        let mut acme = node("acme", ACME, dir, Some(&known)).await;
        let mut globex = node("globex", GLOBEX, dir, Some(&known)).await;
        let (alice, bob) = (join("alice", &acme, dir).await, join("bob", &globex, dir).await);
        let mut reader = Reader::start("globex", &bob);
        let to = format!("bob@{}", globex.id.to_text());
        let alice = Writer { home: alice, to, at: "acme" };
        alice.write("hello", "delivered").await;
        assert_eq!(reader.next().await, "hello");

        // Cut off from each other, and not from the third one.
        lan.cut(ACME, GLOBEX);
        lan.cut(GLOBEX, ACME);
        let cut_off = alice.write("cut off", "accepted").await;
        until("packets to be stopped", async || lan.stopped() > 10).await;
        alice.look().await;
        assert_eq!(alice.status(&cut_off).await, "accepted", "nobody can have it");
        lan.heal();
        assert_eq!(reader.next().await, "cut off");

        // One way only: what arrives is not acknowledged, and is no tick.
        alice.write("between", "delivered").await;
        assert_eq!(reader.next().await, "between");
        lan.cut(GLOBEX, ACME);
        let one_way = alice.write("one way", "accepted").await;
        assert_eq!(reader.next().await, "one way");
        until("packets to be stopped", async || lan.stopped() > 10).await;
        alice.look().await;
        assert_eq!(alice.status(&one_way).await, "accepted", "no word can have come back");
        lan.heal();
        // It was shown once: the next one that is shown is the next one that was sent.
        alice.write("after", "delivered").await;
        assert_eq!(reader.next().await, "after");
        for message in [cut_off, one_way] {
            let is_there =
                async || ["delivered", "read"].contains(&alice.status(&message).await.as_str());
            until("the tick", async || {
                alice.look().await;
                is_there().await
            })
            .await;
        }

        match lan.narrow("globex", "128kbit") {
            Ok(()) => {
                let long = "narrow ".repeat(2_000);
                alice.write(&long, "delivered").await;
                assert_eq!(reader.next().await, long);
            }
            Err(why) => eprintln!("a narrow link was left out: {}", why.trim()),
        }
        drop(reader);
        for server in [&mut acme, &mut globex, &mut hub] {
            server.stop().await;
        }
    });
}
