//! Safety numbers, and somebody under a known name with another account key.

use std::path::Path;

use serde_json::Value;

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text},
};

async fn at_home(home: &Path, args: &[&str]) -> Said {
    let all = [args, &["--home", text(home)]].concat();
    in_time("a command", binary::run(&all)).await
}

/// The one contact of a home.
async fn contact(home: &Path) -> Value {
    let said = at_home(home, &["contacts", "--json"]).await;
    assert_eq!(said.code, Some(0), "{said:?}");
    let all: Value = serde_json::from_str(&said.out).expect("one line of JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    all[0].clone()
}

#[test]
fn another_key_under_a_known_name_is_accepted_by_its_number_alone() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let [alice, bob, other] = ["alice", "bob", "other"].map(|name| dir.join(name));
        let invite = acme.invite(1).await;
        assert_eq!(at_home(&alice, &["join", &invite, "--name", "alice"]).await.code, Some(0));
        let backup = dir.join("backup");
        acme.stop().await;
        acme.back_up(&backup);
        acme.start().await;
        let invite = acme.invite(1).await;
        assert_eq!(at_home(&bob, &["join", &invite, "--name", "bob"]).await.code, Some(0));
        assert_eq!(at_home(&alice, &["send", "bob", "one"]).await.code, Some(0));
        assert!(at_home(&bob, &["inbox"]).await.out.contains("one"));
        let (seen, own) = (contact(&alice).await, contact(&bob).await);
        assert_eq!(seen["safety_number"], own["safety_number"]);
        assert!(seen["offered_key"].is_null(), "{seen}");
        // The node forgets bob; somebody else takes his name.
        acme.stop().await;
        acme.restore(&backup);
        acme.start().await;
        let invite = acme.invite(1).await;
        assert_eq!(at_home(&other, &["join", &invite, "--name", "bob"]).await.code, Some(0));
        assert_eq!(at_home(&other, &["send", "alice", "it is me"]).await.code, Some(0));
        // The node notices that it was put back, and sends alice away once: no matter how long that takes.
        let inbox = at_home(&alice, &["inbox", "--timeout", "60"]).await;
        assert!(inbox.err.contains("tidings contacts"), "{inbox:?}");
        assert!(!inbox.out.contains("it is me"), "{inbox:?}");
        let sent = at_home(&alice, &["send", "bob", "two", "--timeout", "1"]).await;
        assert_eq!(sent.code, Some(5), "{sent:?}");
        assert!(!at_home(&other, &["inbox"]).await.out.contains("two"));
        let seen = contact(&alice).await;
        let number = seen["offered_safety_number"].as_str().expect("another key is offered");
        assert_eq!(contact(&other).await["safety_number"], number);
        let old = seen["safety_number"].as_str().expect("the pinned key's number");
        let wrong = at_home(&alice, &["contacts", "bob", "--accept", old]).await;
        assert!(wrong.code == Some(1) && wrong.err.contains("not the safety number"), "{wrong:?}");
        let right = at_home(&alice, &["contacts", "bob", "--accept", number]).await;
        assert_eq!(right.code, Some(0), "{right:?}");
        at_home(&alice, &["inbox"]).await;
        assert!(at_home(&other, &["inbox"]).await.out.contains("two"));
        acme.stop().await;
    });
}
