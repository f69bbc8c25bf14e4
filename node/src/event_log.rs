//! The event log: one line for each step of an envelope, under a target of its own. Ids are hashed under
//! the key of the day (`alias.rs`), so that the steps of one envelope on one day can be joined, and
//! nobody finds out whose it was. Off unless it was asked for; then the core tells its steps.

use tidings_core::step::Step;
use tracing::info;

use crate::alias::{self, Alias};

/// The target of these lines: `TIDINGS_LOG=warn,tidings::event=info` asks for them.
pub const TARGET: &str = "tidings::event";

/// Whether anybody wants them. Asked once, at the start.
pub(crate) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

/// Writes one down. A field that does not apply is left out.
pub(crate) fn write(step: &Step) {
    let text = |alias: Alias| tracing::field::display(alias);
    info!(
        target: TARGET,
        step = step.stage.name(),
        envelope = %alias::of_envelope(&step.eid),
        node = step.node.as_ref().map(alias::of_node).map(text),
        device = step.device.as_ref().map(alias::of_device).map(text),
        why = step.why.map(tidings_core::step::Why::name),
    );
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tidings_core::step::{Stage, Step, Why};
    use tidings_protocol::id::{DeviceId, Eid, NodeId};
    use tidings_protocol::statement::Reason;
    use tracing_subscriber::EnvFilter;

    use super::{is_wanted, write};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What stands in a log with this filter.
    fn logged(filter: &str, steps: &[Step]) -> (bool, String) {
        let lines = Lines::default();
        let to = lines.clone();
        let log = tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || to.clone())
            .finish();
        let wanted = tracing::subscriber::with_default(log, || {
            steps.iter().for_each(write);
            is_wanted()
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        (wanted, text)
    }

    #[test]
    fn steps_of_one_envelope_can_be_joined_and_no_id_is_said() {
        let (eid, node, device) = (Eid([0xab; 24]), NodeId([0xcd; 32]), DeviceId([0xef; 16]));
        let accepted = Step::of(Stage::Accepted, eid, Some(node));
        let why = Some(Why::Reason(Reason::Expired));
        let failed = Step { device: Some(device), why, ..Step::of(Stage::Failed, eid, None) };
        let other = Step::of(Stage::Accepted, Eid([0xac; 24]), Some(node));
        let (wanted, text) = logged("warn,tidings::event=info", &[accepted, failed, other]);
        assert!(wanted);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fields = |number: usize, name: &str| lines[number]["fields"][name].clone();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["target"], "tidings::event");
        assert_eq!((fields(0, "step"), fields(1, "step")), ("accepted".into(), "failed".into()));
        assert_eq!(fields(0, "envelope"), fields(1, "envelope"));
        assert_ne!(fields(0, "envelope"), fields(2, "envelope"));
        assert_eq!(fields(0, "node"), fields(2, "node"));
        assert_eq!(fields(1, "why"), Reason::Expired.name());
        assert!(fields(0, "device").is_null() && fields(1, "device").is_string());
        for id in ["abab", "cdcd", "efef", "171, 171", &node.to_text()] {
            assert!(!text.contains(id), "{id} in {text}");
        }
        assert!(!format!("{failed:?}").contains("239"), "{failed:?}");
    }

    #[test]
    fn nothing_is_said_unasked() {
        let step = Step::of(Stage::Accepted, Eid([1; 24]), None);
        assert_eq!(logged("warn,tidings_node=debug", &[step]), (false, String::new()));
    }
}
