//! From bytes to inputs: decoding, hashing and signature checks, as pure functions. They run on the
//! links' own tasks in production and inline in the simulator; what needs the store (which key a
//! delegation or list names) is checked again inside the transaction.

use tidings_protocol::{
    client_frame::{ClientFrame, Submit},
    codec::{self, DecodeError},
    descriptor::{CheckedDescriptor, Descriptor},
    device_list::{CheckedList, DeviceList},
    envelope::{EnvelopeError, EnvelopeHead, shared_hash},
    frame::Frame,
    hello::PeerHello,
    id::{Eid, NodeId},
    limits,
    peer_frame::{Announce, Farewell, Forward, Offer, PeerFrame, Wanted},
    refusal::{Refusal, RefusalCode},
    sealed::{OpenTargetsError, SealingSecret},
    signed::Signed,
    statement::Checked,
};

use crate::event::{CheckedHello, ClientInput, PassingEnvelope, PeerInput, PreparedEnvelope};

/// Who reads, and what opens what is sealed to him.
#[derive(Clone, Debug)]
pub struct Opener {
    /// This node.
    pub node: NodeId,
    /// The secret half of the sealing key of its delegation.
    pub secret: SealingSecret,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub enum Read<T> {
    /// An input for the core.
    Input(T),
    /// A frame of a type that this version does not know; to be skipped.
    Unknown,
    /// The link must end.
    Broken(RefusalCode),
}

/// Reads a frame of a device.
#[must_use]
pub fn read_client_frame(frame: &Frame) -> Read<ClientInput> {
    if let Some(tag) = codec::peek_tag(&frame.header)
        && !ClientFrame::knows_tag(tag)
    {
        return Read::Unknown;
    }
    match codec::decode(&frame.header).map_err(Broken::from).and_then(|f| client_input(f, frame)) {
        Ok(input) => Read::Input(input),
        Err(Broken(code)) => Read::Broken(code),
    }
}

/// Reads a frame of a peer.
#[must_use]
pub fn read_peer_frame(frame: &Frame, now_ms: u64, opener: &Opener) -> Read<PeerInput> {
    if let Some(tag) = codec::peek_tag(&frame.header)
        && !PeerFrame::knows_tag(tag)
    {
        return Read::Unknown;
    }
    let input = codec::decode(&frame.header)
        .map_err(Broken::from)
        .and_then(|header| peer_input(header, frame, now_ms, opener));
    match input {
        Ok(input) => Read::Input(input),
        Err(Broken(code)) => Read::Broken(code),
    }
}

/// Why a frame ends its link.
struct Broken(RefusalCode);

impl From<DecodeError> for Broken {
    fn from(_: DecodeError) -> Self {
        Self(RefusalCode::Malformed)
    }
}

impl From<EnvelopeError> for Broken {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::TooLarge { .. } => Self(RefusalCode::TooLarge),
            EnvelopeError::Version(_) | EnvelopeError::Targets | EnvelopeError::Life => MALFORMED,
        }
    }
}

fn client_input(header: ClientFrame, frame: &Frame) -> Result<ClientInput, Broken> {
    Ok(match header {
        ClientFrame::Hello(hello) => ClientInput::Hello(hello),
        ClientFrame::Join(join) => {
            let list = CheckedList::first_seen(&join.list).map_err(|_| NOT_AUTHORISED)?;
            ClientInput::Join(Box::new((join, list)))
        }
        ClientFrame::Submit(Submit { submit, heads, mine }) => {
            if heads.is_empty() || heads.len() > limits::ENVELOPES_PER_SUBMIT_MAX {
                return Err(MALFORMED);
            }
            let hash = shared_hash(&frame.body);
            let envelopes =
                heads.into_iter().map(|head| prepare(head, frame, &hash)).collect::<Result<_, _>>();
            ClientInput::Submit { submit, envelopes: envelopes?, mine }
        }
        ClientFrame::Received(received) => {
            let checked = received.proof.check().map_err(|_| NOT_AUTHORISED)?;
            if checked.statements.len() != received.items.len() {
                return Err(MALFORMED);
            }
            let items = received.items.iter().map(|item| (item.inbox, item.copy)).collect();
            ClientInput::Received { items, checked, mine: received.mine }
        }
        ClientFrame::Noted(noted) => ClientInput::Noted { notes: noted },
        ClientFrame::FetchBundle(fetch) => ClientInput::FetchBundle(fetch),
        ClientFrame::PublishPrekeys(publish) => {
            if publish.upload.one_time.len() > limits::ONE_TIME_PREKEYS_MAX {
                return Err(MALFORMED);
            }
            ClientInput::PublishPrekeys(Box::new(publish))
        }
        ClientFrame::PublishList(publish) => {
            let list = CheckedList::first_seen(&publish.list).map_err(|_| NOT_AUTHORISED)?;
            ClientInput::PublishList(Box::new((publish, list)))
        }
        ClientFrame::ShowLists(show) => {
            let lists = check_chain(&show.lists)?;
            ClientInput::ShowLists(Box::new((show, lists)))
        }
        ClientFrame::Resolve(resolve) => ClientInput::Resolve(resolve),
        ClientFrame::Ping(ping) => ClientInput::Ping { number: ping.number },
    })
}

/// Each list continues the one before.
fn check_chain(lists: &[Signed<DeviceList>]) -> Result<Vec<CheckedList>, Broken> {
    if lists.is_empty() || lists.len() > limits::LISTS_PER_ANSWER_MAX {
        return Err(MALFORMED);
    }
    let mut checked: Vec<CheckedList> = Vec::with_capacity(lists.len());
    for signed in lists {
        let next = match checked.last() {
            None => CheckedList::first_seen(signed),
            Some(before) => before.then(signed),
        };
        checked.push(next.map_err(|_| NOT_AUTHORISED)?);
    }
    Ok(checked)
}

fn peer_input(
    header: PeerFrame,
    frame: &Frame,
    now_ms: u64,
    opener: &Opener,
) -> Result<PeerInput, Broken> {
    Ok(match header {
        PeerFrame::Hello(hello) => PeerInput::Hello(Box::new(read_hello(hello, now_ms)?)),
        PeerFrame::Deliver(head) => {
            PeerInput::Deliver(prepare(head, frame, &shared_hash(&frame.body))?)
        }
        PeerFrame::Took(took) => PeerInput::Took { answers: took.answers, mark: took.mark },
        PeerFrame::Statements(statements) => {
            let count: usize = statements.proofs.iter().map(|proof| proof.leaves.len()).sum();
            if count > limits::STATEMENTS_PER_FRAME_MAX {
                return Err(MALFORMED);
            }
            // A statement that does not verify changes nothing; those beside it still count.
            let checked: Vec<Checked> =
                statements.proofs.iter().filter_map(|proof| proof.check().ok()).collect();
            PeerInput::Statements { rows: statements.rows, checked }
        }
        PeerFrame::StatementsTook(took) => {
            PeerInput::StatementsTook { rows: took.rows, mark: took.mark }
        }
        PeerFrame::Audit(audit) if audit.eids.len() > limits::AUDIT_EIDS_MAX => {
            return Err(MALFORMED);
        }
        PeerFrame::Audit(audit) => PeerInput::Audit { eids: audit.eids },
        PeerFrame::AuditAnswer(answer) => {
            PeerInput::AuditAnswer { waiting: answer.waiting, unknown: answer.unknown }
        }
        PeerFrame::FetchUser(fetch) => PeerInput::FetchUser(fetch),
        PeerFrame::User(user) => PeerInput::User(Box::new(user)),
        PeerFrame::Consent(consent) => PeerInput::Consent(consent),
        PeerFrame::Offer(offer) if offer.eids.len() > limits::OFFER_EIDS_MAX => {
            return Err(MALFORMED);
        }
        PeerFrame::Offer(Offer { destination, eids }) => PeerInput::Offer { destination, eids },
        PeerFrame::Wanted(Wanted { destination, refusal, eids, delegation }) => {
            PeerInput::Wanted { destination, refusal, eids, delegation }
        }
        PeerFrame::Forward(forward) => {
            PeerInput::Forward(Box::new(read_forward(forward, frame, opener)?))
        }
        PeerFrame::FetchFor(fetch) if fetch.hops_left > limits::HOPS_MAX => return Err(MALFORMED),
        PeerFrame::FetchFor(fetch) => PeerInput::FetchFor(fetch),
        PeerFrame::Directory(page) if page.items.len() > limits::DIRECTORY_PAGE_MAX => {
            return Err(MALFORMED);
        }
        PeerFrame::Directory(page) => PeerInput::Directory(page),
        PeerFrame::DirectoryWanted(wanted) => PeerInput::DirectoryWanted(wanted),
        PeerFrame::DirectoryEntry(entry) if entry.bundles.len() > limits::DEVICES_MAX => {
            return Err(MALFORMED);
        }
        PeerFrame::DirectoryEntry(entry) => PeerInput::DirectoryEntry(Box::new(entry)),
        PeerFrame::NewerListsFor(newer) if newer.lists.len() > limits::LISTS_PER_ANSWER_MAX => {
            return Err(MALFORMED);
        }
        PeerFrame::NewerListsFor(newer) => PeerInput::NewerListsFor(newer),
        PeerFrame::KeepAlive(alive) => PeerInput::KeepAlive { mark: alive.mark },
        PeerFrame::Farewell(Farewell { refusal: Refusal { code, after_ms } }) => {
            PeerInput::Farewell { code, after_ms }
        }
        PeerFrame::Announce(Announce { descriptor }) => {
            let checked = Descriptor::read(&descriptor, now_ms).map_err(|_| NOT_AUTHORISED)?;
            PeerInput::Announce(Box::new(checked))
        }
    })
}

fn read_hello(hello: PeerHello, now_ms: u64) -> Result<CheckedHello, Broken> {
    if hello.version != limits::PROTOCOL_VERSION {
        return Err(Broken(RefusalCode::Version));
    }
    let descriptor = Descriptor::read(&hello.descriptor, now_ms).map_err(|_| NOT_AUTHORISED)?;
    let introductions: Vec<(Descriptor, CheckedDescriptor)> = hello
        .introductions
        .iter()
        .take(limits::INTRODUCTIONS_MAX)
        .filter_map(|bytes| Descriptor::read(bytes, now_ms).ok())
        .collect();
    Ok(CheckedHello { hello, descriptor, introductions })
}

fn prepare(
    head: EnvelopeHead,
    frame: &Frame,
    shared_hash: &tidings_protocol::id::Hash,
) -> Result<PreparedEnvelope, Broken> {
    head.check(frame.body.len())?;
    let (eid, copies) = head.ids(shared_hash);
    Ok(PreparedEnvelope { head, shared: frame.body.clone(), eid, copies })
}

/// What does not hold inside is answered, not the end of the link, so that what is beside it counts.
fn read_forward(
    forward: Forward,
    frame: &Frame,
    opener: &Opener,
) -> Result<PassingEnvelope, Broken> {
    forward.check(frame.body.len())?;
    if forward.hops_left > limits::HOPS_MAX {
        return Err(MALFORMED);
    }
    let eid = forward.eid();
    let origin = forward.origin.check(&forward.header.origin, &eid).ok();
    let is_for_us = forward.header.destination == opener.node;
    let opened = is_for_us.then(|| open_targets(&forward, &eid, frame, &opener.secret));
    Ok(PassingEnvelope { shared: frame.body.clone(), eid, origin, opened, forward })
}

fn open_targets(
    forward: &Forward,
    eid: &Eid,
    frame: &Frame,
    secret: &SealingSecret,
) -> Result<PreparedEnvelope, RefusalCode> {
    let targets =
        forward.targets.open(&forward.header, eid, secret).map_err(|error| match error {
            OpenTargetsError::OtherKey => RefusalCode::StaleKey,
            OpenTargetsError::Corrupt | OpenTargetsError::Decode(_) => RefusalCode::Malformed,
        })?;
    let head = EnvelopeHead { header: forward.header.clone(), targets };
    prepare(head, frame, &shared_hash(&frame.body)).map_err(|Broken(code)| code)
}

const MALFORMED: Broken = Broken(RefusalCode::Malformed);
const NOT_AUTHORISED: Broken = Broken(RefusalCode::NotAuthorised);
