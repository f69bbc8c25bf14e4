//! Watches the disk of the store: tells the core how much is free, and takes the ballast back when
//! space has returned. Decides no watermark; the core does.

use std::path::{Path, PathBuf};

use tidings_core::event::Event;
use tidings_store::Ballast;
use tokio::sync::mpsc;
use tracing::warn;

use std::sync::Arc;

use crate::input::Input;
use crate::limits::{BALLAST_SPARE_BYTES, DISK_EVERY};
use crate::metrics::Metrics;

/// Free bytes and size of the disk that holds `path`.
///
/// # Errors
/// What the system said.
pub fn space(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Runs until the loop ends.
pub(crate) fn watch(
    data: &Path,
    ballast: &Ballast,
    metrics: &Arc<Metrics>,
    inputs: mpsc::Sender<Input>,
) -> impl Future<Output = ()> + Send + use<> {
    look(data.to_owned(), ballast.clone(), Arc::clone(metrics), inputs)
}

async fn look(data: PathBuf, ballast: Ballast, metrics: Arc<Metrics>, inputs: mpsc::Sender<Input>) {
    let mut beat = tokio::time::interval(DISK_EVERY);
    let mut said = None;
    loop {
        beat.tick().await;
        match space(&data) {
            Ok((free, size)) => {
                metrics.disk(free, size);
                if inputs.send(Input::Event(Event::Disk { free, size })).await.is_err() {
                    return;
                }
            }
            Err(error) => warn!(%error, "asking for free space failed"),
        }
        if ballast.bytes() > 0 {
            let trouble = take(ballast.clone()).await;
            // Once, and again when it is another one.
            if said != trouble {
                if let Some(trouble) = &trouble {
                    warn!("{trouble}");
                }
                said = trouble;
            }
        }
    }
}

/// Takes the ballast; what is in the way, for a person.
async fn take(ballast: Ballast) -> Option<String> {
    let bytes = ballast.bytes();
    let taken = tokio::task::spawn_blocking(move || ballast.take(BALLAST_SPARE_BYTES)).await;
    match taken {
        Ok(Ok(true)) => None,
        Ok(Ok(false)) => {
            let [ballast, needed] = [bytes, bytes.saturating_add(BALLAST_SPARE_BYTES)].map(mib);
            Some(format!(
                "the ballast of {ballast} MiB is taken once {needed} MiB of the disk are free: make \
                 space, or set ballast_mib lower"
            ))
        }
        Ok(Err(error)) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            Some(format!("{error} failed: {}", why.unwrap_or_default()))
        }
        Err(error) => Some(format!("taking the ballast was cut short: {error}")),
    }
}

const fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
