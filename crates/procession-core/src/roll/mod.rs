//! The roll: every process of the family, who lives, who died, what each waits for.
//!
//! Leaves to `reclaim` what a death gives back.

/// A process of the family as claims name it: roll slot and that slot's generation. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner(pub(crate) u32);

impl Owner {
    /// As stored in claim words.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From a claim word; zero is nobody.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}

/// Whether this very process still lives (a zombie does not). Looks at the roll first, then asks the kernel (pidfd and start time).
/// Whoever learns of a death here marks it, reclaims what the dead owned and wakes those who waited on it.
pub fn is_alive(owner: Owner) -> bool {
    let _ = owner;
    todo!()
}
