//! Rules about what leaves a node: checked on each frame, after the commit that justifies it.

use bytes::Bytes;
use tidings_core::event::{ConnId, LinkId};
use tidings_core::schema::{OUT, SEEN};
use tidings_protocol::{
    client_frame::{Accepted, Deliver, NodeFrame},
    codec,
    descriptor::Descriptor,
    id::{Eid, NodeId},
    limits,
    peer_frame::PeerFrame,
    statement::{Claim, Proof, Statement},
};

use crate::network::Machine;
use crate::oracle::{Violation, short};
use crate::world::World;

impl World {
    /// A frame leaves a node for a device.
    pub fn oracle_node_to_client(
        &mut self,
        node: usize,
        conn: ConnId,
        frame: &NodeFrame,
    ) -> Result<(), Violation> {
        self.i31_a_failed_node_is_silent(node)?;
        match frame {
            NodeFrame::Accepted(accepted) => self.node_accepts(node, conn, accepted),
            NodeFrame::Deliver(deliver) => {
                self.i13_numbers_grow(conn, deliver)?;
                self.i18_nothing_expired_is_handed_out(node, deliver)?;
                self.i20_windows_to_devices(conn, deliver)
            }
            NodeFrame::Bundles(bundles) => {
                self.i24_users_are_not_made_up(node, &bundles.lists)?;
                for bundle in &bundles.bundles {
                    self.i27_prekeys_are_handed_out_once(node, bundle)?;
                }
                Ok(())
            }
            NodeFrame::Challenge(_) => {
                self.oracle.greeted.insert(conn.0);
                Ok(())
            }
            NodeFrame::Goaway(_) => {
                self.oracle.sent_away.insert(conn.0);
                Ok(())
            }
            NodeFrame::Welcome(_)
            | NodeFrame::Joined(_)
            | NodeFrame::Refused(_)
            | NodeFrame::Notes(_)
            | NodeFrame::Done(_)
            | NodeFrame::NewerLists(_)
            | NodeFrame::Resolved(_)
            | NodeFrame::Pong(_) => Ok(()),
        }
    }

    /// A frame leaves a node for a peer.
    pub fn oracle_node_to_peer(
        &mut self,
        node: usize,
        link: LinkId,
        frame: &PeerFrame,
        body: &Bytes,
    ) -> Result<(), Violation> {
        self.i31_a_failed_node_is_silent(node)?;
        self.i21_note_turn(node, frame, body);
        match frame {
            PeerFrame::Took(took) => {
                for answer in took.answers.iter().filter(|answer| answer.refusal.is_none()) {
                    let table = if self.is_for_another(node, &answer.eid) { OUT } else { SEEN };
                    if table == SEEN || !self.is_over(&answer.eid) {
                        self.i1_taken_is_durable(node, &answer.eid, &[table])?;
                    }
                    if table == OUT && !self.is_over(&answer.eid) {
                        self.i37_no_circle(node, link, &answer.eid)?;
                    }
                }
                Ok(())
            }
            PeerFrame::Forward(forward) => {
                self.i37_hops_shrink(node, forward)?;
                self.i20_windows_to_peers(node, link)
            }
            PeerFrame::Deliver(_) => self.i20_windows_to_peers(node, link),
            PeerFrame::Statements(statements) => {
                self.i1_custody_is_durable(node, &statements.proofs)
            }
            PeerFrame::User(user) => {
                if user.listing.is_some() {
                    self.oracle.count("users told by custodians");
                }
                for bundle in &user.bundles {
                    self.i27_prekeys_are_handed_out_once(node, bundle)?;
                }
                Ok(())
            }
            PeerFrame::Hello(_)
            | PeerFrame::Consent(_)
            | PeerFrame::Offer(_)
            | PeerFrame::Wanted(_)
            | PeerFrame::StatementsTook(_)
            | PeerFrame::Audit(_)
            | PeerFrame::AuditAnswer(_)
            | PeerFrame::FetchUser(_)
            | PeerFrame::FetchFor(_)
            | PeerFrame::Directory(_)
            | PeerFrame::DirectoryWanted(_)
            | PeerFrame::DirectoryEntry(_)
            | PeerFrame::NewerListsFor(_)
            | PeerFrame::KeepAlive(_)
            | PeerFrame::Announce(_)
            | PeerFrame::Farewell(_) => Ok(()),
        }
    }

    fn node_accepts(
        &mut self,
        node: usize,
        conn: ConnId,
        accepted: &Accepted,
    ) -> Result<(), Violation> {
        let statements = statements_of(&accepted.proof)
            .map_err(|error| self.violated("frame", error.to_string()))?;
        let eids: Vec<Eid> = statements.iter().map(|statement| statement.eid).collect();
        let other = self.net.links.get(&conn.0).map(|link| link.ends[0]);
        let Some(Machine::Device(device)) = other else { return Ok(()) };
        if statements.iter().any(|statement| statement.claim != Claim::Accepted) {
            return Err(self.violated("I6", "an acceptance that accepts nothing".to_owned()));
        }
        self.i33_drained_nodes_accept_nothing_new(node, device, accepted)?;
        self.i8_i9_one_submission_one_answer(device, accepted, &eids)?;
        for eid in &eids {
            // An answer may come when all has ended and only the submission's row is kept.
            if !self.is_over(eid) {
                self.i1_taken_is_durable(node, eid, &[OUT, SEEN])?;
            }
            if let Some(sent) = self.oracle.sent.get_mut(eid) {
                sent.is_accepted = true;
            }
        }
        Ok(())
    }

    /// I33: a node that was told to end tells every device that it had greeted. Checked right after
    /// the batch in which it was told.
    pub fn i33_everybody_is_told(&mut self, node: usize) -> Result<(), Violation> {
        self.oracle.nodes[node].draining = true;
        for (link, side) in self.net.links_of(Machine::Node(node)) {
            let other = self.net.links.get(&link).map(|link| link.ends[1 - side]);
            let Some(Machine::Device(device)) = other else { continue };
            if self.oracle.greeted.contains(&link) && !self.oracle.sent_away.contains(&link) {
                let name = self.name(Machine::Device(device));
                let what = format!("{name} was not told that its node ends");
                return Err(self.violated("I33", what));
            }
        }
        Ok(())
    }

    /// I33: from then on it accepts no new submission; an old one gets its old answer.
    fn i33_drained_nodes_accept_nothing_new(
        &self,
        node: usize,
        device: usize,
        accepted: &Accepted,
    ) -> Result<(), Violation> {
        let is_new = !self.oracle.accepted.contains_key(&(device, accepted.submit));
        if self.oracle.nodes[node].draining && is_new {
            let name = self.name(Machine::Node(node));
            return Err(self.violated("I33", format!("{name} accepted while it ended")));
        }
        Ok(())
    }

    /// I1: when ✓ or a hop acknowledgement leaves a node, the envelope stands on its disk. Checked on
    /// each `Accepted` and `Took`, in the committed rows themselves and in the record of commits
    /// that were complete before the frame left.
    pub(super) fn i1_taken_is_durable(
        &self,
        node: usize,
        eid: &Eid,
        tables: &[tidings_store::Table],
    ) -> Result<(), Violation> {
        let mut on_disk = false;
        if let Some(process) = &self.nodes[node].process {
            let looked = process.store.view(&mut |txn| {
                for table in tables {
                    on_disk |= txn.get(*table, eid.as_bytes())?.is_some();
                }
                Ok(())
            });
            looked.map_err(|error| self.violated("I1", format!("cannot look: {error}")))?;
        }
        if on_disk && self.knows(node, eid) {
            return Ok(());
        }
        let name = self.name(Machine::Node(node));
        Err(self
            .violated("I1", format!("{name} acknowledged {} before it was durable", short(&eid.0))))
    }

    /// I8 and I9: one submission of one device always has the same envelopes, and each answer names
    /// them all. Checked on each `Accepted`.
    fn i8_i9_one_submission_one_answer(
        &mut self,
        device: usize,
        accepted: &Accepted,
        eids: &[Eid],
    ) -> Result<(), Violation> {
        let first = self.oracle.accepted.entry((device, accepted.submit)).or_insert(eids.to_vec());
        if first == eids {
            return Ok(());
        }
        let what =
            format!("{} answers differ for one submission", self.name(Machine::Device(device)));
        Err(self.violated("I9", what))
    }

    /// I13: on one connection the numbers of an inbox only grow, so that a later one never makes an
    /// earlier one invisible. Checked on each `Deliver` to a device.
    fn i13_numbers_grow(&mut self, conn: ConnId, deliver: &Deliver) -> Result<(), Violation> {
        let last = self.oracle.delivered_up_to.insert(conn.0, deliver.inbox);
        if last.is_some_and(|last| last >= deliver.inbox) {
            let what = format!("inbox number {} after {last:?}", deliver.inbox);
            return Err(self.violated("I13", what));
        }
        Ok(())
    }

    /// I18: a device is handed nothing that has expired by its node's clock. Checked on each
    /// `Deliver` to a device.
    fn i18_nothing_expired_is_handed_out(
        &self,
        node: usize,
        deliver: &Deliver,
    ) -> Result<(), Violation> {
        let clock_ms = self.nodes[node].clock_ms(self.now_ms());
        if deliver.header.expires_ms > clock_ms {
            return Ok(());
        }
        let late_ms = clock_ms - deliver.header.expires_ms;
        Err(self
            .violated("I18", format!("{} was handed out {late_ms} ms late", short(&deliver.eid.0))))
    }

    /// I20: what is pushed to a device and not answered stays within the window. Checked on each
    /// `Deliver`; answers are counted when the node has read them. Not checked: bytes.
    fn i20_windows_to_devices(&mut self, conn: ConnId, deliver: &Deliver) -> Result<(), Violation> {
        let pushed = self.oracle.pushed.entry(conn.0).or_default();
        pushed.insert(deliver.inbox);
        let count = pushed.len();
        if count > limits::CLIENT_WINDOW_ENVELOPES {
            let what = format!("{count} copies are pushed and not answered");
            return Err(self.violated("I20", what));
        }
        Ok(())
    }

    /// I20: what is sent to a peer and not answered stays within the window. A world has too few
    /// envelopes to fill it; checked is that a link never carries more than that in its life.
    fn i20_windows_to_peers(&mut self, node: usize, link: LinkId) -> Result<(), Violation> {
        let sent = self.oracle.inflight.entry((link.0, node)).or_default();
        *sent += 1;
        let sent = *sent;
        if sent > limits::PEER_WINDOW_ENVELOPES {
            return Err(self.violated("I20", format!("{sent} envelopes on one link")));
        }
        Ok(())
    }

    /// I22: a node probes a peer that it cannot reach at a pace that does not depend on how much
    /// waits for it: not more than 40 times a minute. Checked on each dial, within one run of the
    /// process: one that ends and starts again and again dials at each start.
    pub fn i22_probes_are_few(&mut self, node: usize, target: NodeId) -> Result<(), Violation> {
        const PER_MINUTE_MAX: usize = 40;
        let (now_ms, boot) = (self.now_ms(), self.nodes[node].boot);
        let dialled = self.oracle.dialled.entry((node, boot, target)).or_default();
        dialled.retain(|at_ms| at_ms + 60_000 > now_ms);
        dialled.push(now_ms);
        let count = dialled.len();
        if count > PER_MINUTE_MAX {
            let what = format!("node {node} dialled a peer {count} times in a minute");
            return Err(self.violated("I22", what));
        }
        Ok(())
    }

    /// I27: a node hands out each one-time pre-key of its own devices at most once, also over restarts
    /// and restores. Checked on each bundle that leaves an honest home node.
    fn i27_prekeys_are_handed_out_once(
        &mut self,
        node: usize,
        bundle: &tidings_protocol::bundle::Bundle,
    ) -> Result<(), Violation> {
        let Some(one_time) = &bundle.one_time else { return Ok(()) };
        let owner = self.oracle.devices.get(&bundle.device_id());
        let is_home = owner.is_some_and(|device| self.devices[*device].node == node);
        // A liar repeats answers to those who gave them, who pass them on.
        if !is_home || self.options.liar {
            return Ok(());
        }
        let handed_out = self.oracle.handed_out.entry((node, one_time.key.0)).or_default();
        *handed_out += 1;
        let times = *handed_out;
        if times > 1 {
            let name = self.name(Machine::Node(node));
            let what = format!("{name} handed out pre-key {} again", one_time.id);
            return Err(self.violated("I27", what));
        }
        Ok(())
    }

    /// I27: a node never signs two different addresses with one serial. Checked on each descriptor
    /// that is published. Not checked: a node that was put back while its clock was set back too, so
    /// that neither the store nor the time tells it what it has signed; the next signing under a right
    /// clock is newer than all of them.
    pub fn i27_serials_never_repeat(
        &mut self,
        node: usize,
        descriptor: &Descriptor,
    ) -> Result<(), Violation> {
        let Ok(addresses) = descriptor.addresses.peek() else {
            return Err(self.violated("I27", "a descriptor that does not read".to_owned()));
        };
        if self.oracle.nodes[node].restored && self.options.clock_spans > 0 {
            return Ok(());
        }
        let bytes = descriptor.addresses.signed_bytes();
        let digest = tidings_protocol::id::hash("signed addresses", &[bytes]).0;
        let key = (self.nodes[node].id, addresses.serial);
        let first = *self.oracle.serials.entry(key).or_insert(digest);
        if first != digest {
            let name = self.name(Machine::Node(node));
            let what = format!("{name} signed serial {} twice", addresses.serial);
            return Err(self.violated("I27", what));
        }
        Ok(())
    }
}

/// The statements of a proof, unchecked.
pub fn statements_of(proof: &Proof) -> Result<Vec<Statement>, codec::DecodeError> {
    proof.leaves.iter().map(|leaf| codec::decode(&leaf.statement)).collect()
}
