//! The grammar against the vectors and against the source.

use std::{collections::BTreeMap, fs};

use crate::{
    source::{self, kebab},
    vectors,
};

fn grammar() -> String {
    fs::read_to_string(crate::root().join("docs/protocol.cddl")).expect("the grammar")
}

/// The CDDL rule of a folder of vectors, or `None` where the vectors are no CBOR.
fn cddl_rule(rule: &str) -> Option<String> {
    match rule {
        "node_id" | "user_name" | "address" | "invite" | "name_record" | "derivation" | "frame" => {
            None
        }
        "device_list" => Some("signed-device-list".to_owned()),
        "consent" => Some("signed-consent".to_owned()),
        "listing" => Some("signed-listing".to_owned()),
        other => Some(other.replace('_', "-")),
    }
}

fn matches(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let grammar = grammar()
        + "\nsigned-device-list = signed<device-list>\nsigned-consent = signed<consent>\n\
           signed-listing = signed<listing>\n";
    cddl_cat::validate_cbor_bytes(rule, &grammar, bytes).map_err(|error| error.to_string())
}

#[test]
fn each_positive_vector_is_a_word_of_the_grammar() {
    let mut wrong = Vec::new();
    for (rule, reason, vector) in vectors() {
        let Some(cddl) = cddl_rule(&rule) else { continue };
        if !vector.is_ok() || vector.given.get("grammar").is_some_and(|g| g == "no") {
            continue;
        }
        if let Err(error) = matches(&cddl, &vector.bytes()) {
            wrong.push(format!("{rule}/{reason}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_malformed_is_no_word_of_the_grammar() {
    let mut wrong = Vec::new();
    for (rule, reason, vector) in vectors() {
        let Some(cddl) = cddl_rule(&rule) else { continue };
        let shape = ["missing_key", "wrong_type", "truncated", "unknown_key"];
        let outer = vector.expect == "malformed" || vector.expect == "lenient";
        // A grammar of values says nothing of the order of keys or of bytes behind the value.
        if outer
            && shape.iter().any(|end| reason.ends_with(end))
            && matches(&cddl, &vector.bytes()).is_ok()
        {
            wrong.push(format!("{rule}/{reason}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_shape_the_grammar_forbids_is_marked() {
    for (rule, reason, vector) in vectors() {
        if vector.given.get("grammar").is_some_and(|g| g == "no") {
            let cddl = cddl_rule(&rule).expect("CBOR");
            assert!(matches(&cddl, &vector.bytes()).is_err(), "{rule}/{reason}");
        }
    }
}

/// Every rule: its name and its text without comments, with the comments apart.
fn rules() -> BTreeMap<String, Vec<(String, String)>> {
    let mut rules: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut name = String::new();
    for line in grammar().lines() {
        let (code, comment) = line.split_once(';').unwrap_or((line, ""));
        let (mut code, comment) = (code.trim_end().to_owned(), comment.trim().to_owned());
        if code.is_empty() {
            continue;
        }
        if !code.starts_with([' ', '}'])
            && let Some((left, right)) = code.clone().split_once('=')
        {
            name = left.trim().to_owned();
            assert!(!rules.contains_key(&name), "the rule {name} stands twice");
            code = right.trim().to_owned();
        }
        rules.entry(name.clone()).or_default().push((code.trim().to_owned(), comment));
    }
    rules
}

/// The name that a type has in the grammar.
fn rule_name(ty: &str) -> String {
    match ty {
        // `text` is a name of CDDL itself.
        "Text" => "text-body".to_owned(),
        "u64" => "uint".to_owned(),
        other => kebab(other),
    }
}

#[test]
fn the_grammar_has_every_struct_with_its_keys_and_names() {
    let rules = rules();
    let source = source::read();
    assert!(source.structs.len() > 50, "{} structs were found", source.structs.len());
    for (name, fields) in &source.structs {
        let rule = rule_name(name);
        let lines = rules.get(&rule).unwrap_or_else(|| panic!("no rule {rule} for {name}"));
        let written: Vec<source::Field> = lines
            .iter()
            .filter_map(|(code, comment)| {
                let (key, _) = code.split_once(" => ")?;
                let optional = key.starts_with("? ");
                let key = key.trim_start_matches("? ").parse().expect("a number");
                let name = comment.split([' ', ':', ',']).next()?.to_owned();
                Some(source::Field { key, name, optional })
            })
            .collect();
        assert_eq!(&written, fields, "{rule} differs from {name}");
    }
}

#[test]
fn the_grammar_has_every_union_code_and_length() {
    let rules = rules();
    let source = source::read();
    for (name, variants) in &source.unions {
        let rule = rule_name(name);
        let lines = rules.get(&rule).unwrap_or_else(|| panic!("no rule {rule} for {name}"));
        let written: Vec<(String, String)> = lines
            .iter()
            .map(|(code, comment)| (code.trim_start_matches("/ ").to_owned(), comment.clone()))
            .collect();
        let expected: Vec<(String, String)> = variants
            .iter()
            .map(|(tag, variant, ty)| (format!("[{tag}, {}]", rule_name(ty)), variant.clone()))
            .collect();
        assert_eq!(written, expected, "{rule} differs from {name}");
    }
    for (name, values) in &source.codes {
        let rule = rule_name(name);
        let [(code, comment)] = rules.get(&rule).expect("a rule for each code").as_slice() else {
            panic!("{rule} takes one line");
        };
        let numbers: Vec<String> = values.iter().map(|(number, _)| number.to_string()).collect();
        let names: Vec<&str> = values.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(*code, numbers.join(" / "), "{rule}");
        assert_eq!(*comment, names.join(", "), "{rule}");
    }
    for (name, len) in &source.bytes {
        let code =
            &rules.get(&rule_name(name)).unwrap_or_else(|| panic!("no rule for {name}"))[0].0;
        assert_eq!(*code, format!("bytes .size {len}"), "{name}");
    }
}

#[test]
fn each_number_of_the_grammar_that_names_a_limit_is_that_limit() {
    let source = source::read();
    let mut found = 0;
    for (rule, lines) in rules() {
        for (code, comment) in lines {
            for word in comment.split([' ', ':', ',']) {
                let Some(limit) = source.constants.get(word) else { continue };
                let number = code
                    .split(|c: char| !c.is_ascii_digit())
                    .filter_map(|digits| digits.parse::<u64>().ok())
                    .any(|number| number == *limit);
                assert!(number, "{rule}: {code} does not say {word} = {limit}");
                found += 1;
            }
        }
    }
    assert!(found > 15, "only {found} limits stand in the grammar");
}

#[test]
fn every_frame_has_a_positive_vector() {
    let all = vectors();
    for (name, variants) in source::read().unions {
        let folder = kebab(&name).replace('-', "_");
        for (tag, variant, _) in variants {
            if !name.ends_with("Frame") {
                continue;
            }
            let found = all.iter().any(|(rule, _, vector)| {
                *rule == folder
                    && vector.is_ok()
                    && tidings_protocol::codec::peek_tag(&vector.bytes()) == Some(tag)
            });
            assert!(found, "{name}::{variant} has no positive vector");
        }
    }
}
