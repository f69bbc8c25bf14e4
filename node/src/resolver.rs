//! Asks the DNS which node a domain names: the TXT records at `_tidings.<domain>`. What the answer means
//! for a pin is the core's part.
//!
//! The answer is not signed: DNSSEC is not validated here. Who controls the DNS of a domain, or the way
//! to it, can name another node at first use; it cannot make that node's root key claim the domain, and
//! cannot move a pin.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use tidings_core::event::{DnsOutcome, Event};
use tidings_protocol::domain::Domain;
use tidings_protocol::name_record::NameRecords;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use crate::input::Input;
use crate::limits::{DNS_AT_ONCE, DNS_QUESTIONS_MAX, DNS_TIMEOUT, DNS_TRY_TIMEOUT};

/// Takes questions; a task of its own answers them to the loop.
#[derive(Debug)]
pub(crate) struct Resolver(pub(crate) mpsc::Sender<Domain>);

impl Resolver {
    /// Starts the task.
    pub(crate) fn start(
        servers: Vec<SocketAddr>,
        inputs: mpsc::Sender<Input>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (questions, to_task) = mpsc::channel(DNS_QUESTIONS_MAX);
        tasks.spawn(serve(servers, to_task, inputs));
        Self(questions)
    }

    /// False when too much waits already.
    pub(crate) fn ask(&self, domain: Domain) -> bool {
        self.0.try_send(domain).is_ok()
    }
}

async fn serve(
    servers: Vec<SocketAddr>,
    mut questions: mpsc::Receiver<Domain>,
    inputs: mpsc::Sender<Input>,
) {
    let mut asking = JoinSet::new();
    let mut resolver = None;
    loop {
        tokio::select! {
            Some(done) = asking.join_next() => {
                let Ok((domain, outcome)) = done else { continue };
                if outcome == DnsOutcome::Silent {
                    // The system may have other servers by now.
                    resolver = None;
                }
                let event = Event::Resolved { domain, outcome };
                if inputs.send(Input::Event(event)).await.is_err() {
                    break;
                }
            }
            question = questions.recv(), if asking.len() < DNS_AT_ONCE => {
                let Some(domain) = question else { break };
                let resolver = resolver.get_or_insert_with(|| connect(&servers)).clone();
                asking.spawn(async move {
                    let outcome = look_up(resolver.as_ref(), &domain).await;
                    (domain, outcome)
                });
            }
        }
    }
    // The loop has ended; the node will.
    std::future::pending().await
}

/// One question, without a task.
pub(crate) async fn ask_once(servers: &[SocketAddr], domain: &Domain) -> DnsOutcome {
    look_up(connect(servers).as_ref(), domain).await
}

fn connect(servers: &[SocketAddr]) -> Option<TokioResolver> {
    match build(servers) {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            warn!(%error, "the system names no DNS server that can be used: set dns_servers");
            None
        }
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let named = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                way.port = server.port();
                way
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), named.collect());
        Hickory::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = DNS_TRY_TIMEOUT;
    options.attempts = 1;
    // The core knows what may be remembered, and for how long.
    options.cache_size = 0;
    options.positive_max_ttl = Some(Duration::ZERO);
    options.negative_max_ttl = Some(Duration::ZERO);
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    builder.build()
}

async fn look_up(resolver: Option<&TokioResolver>, domain: &Domain) -> DnsOutcome {
    let Some(resolver) = resolver else { return DnsOutcome::Silent };
    match timeout(DNS_TIMEOUT, resolver.txt_lookup(domain.record_name())).await {
        Ok(Ok(found)) => read(found.answers().iter().map(|record| &record.data)),
        Ok(Err(error)) if error.is_no_records_found() => DnsOutcome::Absent,
        Ok(Err(_)) | Err(_) => DnsOutcome::Silent,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an alias in the DNS leads to the text")]
fn read<'a>(answers: impl Iterator<Item = &'a RData>) -> DnsOutcome {
    let texts: Vec<Vec<u8>> = answers
        .filter_map(|data| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        })
        .collect();
    match NameRecords::read(texts.iter().map(Vec::as_slice)) {
        NameRecords::Node(node) => DnsOutcome::Node(node),
        NameRecords::Absent => DnsOutcome::Absent,
        NameRecords::Contradicting => DnsOutcome::Contradicting,
        NameRecords::Unreadable => DnsOutcome::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use hickory_resolver::proto::rr::RData;
    use hickory_resolver::proto::rr::rdata::TXT;
    use tidings_core::event::DnsOutcome;
    use tidings_protocol::domain::Domain;
    use tidings_protocol::id::NodeId;
    use tidings_protocol::name_record::record_text;

    use super::{ask_once, read};

    #[test]
    fn a_text_in_pieces_is_one_text() {
        let acme = NodeId([1; 32]);
        let text = record_text(&acme);
        let (begin, end) = text.split_at(30);
        let data = RData::TXT(TXT::new(vec![begin.to_owned(), end.to_owned()]));
        assert_eq!(read([&data].into_iter()), DnsOutcome::Node(acme));
        let bytes = RData::TXT(TXT::from_bytes(vec![b"v=tidings1; node=\xff\xfe"]));
        assert_eq!(read([&bytes].into_iter()), DnsOutcome::Unreadable);
    }

    #[tokio::test]
    async fn where_nobody_answers_nothing_is_said() {
        // Bound, so that nobody else has it, and never read.
        let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let servers: [SocketAddr; 1] = [dead.local_addr().unwrap()];
        let domain = Domain::parse("acme.example").unwrap();
        assert_eq!(ask_once(&servers, &domain).await, DnsOutcome::Silent);
    }
}
