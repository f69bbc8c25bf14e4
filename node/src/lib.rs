//! Under construction.

pub mod p2p;
