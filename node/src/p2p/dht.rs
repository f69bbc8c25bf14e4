//! The network's records: checks what is offered, answers lookups and publications.
//!
//! A library's acknowledgement is no proof of storage and its publisher field is anybody's claim,
//! so neither is believed; the caller's check decides, on the way in and on the way out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p::PeerId;
use libp2p::kad::store::{MemoryStore, RecordStore};
use libp2p::kad::{
    self, GetRecordOk, InboundRequest, K_VALUE, KBucketKey, QueryId, QueryResult, Quorum, Record,
    RecordKey,
};

use super::limits::{
    DHT_CHECKS_PER_BEAT_MAX, DHT_CHECKS_PER_PEER_MAX, DHT_EVICTIONS_PER_BEAT_MAX,
    DHT_KEY_BYTES_MAX, DHT_RECORDS_MAX, DHT_VALUE_BYTES_MAX, LOOKUP_VALUES_MAX, LOOKUPS_MAX,
    PUBLICATIONS_MAX,
};
use super::{P2pEvent, Validate, Validity};
use crate::alias::alias;

type Kad = kad::Behaviour<MemoryStore>;

/// Lookups and publications under way, and what was checked in this beat.
pub(crate) struct Dht {
    local: PeerId,
    validate: Arc<Validate>,
    // Query ids have no order; both lists are short.
    lookups: Vec<(QueryId, Lookup)>,
    publications: Vec<Publication>,
    checks: usize,
    checks_of: BTreeMap<PeerId, usize>,
    evictions: usize,
}

struct Lookup {
    key: Vec<u8>,
    values: Vec<Vec<u8>>,
}

struct Publication {
    key: Vec<u8>,
    value: Vec<u8>,
    /// Those under way: one for each node that is told at once, and the search for the nearest.
    queries: Vec<QueryId>,
    /// Whether it was reported.
    is_told: bool,
}

impl Dht {
    pub(crate) fn new(local: PeerId, validate: Arc<Validate>) -> Self {
        Self {
            local,
            validate,
            lookups: Vec::new(),
            publications: Vec::new(),
            checks: 0,
            checks_of: BTreeMap::new(),
            evictions: 0,
        }
    }

    /// A new beat brings new allowances.
    pub(crate) fn beat(&mut self) {
        self.checks = 0;
        self.checks_of.clear();
        self.evictions = 0;
    }

    /// Begins a lookup; one that cannot begin has found nothing.
    pub(crate) fn look_up(&mut self, kad: &mut Kad, key: Vec<u8>) -> Option<P2pEvent> {
        if self.lookups.len() >= LOOKUPS_MAX || key.len() > DHT_KEY_BYTES_MAX {
            return Some(P2pEvent::Found { key, values: Vec::new() });
        }
        let query = kad.get_record(RecordKey::new(&key));
        self.lookups.push((query, Lookup { key, values: Vec::new() }));
        None
    }

    /// Begins a publication; one that cannot begin has failed. It takes the place of an older one of the
    /// same key.
    pub(crate) fn publish(
        &mut self,
        kad: &mut Kad,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Option<P2pEvent> {
        self.supersede(kad, &key);
        let failed = |key, value, why: &str| {
            tracing::warn!(why, "a record was not published");
            Some(P2pEvent::Published { key, value, ok: false })
        };
        if self.publications.len() >= PUBLICATIONS_MAX {
            return failed(key, value, "too many publications are under way");
        }
        if !fits(&key, &value) || (self.validate)(&key, &value, None) == Validity::Invalid {
            return failed(key, value, "others would refuse it");
        }
        // Our own record has a place even when strangers' records fill the store.
        self.make_room(kad, &RecordKey::new(&key));
        let record = Record::new(RecordKey::new(&key), value.clone());
        let search = match kad.put_record(record.clone(), Quorum::One) {
            Ok(search) => search,
            Err(error) => return failed(key, value, &error.to_string()),
        };
        let mut queries = tell_known(kad, &record);
        queries.push(search);
        self.publications.push(Publication { key, value, queries, is_told: false });
        None
    }

    /// An older value is not worth being spread any more.
    fn supersede(&mut self, kad: &mut Kad, key: &[u8]) {
        for older in self.publications.extract_if(.., |known| known.key == key) {
            for query in older.queries {
                if let Some(mut query) = kad.query_mut(&query) {
                    query.finish();
                }
            }
        }
    }

    /// One of a publication's queries has ended. The first that another node has taken is reported; or
    /// the last, when none has.
    fn put(&mut self, id: QueryId, ok: bool) -> Option<P2pEvent> {
        let at = self.publications.iter().position(|known| known.queries.contains(&id))?;
        let mut publication = self.publications.swap_remove(at);
        publication.queries.retain(|query| *query != id);
        let is_last = publication.queries.is_empty();
        let is_news = !publication.is_told && (ok || is_last);
        publication.is_told |= is_news;
        let (key, value) = (publication.key.clone(), publication.value.clone());
        if !is_last {
            self.publications.push(publication);
        }
        is_news.then_some(P2pEvent::Published { key, value, ok })
    }

    /// Takes what the library reports; answers are returned.
    #[expect(clippy::wildcard_enum_match_arm, reason = "routing news and queries of its own")]
    pub(crate) fn happened(&mut self, kad: &mut Kad, event: kad::Event) -> Option<P2pEvent> {
        match event {
            kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            } => {
                self.offered(kad, source, record);
                None
            }
            // Provider records arrive here too under `FilterBoth`; we keep none.
            kad::Event::OutboundQueryProgressed { id, result, step, .. } => match result {
                QueryResult::GetRecord(found) => {
                    if let Ok(GetRecordOk::FoundRecord(found)) = found {
                        self.found(kad, id, &found.record);
                    }
                    step.last.then(|| self.looked_up(id)).flatten()
                }
                QueryResult::PutRecord(put) => self.put(id, put.is_ok()),
                _ => None,
            },
            _ => None,
        }
    }

    fn found(&mut self, kad: &mut Kad, id: QueryId, record: &Record) {
        let Some((_, lookup)) = self.lookups.iter_mut().find(|(query, _)| *query == id) else {
            return;
        };
        let Record { key, value, .. } = record;
        if key.as_ref() != lookup.key
            || lookup.values.contains(value)
            || !fits(&lookup.key, value)
            || (self.validate)(&lookup.key, value, None) == Validity::Invalid
        {
            return;
        }
        lookup.values.push(value.clone());
        if lookup.values.len() >= LOOKUP_VALUES_MAX
            && let Some(mut query) = kad.query_mut(&id)
        {
            query.finish();
        }
    }

    fn looked_up(&mut self, id: QueryId) -> Option<P2pEvent> {
        let at = self.lookups.iter().position(|(query, _)| *query == id)?;
        let (_, Lookup { key, values }) = self.lookups.swap_remove(at);
        Some(P2pEvent::Found { key, values })
    }

    fn offered(&mut self, kad: &mut Kad, source: PeerId, mut record: Record) {
        let of_peer = self.checks_of.entry(source).or_default();
        if self.checks >= DHT_CHECKS_PER_BEAT_MAX || *of_peer >= DHT_CHECKS_PER_PEER_MAX {
            tracing::debug!(source = %alias(&source), "too many records offered; this one is not looked at");
            return;
        }
        self.checks += 1;
        *of_peer += 1;
        if !fits(record.key.as_ref(), &record.value) {
            return;
        }
        let held = kad.store_mut().get(&record.key).map(Cow::into_owned);
        let held = held.as_ref().map(|held| held.value.as_slice());
        match (self.validate)(record.key.as_ref(), &record.value, held) {
            Validity::Newer => {}
            Validity::NotNewer => return,
            Validity::Invalid => {
                tracing::debug!(source = %alias(&source), "an invalid record was offered");
                return;
            }
        }
        // The library would let a forged publisher decide who hands the record on.
        record.publisher = None;
        self.make_room(kad, &record.key);
        if let Err(error) = kad.store_mut().put(record) {
            tracing::debug!(source = %alias(&source), %error, "an offered record was not kept");
        }
    }

    /// When the store is full, gives up the record farthest from us, if it is farther than `key`:
    /// others look for those elsewhere.
    fn make_room(&mut self, kad: &mut Kad, key: &RecordKey) {
        let store = kad.store_mut();
        let full = store.records().count() >= DHT_RECORDS_MAX;
        if !full || store.get(key).is_some() || self.evictions >= DHT_EVICTIONS_PER_BEAT_MAX {
            return;
        }
        self.evictions += 1;
        let local = KBucketKey::from(self.local);
        let distance = |key: &RecordKey| local.distance(&KBucketKey::new(key.clone()));
        let ours = Some(self.local);
        let farthest = store
            .records()
            .filter(|record| record.publisher != ours)
            .map(|record| (distance(&record.key), record.key.clone()))
            .max_by_key(|(far, _)| *far);
        if let Some((far, victim)) = farthest
            && far > distance(key)
        {
            store.remove(&victim);
        }
    }
}

/// Tells those nearest to a record that the table knows at once, each for itself: the search for nearer
/// ones waits for every node that is gone, and this one may be stopped before that ends.
fn tell_known(kad: &mut Kad, record: &Record) -> Vec<QueryId> {
    let key = KBucketKey::new(record.key.clone());
    let known: Vec<PeerId> = kad
        .get_closest_local_peers(&key)
        .take(K_VALUE.get())
        .map(|peer| *peer.preimage())
        .collect();
    let told = known.into_iter().map(|peer| {
        // Of several in one query, the first that answers would be the last that is told.
        kad.put_record_to(record.clone(), [peer].into_iter(), Quorum::One)
    });
    told.collect()
}

fn fits(key: &[u8], value: &[u8]) -> bool {
    key.len() <= DHT_KEY_BYTES_MAX && value.len() <= DHT_VALUE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use libp2p::kad::store::MemoryStoreConfig;
    use libp2p::swarm::ConnectionId;

    use super::*;

    /// Values starting with `ok` are valid; the greater one is the newer.
    fn judge(_: &[u8], value: &[u8], held: Option<&[u8]>) -> Validity {
        match (value.starts_with(b"ok"), held) {
            (false, _) => Validity::Invalid,
            (true, Some(held)) if held >= value => Validity::NotNewer,
            (true, _) => Validity::Newer,
        }
    }

    fn node() -> (Dht, Kad) {
        let local = PeerId::random();
        let config = MemoryStoreConfig { max_records: DHT_RECORDS_MAX, ..Default::default() };
        let store = MemoryStore::with_config(local, config);
        (Dht::new(local, Arc::new(judge)), Kad::new(local, store))
    }

    fn offer(dht: &mut Dht, kad: &mut Kad, source: PeerId, key: &[u8], value: &[u8]) {
        let mut record = Record::new(RecordKey::new(&key), value.to_vec());
        record.publisher = Some(source);
        let connection = ConnectionId::new_unchecked(1);
        let request = InboundRequest::PutRecord { source, connection, record: Some(record) };
        assert!(dht.happened(kad, kad::Event::InboundRequest { request }).is_none());
    }

    fn held(kad: &mut Kad, key: &[u8]) -> Option<Vec<u8>> {
        let held = kad.store_mut().get(&RecordKey::new(&key)).map(Cow::into_owned)?;
        assert_eq!(held.publisher, None, "nobody is believed to be the publisher");
        Some(held.value)
    }

    #[test]
    fn offered_records_are_kept_only_when_valid_and_newer() {
        let (mut dht, mut kad) = node();
        let source = PeerId::random();
        for (value, kept) in [
            (&b"no"[..], None),
            (b"ok1", Some(&b"ok1"[..])),
            (b"ok3", Some(b"ok3")),
            (b"ok2", Some(b"ok3")),
            (b"ok3", Some(b"ok3")),
            (b"no", Some(b"ok3")),
        ] {
            offer(&mut dht, &mut kad, source, b"acme", value);
            assert_eq!(held(&mut kad, b"acme").as_deref(), kept);
        }
    }

    #[test]
    fn what_is_too_long_is_not_looked_at() {
        let (mut dht, mut kad) = node();
        let long = [&b"ok"[..], &[7; DHT_VALUE_BYTES_MAX]].concat();
        offer(&mut dht, &mut kad, PeerId::random(), b"acme", &long);
        assert_eq!(held(&mut kad, b"acme"), None);
        let key = [7; DHT_KEY_BYTES_MAX + 1];
        offer(&mut dht, &mut kad, PeerId::random(), &key, b"ok");
        assert_eq!(held(&mut kad, &key), None);
    }

    #[test]
    fn a_peer_that_offers_too_much_is_not_heard_until_the_next_beat() {
        let (mut dht, mut kad) = node();
        let [flood, quiet] = [PeerId::random(), PeerId::random()];
        for _ in 0..DHT_CHECKS_PER_PEER_MAX {
            offer(&mut dht, &mut kad, flood, b"acme", b"no");
        }
        offer(&mut dht, &mut kad, flood, b"acme", b"ok1");
        assert_eq!(held(&mut kad, b"acme"), None);
        offer(&mut dht, &mut kad, quiet, b"acme", b"ok1");
        assert!(held(&mut kad, b"acme").is_some(), "others are heard");
        dht.beat();
        offer(&mut dht, &mut kad, flood, b"acme", b"ok2");
        assert_eq!(held(&mut kad, b"acme").as_deref(), Some(&b"ok2"[..]));
    }

    #[test]
    fn a_full_store_gives_up_the_farthest_for_a_nearer_one_only() {
        let (mut dht, mut kad) = node();
        let local = KBucketKey::from(dht.local);
        let mut keys: Vec<[u8; 4]> =
            (0..).take(DHT_RECORDS_MAX + 2).map(u32::to_be_bytes).collect();
        keys.sort_by_key(|key| local.distance(&KBucketKey::new(RecordKey::new(key))));
        let (farther, rest) = keys.split_last().expect("there are keys");
        let (nearest, rest) = rest.split_first().expect("there are keys");
        for key in rest {
            kad.store_mut().put(Record::new(RecordKey::new(key), b"ok".to_vec())).expect("room");
        }
        offer(&mut dht, &mut kad, PeerId::random(), farther, b"ok");
        assert_eq!(held(&mut kad, farther), None);
        offer(&mut dht, &mut kad, PeerId::random(), nearest, b"ok");
        assert!(held(&mut kad, nearest).is_some());
        assert_eq!(held(&mut kad, rest.last().expect("the farthest")), None);
        assert_eq!(kad.store_mut().records().count(), DHT_RECORDS_MAX);
    }
}
