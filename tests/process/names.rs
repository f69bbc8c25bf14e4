//! A peer that is configured by name.

use tidings_client::event::Status;

use crate::{cluster::test, person::Person, server::Server};

#[test]
fn a_pinned_peer_is_reached_under_its_name() {
    test(async |dir| {
        let mut globex = Server::make("globex", dir.join("globex"), None, "").await;
        globex.start().await;
        let by_name = globex.address().await.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
        assert!(by_name.starts_with("/dns4/localhost/"), "{by_name}");
        let pinned = format!("pinned = [\"{} {by_name}\"]\n", globex.id.to_text());
        let mut acme = Server::make("acme", dir.join("acme"), None, &pinned).await;
        acme.start().await;
        let mut alice = Person::join("alice", &acme, dir.join("alice")).await;
        let mut bob = Person::join("bob", &globex, dir.join("bob")).await;
        alice.write(&bob.peer, &["by name".to_owned()]).await;
        alice.until_reached(Status::Delivered, 1).await;
        assert_eq!(bob.shown(), ["by name"]);
        alice.leave().await;
        bob.leave().await;
        acme.stop().await;
        globex.stop().await;
    });
}
