//! How a person starts: the `tidings` binary. One file per command; this one only names them.
//!
//! Exit codes: see `exit.rs`, and `tidings --help`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks to its terminal"
)]

mod admin;
mod exit;
mod init;
mod invite;
mod invite_text;
mod node;
mod show;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Messages between organisations: provable, encrypted from device to device, never lost.
#[derive(Parser)]
#[command(version, after_help = exit::HELP, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    Node(node::Args),
    Invite(invite::Args),
    Admin(admin::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Init(args) => init::run(&args),
        Command::Node(args) => node::run(&args),
        Command::Invite(args) => invite::run(&args),
        Command::Admin(args) => admin::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The sources too: the last one is often what the system said.
            eprintln!("tidings: {error:#}");
            exit::code_of(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    check(sub, &path);
                    continue;
                }
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(&format!("{path} ")), "{path} has no example");
            }
        }
        check(&super::Cli::command(), "tidings");
    }
}
