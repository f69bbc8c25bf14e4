//! What the disk has room for. It decides the watermarks; who measures the disk is the shell.

use crate::{
    Core,
    effect::{Effect, Observed},
    settings::Sabotage,
};

/// Bytes of a disk that the watermarks look at. On a larger disk they mean shares of this much, so
/// that a large disk with room for months is not called full.
const COUNTED_BYTES_MAX: u64 = 20 << 30;
/// Percent below the watermark for devices at which peers are told to come back, so that a disk that
/// fills up closes the outer door first.
const PEERS_EARLIER_PERCENT: u64 = 5;

/// From whom new envelopes are taken, by the space that is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// From everybody.
    #[default]
    Everybody,
    /// From own devices; peers are refused with `Quota` and come back.
    OwnDevices,
    /// From nobody: devices are refused with `Quota` too, and keep what they have.
    Nobody,
}

impl Intake {
    /// By the free bytes and the size of the disk, and the watermark in percent.
    fn of(free: u64, size: u64, percent_max: u64) -> Self {
        let counted = size.min(COUNTED_BYTES_MAX);
        let used = counted.saturating_sub(free).saturating_mul(100);
        let percent = used.checked_div(counted).unwrap_or(0);
        if percent >= percent_max {
            Self::Nobody
        } else if percent + PEERS_EARLIER_PERCENT >= percent_max {
            Self::OwnDevices
        } else {
            Self::Everybody
        }
    }
}

/// Who wants something stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    Device,
    Peer,
}

impl Core {
    pub(crate) fn has_no_room_for(&self, who: Asker) -> bool {
        let is_open = match who {
            Asker::Device => self.intake != Intake::Nobody,
            Asker::Peer => self.intake == Intake::Everybody,
        };
        !is_open && !self.is_sabotaged(Sabotage::TakeWhenFull)
    }

    pub(crate) fn on_disk(&mut self, free: u64, size: u64) {
        let intake = Intake::of(free, size, self.settings.disk_percent_max);
        if intake != self.intake {
            self.intake = intake;
            self.effects.push_back(Effect::Observed(Observed::Intake(intake)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_is_not_full_while_gigabytes_are_free() {
        const GIB: u64 = 1 << 30;
        for (free, size, intake) in [
            (25 * GIB, 252 * GIB, Intake::Everybody),
            (3 * GIB, 252 * GIB, Intake::Everybody),
            (2 * GIB, 252 * GIB, Intake::OwnDevices),
            (GIB, 252 * GIB, Intake::Nobody),
            (2 * GIB, 10 * GIB, Intake::Everybody),
            (GIB, 10 * GIB, Intake::OwnDevices),
            (GIB / 2, 10 * GIB, Intake::Nobody),
            (0, 0, Intake::Everybody),
        ] {
            assert_eq!(Intake::of(free, size, 95), intake, "{free} of {size}");
        }
    }
}
