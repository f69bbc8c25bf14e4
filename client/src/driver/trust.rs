//! Whose certificates a device accepts at its node's address. Opens no connection.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

/// The authorities whose certificates are accepted.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(super) roots: Arc<RootCertStore>,
}

/// A file holds no certificate that could be trusted.
#[derive(Debug, Error)]
pub enum NoCertificate {
    /// There is no PEM block of a certificate in it.
    #[error("it holds no certificate: name a file that has `-----BEGIN CERTIFICATE-----`")]
    None,
    /// A block is damaged.
    #[error("it holds a damaged PEM block")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// A block is no certificate.
    #[error("it holds something else than certificates")]
    Certificate(#[source] rustls::Error),
}

impl Default for Trust {
    /// The authorities that browsers trust.
    fn default() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        Self { roots: Arc::new(RootCertStore { roots }) }
    }
}

impl Trust {
    /// The certificates of a PEM file and no others: an organisation's own authority, or a
    /// self-signed certificate itself.
    ///
    /// # Errors
    /// [`NoCertificate`].
    pub fn only(pem: &[u8]) -> Result<Self, NoCertificate> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(NoCertificate::Pem)?;
            roots.add(certificate).map_err(NoCertificate::Certificate)?;
        }
        if roots.is_empty() {
            return Err(NoCertificate::None);
        }
        Ok(Self { roots: Arc::new(roots) })
    }
}

#[cfg(test)]
mod tests {
    use super::{NoCertificate, Trust};

    #[test]
    fn what_is_no_certificate_is_not_trusted() {
        let only = |text: &str| Trust::only(text.as_bytes()).err();
        assert!(matches!(only(""), Some(NoCertificate::None)));
        assert!(matches!(only("words"), Some(NoCertificate::None)));
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(only(key), Some(NoCertificate::None)));
        let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(only(noise), Some(NoCertificate::Certificate(_))));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(only(cut), Some(NoCertificate::Pem(_))));
    }
}
