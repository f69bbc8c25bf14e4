//! What stands in `deploy/` under the real programs: systemd's own check of the units, Prometheus with
//! our configuration and a node, nginx and Caddy with ours. Programs that are not here are installed
//! where that is allowed (`tools.rs`), else their test is skipped and says why. What the metrics are
//! called is `deploy.rs`'s.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{
    binary,
    cluster::{Cluster, in_time, test},
    deploy::{expressions, read},
    server::{Server, free_port, text, until},
    tls::Authority,
    tools::{self, Size},
};

/// A program of somebody else, ended with the test.
struct Running(Child);

impl Running {
    fn start(program: &Path, args: &[&str], log: &Path) -> Self {
        let log = fs::File::create(log).expect("making a log");
        let errors = log.try_clone().expect("a second handle of a log");
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
        Self(command.spawn().expect("starting a program"))
    }

    async fn end(mut self) {
        self.0.kill().await.expect("ending a program");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let Some(systemd) = tools::program("systemd-analyze", "systemd", Size::Small) else { return };
    test(async |dir| {
        let units =
            ["tidings.service", "tidings.socket", "tidings-backup.service", "tidings-backup.timer"];
        let put = |change: fn(&str) -> String| {
            units.map(|unit| {
                let path = dir.join(unit);
                let unit = read(&format!("deploy/{unit}"));
                // It looks whether the program is there.
                let unit = unit.replace("/usr/local/bin/tidings", text(binary::path()));
                fs::write(&path, change(&unit)).expect("writing a unit");
                path
            })
        };
        let verify = |units: &[PathBuf]| {
            let units: Vec<&str> = units.iter().map(|unit| text(unit)).collect();
            tools::run(&systemd, &[&["verify", "--man=no"], units.as_slice()].concat())
        };
        // What it does not know it says, and passes over.
        assert_eq!(verify(&put(str::to_owned)), Ok(String::new()));
        let wrong = verify(&put(|unit| unit.replace("ProtectClock", "ProtectClok")));
        assert!(wrong.unwrap_or_else(|said| said).contains("ProtectClok"), "it does not look");
    });
}

/// What Prometheus answers to a question.
async fn ask(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let question = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

async fn query(port: u16, expr: &str) -> Option<Value> {
    let escaped: String = expr.bytes().map(|byte| format!("%{byte:02x}")).collect();
    ask(port, &format!("/api/v1/query?query={escaped}")).await
}

#[test]
fn prometheus_takes_our_rules_and_reads_a_node() {
    let Some(promtool) = tools::program("promtool", "prometheus", Size::Large) else { return };
    let Some(prometheus) = tools::program("prometheus", "prometheus", Size::Large) else { return };
    test(async |dir| {
        let cluster = Cluster::acquainted(dir).await;
        // As it is delivered, and then for this node.
        let delivered = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus.yml");
        let checked = tools::run(&promtool, &["check", "config", text(&delivered)]);
        assert!(checked.as_ref().is_ok_and(|said| said.contains("SUCCESS")), "{checked:?}");
        let config = read("deploy/prometheus.yml")
            .replace("127.0.0.1:7402", &format!("127.0.0.1:{}", cluster.acme.ports[2]))
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        let at = dir.join("prometheus.yml");
        // Rules are judged once a minute otherwise.
        let config = format!("global:\n  evaluation_interval: 1s\n{config}");
        fs::write(&at, config).expect("writing a configuration");
        fs::write(dir.join("alerts.yml"), read("deploy/alerts.yml")).expect("writing rules");
        let port = free_port();
        let args = [
            format!("--config.file={}", text(&at)),
            format!("--storage.tsdb.path={}", text(&dir.join("tsdb"))),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let running = Running::start(&prometheus, &args, &dir.join("prometheus.log"));
        let count = |answer: Option<Value>| {
            answer.and_then(|answer| Some(answer["data"]["result"].as_array()?.len())).unwrap_or(0)
        };
        until("the node to be scraped", async || {
            count(query(port, "tidings_node{what=\"accounts\",job=\"tidings\"} > 0").await) == 1
        })
        .await;
        assert_eq!(count(query(port, "up{job=\"tidings\"} == 1").await), 1);
        // All that rules and dashboard ask is understood.
        let mut found = Vec::new();
        let rules: Value = serde_norway::from_str(&read("deploy/alerts.yml")).expect("YAML");
        expressions(&rules, &mut found);
        let dashboard: Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
        expressions(&dashboard["panels"], &mut found);
        for expr in found {
            let asked = expr.replace("$instance", ".*").replace("$__rate_interval", "5m");
            let answer = query(port, &asked).await.expect("an answer");
            assert_eq!(answer["status"], "success", "{expr}: {answer}");
        }
        // The rules were loaded and are well; nothing is wrong with this node.
        until("the rules to be judged", async || {
            let answer = ask(port, "/api/v1/rules").await;
            let rules = answer.map(|answer| answer["data"]["groups"][0]["rules"].clone());
            rules.as_ref().and_then(Value::as_array).is_some_and(|rules| {
                !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
            })
        })
        .await;
        running.end().await;
        cluster.end().await;
    });
}

#[test]
fn devices_reach_a_node_through_nginx_as_it_is_delivered() {
    let Some(nginx) = tools::program("nginx", "nginx-light", Size::Small) else { return };
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        let port = free_port();
        acme.configure(None, &format!("client_url = \"wss://127.0.0.1:{port}\"\n"));
        acme.start().await;
        let authority = Authority::new();
        let ca = authority.certify_in(dir, "127.0.0.1");
        let server = read("deploy/nginx.conf")
            .replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"))
            .replace("    listen [::]:443 ssl;\n", "")
            .replace(
                "/etc/letsencrypt/live/acme.example/fullchain.pem",
                text(&dir.join("cert.pem")),
            )
            .replace("/etc/letsencrypt/live/acme.example/privkey.pem", text(&dir.join("key.pem")))
            .replace("127.0.0.1:7401", &format!("127.0.0.1:{}", acme.ports[1]));
        let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {};\n", text(&dir.join(what))))
            .concat();
        let config = format!(
            "daemon off;\npid {};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n",
            text(&dir.join("nginx.pid"))
        );
        let at = dir.join("nginx.conf");
        fs::write(&at, config).expect("writing a configuration");
        let tested = tools::run(&nginx, &["-t", "-c", text(&at), "-e", "stderr"]);
        assert!(tested.as_ref().is_ok_and(|said| said.contains("successful")), "{tested:?}");
        let args = ["-c", text(&at), "-e", "stderr"];
        let running = Running::start(&nginx, &args, &dir.join("nginx.log"));
        until("nginx to listen", async || TcpStream::connect(("127.0.0.1", port)).await.is_ok())
            .await;
        let homes = ["alice", "bob"].map(|name| dir.join(name));
        for (name, home) in ["alice", "bob"].iter().zip(&homes) {
            let invite = acme.invite(1).await;
            let args = ["join", &invite, "--name", name, "--home", text(home), "--ca", text(&ca)];
            let said = in_time("joining", binary::run(&args)).await;
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let [alice, bob] = homes.each_ref().map(|home| text(home));
        let send = ["send", "bob", "through nginx", "--home", alice, "--wait", "accepted"];
        let said = in_time("sending", binary::run(&send)).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let said = in_time("reading", binary::run(&["inbox", "--home", bob])).await;
        assert!(said.code == Some(0) && said.out.contains("through nginx"), "{said:?}");
        // nginx passes nothing else on.
        assert_eq!(acme.metric("tidings_refusals_total").await, 0.0);
        running.end().await;
        acme.stop().await;
    });
}

#[test]
fn caddy_takes_our_caddyfile() {
    let Some(caddy) = tools::program("caddy", "caddy", Size::Large) else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/Caddyfile");
    let checked = tools::run(&caddy, &["adapt", "--adapter", "caddyfile", "--config", text(&file)]);
    assert!(checked.as_ref().is_ok_and(|said| said.contains("/v1/link")), "{checked:?}");
}

/// The packages with Grafana's own types and the compiler that checks against them.
const GRAFANA_TYPES: [&str; 2] = ["@grafana/schema@13.2.3", "typescript@5.9.3"];

#[test]
fn grafanas_own_types_take_the_dashboard() {
    let Some(npm) = tools::program("npm", "npm", Size::Large) else { return };
    test(async |dir| {
        let npm = |args: &[&str]| {
            tools::run(&npm, &[&["--prefix", text(dir), "--no-fund", "--no-audit"], args].concat())
        };
        let patience = ["--fetch-retries=1", "--fetch-timeout=20000"];
        let install = [&["install", "--ignore-scripts"], &patience[..], &GRAFANA_TYPES].concat();
        if let Err(why) = npm(&install) {
            let why = why.lines().last().unwrap_or_default();
            tools::skipped(format_args!("the types of Grafana were not to be had: {why}"));
            return;
        }
        let check = |board: &str| {
            let typed = format!(
                "import type {{ Dashboard }} from \"@grafana/schema\";\n\
                 export const board: Dashboard = {board};\n"
            );
            let at = dir.join("board.ts");
            fs::write(&at, typed).expect("writing a dashboard");
            let options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"];
            let module = ["--module", "esnext", "--moduleResolution", "bundler"];
            npm(&[&["exec", "--", "tsc"], &options[..], &module, &[text(&at)]].concat())
        };
        let board = read("deploy/dashboard.json");
        assert_eq!(check(&board).map(|_| ()), Ok(()));
        for (right, wrong) in [("\"gridPos\"", "\"place\""), ("\"title\"", "\"titel\"")] {
            let said = check(&board.replace(right, wrong)).expect_err("it does not look");
            assert!(said.contains(wrong), "{said}");
        }
    });
}
