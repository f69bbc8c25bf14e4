//! The steps of an envelope, for whoever keeps an event log. The shell hashes the ids before it writes one
//! down; here they are plain, so nothing but that shell may see them. Counts nothing: metrics hang on
//! [`Observed`](crate::effect::Observed), which has no ids.

use core::fmt;

use tidings_protocol::{
    id::{CopyId, DeviceId, Eid, NodeId},
    refusal::RefusalCode,
    statement::Reason,
};

use crate::{
    Core,
    effect::Effect,
    schema::{OutCopy, OutRow},
};

/// What an envelope, or one copy of it, has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// An own device handed it over, and it is on disk: ✓.
    Accepted,
    /// The peer has it on disk.
    HandedOver,
    /// It is held here for a node that is away.
    Held,
    /// A custodian has said that it holds it.
    Custody,
    /// It is on disk here, for own devices.
    Stored,
    /// The destination node has said that it has it.
    AtDest,
    /// An own device has said that it has its copy, or that it cannot open it.
    Delivered,
    /// The recipient's device has said so, and its word has come to the sender's node: ✓✓.
    Ticked,
    /// It will not be delivered.
    Failed,
    /// Its life is over.
    Expired,
    /// Its peer refuses it again and again, or links break over it.
    DeadLetter,
}

impl Stage {
    /// The word that stands in the event log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::HandedOver => "handed_over",
            Self::Held => "held",
            Self::Custody => "custody",
            Self::Stored => "stored",
            Self::AtDest => "at_dest",
            Self::Delivered => "delivered",
            Self::Ticked => "ticked",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// Why something failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// As a statement says it.
    Reason(Reason),
    /// As a peer says it.
    Refusal(RefusalCode),
}

impl Why {
    /// The word that stands in the event log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reason(reason) => reason.name(),
            Self::Refusal(code) => code.name(),
        }
    }
}

/// One step. Its debug form names nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What it has come to.
    pub stage: Stage,
    /// The envelope.
    pub eid: Eid,
    /// The other node that has to do with it: the destination, the origin, or the custodian.
    pub node: Option<NodeId>,
    /// The recipient's device, where the step is one copy's.
    pub device: Option<DeviceId>,
    /// Why, where something failed.
    pub why: Option<Why>,
}

impl Step {
    /// A step of a whole envelope.
    #[must_use]
    pub const fn of(stage: Stage, eid: Eid, node: Option<NodeId>) -> Self {
        Self { stage, eid, node, device: None, why: None }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Core {
    /// Tells one step, if anybody wants to know.
    pub(crate) fn step(&mut self, step: Step) {
        if self.settings.tells_steps {
            self.effects.push_back(Effect::Step(step));
        }
    }

    /// What is owed to a peer has come to an end, or a node has said where it is.
    pub(crate) fn step_out(
        &mut self,
        stage: Stage,
        eid: Eid,
        row: &OutRow,
        copy: Option<CopyId>,
        why: Option<Why>,
    ) {
        if !self.settings.tells_steps {
            return;
        }
        let node = self.numbers.get(&row.peer).copied();
        let is_named = |known: &&OutCopy| Some(known.copy) == copy;
        let device = row.copies.iter().find(is_named).and_then(|copy| copy.device);
        self.step(Step { stage, eid, node, device, why });
    }
}
