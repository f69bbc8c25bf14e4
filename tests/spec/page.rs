//! The page against the code: limits, refusals, purposes, frames.

use std::{collections::BTreeMap, fs};

use tidings_protocol::refusal::RefusalCode;

use crate::source::{self, kebab};

fn page() -> String {
    fs::read_to_string(crate::root().join("docs/protocol.md")).expect("the page")
}

/// The cells of each line of the table under a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let (_, rest) =
        page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    rest.lines()
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
            inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
        })
        .collect()
}

#[test]
fn every_limit_of_the_page_is_the_constant_and_none_is_missing() {
    let written: BTreeMap<String, u64> = table("## 11. Limits")
        .into_iter()
        .map(|cells| {
            let number = cells[1].replace(',', "");
            (cells[0].clone(), number.parse().unwrap_or_else(|_| panic!("{cells:?}: no number")))
        })
        .collect();
    let mut constants = source::read().constants;
    // Parts of a form that the page describes in words.
    for form in ["LENGTH_BYTES", "HEADER_LENGTH_BYTES", "NODE_ID_VERSION", "INVITE_VERSION"] {
        constants.remove(form).expect("a constant of this name");
    }
    assert!(constants.len() > 25, "{} constants were found", constants.len());
    assert_eq!(written, constants);
}

#[test]
fn the_table_of_refusals_is_the_code() {
    let written: Vec<(String, String, String)> = table("## 12. Refusals")
        .into_iter()
        .map(|cells| (cells[0].clone(), cells[1].clone(), cells[2].clone()))
        .collect();
    let expected: Vec<(String, String, String)> = RefusalCode::ALL
        .iter()
        .map(|code| {
            let retry = if code.may_retry() { "yes" } else { "no" };
            (code.code().to_string(), code.name().to_owned(), retry.to_owned())
        })
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn the_page_has_every_frame_with_its_number_and_rule() {
    let page = page();
    for (union, variants) in source::read().unions {
        if !union.ends_with("Frame") {
            continue;
        }
        let from = match union.as_str() {
            "ClientFrame" => "device",
            "NodeFrame" => "node",
            _ => "peer",
        };
        for (tag, variant, ty) in variants {
            let heading = format!("#### {from} {tag}: {variant} (`{}`)", kebab(&ty));
            assert!(page.contains(&heading), "the page has no heading: {heading}");
        }
    }
}

#[test]
fn each_frame_says_who_owes_what() {
    let page = page();
    for section in page.split("\n#### ").skip(1) {
        let heading = section.lines().next().expect("a heading");
        for word in ["Sender", "Receiver", "Refusals", "Limits", "Security"] {
            assert!(
                section.contains(&format!("**{word}:** ")),
                "{heading} says nothing under {word}"
            );
        }
    }
}

#[test]
fn the_page_has_every_purpose_of_a_signature_and_of_a_hash() {
    let page = page();
    let source = source::read();
    let mut found = 0;
    for piece in source.all.split("b\"tidings/1 ").skip(1) {
        let purpose = piece.split(['\\', '"']).next().expect("a purpose").trim();
        if !purpose.is_empty() {
            assert!(page.contains(&format!("`{purpose}`")), "{purpose} is not on the page");
            found += 1;
        }
    }
    for piece in source.all.split("hash(\"").skip(1) {
        let purpose = piece.split('"').next().expect("a purpose");
        assert!(page.contains(&format!("`{purpose}`")), "{purpose} is not on the page");
        found += 1;
    }
    assert!(found > 18, "only {found} purposes were found");
}

#[test]
fn the_page_has_every_claim_reason_and_class() {
    let page = page();
    for (name, values) in source::read().codes {
        for (number, value) in values {
            // Refusals have a table of their own.
            let is_there = name == "RefusalCode" || page.contains(&format!("{number} `{value}`"));
            assert!(is_there, "{name}: {number} {value}");
        }
    }
}
