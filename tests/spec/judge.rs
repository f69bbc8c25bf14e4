//! What the protocol crate makes of a vector: what it reads, or the kind of its refusal.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tidings_protocol::{
    address::{Address, ParseAddressError, UserName},
    client_frame::{ClientFrame, NodeFrame},
    codec::{self, DecodeError},
    content::{Content, Introduction, Part, PartInside},
    custody::{Consent, Origin, OriginError},
    descriptor::{Delegation, Descriptor, DescriptorError},
    device_list::{CheckedList, DeviceListError},
    directory::{Listing, ListingError},
    envelope::{EnvelopeError, EnvelopeHead, Header, shared_hash},
    evidence::{Evidence, TrustRoots, verify},
    frame::{Frame, FrameError},
    hello::{Challenge, ClientHello, Welcome, client_transcript, node_transcript},
    id::{Eid, NodeId, ParseNodeIdError},
    invite::{InviteText, ParseInviteError},
    key::{PublicKey, Purpose},
    name_record::{NameRecords, record_text},
    peer_frame::{Forward, PeerFrame},
    sealed::{OpenTargetsError, SealedTargets, SealingSecret},
    signed::{OpenSignedError, Signed},
    statement::{Proof, ProofError, Statement},
};

use crate::Vector;

/// What was read.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) canonical: Vec<u8>,
    pub(crate) result: BTreeMap<String, String>,
}

impl Seen {
    fn of(canonical: Vec<u8>) -> Self {
        Self { canonical, result: BTreeMap::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.result.insert(name.to_owned(), value.to_string());
        self
    }
}

type Kind = String;

/// Reads a vector by its rule.
pub(crate) fn judge(rule: &str, vector: &Vector) -> Result<Seen, Kind> {
    let bytes = vector.bytes();
    match rule {
        "node_id" | "user_name" | "address" => text(rule, &bytes),
        "invite" => invite(&bytes),
        "name_record" => name_record(&bytes),
        "derivation" => Ok(derivation(vector, bytes)),
        "frame" => frame(bytes),
        "envelope_head" => envelope(vector, &bytes),
        "statement" => {
            let statement: Statement = codec::decode_canonical(&bytes).map_err(decode)?;
            Ok(Seen::of(codec::encode(&statement)).with("claim", statement.claim.name()))
        }
        "proof" => proof(&bytes),
        "descriptor" => descriptor(vector, &bytes),
        "device_list" => device_list(vector, &bytes),
        "client_hello" => client_hello(vector, &bytes),
        "welcome" => welcome(vector, &bytes),
        "evidence" => evidence(vector, &bytes),
        "consent" => consent(vector, &bytes),
        "origin" => origin(vector, &bytes),
        "forward" => forward(&bytes),
        "sealed_targets" => sealed_targets(vector, &bytes),
        "listing" => listing(vector, &bytes),
        "client_frame" => union::<ClientFrame>(&bytes, ClientFrame::knows_tag),
        "node_frame" => union::<NodeFrame>(&bytes, NodeFrame::knows_tag),
        "peer_frame" => union::<PeerFrame>(&bytes, PeerFrame::knows_tag),
        "part" => plain::<Part>(&bytes),
        "part_inside" => plain::<PartInside>(&bytes),
        "introduction" => plain::<Introduction>(&bytes),
        "content" => plain::<Content>(&bytes),
        other => panic!("no rule {other}"),
    }
}

fn decode(error: DecodeError) -> Kind {
    match error {
        DecodeError::Malformed { .. } => "malformed",
        DecodeError::Trailing { .. } => "trailing",
        DecodeError::NotCanonical { .. } => "not_canonical",
    }
    .to_owned()
}

fn signed(error: OpenSignedError) -> Kind {
    match error {
        OpenSignedError::Decode(error) => decode(error),
        OpenSignedError::Signature(_) => "signature".to_owned(),
    }
}

fn plain<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<Seen, Kind> {
    let value: T = codec::decode(bytes).map_err(decode)?;
    Ok(Seen::of(codec::encode(&value)))
}

fn union<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    knows: fn(u64) -> bool,
) -> Result<Seen, Kind> {
    match codec::peek_tag(bytes) {
        Some(tag) if !knows(tag) => Err("unknown_tag".to_owned()),
        Some(_) | None => plain::<T>(bytes),
    }
}

fn name_record(bytes: &[u8]) -> Result<Seen, Kind> {
    match NameRecords::read([bytes]) {
        NameRecords::Node(node) => {
            Ok(Seen::of(record_text(&node).into_bytes()).with("node", node.to_text()))
        }
        NameRecords::Absent => Err("absent".to_owned()),
        NameRecords::Unreadable => Err("unreadable".to_owned()),
        NameRecords::Contradicting => panic!("one record contradicts itself"),
    }
}

fn text(rule: &str, bytes: &[u8]) -> Result<Seen, Kind> {
    let text = core::str::from_utf8(bytes).expect("vectors of text are UTF-8");
    let address_kind = |error| match error {
        ParseAddressError::NoAt => "no_at",
        ParseAddressError::Name => "name",
        ParseAddressError::Host { .. } => "host",
        ParseAddressError::NodeId(_) => "node_id",
    };
    match rule {
        "node_id" => match NodeId::parse(text) {
            Ok(node) => Ok(Seen::of(node.to_text().into_bytes()).with("node", node)),
            Err(ParseNodeIdError::Shape) => Err("shape".to_owned()),
            Err(ParseNodeIdError::Version(_)) => Err("version".to_owned()),
            Err(ParseNodeIdError::Checksum) => Err("checksum".to_owned()),
        },
        "user_name" => UserName::parse(text)
            .map(|name| Seen::of(name.as_str().as_bytes().to_vec()))
            .map_err(|error| address_kind(error).to_owned()),
        _ => Address::parse(text)
            .map(|address| Seen::of(address.to_string().into_bytes()))
            .map_err(|error| address_kind(error).to_owned()),
    }
}

fn invite(bytes: &[u8]) -> Result<Seen, Kind> {
    let text = core::str::from_utf8(bytes).expect("vectors of text are UTF-8");
    match text.parse::<InviteText>() {
        Ok(invite) => Ok(Seen::of(invite.to_text().into_bytes())
            .with("node", invite.node)
            .with("secret", invite.secret.to_hex())
            .with("url", &invite.url)),
        Err(ParseInviteError::Shape) => Err("shape".to_owned()),
        Err(ParseInviteError::Version(_)) => Err("version".to_owned()),
        Err(ParseInviteError::Checksum) => Err("checksum".to_owned()),
    }
}

/// The page's words, `SHA-256("tidings/1 " ‖ purpose ‖ 0x00 ‖ bytes)`, computed without the crate.
fn hash(purpose: &str, bytes: &[u8]) -> Vec<u8> {
    let mut state = Sha256::new();
    state.update(format!("tidings/1 {purpose}\0"));
    state.update(bytes);
    state.finalize().to_vec()
}

fn derivation(vector: &Vector, bytes: Vec<u8>) -> Seen {
    let full = HEXLOWER.encode(&hash(&vector.given["purpose"], &bytes));
    let len = vector.result["hash"].len();
    Seen::of(bytes).with("hash", &full[..len])
}

fn frame(bytes: Vec<u8>) -> Result<Seen, Kind> {
    let frame = Frame::decode(bytes.into()).map_err(|error| {
        match error {
            FrameError::TooLong { .. } => "too_long",
            FrameError::HeaderOverrun { .. } => "header_overrun",
            FrameError::NotOneFrame { .. } => "not_one_frame",
        }
        .to_owned()
    })?;
    let again = frame.encode().expect("a frame that was read can be written");
    Ok(Seen::of(again.to_vec())
        .with("header_bytes", frame.header.len())
        .with("body_bytes", frame.body.len()))
}

fn envelope(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let head: EnvelopeHead = codec::decode(bytes).map_err(decode)?;
    let shared = vector.given.get("shared").map_or_else(Vec::new, |hex| unhex(hex));
    head.check(shared.len()).map_err(envelope_kind)?;
    let (eid, copies) = head.ids(&shared_hash(&shared));
    assert_eq!(
        by_the_page(&head, &shared),
        (eid.0.to_vec(), copies.iter().map(|c| c.0.to_vec()).collect())
    );
    let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
    Ok(Seen::of(codec::encode(&head)).with("eid", eid).with("copies", copies.join(" ")))
}

fn envelope_kind(error: EnvelopeError) -> Kind {
    match error {
        EnvelopeError::Version(_) => "version",
        EnvelopeError::TooLarge { .. } => "too_large",
        EnvelopeError::Targets => "targets",
        EnvelopeError::Life => "life",
    }
    .to_owned()
}

fn forward(bytes: &[u8]) -> Result<Seen, Kind> {
    let forward: Forward = codec::decode(bytes).map_err(decode)?;
    forward.check(0).map_err(envelope_kind)?;
    Ok(Seen::of(codec::encode(&forward)).with("eid", forward.eid()))
}

/// What the destination does with the target block of an envelope.
fn sealed_targets(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let sealed: SealedTargets = codec::decode(bytes).map_err(decode)?;
    let secret = unhex(&vector.given["secret"]).try_into().expect("32 bytes");
    let secret = SealingSecret::from_bytes(&secret);
    let header: Header = codec::decode(&unhex(&vector.given["header"])).expect("a header");
    let eid = Eid::from_hex(&vector.given["eid"]).expect("an eid");
    let targets = sealed.open(&header, &eid, &secret).map_err(|error| match error {
        OpenTargetsError::OtherKey => "other_key".to_owned(),
        OpenTargetsError::Corrupt => "corrupt".to_owned(),
        OpenTargetsError::Decode(error) => decode(error),
    })?;
    let targets = HEXLOWER.encode(&codec::encode(&targets));
    Ok(Seen::of(codec::encode(&sealed)).with("targets", targets))
}

/// What a node does with a list that a custodian of another one gives it.
fn listing(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let signed: Signed<Listing> = codec::decode(bytes).map_err(decode)?;
    let delegation: Delegation =
        codec::decode(&unhex(&vector.given["delegation"])).expect("a delegation");
    let list = codec::decode(&unhex(&vector.given["list"])).expect("a list");
    let name = UserName::parse(&vector.given["name"]).expect("a name");
    Listing::check(&signed, &delegation, &name, &list, now_ms(vector)).map_err(
        |error| match error {
            ListingError::Listing(error) => self::signed(error),
            ListingError::List(_) => "list".to_owned(),
            ListingError::Other => "other".to_owned(),
            ListingError::Expired => "expired".to_owned(),
        },
    )?;
    Ok(Seen::of(codec::encode(&signed)))
}

/// The ids of an envelope, computed as the page says.
fn by_the_page(head: &EnvelopeHead, shared: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let header = hash("header", &codec::encode(&head.header));
    let copies: Vec<Vec<u8>> = head
        .targets
        .iter()
        .map(|t| {
            let to = hash("target", &codec::encode(&(&t.to, t.list_version, &t.list_hash)));
            let part = hash("part", &t.part);
            hash("copy", &[header.clone(), to, part, hash("shared", shared)].concat())
        })
        .collect();
    let minute = u32::try_from(head.header.created_ms / 60_000).expect("a date before 10136");
    let digest = hash("eid", &[&[header][..], &copies].concat().concat());
    let ms = u16::try_from(head.header.created_ms % 60_000).expect("below 60,000");
    ([&minute.to_be_bytes()[..], &ms.to_be_bytes(), &digest[..18]].concat(), copies)
}

fn proof(bytes: &[u8]) -> Result<Seen, Kind> {
    let proof: Proof = codec::decode(bytes).map_err(decode)?;
    let checked = proof.check().map_err(proof_kind)?;
    let claims: Vec<_> = checked.statements.iter().map(|(s, _)| s.claim.name()).collect();
    Ok(Seen::of(codec::encode(&proof))
        .with("claims", claims.join(" "))
        .with("root", checked.root.root))
}

fn proof_kind(error: ProofError) -> Kind {
    match error {
        ProofError::Decode(error) => decode(error),
        ProofError::Signature(_) => "signature".to_owned(),
        ProofError::Path { .. } => "path".to_owned(),
        ProofError::WrongSigner { .. } => "wrong_signer".to_owned(),
        ProofError::Size => "size".to_owned(),
    }
}

fn consent(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let consent: Signed<Consent> = codec::decode(bytes).map_err(decode)?;
    let key = PublicKey::from_hex(&vector.given["key"]).expect("a key");
    consent.open(&key).map_err(signed)?;
    Ok(Seen::of(codec::encode(&consent)))
}

/// What a reader of an envelope with this eid makes of it, whose header names this origin.
fn origin(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let origin: Origin = codec::decode(bytes).map_err(decode)?;
    let node = NodeId::from_hex(&vector.given["node"]).expect("a node");
    let eid = Eid::from_hex(&vector.given["eid"]).expect("an eid");
    origin.check(&node, &eid).map_err(|error| match error {
        OriginError::Proof(error) => proof_kind(error),
        OriginError::Delegation(error) => signed(error),
        OriginError::OtherStatement => "other_statement".to_owned(),
        OriginError::OtherSigner => "other_signer".to_owned(),
        OriginError::Expired => "expired".to_owned(),
    })?;
    Ok(Seen::of(codec::encode(&origin)))
}

fn descriptor_kind(error: DescriptorError) -> Kind {
    match error {
        DescriptorError::TooLarge { .. } => "too_large".to_owned(),
        DescriptorError::Decode(error) => decode(error),
        DescriptorError::Signed(error) => signed(error),
        DescriptorError::WrongNode => "wrong_node".to_owned(),
        DescriptorError::Expired => "expired".to_owned(),
        DescriptorError::TooFarAhead => "too_far_ahead".to_owned(),
        DescriptorError::TooMany { .. } => "too_many".to_owned(),
    }
}

fn now_ms(vector: &Vector) -> u64 {
    vector.given.get("now_ms").map_or(0, |text| text.parse().expect("a number"))
}

fn descriptor(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let (descriptor, checked) = Descriptor::read(bytes, now_ms(vector)).map_err(descriptor_kind)?;
    Ok(Seen::of(descriptor.encode()).with("node", checked.node()))
}

fn device_list(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let list = codec::decode(bytes).map_err(decode)?;
    let checked = match vector.given.get("known") {
        None => CheckedList::first_seen(&list),
        Some(known) => {
            let known = codec::decode(&unhex(known)).expect("a known list");
            CheckedList::first_seen(&known).expect("a good known list").then(&list)
        }
    }
    .map_err(|error| match error {
        DeviceListError::Decode(error) => decode(error),
        DeviceListError::Signed(error) => signed(error),
        DeviceListError::OtherAccount => "other_account".to_owned(),
        DeviceListError::SubkeyNotAllowed => "subkey_not_allowed".to_owned(),
        DeviceListError::Rollback { .. } => "rollback".to_owned(),
        DeviceListError::Fork => "fork".to_owned(),
        DeviceListError::Devices => "devices".to_owned(),
        DeviceListError::Label => "label".to_owned(),
    })?;
    assert_eq!(checked.hash.0.to_vec(), hash("device list", list.signed_bytes()));
    Ok(Seen::of(codec::encode(&list)).with("hash", checked.hash))
}

fn challenge(vector: &Vector) -> Challenge {
    codec::decode(&unhex(&vector.given["challenge"])).expect("a challenge")
}

/// What a node does with a hello, whose device's key it knows.
fn client_hello(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let hello: ClientHello = codec::decode(bytes).map_err(decode)?;
    let challenge = challenge(vector);
    if hello.version != challenge.version {
        return Err("version".to_owned());
    }
    if hello.node != challenge.node {
        return Err("wrong_node".to_owned());
    }
    let transcript = client_transcript(&challenge, &hello);
    let key = PublicKey::from_hex(&vector.given["key"]).expect("a key");
    key.verify(Purpose::ClientHello, &transcript.0, &hello.signature)
        .map_err(|_| "signature".to_owned())?;
    Ok(Seen::of(codec::encode(&hello)).with("transcript", transcript))
}

/// What a device does with a welcome.
fn welcome(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let welcome: Welcome = codec::decode(bytes).map_err(decode)?;
    let hello: ClientHello = codec::decode(&unhex(&vector.given["hello"])).expect("a hello");
    let checked = welcome.descriptor.check(now_ms(vector)).map_err(descriptor_kind)?;
    assert_eq!(checked.node(), hello.node);
    let transcript = node_transcript(&challenge(vector), &hello, &welcome);
    checked
        .delegation
        .operational
        .verify(Purpose::NodeHello, &transcript.0, &welcome.signature)
        .map_err(|_| "signature".to_owned())?;
    Ok(Seen::of(codec::encode(&welcome)).with("transcript", transcript))
}

fn evidence(vector: &Vector, bytes: &[u8]) -> Result<Seen, Kind> {
    let evidence: Evidence = codec::decode(bytes).map_err(decode)?;
    let words =
        |name: &str| vector.given.get(name).map_or_else(Vec::new, |all| all.split(' ').collect());
    let roots = TrustRoots {
        nodes: words("trusted_nodes").into_iter().filter_map(NodeId::from_hex).collect(),
        accounts: words("trusted_accounts").into_iter().filter_map(PublicKey::from_hex).collect(),
    };
    let verdicts: Vec<String> = verify(&evidence, &roots)
        .into_iter()
        .map(|finding| finding.verdict.map_or_else(|doubt| format!("{doubt:?}"), |_| "ok".into()))
        .collect();
    Ok(Seen::of(codec::encode(&evidence)).with("verdicts", verdicts.join(" ")))
}

fn unhex(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).expect("lower-case hex")
}
