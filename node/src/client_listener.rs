//! Accepts connections of devices, and of whoever watches over the node: a bounded number, each for
//! a bounded time until its gate opens, with TLS where the configuration has a certificate. Knows
//! nothing of WebSockets; see `client_link.rs`.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::config::{FILE_NAME, TlsConfig};
use crate::limits::TLS_HANDSHAKES_MAX;

/// Certificate and key cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the expected kind.
    #[error("{FILE_NAME}, line {line}: {} holds no {wanted} that can be read: name a PEM file that has one", .path.display())]
    Pem {
        /// The line that names it.
        line: usize,
        /// Which.
        path: PathBuf,
        /// What should be in it.
        wanted: &'static str,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// The two do not belong together, or are of a kind that is not supported.
    #[error(
        "{FILE_NAME}, line {line}: the certificate and its key do not go together: name the key for \
         which the first certificate was issued"
    )]
    Pair {
        /// The line that names the certificate.
        line: usize,
        /// What TLS says.
        source: rustls::Error,
    },
}

/// Reads certificate chain and key for TLS 1.2 and 1.3. Nothing writes the keys of a session
/// anywhere: `SSLKEYLOGFILE` means nothing to a node.
pub(crate) fn tls_acceptor(config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
    let TlsConfig { cert, key, lines: [cert_line, key_line] } = config;
    let pem = |line: usize, path: &Path, wanted| {
        let path = path.to_owned();
        move |source| TlsError::Pem { line, path, wanted, source }
    };
    let pair = |source| TlsError::Pair { line: *cert_line, source };
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| if chain.is_empty() { Err(PemError::NoItemsFound) } else { Ok(chain) })
        .map_err(pem(*cert_line, cert, "certificate"))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(pem(*key_line, key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Whether certificate chain and key can be used, and the chain, in DER.
///
/// # Errors
/// [`TlsError`].
pub fn check_tls(config: &TlsConfig) -> Result<Vec<Vec<u8>>, TlsError> {
    tls_acceptor(config)?;
    let chain = CertificateDer::pem_file_iter(&config.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    // It was read a moment ago.
    Ok(chain.unwrap_or_default().iter().map(|der| der.to_vec()).collect())
}

/// Accepts connections while there are places.
pub(crate) struct BoundedListener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    /// How long a connection may take until its gate opens, or altogether if it never does.
    time: Duration,
    handshakes: JoinSet<Option<(BoundedIo, SocketAddr)>>,
}

impl BoundedListener {
    pub(crate) fn new(
        tcp: TcpListener,
        tls: Option<TlsAcceptor>,
        places: usize,
        time: Duration,
    ) -> Self {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { tcp, tls, places, time, handshakes: JoinSet::new() }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedIo;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedIo, SocketAddr) {
        loop {
            tokio::select! {
                Some(done) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
                (stream, address, place) = accept_tcp(&self.tcp, &self.places),
                    if self.handshakes.len() < TLS_HANDSHAKES_MAX =>
                {
                    let Some(tls) = &self.tls else {
                        let io = BoundedIo::new(Stream::Plain(stream), place, self.time);
                        return (io, address);
                    };
                    let (handshake, time) = (tls.accept(stream), self.time);
                    self.handshakes.spawn(async move {
                        let done = tokio::time::timeout(time, handshake);
                        let stream = Stream::Tls(Box::new(done.await.ok()?.ok()?));
                        Some((BoundedIo::new(stream, place, time), address))
                    });
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn accept_tcp(
    tcp: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        // The place first: above the bound, newcomers wait in the kernel's queue.
        let Ok(place) = Arc::clone(places).acquire_owned().await else {
            std::future::pending().await
        };
        let accepted = tcp.accept().await.and_then(|(stream, address)| {
            // An answer of 60 bytes must not wait for the acknowledgement of the one before.
            stream.set_nodelay(true)?;
            Ok((stream, address))
        });
        match accepted {
            Ok((stream, address)) => return (stream, address, place),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "accepting a connection failed; raise the limit on open files if it is reached");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Tells a connection that its upgrade is done, so that it may be silent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<AtomicBool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Gate {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().gate.clone()
    }
}

/// One connection. Until its gate opens, it fails after its time.
pub(crate) struct BoundedIo {
    stream: Stream,
    gate: Gate,
    late: Option<Pin<Box<Sleep>>>,
    /// Given back when the connection is gone.
    _place: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl BoundedIo {
    fn new(stream: Stream, place: OwnedSemaphorePermit, time: Duration) -> Self {
        let late = Some(Box::pin(tokio::time::sleep(time)));
        Self { stream, gate: Gate::default(), late, _place: place }
    }

    /// For whoever would have to wait: that it has waited long enough.
    fn poll_late<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.gate.is_open() {
            self.late = None;
        }
        if let Some(late) = &mut self.late {
            ready!(late.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for BoundedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if read.is_ready() { read } else { self.poll_late(cx) }
    }
}

impl AsyncWrite for BoundedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        if written.is_ready() { written } else { self.poll_late(cx) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, routing::get};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::BoundedListener;

    #[tokio::test]
    async fn who_says_nothing_or_reads_nothing_does_not_keep_others_out() {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let listener = BoundedListener::new(tcp, None, 2, Duration::from_millis(200));
        let large = || async { vec![b'a'; 64 << 20] };
        let router = Router::new().route("/", get(|| async { "here" })).route("/large", get(large));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await });
        let silent = TcpStream::connect(address).await.unwrap();
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        third.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut said = String::new();
        third.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("here"), "{said}");
        let mut fourth = TcpStream::connect(address).await.unwrap();
        fourth.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        said.clear();
        fourth.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("here"), "{said}");
        drop((silent, deaf));
        serving.shutdown().await;
    }
}
