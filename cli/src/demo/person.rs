//! Somebody of the demo with one device: the real client, in this process. Waits for what must
//! happen, and says what was seen when it does not.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use tidings_client::{
    ClientEffect, ClientEvent,
    driver::{Driver, Place, Running, Trust, new_account},
    event::{MessageRef, Peer, SendText, Settings, ShownMessage, Status},
};
use tidings_protocol::{address::UserName, client_frame::InviteSecret, evidence::Evidence, limits};

use crate::server::Server;

/// How long anything may take before the demo says that it does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody with one device.
pub(super) struct Person {
    pub(super) peer: Peer,
    place: Place,
    url: String,
    running: Option<Running>,
    tokens: u64,
    composed: BTreeMap<u64, MessageRef>,
    /// What was shown, in the order in which it was shown.
    pub(super) shown: Vec<ShownMessage>,
    statuses: BTreeMap<MessageRef, Status>,
}

impl Person {
    /// Makes an account at a node.
    pub(super) async fn join(
        name: &str,
        server: &Server,
        invite: InviteSecret,
        home: PathBuf,
    ) -> anyhow::Result<Self> {
        let name = UserName::parse(name)?;
        let settings = Settings {
            node: server.id,
            name: name.clone(),
            read_receipts: true,
            message_life_ms: limits::MESSAGE_LIFE_MS_MAX,
        };
        std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        let identity = new_account(&settings, "demo")?;
        let store_key = crate::home::draw()?;
        let place = Place { path: home.join(crate::home::STORE), store_key, settings };
        crate::home::write(&home, &place, &server.url)?;
        let driver = Driver::create(&place, &identity)?;
        let mut person = Self {
            peer: Peer { node: server.id, name },
            place,
            url: server.url.clone(),
            running: Some(driver.start(&server.url, &Trust::default())?),
            tokens: 0,
            composed: BTreeMap::new(),
            shown: Vec::new(),
            statuses: BTreeMap::new(),
        };
        person.tell(ClientEvent::Join { invite }).await?;
        let mut joined = false;
        person
            .until("the account to exist", |_, effect| {
                joined |= matches!(effect, Some(ClientEffect::Linked));
                joined
            })
            .await?;
        Ok(person)
    }

    /// The device goes away.
    pub(super) async fn leave(&mut self) -> anyhow::Result<()> {
        match self.running.take() {
            Some(running) => Ok(running.stop().await?),
            None => Ok(()),
        }
    }

    /// The device comes back.
    pub(super) fn come_back(&mut self) -> anyhow::Result<()> {
        let driver = Driver::open(&self.place)?;
        self.running = Some(driver.start(&self.url, &Trust::default())?);
        Ok(())
    }

    async fn tell(&self, event: ClientEvent) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the device is away")?;
        Ok(running.handle().event(event).await?)
    }

    /// Writes texts; returns once all are on this device's disk.
    pub(super) async fn write(
        &mut self,
        to: &Peer,
        texts: &[String],
    ) -> anyhow::Result<Vec<MessageRef>> {
        let first = self.tokens + 1;
        for text in texts {
            self.tokens += 1;
            let (to, text, token) = (to.clone(), text.clone(), self.tokens);
            let send = SendText { to, text, reply_to: None, token };
            self.tell(ClientEvent::Send(send)).await?;
        }
        let tokens = first..=self.tokens;
        self.until("the texts to be on disk", |me, _| {
            tokens.clone().all(|token| me.composed.contains_key(&token))
        })
        .await?;
        let written = tokens.filter_map(|token| self.composed.remove(&token)).collect();
        Ok(written)
    }

    /// Says that a message was read.
    pub(super) async fn read(&self, message: &MessageRef) -> anyhow::Result<()> {
        self.tell(ClientEvent::Displayed { messages: vec![message.clone()] }).await
    }

    /// What is known of an own message.
    pub(super) fn status(&self, message: &MessageRef) -> Status {
        self.statuses.get(message).copied().unwrap_or(Status::Queued)
    }

    /// Waits until messages have got at least so far.
    pub(super) async fn until_status(
        &mut self,
        messages: &[MessageRef],
        status: Status,
    ) -> anyhow::Result<()> {
        let what = format!("{} of {} messages", tick(status), messages.len());
        self.until(&what, |me, _| {
            messages.iter().all(|message| me.status(message).rank() >= status.rank())
        })
        .await
    }

    /// Waits until so many messages were shown in all.
    pub(super) async fn until_shown(&mut self, count: usize) -> anyhow::Result<()> {
        let what = format!("{count} messages to be shown");
        self.until(&what, |me, _| me.shown.len() >= count).await
    }

    /// Takes what happens for a while.
    pub(super) async fn watch(&mut self, time: Duration) -> anyhow::Result<()> {
        let running = self.running.as_mut().context("the device is away")?;
        let mut effects = Vec::new();
        let gather = async {
            while let Some(effect) = running.effect().await {
                effects.push(effect);
            }
        };
        // The time running out is what was wanted.
        tokio::time::timeout(time, gather).await.ok();
        effects.iter().for_each(|effect| self.note(effect));
        Ok(())
    }

    async fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&Self, Option<&ClientEffect>) -> bool,
    ) -> anyhow::Result<()> {
        if is_so(self, None) {
            return Ok(());
        }
        let name = self.peer.name.clone();
        let deadline = tokio::time::sleep(PATIENCE);
        tokio::pin!(deadline);
        loop {
            let running = self.running.as_mut().context("the device is away")?;
            let effect = tokio::select! {
                effect = running.effect() => effect,
                () = &mut deadline => bail!("{name} waited in vain for {what}"),
            };
            let effect = effect.with_context(|| format!("the device of {name} has ended"))?;
            self.note(&effect);
            if is_so(self, Some(&effect)) {
                return Ok(());
            }
        }
    }

    fn note(&mut self, effect: &ClientEffect) {
        match effect {
            ClientEffect::Composed { token, message } => {
                self.composed.insert(*token, message.clone());
            }
            ClientEffect::Show(message) => self.shown.push(message.clone()),
            ClientEffect::StatusChanged { message, status, .. } => {
                let known = self.statuses.entry(message.clone()).or_insert(*status);
                if status.rank() > known.rank() {
                    *known = *status;
                }
            }
            ClientEffect::ToNode { .. }
            | ClientEffect::CloseLink(_)
            | ClientEffect::Linked
            | ClientEffect::Joined
            | ClientEffect::JoinRefused(_)
            | ClientEffect::Resolved { .. }
            | ClientEffect::NotComposed { .. }
            | ClientEffect::ReadElsewhere { .. }
            | ClientEffect::Warn(_)
            | ClientEffect::Stopped(_) => {}
        }
    }

    /// What can be shown to others about an own message.
    pub(super) async fn evidence(&self, message: &MessageRef) -> anyhow::Result<Evidence> {
        let running = self.running.as_ref().context("the device is away")?;
        let message = message.clone();
        Ok(running.handle().ask(move |core, txn| core.evidence(txn, &message)).await?)
    }

    /// The account key of somebody whom this device has pinned.
    pub(super) async fn account_keys(
        &self,
    ) -> anyhow::Result<Vec<tidings_protocol::key::PublicKey>> {
        let running = self.running.as_ref().context("the device is away")?;
        let keys = running
            .handle()
            .ask(|core, txn| {
                let own = core.device_list().list.identity;
                let peers = core.peers(txn)?;
                Ok(peers.iter().filter_map(|peer| peer.account_key).chain([own]).collect())
            })
            .await?;
        Ok(keys)
    }
}

/// How a status is shown.
pub(super) const fn tick(status: Status) -> &'static str {
    match status {
        Status::Queued => "clock",
        Status::Accepted | Status::Held | Status::AtDest => "\u{2713}",
        Status::Failed(_) => "!",
        Status::Delivered => "\u{2713}\u{2713}",
        Status::Read => "blue \u{2713}\u{2713}",
    }
}
