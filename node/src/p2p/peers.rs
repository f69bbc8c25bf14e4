//! Decides which pair of lanes is the one link to each peer. Pure: no stream, no clock.
//!
//! Links are settled apart from connections: both sides may dial at once and both connections
//! live, but only one pair of lanes carries the link. The rule: a pair that the peer opened takes
//! the place of what there is, since the peer would not open one if it had a link; only while
//! both may be opening at once does the lower peer id's pair win. A connection that is left
//! without lanes closes by itself, so no side ever closes what the other has chosen.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;

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
    Start { link: u64, peer: PeerId, opener: Opener, pair: P },
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
    connections: BTreeSet<C>,
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
    /// The caller wants no link; it ends for good.
    closing: bool,
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
            connections: BTreeSet::new(),
            dialling: false,
            may_dial: false,
            opening: None,
            link: None,
            next: None,
            closing: false,
        }
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
        match peer.connections.last().copied() {
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
    pub(crate) fn connected(&mut self, id: PeerId, connection: C) {
        let peer = self.peers.entry(id).or_default();
        peer.connections.insert(connection);
        if peer.opening.is_none() && peer.link.is_none() && self.wanted.contains(&id) {
            peer.opening = Some(connection);
            self.effects.push(Effect::Open(id, connection));
        }
    }

    /// A connection is gone.
    pub(crate) fn disconnected(&mut self, id: PeerId, connection: C) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.connections.remove(&connection);
        if let Some(link) = peer.link.as_ref().filter(|link| link.connection == connection) {
            let end = End::Now("the connection closed");
            self.effects.push(Effect::End { link: link.number, end });
        }
        if peer.next.as_ref().is_some_and(|next| next.connection == connection) {
            peer.next = None;
        }
        if peer.opening == Some(connection) {
            self.not_opened(id, "the connection closed");
        }
        self.tidy(id);
    }

    /// Our asking for lanes came to nothing.
    pub(crate) fn open_failed(&mut self, id: PeerId, connection: C, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.opening == Some(connection) {
            // A peer that does not open lanes on it will not do so a moment later either.
            peer.connections.remove(&connection);
            self.effects.push(Effect::CloseConnection(connection));
            self.not_opened(id, why);
        }
        self.tidy(id);
    }

    /// A pair of lanes is open. One that is not wanted is dropped, which its other end sees.
    pub(crate) fn opened(&mut self, id: PeerId, connection: C, opener: Opener, pair: P) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.closing || !peer.connections.contains(&connection) {
            return;
        }
        match opener {
            Opener::Us if peer.opening != Some(connection) => return,
            Opener::Us => {}
            Opener::Them => {
                let contested = peer.link.as_ref().is_some_and(|link| {
                    link.opener == Opener::Us && self.beat < link.since + SETTLED_BEATS
                });
                if (contested || peer.opening.is_some()) && self.local < id {
                    return;
                }
            }
        }
        peer.opening = None;
        self.wanted.remove(&id);
        peer.next = Some(Offer { connection, opener, pair });
        match &peer.link {
            Some(link) => {
                let end = End::Now("the peer opened a newer link");
                self.effects.push(Effect::End { link: link.number, end });
            }
            None => self.start_next(id),
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
            peer.connections.clear();
            self.effects.push(Effect::Disconnect(id));
        } else if spoils_connection {
            peer.connections.remove(&old.connection);
            self.effects.push(Effect::CloseConnection(old.connection));
        }
        self.start_next(id);
        self.tidy(id);
    }

    fn start_next(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(Offer { connection, opener, pair }) = peer.next.take() else { return };
        self.last_link += 1;
        let link = self.last_link;
        self.links.insert(link, id);
        peer.link = Some(Link { number: link, connection, opener, since: self.beat });
        self.effects.push(Effect::Start { link, peer: id, opener, pair });
    }

    fn not_opened(&mut self, id: PeerId, why: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        // Whichever connection failed is not among the peer's any more, so this comes to an end.
        // Another dial of ours may still be under way, and then it answers.
        if peer.dialling || !self.wanted.contains(&id) {
            return;
        }
        if let Some(connection) = peer.connections.last().copied() {
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
