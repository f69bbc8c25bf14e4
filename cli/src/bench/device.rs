//! A load client: a person with one device, as the node sees it. It speaks the client link in full,
//! with real keys, signatures and statements; bodies are random bytes. It encrypts nothing, keeps
//! nothing on disk and checks no signature, so that the machine's time goes to the nodes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use tidings_node::chance::draw;
use tidings_node::clock;
use tidings_protocol::address::UserName;
use tidings_protocol::client_frame::{
    Accepted, ClientFrame, Deliver, InviteSecret, Join, NodeFrame, Noted, Notes, Ping, Received,
    ReceivedItem, Refusable, Refused, Submit, WithBody,
};
use tidings_protocol::codec;
use tidings_protocol::device_list::{self, DeviceList, list_hash};
use tidings_protocol::envelope::{Class, EnvelopeHead, Header, Recipient, Target, shared_hash};
use tidings_protocol::hello::{Challenge, ClientHello, Mark, client_transcript};
use tidings_protocol::id::{BootId, DeviceId, Eid, Hash, NodeId, Nonce, SubmitId, timed_id};
use tidings_protocol::key::{Purpose, SecretKey, Signature, X25519Key};
use tidings_protocol::limits::{
    LINK_SILENCE_MS_MAX, MESSAGE_LIFE_MS_MAX, PROTOCOL_VERSION, STATEMENTS_PER_BATCH_MAX,
    STATEMENTS_PER_FRAME_MAX,
};
use tidings_protocol::signed::Signed;
use tidings_protocol::statement::{Claim, Proof, Signer, Stance, Statement};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::ledger::{Ledger, Stage};
use super::socket::{Door, Lost, Socket, encode};

/// Bytes of the part that is sealed for one device: what the real client's takes in a session that
/// is established.
const PART_BYTES: usize = 272;
/// The number of the run and of the message stand at the beginning of each body.
pub(super) const BODY_BYTES_MIN: usize = 16;
/// Pause before a lost link is made again: short, since what is measured is the node's return.
const RECONNECT: Duration = Duration::from_millis(50);
/// Frames that are taken before what they ask for is answered.
const FRAMES_MAX: usize = 256;

/// What a sender must know of a recipient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    node: NodeId,
    device: DeviceId,
    list: Hash,
}

/// Keys and list of a person with one device.
pub(super) struct Device {
    node: NodeId,
    door: Door,
    account: SecretKey,
    key: SecretKey,
    list: DeviceList,
    mark: Mark,
    /// Encoded submissions without an answer, by number: sent again as they are.
    unaccepted: BTreeMap<u64, Bytes>,
    /// Envelopes without a word of their recipient's device.
    unticked: BTreeMap<Eid, u64>,
}

/// What a device does in one run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) ledger: Arc<Ledger>,
    /// To whom the messages with these numbers go.
    pub(super) to: Option<(Contact, Range<u64>)>,
    /// Messages on their way at a time.
    pub(super) window: usize,
    /// When a message is no longer on its way.
    pub(super) until: Stage,
    /// Bytes of the shared body.
    pub(super) body_bytes: usize,
}

/// What the scenario tells all devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Be there and wait.
    Ready,
    /// Send.
    Go,
    /// Leave.
    Stop,
}

/// What a session gathers between two writes.
#[derive(Default)]
struct Gathered {
    received: Vec<(u64, Statement)>,
    noted: Vec<u64>,
    /// Refused for a while, to be sent again after the pause.
    again: VecDeque<u64>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Device {
    pub(super) fn new(name: &str, node: NodeId, door: Door) -> anyhow::Result<Self> {
        let account = SecretKey::from_seed(&draw()?);
        let key = SecretKey::from_seed(&draw()?);
        let device = device_list::Device {
            key: key.public(),
            identity: X25519Key(draw()?),
            added_ms: clock::now_ms(),
            label: "bench".to_owned(),
        };
        let list = DeviceList {
            identity: account.public(),
            node,
            name: UserName::parse(name)?,
            version: 0,
            previous: None,
            devices: vec![device],
            issued_ms: clock::now_ms(),
            signer: None,
        };
        Ok(Self {
            node,
            door,
            account,
            key,
            list,
            mark: Mark { boot: BootId(draw()?), commit: 1 },
            unaccepted: BTreeMap::new(),
            unticked: BTreeMap::new(),
        })
    }

    /// What others must know to write to it.
    pub(super) fn contact(&self) -> Contact {
        Contact {
            node: self.node,
            device: DeviceId::of(&self.key.public()),
            list: list_hash(&self.signed_list()),
        }
    }

    fn signed_list(&self) -> Signed<DeviceList> {
        Signed::new(&self.list, &self.account)
    }

    /// Makes the account at the node.
    pub(super) async fn join(&self, invite: InviteSecret) -> anyhow::Result<()> {
        let lost = |_| anyhow::anyhow!("the node closed the link while an account was being made");
        let mut socket = Socket::connect(&self.door).await.map_err(lost)?;
        let challenge = challenge(&mut socket).await.map_err(lost)?;
        let list = self.signed_list();
        let proof = self.key.sign(Purpose::Join, challenge.nonce.as_bytes());
        let join = ClientFrame::Join(Join { request: 1, invite, list, proof });
        socket.send(&join).await.map_err(lost)?;
        let answer = socket.next().await.map_err(lost)?.frame;
        if let NodeFrame::Refused(refused) = &answer {
            bail!("making an account: {}", refused.refusal.code.advice());
        }
        ensure!(matches!(answer, NodeFrame::Joined(_)), "the node answered {}", answer.name());
        Ok(())
    }

    /// Plays its part until it is told to stop; a link that is lost is made again.
    pub(super) async fn run(
        mut self,
        mut plan: Plan,
        phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<Self> {
        let mut stopped = phase.clone();
        loop {
            tokio::select! {
                ended = self.session(&mut plan, phase.clone()) => ended?,
                _ = stopped.wait_for(|phase| *phase == Phase::Stop) => return Ok(self),
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// One link, from connecting to its loss.
    async fn session(
        &mut self,
        plan: &mut Plan,
        mut phase: watch::Receiver<Phase>,
    ) -> anyhow::Result<()> {
        let Ok(mut socket) = Socket::connect(&self.door).await else { return Ok(()) };
        if !self.greet(&mut socket).await? {
            return Ok(());
        }
        plan.ledger.linked.fetch_add(1, Ordering::Relaxed);
        let served = self.serve(&mut socket, plan, &mut phase).await;
        plan.ledger.linked.fetch_sub(1, Ordering::Relaxed);
        served
    }

    /// Proves the device; `false` when the link was lost, or is to be made again later.
    async fn greet(&self, socket: &mut Socket) -> anyhow::Result<bool> {
        let Ok(challenge) = challenge(socket).await else { return Ok(false) };
        let mut hello = ClientHello {
            version: PROTOCOL_VERSION,
            node: self.node,
            device: DeviceId::of(&self.key.public()),
            nonce: Nonce(draw()?),
            yours: None,
            mine: self.mark.clone(),
            signature: Signature([0; 64]),
        };
        let transcript = client_transcript(&challenge, &hello);
        hello.signature = self.key.sign(Purpose::ClientHello, transcript.as_bytes());
        if socket.send(&ClientFrame::Hello(hello)).await.is_err() {
            return Ok(false);
        }
        let Ok(answer) = socket.next().await else { return Ok(false) };
        if let NodeFrame::Refused(refused) = &answer.frame {
            bail!("greeting a node: {}", refused.refusal.code.advice());
        }
        Ok(matches!(answer.frame, NodeFrame::Welcome(_)))
    }

    async fn serve(
        &mut self,
        socket: &mut Socket,
        plan: &mut Plan,
        phase: &mut watch::Receiver<Phase>,
    ) -> anyhow::Result<()> {
        let mut gathered = Gathered::default();
        for frame in self.unaccepted.values() {
            if socket.feed(frame.clone()).await.is_err() {
                return Ok(());
            }
        }
        let mut beat = tokio::time::interval(Duration::from_millis(LINK_SILENCE_MS_MAX / 3));
        beat.reset();
        loop {
            let may_send = *phase.borrow_and_update() == Phase::Go;
            if self.write(socket, plan, &mut gathered, may_send).await.is_err() {
                return Ok(());
            }
            tokio::select! {
                frame = socket.next() => {
                    let Ok(frame) = frame else { return Ok(()) };
                    if !self.take(frame, plan, &mut gathered)? {
                        return Ok(());
                    }
                    for _ in 1..FRAMES_MAX {
                        let Some(frame) = socket.next_now() else { break };
                        let Ok(frame) = frame else { return Ok(()) };
                        if !self.take(frame, plan, &mut gathered)? {
                            return Ok(());
                        }
                    }
                }
                changed = phase.changed() => changed.context("the scenario is gone")?,
                () = over(&mut gathered.pause) => self.send_again(socket, &mut gathered).await,
                _ = beat.tick() => {
                    let ping = ClientFrame::Ping(Ping { number: 1 });
                    if socket.send(&ping).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Answers what was gathered, sends what the window allows, and writes both at once.
    async fn write(
        &mut self,
        socket: &mut Socket,
        plan: &mut Plan,
        gathered: &mut Gathered,
        may_send: bool,
    ) -> Result<(), Lost> {
        for frame in self.answers(gathered) {
            socket.feed(encode(&frame, Bytes::new()).map_err(|_| Lost)?).await?;
        }
        while may_send && self.on_their_way(plan.until) < plan.window {
            let Some((contact, numbers)) = &mut plan.to else { break };
            let Some(number) = numbers.next() else { break };
            let frame = self.seal(contact, number, plan.ledger.run, plan.body_bytes)?;
            self.unaccepted.insert(number, frame.clone());
            plan.ledger.sent(number);
            socket.feed(frame).await?;
        }
        socket.flush().await
    }

    fn on_their_way(&self, until: Stage) -> usize {
        match until {
            Stage::Accepted => self.unaccepted.len(),
            Stage::Shown | Stage::Ticked => self.unticked.len(),
        }
    }

    async fn send_again(&self, socket: &mut Socket, gathered: &mut Gathered) {
        gathered.pause = None;
        for number in gathered.again.drain(..) {
            if let Some(frame) = self.unaccepted.get(&number)
                && socket.feed(frame.clone()).await.is_err()
            {
                // The next read finds the link lost; everything without an answer is sent then.
                return;
            }
        }
    }

    /// What a device does when it has copies and notes on disk: it signs for all of them at once.
    fn answers(&mut self, gathered: &mut Gathered) -> Vec<ClientFrame> {
        let mut frames = Vec::new();
        if gathered.received.is_empty() && gathered.noted.is_empty() {
            return frames;
        }
        self.mark.commit += 1;
        let signer = Signer { key: self.key.public(), node: None, version: 0 };
        let stance = Stance { signer, incarnation: 1, boot: self.mark.boot };
        let received = std::mem::take(&mut gathered.received);
        for tree in received.chunks(STATEMENTS_PER_BATCH_MAX) {
            let statements: Vec<Statement> = tree.iter().map(|(_, said)| said.clone()).collect();
            let Ok(salt) = draw() else { continue };
            let Some(proof) = Proof::sign(&statements, &stance, &salt, &self.key) else { continue };
            let leaves = proof.leaves.chunks(STATEMENTS_PER_FRAME_MAX);
            for (part, leaves) in tree.chunks(STATEMENTS_PER_FRAME_MAX).zip(leaves) {
                let items = part
                    .iter()
                    .filter_map(|(inbox, s)| Some(ReceivedItem { inbox: *inbox, copy: s.copy? }))
                    .collect();
                let proof = Proof { leaves: leaves.to_vec(), ..proof.clone() };
                let mine = self.mark.clone();
                frames.push(ClientFrame::Received(Received { items, proof, mine }));
            }
        }
        if !gathered.noted.is_empty() {
            let notes = std::mem::take(&mut gathered.noted);
            frames.push(ClientFrame::Noted(Noted { notes, mine: self.mark.clone() }));
        }
        frames
    }

    /// Makes one submission: one envelope with one target.
    fn seal(
        &mut self,
        to: &Contact,
        number: u64,
        run: u64,
        body_bytes: usize,
    ) -> Result<Bytes, Lost> {
        let now = clock::now_ms();
        let mut body = vec![0; body_bytes.max(BODY_BYTES_MIN)];
        fill(&mut body)?;
        for (to, from) in
            body.iter_mut().zip(run.to_be_bytes().into_iter().chain(number.to_be_bytes()))
        {
            *to = from;
        }
        let part: [u8; PART_BYTES] = draw().map_err(|_| Lost)?;
        let head = EnvelopeHead {
            header: Header {
                version: PROTOCOL_VERSION,
                origin: self.node,
                destination: to.node,
                created_ms: now,
                expires_ms: now + MESSAGE_LIFE_MS_MAX,
                class: Class::Message,
            },
            targets: vec![Target {
                to: Recipient::Device(to.device),
                auth: None,
                list_version: 0,
                list_hash: to.list,
                part: Bytes::copy_from_slice(&part),
            }],
        };
        let (eid, _) = head.ids(&shared_hash(&body));
        self.unticked.insert(eid, number);
        let mut chance = [0; 10];
        let [a, b]: [u8; 2] = draw().map_err(|_| Lost)?;
        for (to, from) in chance.iter_mut().zip(number.to_be_bytes().into_iter().chain([a, b])) {
            *to = from;
        }
        let submit = SubmitId(timed_id(now, chance));
        let submit = Submit { submit, heads: vec![head], mine: self.mark.clone() };
        encode(&ClientFrame::Submit(submit), body.into()).map_err(|_| Lost)
    }

    /// Takes one frame; `false` when the link is to be made again.
    fn take(
        &mut self,
        WithBody { frame, body }: WithBody<NodeFrame>,
        plan: &Plan,
        gathered: &mut Gathered,
    ) -> anyhow::Result<bool> {
        match frame {
            NodeFrame::Accepted(accepted) => self.on_accepted(&accepted, &plan.ledger),
            NodeFrame::Deliver(deliver) => {
                let said = on_deliver(&deliver, &body, &plan.ledger);
                gathered.received.push((deliver.inbox, said));
            }
            NodeFrame::Notes(notes) => self.on_notes(notes, &plan.ledger, gathered),
            NodeFrame::Refused(refused) => self.on_refused(&refused, &plan.ledger, gathered)?,
            NodeFrame::Goaway(_) => return Ok(false),
            NodeFrame::Challenge(_)
            | NodeFrame::Welcome(_)
            | NodeFrame::Joined(_)
            | NodeFrame::Bundles(_)
            | NodeFrame::Done(_)
            | NodeFrame::NewerLists(_)
            | NodeFrame::Resolved(_)
            | NodeFrame::Pong(_) => {}
        }
        Ok(true)
    }

    fn on_accepted(&mut self, accepted: &Accepted, ledger: &Ledger) {
        if let Some(number) = number_of(&accepted.submit)
            && self.unaccepted.remove(&number).is_some()
        {
            ledger.accepted(number);
        }
    }

    fn on_notes(&mut self, notes: Notes, ledger: &Ledger, gathered: &mut Gathered) {
        gathered.noted.extend(notes.notes);
        for leaf in notes.proofs.iter().flat_map(|proof| &proof.leaves) {
            let Ok(said) = codec::decode::<Statement>(&leaf.statement) else { continue };
            if !said.claim.is_terminal() {
                continue;
            }
            match self.unticked.remove(&said.eid) {
                Some(number) if said.claim == Claim::Delivered => ledger.ticked(number),
                Some(_) => ledger.failed(),
                None => {}
            }
        }
    }

    fn on_refused(
        &self,
        refused: &Refused,
        ledger: &Ledger,
        gathered: &mut Gathered,
    ) -> anyhow::Result<()> {
        let code = refused.refusal.code;
        match &refused.what {
            Refusable::Submit(submit) if code.may_retry() => {
                ledger.refused();
                gathered.again.extend(number_of(submit));
                let pause = Duration::from_millis(refused.refusal.after_ms.unwrap_or(1_000));
                gathered.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
                Ok(())
            }
            Refusable::Submit(_) | Refusable::Request(_) | Refusable::Link(_) => {
                bail!("the node refused a load client: {}", code.advice())
            }
        }
    }
}

/// The word of a recipient's device over what it was handed.
fn on_deliver(deliver: &Deliver, body: &[u8], ledger: &Ledger) -> Statement {
    let word = |at: usize| {
        body.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_be_bytes(*bytes))
    };
    if let (Some(run), Some(number)) = (word(0), word(8))
        && run == ledger.run
    {
        ledger.shown(number, deliver.inbox);
    }
    let copy = deliver.target.copy_id(&deliver.header.hash(), &shared_hash(body));
    Statement {
        claim: Claim::Delivered,
        eid: deliver.eid,
        copy: Some(copy),
        at_ms: clock::now_ms(),
        reason: None,
        until_ms: None,
    }
}

async fn challenge(socket: &mut Socket) -> Result<Challenge, Lost> {
    if let NodeFrame::Challenge(challenge) = socket.next().await?.frame {
        return Ok(challenge);
    }
    Err(Lost)
}

/// The number that stands in the random part of a submission's id.
fn number_of(submit: &SubmitId) -> Option<u64> {
    let bytes = submit.as_bytes().get(6..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}

/// Random bytes, 32 at a time.
fn fill(bytes: &mut [u8]) -> Result<(), Lost> {
    for chunk in bytes.chunks_mut(32) {
        let random: [u8; 32] = draw().map_err(|_| Lost)?;
        for (to, from) in chunk.iter_mut().zip(random) {
            *to = from;
        }
    }
    Ok(())
}

/// The end of a pause; never when there is none.
async fn over(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.as_mut().await,
        None => std::future::pending().await,
    }
}
