//! What can be said of something beyond its parts, without a network and without trust: whether
//! signatures and paths hold, dates, and the ids that follow from the bytes.

use serde_json::{Value, json};
use tidings_protocol::client_frame::{ClientFrame, NodeFrame};
use tidings_protocol::codec;
use tidings_protocol::descriptor::{Delegation, Descriptor};
use tidings_protocol::device_list::{CheckedList, DeviceList};
use tidings_protocol::envelope::{EnvelopeHead, shared_hash};
use tidings_protocol::evidence::Evidence;
use tidings_protocol::peer_frame::PeerFrame;
use tidings_protocol::signed::Signed;
use tidings_protocol::statement::Proof;

use super::kind::{Item, Kind};

/// Something that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Whether a check holds; absent when it is none.
    pub(crate) holds: Option<bool>,
    pub(crate) text: String,
}

impl Remark {
    fn of<T>(check: Result<T, impl std::error::Error>, good: &str) -> Self {
        match check {
            Ok(_) => Self { holds: Some(true), text: good.to_owned() },
            Err(error) => Self { holds: Some(false), text: chain(&error) },
        }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { holds: None, text: text.into() }
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({ "holds": self.holds, "text": self.text })
    }
}

/// An error with what stands behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    text
}

pub(crate) fn remarks(kind: Kind, item: &Item, now_ms: u64) -> Vec<Remark> {
    match kind {
        Kind::Evidence => read::<Evidence>(item).map_or_else(Vec::new, |evidence| {
            let mut all: Vec<Remark> = evidence.proofs.iter().map(proof).collect();
            all.push(Remark::note("whose keys these are: `tidings verify` with those you trust"));
            all
        }),
        Kind::Descriptor => {
            vec![Remark::of(Descriptor::read(&item.bytes, now_ms), "signatures and dates hold")]
        }
        Kind::Delegation => {
            read::<Signed<Delegation>>(item).map_or_else(Vec::new, delegation(now_ms))
        }
        Kind::DeviceList => read::<Signed<DeviceList>>(item).map_or_else(Vec::new, |list| {
            let good = "signed by the account key that it names, or by a subkey of it";
            vec![Remark::of(CheckedList::first_seen(&list), good)]
        }),
        Kind::Proof => read::<Proof>(item).map_or_else(Vec::new, |read| vec![proof(&read)]),
        Kind::Envelope => {
            let check = |head: EnvelopeHead| Remark::of(head.check(0), "the head is well formed");
            read(item).map_or_else(Vec::new, |head| vec![check(head)])
        }
        Kind::ClientFrame | Kind::NodeFrame | Kind::PeerFrame => frame(kind, item),
        Kind::Addresses | Kind::Bundle | Kind::PrekeyUpload | Kind::Statement => Vec::new(),
    }
}

fn read<T: serde::de::DeserializeOwned>(item: &Item) -> Option<T> {
    codec::decode(&item.bytes).ok()
}

fn proof(proof: &Proof) -> Remark {
    let count = proof.leaves.len();
    let good = format!("signature and paths of {count} statements hold, by the key that it names");
    Remark::of(proof.check(), &good)
}

fn delegation(now_ms: u64) -> impl Fn(Signed<Delegation>) -> Vec<Remark> {
    move |signed| {
        let Ok(read) = signed.peek() else { return Vec::new() };
        let mut all = vec![Remark::of(
            signed.open(&read.node.root_key()),
            "signed by the root key, which is the node's id",
        )];
        if read.not_after_ms <= now_ms {
            all.push(Remark { holds: Some(false), text: "it is over".to_owned() });
        }
        all
    }
}

fn frame(kind: Kind, item: &Item) -> Vec<Remark> {
    let Some(body) = &item.body else {
        return vec![Remark::note("the header of a frame, without length words and body")];
    };
    let hash = shared_hash(body);
    let ids = |head: &EnvelopeHead| {
        let (eid, copies) = head.ids(&hash);
        let copies: Vec<String> = copies.iter().map(ToString::to_string).collect();
        Remark::note(format!("envelope {eid}, copies {}", copies.join(" ")))
    };
    let heads = match kind {
        Kind::ClientFrame => match read(item) {
            Some(ClientFrame::Submit(submit)) => submit.heads,
            Some(_) | None => Vec::new(),
        },
        Kind::PeerFrame => match read(item) {
            Some(PeerFrame::Deliver(head)) => vec![head],
            Some(_) | None => Vec::new(),
        },
        Kind::NodeFrame => {
            let Some(NodeFrame::Deliver(deliver)) = read(item) else { return body_of(body) };
            let copy = deliver.target.copy_id(&deliver.header.hash(), &hash);
            let mut all = body_of(body);
            all.push(Remark::note(format!("copy {copy}")));
            return all;
        }
        Kind::Evidence
        | Kind::Descriptor
        | Kind::Delegation
        | Kind::Addresses
        | Kind::DeviceList
        | Kind::Proof
        | Kind::Bundle
        | Kind::PrekeyUpload
        | Kind::Envelope
        | Kind::Statement => Vec::new(),
    };
    body_of(body).into_iter().chain(heads.iter().map(ids)).collect()
}

fn body_of(body: &[u8]) -> Vec<Remark> {
    if body.is_empty() {
        return Vec::new();
    }
    vec![Remark::note(format!(
        "a body of {} bytes, sealed for the devices that it is for",
        body.len()
    ))]
}
