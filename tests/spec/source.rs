//! Reads names and numbers from the source of the protocol crate. No Rust parser: it knows the few
//! shapes that the macros of `codec.rs` and the constants of `limits.rs` have.

use std::{collections::BTreeMap, fs};

/// One field of a `wire_struct!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) key: u64,
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// What the source declares.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// `wire_struct!` by name.
    pub(crate) structs: BTreeMap<String, Vec<Field>>,
    /// `wire_union!` by name: tag, variant, type.
    pub(crate) unions: BTreeMap<String, Vec<(u64, String, String)>>,
    /// `wire_code!` by name: number, variant.
    pub(crate) codes: BTreeMap<String, Vec<(u64, String)>>,
    /// `wire_bytes!` by name: length.
    pub(crate) bytes: BTreeMap<String, u64>,
    /// Every `const` that is a number or a product of numbers.
    pub(crate) constants: BTreeMap<String, u64>,
    /// Every text of a file, joined.
    pub(crate) all: String,
}

/// Reads `protocol/src`.
pub(crate) fn read() -> Source {
    let mut source = Source::default();
    let mut files: Vec<_> = fs::read_dir(crate::root().join("protocol/src"))
        .expect("the protocol crate")
        .map(|file| file.expect("an entry").path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        // The macros themselves and the unit tests declare nothing.
        let text = text.split("#[cfg(test)]").next().expect("a beginning").to_owned();
        if !file.ends_with("codec.rs") {
            source.read_macros(&text);
        }
        source.read_constants(&text);
        source.all.push_str(&text);
    }
    source
}

impl Source {
    fn read_macros(&mut self, text: &str) {
        let mut mode = "";
        let mut name = String::new();
        for line in text.lines() {
            if line == "}" {
                mode = "";
            }
            let line = line.trim();
            if let Some(start) = line.strip_suffix("! {") {
                mode = start.trim_start_matches("codec::");
            } else if let Some(rest) = line.strip_prefix("pub struct ") {
                name = ident(rest);
                match (mode, rest.split_once("([u8; ")) {
                    ("wire_bytes", Some((_, len))) => {
                        let len = len.split(']').next().and_then(|len| len.parse().ok());
                        self.bytes.insert(name.clone(), len.expect("a length"));
                    }
                    ("wire_struct", None) => {
                        self.structs.insert(name.clone(), Vec::new());
                    }
                    _ => mode = "",
                }
            } else if let Some(rest) = line.strip_prefix("pub enum ") {
                name = ident(rest);
            } else if let Some((key, rest)) = line.split_once(" => ")
                && let Ok(key) = key.parse::<u64>()
            {
                self.read_entry(mode, &name, key, rest.trim_end_matches(','));
            }
        }
    }

    fn read_entry(&mut self, mode: &str, name: &str, key: u64, rest: &str) {
        match mode {
            "wire_struct" => {
                let (field, ty) = rest.split_once(": ").expect("a field and its type");
                let field =
                    Field { key, name: field.to_owned(), optional: ty.starts_with("Option<") };
                self.structs.get_mut(name).expect("a struct").push(field);
            }
            "wire_union" => {
                let (variant, ty) = rest.split_once('(').expect("a variant and its type");
                let ty = ty.trim_end_matches(')').to_owned();
                let entry = (key, variant.to_owned(), ty);
                self.unions.entry(name.to_owned()).or_default().push(entry);
            }
            "wire_code" => {
                self.codes.entry(name.to_owned()).or_default().push((key, rest.to_owned()));
            }
            _ => {}
        }
    }

    fn read_constants(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let Some((name, value)) =
                line.strip_prefix("const ").and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            let Some((_, value)) = value.split_once(" = ") else { continue };
            if let Some(value) = product(value.trim_end_matches(';')) {
                self.constants.insert(name.to_owned(), value);
            }
        }
    }
}

/// `64 * 1024` and `64`.
fn product(text: &str) -> Option<u64> {
    text.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().ok()).product()
}

fn ident(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// `ClientFrame` as `client-frame`.
pub(crate) fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() && !out.ends_with('<') {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
