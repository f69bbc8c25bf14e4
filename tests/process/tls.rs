//! Devices over TLS: with the authority of the own organisation, and with certificates that a device
//! must not accept. Then nothing is said to the node, and the person hears what to do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use crate::{
    binary::{self, Said},
    cluster::{in_time, test},
    server::{Server, text},
};

/// The lines that the configuration gets.
pub(crate) const LINES: &str = "tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n";

/// An authority that nobody but its organisation knows.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "acme's own authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { certificate, key }
    }

    /// Gives a node a certificate for a host, good until the end of a year.
    pub(crate) fn certify(&self, server: &Server, host: &str, last_year: i32) {
        self.certify_at(&server.folder, host, last_year);
    }

    /// Puts a certificate for a host into a folder, and its own beside it; gives the path of that one.
    pub(crate) fn certify_in(&self, dir: &Path, host: &str) -> PathBuf {
        self.certify_at(dir, host, 2999);
        let ca = dir.join("ca.pem");
        fs::write(&ca, self.certificate.pem()).expect("writing");
        ca
    }

    fn certify_at(&self, dir: &Path, host: &str, last_year: i32) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, host);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.certificate, &self.key).expect("a certificate");
        fs::write(dir.join("cert.pem"), signed.pem()).expect("writing");
        fs::write(dir.join("key.pem"), key.serialize_pem()).expect("writing");
    }
}

async fn join(invite: &str, name: &str, home: &str, more: &[&str]) -> Said {
    let args = [&["join", invite, "--name", name, "--home", home, "--json"], more].concat();
    in_time("joining", binary::run(&args)).await
}

#[test]
fn devices_speak_over_tls_with_an_authority_of_their_own() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, LINES).await;
        let authority = Authority::new();
        authority.certify(&acme, "127.0.0.1", 2999);
        acme.start().await;
        let invite = acme.invite(2).await;
        let ca = dir.join("ca.pem");
        fs::write(&ca, authority.certificate.pem()).expect("writing");
        let [alice, bob] = ["alice", "bob"].map(|name| dir.join(name));

        let said = join(&invite, "alice", text(&alice), &[]).await;
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains("wss://127.0.0.1:") && said.err.contains("--ca"), "{said:?}");
        // The same home goes on, and keeps what it was told to trust.
        for (name, home) in [("alice", &alice), ("bob", &bob)] {
            let said = join(&invite, name, text(home), &["--ca", text(&ca)]).await;
            assert_eq!(said.code, Some(0), "{said:?}");
        }
        let sent = ["send", "bob", "over TLS", "--home", text(&alice), "--wait", "accepted"];
        let said = in_time("sending", binary::run(&sent)).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        let said = in_time("reading", binary::run(&["inbox", "--home", text(&bob)])).await;
        assert!(said.code == Some(0) && said.out.contains("over TLS"), "{said:?}");
        acme.stop().await;
    });
}

#[test]
fn a_self_signed_certificate_is_accepted_by_who_was_given_it() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, LINES).await;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let file = acme.folder.join("cert.pem");
        fs::write(&file, certificate).expect("writing");
        fs::write(acme.folder.join("key.pem"), key.serialize_pem()).expect("writing");
        acme.start().await;
        let (invite, home) = (acme.invite(1).await, dir.join("alice"));
        let said = join(&invite, "alice", text(&home), &["--ca", text(&file)]).await;
        assert_eq!(said.code, Some(0), "{said:?}");
        acme.stop().await;
    });
}

#[test]
fn a_certificate_that_proves_nothing_is_not_accepted() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, LINES).await;
        let authority = Authority::new();
        let [ca, other] = ["ca.pem", "other.pem"].map(|name| dir.join(name));
        fs::write(&ca, authority.certificate.pem()).expect("writing");
        fs::write(&other, Authority::new().certificate.pem()).expect("writing");
        for (host, last_year, trusted, hint) in [
            ("127.0.0.1", 2999, &other, "signed by nobody that you trust"),
            ("acme.example", 2999, &ca, "another name"),
            ("127.0.0.1", 2001, &ca, "out of date"),
        ] {
            authority.certify(&acme, host, last_year);
            acme.start().await;
            let invite = acme.invite(1).await;
            let said =
                join(&invite, "alice", text(&dir.join("alice")), &["--ca", text(trusted)]).await;
            assert_eq!((said.code, said.out.as_str()), (Some(3), ""), "{said:?}");
            assert!(said.err.contains(hint), "{hint}: {said:?}");
            assert_eq!(acme.count("accounts").await, 0);
            acme.stop().await;
        }
        let said = join("tidings:", "alice", text(&dir.join("alice")), &[]).await;
        assert_eq!(said.code, Some(2), "{said:?}");
    });
}

#[test]
fn a_file_without_a_certificate_is_named() {
    test(async |dir| {
        let mut acme = Server::make("acme", dir.join("acme"), None, "").await;
        acme.start().await;
        let invite = acme.invite(1).await;
        let empty = dir.join("empty.pem");
        fs::write(&empty, "").expect("writing");
        let home = dir.join("alice");
        for (file, hint) in [(empty, "BEGIN CERTIFICATE"), (dir.join("none.pem"), "No such file")] {
            let said = join(&invite, "alice", text(&home), &["--ca", text(&file)]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(text(&file)) && said.err.contains(hint), "{said:?}");
            assert!(!home.exists(), "nothing was made");
        }
        acme.stop().await;
    });
}
