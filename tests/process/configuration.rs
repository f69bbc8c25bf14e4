//! What a node says when it cannot start: which line, which file, what to do. Exit code 1.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text},
    tls,
};

async fn refused(server: &Server) -> Said {
    let args = ["node", "--json", "--data", text(&server.folder)];
    let said = in_time("a node to refuse", binary::run(&args)).await;
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    said
}

/// The refusal names all of these.
async fn names(server: &Server, words: &[&str]) {
    let said = refused(server).await;
    for word in words {
        assert!(said.err.contains(word), "{word:?} is not in {:?}", said.err);
    }
    assert!(!said.err.contains("panicked"), "{:?}", said.err);
}

#[test]
fn a_wrong_line_is_named() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, "").await;
        // Seven lines stand before.
        server.configure(None, "listen_peer = []\n");
        names(&server, &["node.toml, line 8:", "unknown field `listen_peer`"]).await;
        server.configure(None, "announce = [\"127.0.0.1:7400\"]\n");
        names(&server, &["line 8:", "/quic-v1"]).await;
        server.configure(Some("/ip4/127.0.0.1/tcp/7400"), "");
        names(&server, &["line 5:", "/p2p/"]).await;
        server.configure(None, "store_cache_mib = 0\n");
        names(&server, &["line 8:", "from 1 to"]).await;
        server.configure(None, "this is no toml\n");
        names(&server, &["line 8:"]).await;
        fs::write(server.folder.join("node.toml"), [0xff, 0xfe, 0x00]).expect("writing");
        names(&server, &["node.toml"]).await;
        fs::remove_file(server.folder.join("node.toml")).expect("removing");
        names(&server, &["node.toml", "tidings init"]).await;
        let said = binary::run(&["node", "--no-such-option"]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
    });
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, tls::LINES).await;
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| server.folder.join(name));
        names(&server, &["node.toml, line 8:", "cert.pem holds no certificate"]).await;
        tls::Authority::new().certify(&server, "127.0.0.1", 2999);
        let good = fs::read(&cert).expect("reading");
        fs::copy(&key, &cert).expect("copying");
        names(&server, &["node.toml, line 8:", "cert.pem holds no certificate"]).await;
        fs::write(&cert, good).expect("writing");
        fs::copy(&cert, &key).expect("copying");
        names(&server, &["node.toml, line 9:", "key.pem holds no private key"]).await;
        tls::Authority::new().certify(&server, "127.0.0.1", 2999);
        let other = fs::read(&key).expect("reading");
        tls::Authority::new().certify(&server, "127.0.0.1", 2999);
        fs::write(&key, other).expect("writing");
        names(&server, &["node.toml, line 8:", "do not go together"]).await;
    });
}

#[test]
fn wrong_keys_are_named() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, "").await;
        let key = server.folder.join("operational.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
        names(&server, &["operational.key", "chmod 600"]).await;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&key, "not a key").expect("writing");
        names(&server, &["operational.key is damaged"]).await;
        fs::remove_file(&key).expect("removing");
        names(&server, &["operational.key is missing", "backup"]).await;
    });
}

#[test]
fn keys_and_store_of_two_nodes_are_not_mixed() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        let globex = Server::make("globex", dir.join("globex"), None, "").await;
        acme.start().await;
        acme.stop().await;
        for name in ["operational.key", "sealing.key", "transport.key", "delegation.cbor"] {
            fs::copy(globex.folder.join(name), acme.folder.join(name)).expect("copying");
        }
        names(&acme, &["root.key is the key of", "or none"]).await;
        fs::remove_file(acme.folder.join("root.key")).expect("removing");
        names(&acme, &["node.redb is the store of", "store.made away"]).await;
    });
}

#[test]
fn a_damaged_store_is_refused() {
    test(async |dir| {
        let server = Server::make("acme", dir.join("acme"), None, "").await;
        fs::write(server.folder.join("node.redb"), vec![7; 100_000]).expect("writing");
        names(&server, &["node.redb"]).await;
    });
}

#[test]
fn a_store_that_is_gone_is_not_made_anew_without_a_word() {
    test(async |dir| {
        let mut server = Server::make("acme", dir.join("acme"), None, "").await;
        server.start().await;
        server.stop().await;
        let store = server.folder.join("node.redb");
        fs::write(&store, b"").expect("emptying");
        names(&server, &["node.redb is gone", "store.made"]).await;
        fs::remove_file(&store).expect("removing");
        names(&server, &["node.redb is gone", "store.made"]).await;
        assert!(!store.exists());
        fs::remove_file(server.folder.join("store.made")).expect("giving it up");
        server.start().await;
        server.stop().await;
    });
}

#[test]
fn one_folder_serves_one_process() {
    test(async |dir| {
        let mut first = Server::make("acme", dir.join("acme"), None, "").await;
        first.start().await;
        names(&first, &["node.redb is in use by another process"]).await;
        // It has not harmed the one that runs.
        assert_eq!(first.count("accounts").await, 0);
        let mut second = Server::make("globex", dir.join("globex"), None, "").await;
        second.ports[1] = first.ports[1];
        second.configure(None, "");
        names(&second, &["listen_clients", "another node"]).await;
        let said = binary::run(&["admin", "status", "--data", text(&second.folder)]).await;
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains("no node runs in"), "{said:?}");
        first.stop().await;
    });
}
