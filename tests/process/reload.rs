//! `node.toml` is read again while the node runs: all of it or nothing.

use std::fs;

use serde_json::json;

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text, until},
};

async fn reload(server: &Server) -> Said {
    let args = ["admin", "reload", "--json", "--data", text(&server.folder)];
    in_time("a reload", binary::run(&args)).await
}

async fn federation(server: &Server) -> String {
    server.ask("status").await["federation"].as_str().expect("a mode").to_owned()
}

#[test]
fn a_bad_line_changes_nothing_and_a_good_one_at_once_what_it_may() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let entries = acme.count("log_entries").await;
        assert_eq!(entries, 0);
        // The first line would be good by itself.
        acme.configure(None, "federation = \"closed\"\ndevice_rows_max = 0\n");
        let refused = reload(&acme).await;
        assert_eq!(refused.code, Some(4), "{refused:?}");
        for word in ["node.toml, line 9:", "from 1 to"] {
            assert!(refused.err.contains(word), "{refused:?}");
        }
        let other = binary::json(&["init", text(&dir.join("other")), "--json"]).await;
        let twice = format!("custodians = [{0}, {0}]\n", other["node"]);
        acme.configure(None, &twice);
        let refused = reload(&acme).await;
        assert!(refused.err.contains("named already"), "{refused:?}");
        let live = binary::run(&["admin", "top", "--data", text(&acme.folder)]).await;
        assert_eq!(live.code, Some(1), "{live:?}");
        assert!(live.err.contains("needs a terminal"), "{live:?}");
        assert_eq!(federation(&acme).await, "open", "nothing has changed");
        acme.configure(None, "federation = \"closed\"\nstore_cache_mib = 8\n");
        let taken = reload(&acme).await;
        let said: serde_json::Value = serde_json::from_str(&taken.out).expect("JSON");
        assert_eq!(
            said,
            json!({ "changed": ["federation"], "needs_restart": ["store_cache_mib"] }),
            "{taken:?}"
        );
        assert_eq!(federation(&acme).await, "closed");
        assert_eq!(acme.count("log_entries").await, 1, "it is in the administrators' log");
        let again = reload(&acme).await;
        assert!(again.out.contains("\"changed\":[]"), "{again:?}");
        assert!(again.out.contains("store_cache_mib"), "it still needs a start: {again:?}");
        acme.configure(None, "federation = \"request\"\n");
        acme.hang_up();
        until("SIGHUP to be heard", async || federation(&acme).await == "request").await;
        acme.stop().await;
    });
}

#[test]
fn a_node_is_spoken_to_whatever_its_file_says() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let path = acme.folder.join("node.toml");
        let good = fs::read_to_string(&path).expect("node.toml");
        // One that says where the data are, one that does not, and one that is no text.
        let cut = good.replace("data = \".\"\n", "this is no toml\n");
        for bad in [format!("{good}this is no toml\n").as_bytes(), cut.as_bytes(), &[0xff, 0xfe, 0]]
        {
            fs::write(&path, bad).expect("writing node.toml");
            let refused = reload(&acme).await;
            assert_eq!(refused.code, Some(4), "{refused:?}");
            assert!(refused.err.contains("node.toml"), "{refused:?}");
            if bad.starts_with(&[0xff]) {
                assert!(refused.err.contains("valid UTF-8"), "the cause: {refused:?}");
            }
            assert_eq!(federation(&acme).await, "open");
        }
        acme.stop().await;
        let args = ["admin", "status", "--data", text(&acme.folder)];
        let none = in_time("a command", binary::run(&args)).await;
        assert_eq!(none.code, Some(1), "the file is all that can be said: {none:?}");
        assert!(none.err.contains("node.toml"), "{none:?}");
    });
}

#[test]
fn a_peer_that_is_pinned_later_is_reached_without_a_start() {
    test(async |dir| {
        let mut hub = Server::make("hub", dir.join("hub"), None, "").await;
        hub.start().await;
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let pinned = format!("pinned = [\"{} {}\"]\n", hub.id.to_text(), hub.address().await);
        acme.configure(None, &pinned);
        let taken = reload(&acme).await;
        assert!(taken.out.contains("pinned"), "{taken:?}");
        let node = hub.id.to_text();
        let retry = ["admin", "peers", "retry-now", &node, "--data", text(&acme.folder)];
        let retried = in_time("an administrator", binary::run(&retry)).await;
        assert_eq!(retried.code, Some(0), "{retried:?}");
        until("the link", async || {
            let peers = acme.ask("peers").await;
            peers.as_array().into_iter().flatten().any(|peer| peer["connected"] == true)
        })
        .await;
        acme.stop().await;
        hub.stop().await;
    });
}
