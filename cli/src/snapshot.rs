//! All rows of a node's store in one consistent state, whether the node runs or not. Changes nothing.

use std::path::Path;

use anyhow::ensure;
use tidings_node::admin_link::AskError;
use tidings_node::keys::STORE_FILE;
use tidings_node::snapshot;
use tidings_store::{Item, OpenError, RedbFile, StoreError, StreamError, read_rows};

/// Who gave the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Giver {
    /// The node itself, over its socket.
    RunningNode,
    /// The file of a node that does not run.
    File,
}

/// Hands every row to `each`, table by table, keys ascending.
pub(crate) fn each(
    data: &Path,
    each: &mut dyn FnMut(Item<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Giver> {
    match snapshot::open(data) {
        Ok(mut rows) => {
            read_rows(&mut rows, &mut |item| each(item).map_err(Gone::Here)).map_err(Gone::over)?;
            Ok(Giver::RunningNode)
        }
        Err(AskError::NotRunning { .. }) => {
            let path = data.join(STORE_FILE);
            ensure!(
                path.exists(),
                "{} is not there: name a node's folder with --data, or start the node once",
                path.display()
            );
            let file = RedbFile::open(&path).map_err(mend)?;
            file.each(&mut |item| each(item).map_err(Gone::Here)).map_err(Gone::over)?;
            Ok(Giver::File)
        }
        Err(error) => Err(error.into()),
    }
}

/// What ended it: the rows, or whoever takes them.
enum Gone {
    There(anyhow::Error),
    Here(anyhow::Error),
}

impl Gone {
    fn over(self) -> anyhow::Error {
        match self {
            Self::There(error) | Self::Here(error) => error,
        }
    }
}

impl From<StreamError> for Gone {
    fn from(error: StreamError) -> Self {
        let is_broken_off = matches!(error, StreamError::BrokenOff);
        let error = anyhow::Error::new(error);
        Self::There(if is_broken_off {
            error.context("the node broke off: look at its log, then run the same command again")
        } else {
            error
        })
    }
}

impl From<StoreError> for Gone {
    fn from(error: StoreError) -> Self {
        Self::There(error.into())
    }
}

fn mend(error: OpenError) -> anyhow::Error {
    let is_locked = matches!(error, OpenError::Locked { .. });
    let error = anyhow::Error::new(error);
    if is_locked {
        error.context("the store is in use, but no node answers there: run the same command again")
    } else {
        error
    }
}
