//! What an administrator asks, and the answers. Changes nothing but invites; what is said of other nodes
//! is in `admin_peers.rs`, what is done about dead letters in `admin_dead.rs`, about routes in
//! `admin_routes.rs`, about custody in `agreements.rs`. Each change is noted, see `admin_log.rs`.

use tidings_protocol::id::NodeId;
use tidings_store::{StoreError, Txn};

use crate::{
    Core,
    effect::{AdminReply, Effect, NodeStatus, QueueItem},
    event::{AdminCommand, AdminToken, NameCommand},
    names::Waiter,
    peer::Peer,
    schema::{self, OUT, OutRow},
    settings::Sabotage,
};

/// Envelopes listed at once.
const QUEUE_ITEMS_MAX: usize = 200;
/// Longest life of an invite: 30 days.
const INVITE_LIFE_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Most accounts that one invite makes.
const INVITE_USES_MAX: u32 = 10_000;

impl Core {
    pub(crate) fn on_admin(
        &mut self,
        token: AdminToken,
        command: AdminCommand,
        txn: &mut dyn Txn,
    ) -> Result<(), StoreError> {
        let (who, command) = if let AdminCommand::By { who, command } = command {
            (Some(who), *command)
        } else {
            (None, command)
        };
        if let AdminCommand::Names(NameCommand::Check { domain }) = &command
            && self.check_name(domain, Some(Waiter::Admin(token)))
        {
            // Answered once the DNS is.
            return Ok(());
        }
        let entry = command.log_entry();
        let reply = self.administer(command, txn)?;
        if let Some((what, about)) = entry
            && !matches!(reply, AdminReply::Refused(_))
        {
            self.log_change(who, what, about, txn)?;
        }
        self.effects.push_back(Effect::AdminReply { token, reply });
        Ok(())
    }

    fn administer(
        &mut self,
        command: AdminCommand,
        txn: &mut dyn Txn,
    ) -> Result<AdminReply, StoreError> {
        Ok(match command {
            AdminCommand::By { .. } => AdminReply::Refused("asked in two names".to_owned()),
            AdminCommand::Invite { uses, life_ms, .. }
                if uses == 0 || uses > INVITE_USES_MAX || life_ms > INVITE_LIFE_MS_MAX =>
            {
                AdminReply::Refused(format!(
                    "an invite makes 1 to {INVITE_USES_MAX} accounts within 30 days"
                ))
            }
            AdminCommand::Invite { secret, uses, life_ms } => {
                self.write_invite(&secret, uses, life_ms, txn)?;
                AdminReply::Done
            }
            AdminCommand::Peers => AdminReply::Peers(self.peer_statuses(txn)?),
            AdminCommand::Peer { node } => self.peer_detail(&node, txn)?,
            AdminCommand::ChangePeer { node, change, note } => {
                self.change_peer(node, change, note, txn)?
            }
            AdminCommand::Meet { transport } => {
                self.expect(transport);
                AdminReply::Done
            }
            AdminCommand::RetryAll => self.retry_all(),
            AdminCommand::SetFederation(mode) => {
                self.set_federation(mode, txn)?;
                AdminReply::Done
            }
            AdminCommand::Goodbye { is_taken_back } => self.goodbye(is_taken_back, txn)?,
            AdminCommand::Reconfigure { live, .. } => self.reconfigure(*live, txn)?,
            AdminCommand::Log { from } => AdminReply::Log(Self::log_page(from, txn)?),
            AdminCommand::Queue { node } => AdminReply::Queue(self.queue_items(node, txn)?),
            AdminCommand::Dead { node } => AdminReply::Dead(self.dead_letters(node, txn)?),
            AdminCommand::Redrive(pick) => self.redrive(pick, txn)?,
            AdminCommand::DropDead(pick) => self.drop_dead(pick, txn)?,
            AdminCommand::Custody => AdminReply::Custody(Box::new(self.custody_status(txn)?)),
            AdminCommand::Grant(terms) => self.grant(terms, txn)?,
            AdminCommand::Revoke { node } => self.revoke(node, txn)?,
            AdminCommand::Names(command) => self.change_name(command, txn)?,
            AdminCommand::Status => AdminReply::Status(Box::new(self.status(txn)?)),
            AdminCommand::Routes => AdminReply::Routes(self.route_statuses()),
            AdminCommand::SetRoute { to, via } => self.set_route(to, via, txn)?,
            AdminCommand::RemoveRoute { to } => self.remove_route(to, txn)?,
        })
    }

    fn queue_items(
        &self,
        only: Option<NodeId>,
        txn: &dyn Txn,
    ) -> Result<Vec<QueueItem>, StoreError> {
        let mut items = Vec::new();
        let wanted = self.peers.iter().filter(|(node, _)| only.is_none_or(|only| only == **node));
        for (node, peer) in wanted {
            let room = QUEUE_ITEMS_MAX.saturating_sub(items.len());
            for (lsn, eid) in Self::outbox_eids(txn, peer.number, 0, room)? {
                let Some(row) = schema::get::<OutRow>(txn, OUT, eid.as_bytes())? else { continue };
                let finished = row.copies.iter().filter(|copy| copy.done.is_some()).count();
                items.push(QueueItem {
                    node: *node,
                    eid,
                    accepted_ms: row.accepted_ms,
                    expires_ms: row.expires_ms,
                    copies: u32::try_from(row.copies.len()).unwrap_or(u32::MAX),
                    finished: u32::try_from(finished).unwrap_or(u32::MAX),
                    waiting: lsn >= peer.passed || peer.owed.contains(&lsn),
                    dead: peer.dead.contains(lsn),
                    refusal: peer.dead.refusal_of(lsn),
                });
            }
        }
        Ok(items)
    }

    fn status(&self, txn: &dyn Txn) -> Result<NodeStatus, StoreError> {
        let mut multiaddrs = self.own.multiaddrs();
        if self.is_sabotaged(Sabotage::NameAccounts) {
            let names = txn.range(schema::ACCOUNTS, &[], &[0xff; 65], QUEUE_ITEMS_MAX)?;
            let names = names.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
            multiaddrs.extend(names);
        }
        Ok(NodeStatus {
            node: self.node,
            incarnation: self.stance.incarnation,
            commit: txn.commit_number(),
            accounts: Self::account_count(txn)?,
            devices_connected: self.online.len() as u64,
            peers_connected: self.peers.values().filter(|p| p.link.is_some()).count() as u64,
            queued: self.peers.values().map(|peer| peer.queued).sum(),
            waiting: self.peers.values().map(Peer::waiting).sum(),
            dead: self.peers.values().map(|peer| peer.dead.len()).sum(),
            inbox: self.tally.total(),
            counting: self.tally.is_counting(),
            intake: self.intake,
            federation: self.federation(),
            is_federation_set: self.policy.federation.is_some(),
            requests: self.requests(),
            retired_ms: self.own.retired_ms,
            names_changed: self.changed_names(),
            domains: self.own_domains(),
            multiaddrs,
            log: Self::admin_log_head(txn)?,
        })
    }
}
