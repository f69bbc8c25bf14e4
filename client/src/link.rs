//! The link to the own node: greeting, proof of both sides, what each side last saw of the other's
//! store, keep-alive. What frames mean once the link serves is in `link_in.rs`.

use tidings_protocol::{
    client_frame::{ClientFrame, Join, Ping, PublishList},
    hello::{Challenge, ClientHello, Welcome, client_transcript, node_transcript},
    id::{Nonce, SubmitId, timed_id},
    key::{PublicKey, Purpose},
    limits::{CLOCK_SKEW_MS_MAX, LINK_SILENCE_MS_MAX, PROTOCOL_VERSION},
};
use tidings_store::{BootId, StoreError, Txn};

use crate::{
    Sabotage,
    account::draw,
    crypto::Sealer,
    event::{ClientEffect, CloseWhy, Warning},
    machine::ClientCore,
    rows::PeerKey,
    show_lists::{Lists, Page},
};

/// How often the node is asked whether it is there.
const PING_EVERY_MS: u64 = LINK_SILENCE_MS_MAX / 3;

/// Where the link stands.
#[derive(Debug)]
pub(crate) enum Link {
    /// No connection.
    Down,
    /// Connected; the node speaks first.
    Open { since_ms: u64, challenge: Option<Challenge> },
    /// Asked for an account.
    Joining { since_ms: u64, challenge: Challenge, request: u64 },
    /// Shows the account's device lists.
    Showing { since_ms: u64, challenge: Challenge, page: Page },
    /// Proved ourselves; the node is to prove itself.
    Greeting { since_ms: u64, challenge: Challenge, hello: ClientHello },
    /// Serving.
    Up(Session),
}

/// A link that serves.
#[derive(Debug)]
pub(crate) struct Session {
    /// Of the node's store; an acceptance of another one earns no tick.
    pub(crate) incarnation: u64,
    /// Of the node's store: an acceptance of an earlier one may be from before a restore that nobody
    /// has noticed.
    pub(crate) boot: tidings_protocol::id::BootId,
    /// Signs the node's statements.
    pub(crate) operational: PublicKey,
    /// The list version that the node has of this account.
    pub(crate) list_version: u64,
    heard_ms: u64,
    pinged_ms: u64,
    /// Somebody waits for everything that the node holds.
    catch_up: Option<CatchUp>,
    /// The own list version on top of which the node did not take a list.
    pub(crate) overtaken_at: Option<u64>,
}

/// The node pushes what it holds within a window, and says nowhere that it was the last. It answers a
/// ping behind what it pushed before. A pong may overtake what our last answer made room for, when both
/// reached the node together; a second one in a row cannot.
#[derive(Debug)]
struct CatchUp {
    ping: u64,
    /// Something else came since that ping left.
    is_busy: bool,
    /// Pings in a row that were answered with nothing else in between.
    quiet: u8,
}

/// Quiet pings in a row after which nothing waits.
const QUIET_PINGS: u8 = 2;

/// What an open request waits for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Lists and bundles of a peer.
    Fetch(PeerKey),
    /// Own pre-keys are being published.
    Prekeys,
    /// A version of the own list is being published.
    List(u64),
    /// The list that replaces this device is being published, on top of this version.
    Replacement(u64),
    /// The node that a domain stands for.
    Resolve(tidings_protocol::domain::Domain),
}

impl Link {
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self, Self::Up(_))
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        match self {
            Self::Up(session) => Some(session),
            Self::Down
            | Self::Open { .. }
            | Self::Joining { .. }
            | Self::Showing { .. }
            | Self::Greeting { .. } => None,
        }
    }

    /// Whether everything has come on it that the node held, as far as somebody has asked.
    pub(crate) fn is_caught_up(&self) -> bool {
        let asked = self.session().and_then(|session| session.catch_up.as_ref());
        asked.is_some_and(|asked| asked.quiet >= QUIET_PINGS)
    }

    pub(crate) const fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Self::Up(session) => Some(session),
            Self::Down
            | Self::Open { .. }
            | Self::Joining { .. }
            | Self::Showing { .. }
            | Self::Greeting { .. } => None,
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        match self {
            Self::Down => None,
            Self::Open { since_ms, .. }
            | Self::Joining { since_ms, .. }
            | Self::Showing { since_ms, .. }
            | Self::Greeting { since_ms, .. } => Some(since_ms + LINK_SILENCE_MS_MAX),
            Self::Up(session) => {
                let silent = session.heard_ms + LINK_SILENCE_MS_MAX;
                Some(silent.min(session.heard_ms.max(session.pinged_ms) + PING_EVERY_MS))
            }
        }
    }
}

impl<S: Sealer> ClientCore<S> {
    pub(crate) fn on_connected(&mut self, now_ms: u64) {
        self.on_disconnected(Some(now_ms));
        if self.stopped.is_none() {
            self.link = Link::Open { since_ms: now_ms, challenge: None };
        }
    }

    /// The link ended now; or, when that is not known, after it was last heard.
    pub(crate) fn on_disconnected(&mut self, now_ms: Option<u64>) {
        if let Some(session) = self.link.session() {
            let ended_ms = now_ms.unwrap_or(session.heard_ms);
            self.stop_holds(ended_ms);
        }
        self.link = Link::Down;
        self.requests.clear();
        self.names_link_lost();
        self.to_sign.clear();
        self.bundles.clear();
        self.queues.link_lost();
    }

    pub(crate) fn watch_link(&mut self, now_ms: u64) {
        let overdue = match &mut self.link {
            Link::Down => false,
            Link::Open { since_ms, .. }
            | Link::Joining { since_ms, .. }
            | Link::Showing { since_ms, .. }
            | Link::Greeting { since_ms, .. } => *since_ms + LINK_SILENCE_MS_MAX <= now_ms,
            Link::Up(session) => {
                if session.heard_ms + LINK_SILENCE_MS_MAX <= now_ms {
                    true
                } else {
                    if session.heard_ms.max(session.pinged_ms) + PING_EVERY_MS <= now_ms {
                        session.pinged_ms = now_ms;
                        self.tell_node(ClientFrame::Ping(Ping { number: now_ms }));
                    }
                    false
                }
            }
        };
        if overdue {
            self.showed_to_silence();
            self.close(CloseWhy::Silent);
        }
    }

    pub(crate) const fn heard(&mut self, now_ms: u64) {
        if let Link::Up(session) = &mut self.link {
            session.heard_ms = now_ms;
        }
    }

    /// Whether everything has come that the node held for this device, and is shown: what waits for
    /// others before it is waited out. Asks the node, once on each link: call it again and again until it
    /// is so. False while there is no link.
    pub fn catch_up(&mut self) -> bool {
        let Some(session) = self.link.session() else { return false };
        if session.catch_up.is_none() {
            self.ping_for_more(0);
            return false;
        }
        self.link.is_caught_up() && self.holds.is_empty()
    }

    fn ping_for_more(&mut self, quiet: u8) {
        let number = self.number_request();
        if let Link::Up(session) = &mut self.link {
            session.catch_up = Some(CatchUp { ping: number, is_busy: false, quiet });
            self.tell_node(ClientFrame::Ping(Ping { number }));
        }
    }

    /// The node sent something of what it holds: there may be more.
    pub(crate) const fn more_came(&mut self) {
        if let Link::Up(Session { catch_up: Some(asked), .. }) = &mut self.link {
            asked.is_busy = true;
        }
    }

    pub(crate) fn on_pong(&mut self, number: u64) {
        let Link::Up(Session { catch_up: Some(asked), .. }) = &mut self.link else { return };
        if asked.ping != number || asked.quiet >= QUIET_PINGS {
            return;
        }
        asked.quiet = if asked.is_busy { 0 } else { asked.quiet + 1 };
        if asked.quiet < QUIET_PINGS {
            let quiet = asked.quiet;
            self.ping_for_more(quiet);
        }
    }

    pub(crate) fn on_challenge(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        challenge: Challenge,
    ) -> Result<(), StoreError> {
        if challenge.version != PROTOCOL_VERSION || challenge.node != self.settings.node {
            self.close(CloseWhy::NotOurNode);
            return Ok(());
        }
        if !matches!(self.link, Link::Open { challenge: None, .. }) {
            self.close(CloseWhy::Broke);
            return Ok(());
        }
        self.link = Link::Open { since_ms: now_ms, challenge: Some(challenge) };
        self.greet(txn, now_ms)
    }

    /// Answers a challenge: with a request to join while there is no account and there is an invite,
    /// else with the hello.
    pub(crate) fn greet(&mut self, txn: &mut dyn Txn, now_ms: u64) -> Result<(), StoreError> {
        let Link::Open { challenge: Some(challenge), .. } = &self.link else { return Ok(()) };
        let challenge = challenge.clone();
        if self.account.joined {
            if self.lists.are_to_be_shown() {
                self.show_newest_lists(now_ms, challenge);
                return Ok(());
            }
            return self.say_hello(txn, now_ms, challenge);
        }
        let first = self.account.lists.first().cloned();
        let (Some(invite), Some(list)) = (self.account.invite, first) else {
            return Ok(());
        };
        let request = self.number_request();
        let proof = self.key.sign(Purpose::Join, challenge.nonce.as_bytes());
        let join = Join { request, invite, list, proof };
        self.tell_node(ClientFrame::Join(join));
        self.link = Link::Joining { since_ms: now_ms, challenge, request };
        Ok(())
    }

    pub(crate) fn on_joined(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        answered: u64,
    ) -> Result<(), StoreError> {
        let Link::Joining { challenge, request, .. } = &self.link else { return Ok(()) };
        if *request != answered {
            return Ok(());
        }
        let challenge = challenge.clone();
        self.account.joined = true;
        self.account.invite = None;
        self.save_account(txn)?;
        self.effect(ClientEffect::Joined);
        self.say_hello(txn, now_ms, challenge)
    }

    pub(crate) fn say_hello(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        challenge: Challenge,
    ) -> Result<(), StoreError> {
        let mut hello = ClientHello {
            version: PROTOCOL_VERSION,
            node: self.settings.node,
            device: self.device,
            nonce: Nonce(draw(&mut self.rng)),
            yours: self.node.mark.clone(),
            mine: self.own_mark(txn),
            signature: tidings_protocol::key::Signature([0; 64]),
        };
        let transcript = client_transcript(&challenge, &hello);
        hello.signature = self.key.sign(Purpose::ClientHello, transcript.as_bytes());
        self.tell_node(ClientFrame::Hello(hello.clone()));
        self.link = Link::Greeting { since_ms: now_ms, challenge, hello };
        Ok(())
    }

    pub(crate) fn on_welcome(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        welcome: &Welcome,
    ) -> Result<(), StoreError> {
        let Link::Greeting { since_ms, challenge, hello } = &self.link else {
            self.close(CloseWhy::Broke);
            return Ok(());
        };
        let greeted_ms = *since_ms;
        let transcript = node_transcript(challenge, hello, welcome);
        // Where the node is does not matter here, so only the delegation's date does: a clock that is
        // hours off must not keep a device from its node, which is what would correct it.
        let checked = welcome.descriptor.check_undated().ok().filter(|checked| {
            checked.node() == self.settings.node
                && checked.delegation.not_after_ms > now_ms
                && checked
                    .delegation
                    .operational
                    .verify(Purpose::NodeHello, transcript.as_bytes(), &welcome.signature)
                    .is_ok()
        });
        let Some(checked) = checked else {
            self.close(CloseWhy::NotOurNode);
            return Ok(());
        };
        self.lists = Lists::default();
        self.note_clock(greeted_ms, now_ms, welcome.time_ms);
        let known = self.node.incarnation;
        self.remember_node(welcome);
        self.link = Link::Up(Session {
            incarnation: welcome.incarnation,
            boot: welcome.mine.boot,
            operational: checked.delegation.operational,
            list_version: welcome.list_version,
            heard_ms: now_ms,
            pinged_ms: now_ms,
            catch_up: None,
            overtaken_at: None,
        });
        let commit = txn.commit_number();
        let rolled_back = welcome
            .yours
            .as_ref()
            .is_some_and(|mark| !self.lineage.contains(BootId(mark.boot.0), mark.commit, commit));
        if rolled_back || self.account.replacement.is_some() {
            // Nothing is sealed: the sessions in this store are older than what was sent with them.
            return self.replace_device(txn, now_ms);
        }
        self.effect(ClientEffect::Linked);
        if known.is_some_and(|known| known != welcome.incarnation) {
            self.warn(Warning::NodeRolledBack);
            if !self.is_sabotaged(Sabotage::NoResubmission) {
                self.resubmit_all(txn)?;
            }
        }
        self.settle_own_keys(txn, now_ms, welcome)?;
        self.start_holds(now_ms);
        self.ask_names();
        self.queues.link_up();
        Ok(())
    }

    fn note_clock(&mut self, greeted_ms: u64, now_ms: u64, node_ms: u64) {
        self.clock_offset_ms = clock_offset(greeted_ms, now_ms, node_ms);
        if self.clock_offset_ms.unsigned_abs() > CLOCK_SKEW_MS_MAX {
            self.warn(Warning::Clock { offset_ms: self.clock_offset_ms });
        }
    }

    fn remember_node(&mut self, welcome: &Welcome) {
        self.node.incarnation = Some(welcome.incarnation);
        self.node.mark = Some(welcome.mine.clone());
        let delegation = &welcome.descriptor.delegation;
        if self.node.delegations.last() != Some(delegation) {
            self.node.delegations.push(delegation.clone());
        }
        self.node_dirty = true;
    }

    fn settle_own_keys(
        &mut self,
        txn: &mut dyn Txn,
        now_ms: u64,
        welcome: &Welcome,
    ) -> Result<(), StoreError> {
        let own = self.own_list.list.version;
        if welcome.list_version > own {
            self.fetch(txn, self.own_key, false)?;
        }
        self.publish_lists();
        if welcome.one_time_left < crate::bundles::ONE_TIME_LOW
            || self.prekeys.wants_rotation(now_ms)
        {
            self.publish_prekeys(txn, now_ms, welcome.one_time_left == 0)?;
        }
        Ok(())
    }

    /// Publishes the versions of the own list that the node does not have, one after the other.
    pub(crate) fn publish_lists(&mut self) {
        let Some(session) = self.link.session() else { return };
        let known = session.list_version;
        if self.requests.values().any(|request| matches!(request, Request::List(_))) {
            return;
        }
        let next = self
            .account
            .lists
            .iter()
            .find(|list| list.peek().is_ok_and(|list| list.version == known + 1));
        if let Some(list) = next.cloned() {
            let request = self.number_request();
            self.requests.insert(request, Request::List(known + 1));
            self.tell_node(ClientFrame::PublishList(PublishList { request, list }));
        }
    }

    pub(crate) const fn number_request(&mut self) -> u64 {
        let request = self.next_request;
        self.next_request += 1;
        request
    }

    pub(crate) fn new_submit_id(&mut self, now_ms: u64) -> SubmitId {
        SubmitId(timed_id(self.node_time(now_ms), draw(&mut self.rng)))
    }
}

/// How far the node's clock is ahead of ours. It was read between our hello and its welcome: when
/// ours shows no other time, it is as good, and nothing is corrected. Taking the delay of the welcome
/// for a difference of clocks would date deliveries before the acceptances that they follow.
fn clock_offset(greeted_ms: u64, now_ms: u64, node_ms: u64) -> i64 {
    if (greeted_ms..=now_ms).contains(&node_ms) {
        return 0;
    }
    let middle_ms = greeted_ms.midpoint(now_ms);
    i64::try_from(i128::from(node_ms) - i128::from(middle_ms)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::clock_offset;

    #[test]
    fn a_clock_is_corrected_only_when_it_is_certainly_off() {
        assert_eq!(clock_offset(1_000, 1_000, 1_000), 0);
        assert_eq!(clock_offset(1_000, 1_040, 1_005), 0);
        assert_eq!(clock_offset(1_000, 1_040, 1_041), 21);
        assert_eq!(clock_offset(1_000, 1_040, 20), -1_000);
        assert_eq!(clock_offset(0, u64::MAX, u64::MAX), 0);
        assert_eq!(clock_offset(0, 0, u64::MAX), 0, "no clock at all");
    }
}
