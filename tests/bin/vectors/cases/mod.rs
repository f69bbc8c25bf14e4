//! Every vector of the protocol, as data. Makes them; does not judge them: that is `spec.rs`.

mod cast;
mod cbor;
mod content;
mod custody;
mod descriptor;
mod device_list;
mod envelope;
mod evidence;
mod frame;
mod frames_client;
mod frames_node;
mod frames_peer;
mod hello;
mod proof;
mod text;

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::Serialize;

/// One vector.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The rule; a folder.
    pub(crate) rule: &'static str,
    /// What is special about it; the file's name.
    pub(crate) reason: String,
    /// `ok`, `lenient`, or the kind of failure.
    pub(crate) expect: &'static str,
    /// One sentence for people.
    pub(crate) why: String,
    /// What the reader knows beside the bytes.
    pub(crate) given: BTreeMap<String, String>,
    /// What the reader must find.
    pub(crate) result: BTreeMap<String, String>,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Serialize)]
struct File<'a> {
    expect: &'a str,
    why: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    given: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    result: &'a BTreeMap<String, String>,
    hex: String,
}

impl Case {
    /// A case that is refused or taken, as `expect` says.
    pub(crate) fn new(
        rule: &'static str,
        reason: &str,
        expect: &'static str,
        why: &str,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            rule,
            reason: reason.to_owned(),
            expect,
            why: why.to_owned(),
            given: BTreeMap::new(),
            result: BTreeMap::new(),
            bytes: bytes.into(),
        }
    }

    /// Adds what the reader knows.
    pub(crate) fn given(mut self, name: &str, value: impl ToString) -> Self {
        self.given.insert(name.to_owned(), value.to_string());
        self
    }

    /// Adds what the reader must find.
    pub(crate) fn result(mut self, name: &str, value: impl ToString) -> Self {
        self.result.insert(name.to_owned(), value.to_string());
        self
    }

    /// Path below the folder of vectors.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}.json", self.rule, self.reason)
    }

    /// The file.
    pub(crate) fn to_json(&self) -> String {
        let file = File {
            expect: self.expect,
            why: &self.why,
            given: &self.given,
            result: &self.result,
            hex: HEXLOWER.encode(&self.bytes),
        };
        serde_json::to_string_pretty(&file).expect("text in memory") + "\n"
    }
}

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    [
        text::cases(),
        frame::cases(),
        envelope::cases(),
        proof::cases(),
        descriptor::cases(),
        device_list::cases(),
        evidence::cases(),
        hello::cases(),
        frames_client::cases(),
        frames_node::cases(),
        frames_peer::cases(),
        content::cases(),
        custody::cases(),
    ]
    .concat()
}
