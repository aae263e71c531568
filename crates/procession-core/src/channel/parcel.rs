//! A parcel: one message for one receiver, known by a number.

use super::{Incoming, Outgoing};
use crate::Result;

/// A message that waits in the arena until the one who knows its token takes it. Discarded on drop if nobody took it
/// (not in a child of fork, which does not own it).
#[derive(Debug)]
pub struct Parcel {
    token: u64,
}

impl Parcel {
    /// Pack a message.
    pub fn pack(out: Outgoing<'_>) -> Result<Self> {
        let _ = out;
        todo!()
    }

    /// What the receiver must know.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Take the message out: once only, in any process of the family.
    pub fn take(token: u64) -> Result<Incoming> {
        let _ = token;
        todo!()
    }
}
