//! What is counted, in OpenMetrics, and the listener that shows it: `/metrics`, `/livez`, `/readyz`.
//!
//! Names nobody but peers, and those by node id; no user, device or address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tidings_core::effect::{AdminReply, NameFound, NodeStatus, Observed, OwnDomain, PeerStatus};
use tidings_core::event::AdminCommand;
use tidings_core::space::Intake;
use tidings_protocol::refusal::RefusalCode;
use tidings_store::Counters;
use tracing::{error, info, warn};

use crate::clock;
use crate::input::Asker;
use crate::limits::METRIC_PEERS_MAX;
use crate::p2p::{NatFigures, P2p, Reachability};

/// One of a few words that are known in advance: counting allocates nothing.
type Word = [(&'static str, &'static str); 1];
/// A peer's node id.
type PeerLabel = [(&'static str, String); 1];

/// Everything that is counted. Written by the loop, read by scrapes.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    observed: Family<Word, Counter>,
    refused: Family<Word, Counter>,
    delivery: Histogram,
    tick: Histogram,
    commit: Histogram,
    batch: Histogram,
    store: Family<Word, Counter>,
    status: Family<Word, Gauge>,
    queued: Family<PeerLabel, Gauge>,
    waiting: Family<PeerLabel, Gauge>,
    oldest: Family<PeerLabel, Gauge<f64, AtomicU64>>,
    dead: Family<PeerLabel, Gauge>,
    dead_oldest: Family<PeerLabel, Gauge<f64, AtomicU64>>,
    connected: Family<PeerLabel, Gauge>,
    disk: Family<Word, Gauge>,
    reachability: Family<Word, Gauge>,
    relay: Family<Word, Gauge>,
    hole_punches: Family<Word, Counter>,
    draining: AtomicBool,
}

/// What can become of envelopes and copies, in the words of [`Metrics::observe`].
const OBSERVED: [&str; 17] = [
    "accepted",
    "stored",
    "held",
    "duplicate",
    "delivered",
    "ticked",
    "failed",
    "expired",
    "bad_statement",
    "dead_letter",
    "audit_unknown",
    "misbehaves",
    "rolled_back",
    "other_rolled_back",
    "own_id_elsewhere",
    "name_changed",
    "own_domain_unbound",
];

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tidings"),
            observed: Family::default(),
            refused: Family::default(),
            delivery: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            tick: Histogram::new(exponential_buckets(0.001, 2.0, 20)),
            commit: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            store: Family::default(),
            status: Family::default(),
            queued: Family::default(),
            waiting: Family::default(),
            oldest: Family::default(),
            dead: Family::default(),
            dead_oldest: Family::default(),
            connected: Family::default(),
            disk: Family::default(),
            reachability: Family::default(),
            relay: Family::default(),
            hole_punches: Family::default(),
            draining: AtomicBool::new(false),
        };
        metrics.register();
        metrics.begin();
        metrics
    }

    /// Counters that are there from the start: who watches a counter sees its first step only if it
    /// stood at zero before.
    fn begin(&self) {
        for what in OBSERVED {
            drop(self.observed.get_or_create(&[("what", what)]));
        }
        for code in RefusalCode::ALL {
            drop(self.refused.get_or_create(&[("reason", code.name())]));
        }
        self.nat(&NatFigures::default());
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("envelopes", "What became of envelopes and copies", self.observed.clone());
        r.register("refusals", "Requests and frames refused, by reason", self.refused.clone());
        let (unit, help) = (Unit::Seconds, "From the commit here to the device's word");
        r.register_with_unit("delivery", help, unit, self.delivery.clone());
        let (unit, help) = (Unit::Seconds, "From acceptance to the device's statement");
        r.register_with_unit("tick", help, unit, self.tick.clone());
        let (unit, help) = (Unit::Seconds, "One batch: handlers and durable commit");
        r.register_with_unit("commit", help, unit, self.commit.clone());
        r.register("batch_events", "Events of one batch", self.batch.clone());
        r.register("store", "Work of the store", self.store.clone());
        r.register("node", "The node at a glance", self.status.clone());
        let help = "Envelopes for a peer whose end is not proved, wherever they are";
        r.register("peer_queued", help, self.queued.clone());
        let help = "Those among them that wait to be handed over";
        r.register("peer_waiting", help, self.waiting.clone());
        let (unit, help) = (Unit::Seconds, "Age of the oldest that waits to be handed over");
        r.register_with_unit("peer_oldest", help, unit, self.oldest.clone());
        r.register("peer_dead", "Dead letters for a peer", self.dead.clone());
        let (unit, help) = (Unit::Seconds, "How long the oldest of them has been one");
        r.register_with_unit("peer_dead_oldest", help, unit, self.dead_oldest.clone());
        r.register("peer_connected", "Whether a link is up and greeted", self.connected.clone());
        r.register_with_unit("disk", "The store's disk", Unit::Bytes, self.disk.clone());
        let help = "Whether others can dial this node: 1 at what peers found when they tried";
        r.register("reachability", help, self.reachability.clone());
        r.register("relay", "Ways through relays, and what is relayed here", self.relay.clone());
        let help = "Attempts to get from a relayed connection to a direct one";
        r.register("hole_punches", help, self.hole_punches.clone());
    }

    pub(crate) fn observe(&self, observed: Observed) {
        let what = match observed {
            Observed::Accepted => "accepted",
            Observed::Stored => "stored",
            Observed::Held => "held",
            Observed::Duplicate => "duplicate",
            Observed::Delivered { after_ms } => {
                self.delivery.observe(seconds(after_ms));
                "delivered"
            }
            Observed::Ticked { after_ms } => {
                self.tick.observe(seconds(after_ms));
                "ticked"
            }
            Observed::Failed => "failed",
            Observed::Expired => "expired",
            Observed::Refused(code) => {
                self.refused.get_or_create(&[("reason", code.name())]).inc();
                return;
            }
            Observed::BadStatement => "bad_statement",
            Observed::DeadLetter => "dead_letter",
            Observed::AuditUnknown => "audit_unknown",
            Observed::Misbehaves => {
                warn!(
                    "a peer does again and again what no honest one does: see `tidings admin peers list`"
                );
                "misbehaves"
            }
            Observed::RolledBack => "rolled_back",
            Observed::OtherRolledBack => "other_rolled_back",
            Observed::OwnIdElsewhere => {
                error!(
                    "others know addresses of this node that this process did not sign: if another \
                     process runs with its keys, stop one of the two; else its store was put back"
                );
                "own_id_elsewhere"
            }
            Observed::NameChanged => {
                warn!(
                    "what the DNS or a node says about a pinned domain has changed; the pin holds: \
                     `tidings admin names list` shows it"
                );
                "name_changed"
            }
            Observed::OwnDomainUnbound => {
                warn!(
                    "the DNS does not name this node for one of its domains: `tidings admin status` \
                     says which, `tidings doctor` the record to set"
                );
                "own_domain_unbound"
            }
            Observed::Intake(intake) => {
                log_intake(intake);
                return;
            }
        };
        self.observed.get_or_create(&[("what", what)]).inc();
    }

    pub(crate) fn batch(&self, events: usize, took: Duration, done: Counters, syncs: u64) {
        self.commit.observe(took.as_secs_f64());
        self.batch.observe(f64::from(u32::try_from(events).unwrap_or(u32::MAX)));
        for (what, count) in [
            ("gets", done.gets),
            ("ranges", done.ranges),
            ("puts", done.puts),
            ("deletes", done.deletes),
            ("commits", done.commits),
            ("idle_batches", done.idle_batches),
            ("bytes_put", done.bytes_put),
            ("syncs", syncs),
        ] {
            self.store.get_or_create(&[("work", what)]).inc_by(count);
        }
    }

    /// What was observed so far, by its word.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OBSERVED
            .into_iter()
            .map(|what| (what, self.observed.get_or_create(&[("what", what)]).get()))
    }

    pub(crate) fn disk(&self, free: u64, size: u64) {
        for (what, bytes) in [("free", free), ("size", size)] {
            self.disk.get_or_create(&[("space", what)]).set(gauge(bytes));
        }
    }

    fn nat(&self, nat: &NatFigures) {
        for state in Reachability::ALL {
            let is_so = i64::from(state == nat.state);
            self.reachability.get_or_create(&[("state", state.name())]).set(is_so);
        }
        for (what, count) in [
            ("relays", nat.relays),
            ("reservations", nat.reservations),
            ("reservations_given", nat.reservations_given),
            ("circuits", nat.circuits),
            ("links", nat.relayed_links.len()),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.relay.get_or_create(&[("what", what)]).set(count);
        }
        for (result, count) in [("done", nat.punched), ("failed", nat.not_punched)] {
            let counter = self.hole_punches.get_or_create(&[("result", result)]);
            // The peer link counts; two scrapes at a time may only be late.
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    pub(crate) fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn status(&self, status: &NodeStatus) {
        for (what, value) in [
            ("accounts", status.accounts),
            ("devices_connected", status.devices_connected),
            ("peers_connected", status.peers_connected),
            ("queued", status.queued),
            ("waiting", status.waiting),
            ("dead", status.dead),
            ("inbox", status.inbox),
            ("counting", u64::from(status.counting)),
            ("requests", status.requests),
            ("full", u64::from(status.intake == Intake::Nobody)),
            ("full_for_peers", u64::from(status.intake != Intake::Everybody)),
            ("names_changed", status.names_changed),
            ("domains_unbound", unbound(status)),
            ("last_commit", status.commit),
        ] {
            self.status.get_or_create(&[("what", what)]).set(gauge(value));
        }
    }

    fn peers(&self, mut peers: Vec<PeerStatus>, now_ms: u64) {
        // The longest queues first, so that the bound on series drops the idle ones.
        peers.sort_by_key(|peer| std::cmp::Reverse((peer.queued, peer.connected)));
        self.queued.clear();
        self.waiting.clear();
        self.oldest.clear();
        self.dead.clear();
        self.dead_oldest.clear();
        self.connected.clear();
        for peer in peers.into_iter().take(METRIC_PEERS_MAX) {
            let labels = [("peer", peer.node.to_text())];
            let age = |since_ms: Option<u64>| {
                seconds(since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms)))
            };
            self.queued.get_or_create(&labels).set(gauge(peer.queued));
            self.waiting.get_or_create(&labels).set(gauge(peer.waiting));
            self.oldest.get_or_create(&labels).set(age(peer.oldest_ms));
            self.dead.get_or_create(&labels).set(gauge(peer.dead));
            self.dead_oldest.get_or_create(&labels).set(age(peer.dead_oldest_ms));
            self.connected.get_or_create(&labels).set(i64::from(peer.connected));
        }
    }
}

/// Own domains for which the DNS is known not to name this node.
fn unbound(status: &NodeStatus) -> u64 {
    let is_bad = |domain: &&OwnDomain| domain.found.is_some_and(|it| it != NameFound::Bound);
    status.domains.iter().filter(is_bad).count() as u64
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The routes for whoever watches over the node.
pub(crate) fn router(metrics: Arc<Metrics>, asker: Asker, p2p: P2p) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state((metrics, asker, p2p))
        // A connection has its time and no more, so it carries one question.
        .layer(map_response(async |mut response: Response| {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }))
}

type Watched = State<(Arc<Metrics>, Asker, P2p)>;

async fn scrape(State((metrics, asker, p2p)): Watched) -> Response {
    metrics.nat(&p2p.nat());
    if let Some(AdminReply::Status(status)) = asker.ask(AdminCommand::Status).await {
        metrics.status(&status);
    }
    if let Some(AdminReply::Peers(peers)) = asker.ask(AdminCommand::Peers).await {
        metrics.peers(peers, clock::now_ms());
    }
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The loop turned within a second.
async fn live(State((_, asker, _)): Watched) -> Response {
    if asker.beat().await {
        "the loop turns\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the loop does not turn: restart the node\n")
            .into_response()
    }
}

fn log_intake(intake: Intake) {
    match intake {
        Intake::Everybody => {
            info!("the disk has room again: new messages are taken from everybody")
        }
        Intake::OwnDevices => {
            warn!("the disk is nearly full: peers are told to come back; make space");
        }
        Intake::Nobody => error!("the disk is full: nothing new is taken; make space"),
    }
}

/// The store answers and has space, and the node is not about to stop.
async fn ready(State((metrics, asker, _)): Watched) -> Response {
    let why = if metrics.draining.load(Ordering::Relaxed) {
        "the node is stopping\n"
    } else {
        match asker.ask(AdminCommand::Status).await {
            Some(AdminReply::Status(status)) if status.intake != Intake::Nobody => {
                return "ready\n".into_response();
            }
            Some(AdminReply::Status(_)) => "the disk is full: make space\n",
            Some(_) | None => "the store does not answer: look at the log\n",
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use tidings_core::effect::Observed;
    use tidings_protocol::refusal::RefusalCode;

    use super::{Metrics, NatFigures, OBSERVED, Reachability};

    #[test]
    fn how_the_node_is_reached_stands_there_too() {
        let metrics = Metrics::new();
        let nat = NatFigures { state: Reachability::Private, punched: 2, ..Default::default() };
        metrics.nat(&nat);
        metrics.nat(&nat);
        let mut text = String::new();
        encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "tidings_reachability{state=\"private\"} 1",
            "tidings_reachability{state=\"public\"} 0",
            "tidings_relay{what=\"reservations\"} 0",
            "tidings_hole_punches_total{result=\"done\"} 2",
            "tidings_hole_punches_total{result=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn what_can_be_counted_stands_there_before_it_happens() {
        let metrics = Metrics::new();
        let text = || {
            let mut text = String::new();
            encode(&mut text, &metrics.registry).unwrap();
            text
        };
        let series = |begin: &str| text().lines().filter(|line| line.starts_with(begin)).count();
        assert_eq!(series("tidings_envelopes_total{"), OBSERVED.len());
        assert_eq!(series("tidings_refusals_total{"), RefusalCode::ALL.len());
        for observed in [
            Observed::Accepted,
            Observed::Stored,
            Observed::Duplicate,
            Observed::Delivered { after_ms: 1 },
            Observed::Ticked { after_ms: 1 },
            Observed::Failed,
            Observed::Expired,
            Observed::Refused(RefusalCode::Busy),
            Observed::BadStatement,
            Observed::DeadLetter,
            Observed::AuditUnknown,
            Observed::Misbehaves,
            Observed::RolledBack,
            Observed::OtherRolledBack,
            Observed::OwnIdElsewhere,
            Observed::NameChanged,
            Observed::OwnDomainUnbound,
        ] {
            metrics.observe(observed);
        }
        assert_eq!(series("tidings_envelopes_total{"), OBSERVED.len(), "{}", text());
        assert!(!text().contains("tidings_envelopes_total{what=\"accepted\"} 0"));
    }
}
