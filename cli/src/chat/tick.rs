//! The tick of a message: what is known at the recipient's devices, in one sign. Each has a shape of
//! its own; colour only repeats it.

use tidings_client::event::Status;
use tidings_protocol::id::DeviceId;

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tick {
    /// On this disk.
    Waits,
    /// At the own node.
    Accepted,
    /// At a device of the recipient.
    Delivered,
    /// Displayed there.
    Read,
    /// It will not be delivered, to none of the devices.
    Failed,
}

impl Tick {
    /// The best of what is known at the devices: one that failed counts when all did.
    pub(crate) fn of(statuses: &[(DeviceId, Status)]) -> Self {
        let is_failed = |status: &&Status| matches!(status, Status::Failed(_));
        let all = || statuses.iter().map(|(_, status)| status);
        let best = all().filter(|status| !is_failed(status)).max_by_key(|status| status.rank());
        match best {
            Some(Status::Read) => Self::Read,
            Some(Status::Delivered) => Self::Delivered,
            Some(Status::Accepted | Status::Held | Status::AtDest) => Self::Accepted,
            Some(Status::Queued) => Self::Waits,
            Some(Status::Failed(_)) | None if statuses.is_empty() => Self::Waits,
            Some(Status::Failed(_)) | None => Self::Failed,
        }
    }

    /// One to three columns.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Waits => "·",
            Self::Accepted => "✓",
            Self::Delivered => "✓✓",
            Self::Read => "✓✓•",
            Self::Failed => "✗",
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_client::event::Status;
    use tidings_protocol::id::DeviceId;

    use super::Tick;

    #[test]
    fn the_best_device_counts_and_a_failure_only_when_all_failed() {
        let tick = |statuses: &[Status]| {
            let of = statuses.iter().zip(0..).map(|(status, n)| (DeviceId([n; 16]), *status));
            Tick::of(&of.collect::<Vec<_>>())
        };
        let failed = Status::Failed(None);
        assert_eq!(tick(&[]), Tick::Waits);
        assert_eq!(tick(&[Status::Queued]), Tick::Waits);
        assert_eq!(tick(&[Status::AtDest]), Tick::Accepted);
        assert_eq!(tick(&[Status::Accepted, Status::Delivered]), Tick::Delivered);
        assert_eq!(tick(&[Status::Read, Status::Delivered]), Tick::Read);
        assert_eq!(tick(&[failed, Status::Accepted]), Tick::Accepted);
        assert_eq!(tick(&[failed, failed]), Tick::Failed);
    }
}
