//! `docs/cli.md` and the program agree: commands, exit codes, variables, and who speaks JSON.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use crate::exit::CODES;

const PAGE: &str = include_str!("../../docs/cli.md");

/// Every command that does something: its whole name and itself.
fn leaves(command: &Command, path: &str) -> Vec<(String, Command)> {
    let inner = command.get_subcommands().flat_map(|sub| {
        let path = format!("{path} {}", sub.get_name());
        let deeper = leaves(sub, &path);
        if deeper.is_empty() { vec![(path, sub.clone())] } else { deeper }
    });
    inner.collect()
}

fn commands() -> Vec<(String, Command)> {
    leaves(&crate::Cli::command(), "tidings")
}

/// First and second cells of a section's table.
fn table(section: &str) -> Vec<(String, String)> {
    let text = PAGE.split("\n## ").find(|part| part.starts_with(section)).expect("the section");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.map(|row| row.trim_matches('|').split_once(" | ").expect("two cells"));
    cells.map(|(one, two)| (one.trim().replace('`', ""), two.trim().to_owned())).collect()
}

#[track_caller]
fn equal(section: &str, wanted: &[(String, String)]) {
    let lines = wanted.iter().map(|(one, two)| match section {
        "Commands" => format!("| `{one}` | {two} |\n"),
        _ => format!("| {one} | {two} |\n"),
    });
    let lines: String = lines.collect();
    assert_eq!(table(section), wanted, "the table of {section} in docs/cli.md should be\n{lines}");
}

#[test]
fn every_command_stands_on_the_page_in_its_own_words() {
    let about = |command: &Command| command.get_about().expect("an about").to_string();
    let wanted: Vec<_> =
        commands().into_iter().map(|(path, command)| (path, about(&command))).collect();
    equal("Commands", &wanted);
}

#[test]
fn every_exit_code_stands_on_the_page() {
    let wanted: Vec<_> =
        CODES.iter().map(|(code, what)| ((*code as u8).to_string(), (*what).to_owned())).collect();
    equal("Exit codes", &wanted);
    let numbers: BTreeSet<u8> = CODES.iter().map(|(code, _)| *code as u8).collect();
    assert_eq!(numbers.len(), CODES.len());
}

#[test]
fn every_variable_stands_on_the_page() {
    let written: BTreeSet<String> =
        table("Environment").into_iter().map(|(name, _)| name).collect();
    let read: BTreeSet<String> = commands()
        .iter()
        .flat_map(|(_, command)| command.get_arguments().cloned().collect::<Vec<_>>())
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()))
        .collect();
    assert!(read.len() >= 2 && read.is_subset(&written), "{read:?} {written:?}");
}

#[test]
fn every_command_that_speaks_json_says_what() {
    let written: BTreeSet<String> = table("JSON").into_iter().map(|(name, _)| name).collect();
    let spoken: BTreeSet<String> = commands()
        .into_iter()
        .filter(|(_, command)| command.get_arguments().any(|arg| arg.get_id() == "json"))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(written, spoken);
}
