//! Who decides: the pure state machine of a node. One event, one batch, one commit, then the
//! effects. Names no runtime, socket, clock or engine; the shell around it is `tidings-node`.

pub mod effect;
pub mod event;
pub mod ingress;
