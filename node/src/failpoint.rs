//! Named steps at which a debug build can be made to die, as if by `kill -9`.
//!
//! `TIDINGS_FAILPOINT=before_commit` aborts at the first pass, `before_commit:5` at the fifth. A
//! release build knows nothing of them. The names are those of [`Step`].

/// A step at which the process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `before_commit`: a batch was handled and not committed.
    BeforeCommit,
    /// `after_commit_before_effects`: it is durable and nobody knows.
    AfterCommitBeforeEffects,
    /// `after_effects`: its effects were handed to the links.
    AfterEffects,
    /// `before_client_send`: frames for a device are about to be written.
    BeforeClientSend,
    /// `before_peer_send`: a frame for a peer is about to be queued at its lane.
    BeforePeerSend,
    /// `after_peer_read`: a frame of a peer was read and checked.
    AfterPeerRead,
    /// `after_client_read`: a frame of a device was read and checked.
    AfterClientRead,
    /// `before_drain`: the node was told to stop.
    BeforeDrain,
}

impl Step {
    #[cfg(debug_assertions)]
    const fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::AfterCommitBeforeEffects => "after_commit_before_effects",
            Self::AfterEffects => "after_effects",
            Self::BeforeClientSend => "before_client_send",
            Self::BeforePeerSend => "before_peer_send",
            Self::AfterPeerRead => "after_peer_read",
            Self::AfterClientRead => "after_client_read",
            Self::BeforeDrain => "before_drain",
        }
    }
}

/// Dies here if the environment asks for it.
#[cfg(debug_assertions)]
pub(crate) fn pass(step: Step) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("TIDINGS_FAILPOINT").ok()?;
        let (name, passes) = parse(&text)?;
        Some((name.to_owned(), AtomicU64::new(passes)))
    });
    if let Some((name, passes)) = asked
        && name == step.name()
        && passes.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) const fn pass(_: Step) {}

/// Name and number of the pass that dies.
#[cfg(debug_assertions)]
fn parse(text: &str) -> Option<(&str, u64)> {
    match text.split_once(':') {
        None => Some((text, 1)),
        Some((name, passes)) => Some((name, passes.parse().ok().filter(|&passes| passes > 0)?)),
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::parse;

    #[test]
    fn a_failpoint_is_a_name_and_perhaps_a_number() {
        assert_eq!(parse("before_commit"), Some(("before_commit", 1)));
        assert_eq!(parse("before_commit:5"), Some(("before_commit", 5)));
        assert_eq!(parse("before_commit:0"), None);
        assert_eq!(parse("before_commit:x"), None);
    }
}
