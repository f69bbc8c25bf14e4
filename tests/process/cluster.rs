//! acme and globex, which know a hub and nothing else, with alice at acme and bob at globex; and the
//! bounds on waiting. What is promised of every message is checked here, in [`Cluster::all_is_well`].

use std::{path::Path, time::Duration};

use serde_json::Value;
use tidings_client::event::Status;

use crate::{
    binary,
    person::Person,
    server::{Server, text, until},
};

/// How long one thing may take, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a whole test may take.
const TEST: Duration = Duration::from_secs(300);

/// Waits for one thing, and says for what when it does not come.
pub(crate) async fn in_time<T>(what: &str, thing: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, thing).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A test's folder: gone at the end, kept and named when the test fails.
pub(crate) struct Folder(Option<tempfile::TempDir>);

impl Folder {
    pub(crate) fn new() -> Self {
        let fresh = tempfile::Builder::new().prefix("tidings-process-").tempdir();
        Self(Some(fresh.expect("making a folder")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.as_ref().expect("a folder until it is dropped").path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take()
            && std::thread::panicking()
        {
            let kept = folder.keep();
            eprintln!("logs and stores are kept in {} (<node>/node.log)", kept.display());
        }
    }
}

/// Runs a test on a runtime of its own, within its time.
pub(crate) fn test(body: impl AsyncFnOnce(&Path)) {
    // Building the binary takes what it takes; the test's time begins afterwards.
    binary::path();
    let folder = Folder::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let body = Box::pin(body(folder.path()));
        assert!(tokio::time::timeout(TEST, body).await.is_ok(), "the test takes too long");
    });
}

/// Three nodes and two people.
pub(crate) struct Cluster {
    pub(crate) hub: Server,
    pub(crate) acme: Server,
    pub(crate) globex: Server,
    pub(crate) alice: Person,
    pub(crate) bob: Person,
    /// What alice has written to bob, in order.
    pub(crate) sent: Vec<String>,
}

/// Which of the two nodes is treated badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Acme,
    Globex,
}

impl Cluster {
    /// Starts everything; nothing was said yet.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// The same with an environment for the nodes.
    pub(crate) async fn start_with(dir: &Path, env: &[(&'static str, &str)]) -> Self {
        let env: Vec<_> = env.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
        hub.env.clone_from(&env);
        hub.start().await;
        let known = hub.address().await;
        let mut acme = Server::make("acme", dir.join("acme"), Some(&known), "").await;
        let mut globex = Server::make("globex", dir.join("globex"), Some(&known), "").await;
        for server in [&mut acme, &mut globex] {
            server.env.clone_from(&env);
            server.start().await;
        }
        let alice = Person::join("alice", &acme, dir.join("alice")).await;
        let bob = Person::join("bob", &globex, dir.join("bob")).await;
        Self { hub, acme, globex, alice, bob, sent: Vec::new() }
    }

    /// The same, and a first message has arrived: everybody has found everybody.
    pub(crate) async fn acquainted(dir: &Path) -> Self {
        let mut cluster = Self::start(dir).await;
        cluster.send("hello", 1).await;
        cluster.all_is_well().await;
        cluster
    }

    pub(crate) const fn side(&mut self, side: Side) -> &mut Server {
        match side {
            Side::Acme => &mut self.acme,
            Side::Globex => &mut self.globex,
        }
    }

    /// alice writes to bob; returns once all of it is on her own disk.
    pub(crate) async fn send(&mut self, what: &str, count: usize) {
        let texts: Vec<String> = (1..=count).map(|number| format!("{what} {number}")).collect();
        self.alice.write(&self.bob.peer, &texts).await;
        self.sent.extend(texts);
    }

    /// Everything ends delivered, and bob was shown each exactly once and in order.
    pub(crate) async fn all_is_well(&mut self) {
        self.alice.until_nothing_waits().await;
        let views = self.alice.conversation(&self.bob.peer).await;
        for view in views.into_iter().filter(|view| view.message.mine) {
            assert!(!view.statuses.is_empty(), "nothing is known of {:?}", view.text);
            for (_, status) in &view.statuses {
                let is_there = matches!(status, Status::Delivered | Status::Read);
                assert!(is_there, "{:?} ended {status:?}", view.text);
            }
        }
        self.bob_has_all().await;
    }

    /// bob has what alice sent, in order and without gaps; nothing was shown twice.
    pub(crate) async fn bob_has_all(&mut self) {
        let mut views = self.bob.conversation(&self.alice.peer).await;
        views.retain(|view| !view.message.mine);
        let texts: Vec<&str> = views.iter().map(|view| view.text.as_str()).collect();
        let first_wrong = self.sent.iter().zip(&texts).position(|(sent, got)| sent != got);
        let (sent, got) = (self.sent.len(), texts.len());
        assert_eq!((first_wrong, sent), (None, got), "first wrong, sent, arrived: {texts:?}");
        let gaps = views.iter().filter(|view| view.missing > 0).count();
        assert_eq!(gaps, 0, "gaps are shown though nothing is missing");
        // What the store holds is what was shown, one by one, and not only at the end.
        until("everything to be shown", async || self.bob.shown().len() >= self.sent.len()).await;
        assert_eq!(self.bob.shown(), self.sent, "shown, in the order of showing");
    }

    /// The last message of alice, which went through the hub: who took it, who held it and whose device
    /// has it is proved to an outsider. Gives what `trace` says about it.
    pub(crate) async fn chain_through_the_hub(&mut self, dir: &Path) -> Value {
        let views = self.alice.conversation(&self.bob.peer).await;
        let message = views.last().expect("a message").message.msg.to_string();
        self.alice.leave().await;
        let file = dir.join("evidence");
        let home = self.alice.home.clone();
        let export = ["export", &message, "--home", text(&home), "--out", text(&file), "--json"];
        let exported = binary::json(&export).await;
        let words = |name: &str| -> Vec<String> {
            let all = exported[name].as_array().into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut verify = vec!["verify".to_owned(), text(&file).to_owned(), "--json".to_owned()];
        let custodian = self.hub.id.to_text();
        for node in words("nodes").into_iter().chain([custodian]) {
            verify.extend(["--node".to_owned(), node]);
        }
        for account in words("accounts") {
            verify.extend(["--account".to_owned(), account]);
        }
        let args: Vec<&str> = verify.iter().map(String::as_str).collect();
        let verdict = binary::json(&args).await;
        let found = verdict["statements"].as_array().expect("statements");
        for claim in ["Accepted", "Custody", "Delivered"] {
            let is_proved =
                |finding: &&Value| finding["claim"] == claim && finding["proved"] == true;
            assert!(found.iter().any(|finding| is_proved(&finding)), "{claim} in {verdict}");
        }
        let trace = binary::json(&["trace", &message, "--home", text(&home), "--json"]).await;
        self.alice.come_back();
        trace
    }

    /// All people leave and all nodes stop cleanly.
    pub(crate) async fn end(mut self) {
        self.alice.leave().await;
        self.bob.leave().await;
        for server in [&mut self.acme, &mut self.globex, &mut self.hub] {
            server.stop().await;
        }
    }
}
