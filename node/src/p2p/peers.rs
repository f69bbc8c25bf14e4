//! Decides which pair of lanes is the one link to each peer. Pure: no stream, no clock.
//!
//! Links are settled apart from connections: both sides may dial at once and both connections
//! live, but only one pair of lanes carries the link. The rule: a pair that the peer opened takes
//! the place of what there is, since the peer would not open one if it had a link; only while
//! both may be opening at once does the lower peer id's pair win. A connection that is left
//! without lanes closes by itself, so no side ever closes what the other has chosen.
//!
//! A peer that was killed and is back looks, for a moment, like one that dials at the same time:
//! over QUIC nothing tells that the old connection is dead. What tells is that the peer names
//! another [`Instance`] on the new one. Then all connections to the instance before are closed; the
//! side that would win holds the peer's pair until it knows which of the two it sees. No time limit
//! decides, so a slow peer is never taken for a dead one.
//!
//! A connection through a relay is as good as none where there is a direct one. When one appears
//! beside a link that is relayed, the side that opened that link opens a pair on it, so that only one
//! does; once that is the link, relayed connections are closed. The library would keep them open for
//! as long as it hopes to punch a hole, so those that carry nothing are closed after a while.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

use super::instance::Instance;
use super::lanes::Opener;
use super::limits::{DIALS_MAX, SETTLED_BEATS};
use super::session::End;

/// What the swarm task must do now, in this order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect<C, P> {
    /// Dial the addresses that came with the command.
    Dial(PeerId),
    /// Open both lanes on the connection.
    Open(PeerId, C),
    /// Run a session over the pair.
    Start { link: u64, peer: PeerId, opener: Opener, is_relayed: bool, pair: P },
    /// Tell the session to end; its end must be reported by [`Peers::ended`].
    End { link: u64, end: End },
    /// Close the connection.
    CloseConnection(C),
    /// Close all connections to the peer, and stop dialling it.
    Disconnect(PeerId),
    /// Tell the caller that its dial came to nothing.
    Failed { peer: PeerId, why: String },
}

/// All peers that are connected, linked or wanted. `C` names a connection, `P` is a pair of lanes.
#[derive(Debug)]
pub(crate) struct Peers<C, P> {
    local: PeerId,
    peers: BTreeMap<PeerId, Peer<C, P>>,
    wanted: BTreeSet<PeerId>,
    links: BTreeMap<u64, PeerId>,
    last_link: u64,
    beat: u64,
    effects: Vec<Effect<C, P>>,
}

#[derive(Debug)]
struct Peer<C, P> {
    /// Those that may carry lanes; one that we are closing does not count any more.
    connections: BTreeMap<C, Connection>,
    /// A dial of ours is under way; there is never a second one.
    dialling: bool,
    /// The wish rests on a connection or dial that was there before, perhaps dying; if that comes
    /// to nothing, a dial may still help.
    may_dial: bool,
    /// We have asked for lanes on this connection.
    opening: Option<C>,
    link: Option<Link<C>>,
    /// Waits for the old link to go down.
    next: Option<Offer<C, P>>,
    /// Opened by the peer while another pair may win; kept until it is known whether both are with
    /// one process of the peer.
    held: Option<Offer<C, P>>,
    /// The caller wants no link; it ends for good.
    closing: bool,
}

#[derive(Debug)]
struct Connection {
    /// Which process of the peer answers there, once it has said so.
    instance: Option<Instance>,
    is_relayed: bool,
    since: u64,
}

#[derive(Debug)]
struct Link<C> {
    number: u64,
    connection: C,
    opener: Opener,
    since: u64,
}

#[derive(Debug)]
struct Offer<C, P> {
    connection: C,
    opener: Opener,
    pair: P,
}

impl<C, P> Default for Peer<C, P> {
    fn default() -> Self {
        Self {
            connections: BTreeMap::new(),
            dialling: false,
            may_dial: false,
            opening: None,
            link: None,
            next: None,
            held: None,
            closing: false,
        }
    }
}

impl<C: Copy + Ord, P> Peer<C, P> {
    /// The newest direct connection, or else the newest.
    fn best_connection(&self) -> Option<C> {
        let newest = || self.connections.last_key_value().map(|(connection, _)| *connection);
        self.direct_connection().or_else(newest)
    }

    fn direct_connection(&self) -> Option<C> {
        let direct = self.connections.iter().rfind(|(_, known)| !known.is_relayed);
        direct.map(|(connection, _)| *connection)
    }

    fn is_relayed(&self, connection: C) -> bool {
        self.connections.get(&connection).is_some_and(|known| known.is_relayed)
    }

    /// The direct connection to which our link through a relay is to move.
    fn better_connection(&self) -> Option<C> {
        let link = self.link.as_ref()?;
        let is_busy =
            self.closing || self.opening.is_some() || self.next.is_some() || self.held.is_some();
        if is_busy || link.opener == Opener::Them || !self.is_relayed(link.connection) {
            return None;
        }
        self.direct_connection()
    }

    fn is_used(&self, connection: C) -> bool {
        let offers = [&self.next, &self.held].map(|o| o.as_ref().map(|offer| offer.connection));
        let link = self.link.as_ref().map(|link| link.connection);
        offers.into_iter().chain([link, self.opening]).any(|used| used == Some(connection))
    }

    /// The living connection of a pair of ours that both sides may have opened at once.
    fn rival(&self, beat: u64) -> Option<C> {
        let young = self
            .link
            .as_ref()
            .filter(|link| link.opener == Opener::Us && beat < link.since + SETTLED_BEATS);
        let next = self.next.as_ref().filter(|next| next.opener == Opener::Us);
        self.opening
            .or(next.map(|next| next.connection))
            .or(young.map(|link| link.connection))
            .filter(|connection| self.connections.contains_key(connection))
    }

    /// The living connection that may well be newer than a pair that the peer opened on this one.
    /// `is_lower` says that ours is the lower id. A pair on a relayed connection may have been
    /// overtaken by the direct one that took its place.
    fn opponent(&self, connection: C, is_lower: bool, beat: u64) -> Option<C> {
        let next = self.next.as_ref().map(|next| next.connection);
        let young = self.link.as_ref().filter(|link| beat < link.since + SETTLED_BEATS);
        let direct = [next, young.map(|link| link.connection)]
            .into_iter()
            .flatten()
            .find(|known| self.connections.get(known).is_some_and(|known| !known.is_relayed));
        let direct = direct.filter(|_| self.is_relayed(connection));
        // Both sides agree that a direct connection beats a relayed one, and then that the lower id
        // does.
        let wins = |rival: &C| match (self.is_relayed(*rival), self.is_relayed(connection)) {
            (false, true) => true,
            (true, false) => false,
            (true, true) | (false, false) => is_lower,
        };
        direct.or_else(|| self.rival(beat).filter(wins))
    }

    /// Whether one process of the peer has certainly both connections.
    fn is_one_process(&self, one: C, other: C) -> bool {
        let [one_is, other_is] =
            [one, other].map(|c| self.connections.get(&c).and_then(|known| known.instance));
        one == other || (one_is.is_some() && one_is == other_is)
    }
}

impl<C: Copy + Ord, P> Peers<C, P> {
    pub(crate) fn new(local: PeerId) -> Self {
        Self {
            local,
            peers: BTreeMap::new(),
            wanted: BTreeSet::new(),
            links: BTreeMap::new(),
            last_link: 0,
            beat: 0,
            effects: Vec::new(),
        }
    }

    /// What is to be done after the call before.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect<C, P>> {
        std::mem::take(&mut self.effects)
    }

    /// Time went on by one beat.
    pub(crate) fn beat(&mut self) {
        self.beat += 1;
        for (id, peer) in &mut self.peers {
            // Our pair has settled, so the peer has long let go of its own.
            let held = peer.held.as_ref().map(|held| held.connection);
            let is_lower = self.local < *id;
            if held.is_some_and(|held| peer.opponent(held, is_lower, self.beat).is_none()) {
                peer.held = None;
            }
            let is_idle = |connection: &C, known: &Connection| {
                let is_old = known.since + SETTLED_BEATS <= self.beat;
                known.is_relayed && is_old && !peer.is_used(*connection)
            };
            let idle =
                peer.connections.iter().filter(|(connection, known)| is_idle(connection, known));
            for connection in idle.map(|(connection, _)| *connection).collect::<Vec<C>>() {
                peer.connections.remove(&connection);
                self.effects.push(Effect::CloseConnection(connection));
            }
        }
        for id in self.peers.keys().copied().collect::<Vec<PeerId>>() {
            self.prefer_direct(id);
            self.tidy(id);
        }
    }

    /// Moves a link of ours from a relay to a direct connection, if there is one.
    fn prefer_direct(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(connection) = peer.better_connection() {
            peer.opening = Some(connection);
            self.effects.push(Effect::Open(id, connection));
        }
    }

    /// The caller wants a link.
    pub(crate) fn want(&mut self, id: PeerId) {
        if id == self.local {
            return self.fail(id, "that is this node itself");
        }
        let peer = self.peers.entry(id).or_default();
        if peer.closing {
            return self.fail(id, "the link is being closed");
        }
        if peer.link.is_some() || self.wanted.contains(&id) {
            return;
        }
        if self.wanted.len() >= DIALS_MAX {
            self.fail(id, "too many dials are under way");
            return self.tidy(id);
        }
        self.wanted.insert(id);
        match peer.best_connection() {
            Some(connection) => {
                peer.may_dial = true;
                peer.opening = Some(connection);
                self.effects.push(Effect::Open(id, connection));
            }
            // A dial for an earlier wish, which a link from the other side fulfilled before it.
            None if peer.dialling => peer.may_dial = true,
            None => {
                peer.may_dial = false;
                peer.dialling = true;
                self.effects.push(Effect::Dial(id));
            }
        }
    }

    /// Whether an answer to [`Peers::want`] is due.
    pub(crate) fn is_wanted(&self, id: &PeerId) -> bool {
        self.wanted.contains(id)
    }

    /// The caller wants no link.
    pub(crate) fn close(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        peer.dialling = false;
        peer.next = None;
        peer.held = None;
        match &peer.link {
            Some(link) => {
                peer.closing = true;
                self.effects.push(Effect::End { link: link.number, end: End::AfterFlush });
            }
            None => {
                peer.connections.clear();
                self.effects.push(Effect::Disconnect(id));
            }
        }
        if self.wanted.remove(&id) {
            self.fail(id, "closed by this node");
        }
        self.tidy(id);
    }

    /// A dial of ours came to nothing.
    pub(crate) fn dial_failed(&mut self, id: PeerId, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.dialling = false;
        // The peer may have reached us meanwhile; then the answer comes from its connection.
        if peer.opening.is_none() {
            self.not_opened(id, why);
        }
        self.tidy(id);
    }

    /// The dial that [`Effect::Dial`] asked for is answered by a connection, reported next.
    pub(crate) fn dialled(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.dialling = false;
        }
    }

    /// A connection is established, dialled by either side.
    pub(crate) fn connected(&mut self, id: PeerId, connection: C, is_relayed: bool) {
        let peer = self.peers.entry(id).or_default();
        let known = Connection { instance: None, is_relayed, since: self.beat };
        peer.connections.insert(connection, known);
        if peer.opening.is_none() && peer.link.is_none() && self.wanted.contains(&id) {
            peer.opening = Some(connection);
            self.effects.push(Effect::Open(id, connection));
        }
        self.prefer_direct(id);
    }

    /// The peer has said which process of it answers on a connection. Who says so lives, so
    /// connections to another process of it are dead.
    pub(crate) fn identified(&mut self, id: PeerId, connection: C, instance: Instance) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(known) = peer.connections.get_mut(&connection) else { return };
        known.instance = Some(instance);
        let is_dead = |other: &Connection| other.instance.is_some_and(|other| other != instance);
        let dead = peer.connections.extract_if(.., |_, other| is_dead(other)).map(|(dead, _)| dead);
        for dead in dead.collect::<Vec<C>>() {
            self.effects.push(Effect::CloseConnection(dead));
            self.lost(id, dead, "the peer was started again");
        }
        self.judge_held(id);
        self.tidy(id);
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&mut self, id: PeerId, connection: C) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // What went over one that does not count any more has ended before.
        if peer.connections.remove(&connection).is_some() {
            self.lost(id, connection, "the connection closed");
        }
        self.tidy(id);
    }

    /// Ends what went over a connection that does not count any more.
    fn lost(&mut self, id: PeerId, connection: C, why: &'static str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.next.take_if(|next| next.connection == connection);
        peer.held.take_if(|held| held.connection == connection);
        if let Some(link) = peer.link.as_ref().filter(|link| link.connection == connection) {
            self.effects.push(Effect::End { link: link.number, end: End::Now(why) });
        }
        if peer.opening == Some(connection) {
            self.not_opened(id, why);
        } else {
            self.judge_held(id);
        }
    }

    /// Our asking for lanes came to nothing.
    pub(crate) fn open_failed(&mut self, id: PeerId, connection: C, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.opening == Some(connection) {
            // A peer that does not open lanes on it will not do so a moment later either.
            peer.connections.remove(&connection);
            self.effects.push(Effect::CloseConnection(connection));
            self.not_opened(id, why);
            self.prefer_direct(id);
        }
        self.tidy(id);
    }

    /// A pair of lanes is open. One that is not wanted is dropped, which its other end sees.
    pub(crate) fn opened(&mut self, id: PeerId, connection: C, opener: Opener, pair: P) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.closing || !peer.connections.contains_key(&connection) {
            return;
        }
        let offer = Offer { connection, opener, pair };
        match opener {
            Opener::Us if peer.opening == Some(connection) => self.take(id, offer),
            Opener::Us => {}
            Opener::Them if peer.opponent(connection, self.local < id, self.beat).is_some() => {
                peer.held = Some(offer);
                self.judge_held(id);
            }
            Opener::Them => self.take(id, offer),
        }
    }

    /// Decides about a pair that was held, if that is possible by now.
    fn judge_held(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(held) = peer.held.take() else { return };
        match peer.opponent(held.connection, self.local < id, self.beat) {
            None => self.take(id, held),
            // The peer has that other pair, or gets it now, and lets go of this one.
            Some(rival) if peer.is_one_process(rival, held.connection) => {}
            Some(_) => peer.held = Some(held),
        }
    }

    /// Lets a pair carry the link, as soon as the old one is down.
    fn take(&mut self, id: PeerId, offer: Offer<C, P>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        self.wanted.remove(&id);
        if offer.opener == Opener::Them {
            peer.held = None;
        }
        let is_direct = !peer.is_relayed(offer.connection);
        peer.next = Some(offer);
        match &peer.link {
            None => self.start_next(id),
            Some(link) if peer.connections.contains_key(&link.connection) => {
                let is_better = is_direct && peer.is_relayed(link.connection);
                let end = End::Now(if is_better {
                    "a direct connection takes the place of the relayed one"
                } else {
                    "the peer opened a newer link"
                });
                self.effects.push(Effect::End { link: link.number, end });
            }
            // It was told to end when its connection was lost.
            Some(_) => {}
        }
    }

    /// A session has ended. The caller must hear of it before it hears of what follows from here.
    pub(crate) fn ended(&mut self, link: u64, spoils_connection: bool) {
        let Some(id) = self.links.remove(&link) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(old) = peer.link.take_if(|current| current.number == link) else { return };
        if peer.closing {
            peer.closing = false;
            peer.next = None;
            peer.held = None;
            peer.connections.clear();
            self.effects.push(Effect::Disconnect(id));
        } else if spoils_connection {
            peer.connections.remove(&old.connection);
            self.effects.push(Effect::CloseConnection(old.connection));
        }
        self.start_next(id);
        self.judge_held(id);
        self.tidy(id);
    }

    fn start_next(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(Offer { connection, opener, pair }) = peer.next.take() else { return };
        self.last_link += 1;
        let link = self.last_link;
        self.links.insert(link, id);
        peer.link = Some(Link { number: link, connection, opener, since: self.beat });
        let is_relayed = peer.is_relayed(connection);
        self.effects.push(Effect::Start { link, peer: id, opener, is_relayed, pair });
        if !is_relayed {
            let relayed = peer.connections.extract_if(.., |_, known| known.is_relayed);
            self.effects.extend(relayed.map(|(relayed, _)| Effect::CloseConnection(relayed)));
            peer.held.take_if(|held| !peer.connections.contains_key(&held.connection));
        }
        self.prefer_direct(id);
    }

    fn not_opened(&mut self, id: PeerId, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        if peer.held.is_some() {
            return self.judge_held(id);
        }
        // Whichever connection failed is not among the peer's any more, so this comes to an end.
        // Another dial of ours may still be under way, and then it answers.
        if peer.dialling || !self.wanted.contains(&id) {
            return;
        }
        if let Some(connection) = peer.best_connection() {
            peer.opening = Some(connection);
            self.effects.push(Effect::Open(id, connection));
        } else if std::mem::take(&mut peer.may_dial) {
            peer.dialling = true;
            self.effects.push(Effect::Dial(id));
        } else {
            self.wanted.remove(&id);
            self.fail(id, why);
        }
    }

    fn fail(&mut self, peer: PeerId, why: &str) {
        self.effects.push(Effect::Failed { peer, why: why.to_owned() });
    }

    /// Forgets a peer of whom nothing is left, so that strangers do not fill the map.
    fn tidy(&mut self, id: PeerId) {
        let gone = self.peers.get(&id).is_some_and(|peer| {
            peer.connections.is_empty()
                && peer.link.is_none()
                && !peer.dialling
                && !self.wanted.contains(&id)
        });
        if gone {
            self.peers.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
