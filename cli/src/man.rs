//! `tidings man`: the manual, one page for each command.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::out;

/// Print the manual page, or write the pages of all commands into a folder.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidings man --dir ~/.local/share/man/man1    # then: man tidings, man tidings-send
  tidings man | man -l -")]
pub(crate) struct Args {
    /// The folder; it is made if it is not there.
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(crate::Cli::command())
            .render(&mut page)
            .context("making the manual page")?;
        out::bytes(&page);
        return Ok(());
    };
    let context = || format!("writing into {}: name another folder with --dir", dir.display());
    std::fs::create_dir_all(dir).with_context(context)?;
    clap_mangen::generate_to(crate::Cli::command(), dir).with_context(context)?;
    say!("{}", dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{Args, run};

    #[test]
    fn every_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("man1");
        run(&Args { dir: Some(dir.clone()) }).unwrap();
        let mut pages = vec!["tidings".to_owned()];
        for command in crate::Cli::command().get_subcommands() {
            pages.push(format!("tidings-{}", command.get_name()));
            let inner = command.get_subcommands();
            pages.extend(inner.map(|i| format!("tidings-{}-{}", command.get_name(), i.get_name())));
        }
        assert!(pages.contains(&"tidings-admin-peers".to_owned()), "{pages:?}");
        for page in pages {
            let text = std::fs::read_to_string(dir.join(format!("{page}.1"))).unwrap();
            assert!(
                text.contains(".SH NAME") && text.contains(&page.replace('-', "\\-")),
                "{page}"
            );
        }
    }
}
