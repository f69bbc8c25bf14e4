//! A certificate for this machine alone, made anew for each run, and the trust of the load clients in
//! it and in nothing else.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use tokio_tungstenite::Connector;

const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";

/// A certificate that signs itself, in files beside the nodes' folders.
pub(super) struct Certificate {
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes it and writes it into `dir`.
    pub(super) fn make(dir: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])
            .context("making a certificate")?;
        for (name, text) in [(CERT, made.cert.pem()), (KEY, made.key_pair.serialize_pem())] {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Self { der: made.cert.der().clone() })
    }

    /// The lines of a node's configuration that use it.
    pub(super) fn lines(&self) -> String {
        format!("tls_cert = \"../{CERT}\"\ntls_key = \"../{KEY}\"\n")
    }

    /// What load clients connect with.
    pub(super) fn connector(&self) -> anyhow::Result<Connector> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).context("trusting the certificate")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing the versions of TLS")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Connector::Rustls(Arc::new(config)))
    }
}
