//! Tells one process of a peer from the next. Drawn at each start, told by identify on every
//! connection; means nothing else and proves nothing to anybody.

use crate::chance::{self, NoRandomness};

/// One run of a process that answers to a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance(pub(crate) u64);

/// Stands before the number where identify has a program's name. No version: strangers need not
/// know what to attack.
const NAME: &str = "tidings/";

impl Instance {
    /// That of this process.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub(crate) fn draw() -> Result<Self, NoRandomness> {
        chance::draw().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }

    /// As identify tells it.
    pub(crate) fn to_agent(self) -> String {
        format!("{NAME}{:016x}", self.0)
    }

    /// From what a peer's identify tells; `None` for a peer that names no instance.
    pub(crate) fn from_agent(agent: &str) -> Option<Self> {
        let digits = agent.strip_prefix(NAME).filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::Instance;

    #[test]
    fn an_instance_is_read_as_it_was_told() {
        for number in [0, 7, u64::MAX] {
            let told = Instance(number).to_agent();
            assert_eq!(Instance::from_agent(&told), Some(Instance(number)), "{told}");
        }
        for other in ["", "tidings", "tidings/", "tidings/7", "tidings/000000000000000g", "go/1"] {
            assert_eq!(Instance::from_agent(other), None, "{other}");
        }
    }
}
