//! The name of a process in claim words.

/// A process of the family, as claim words name it: process slot (15 bits) and that slot's generation (16 bits, never
/// zero). Never zero, always below 2^31: a claim word has a bit to spare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owner(pub(crate) u32);

impl Owner {
    const SLOT_BITS: u32 = 15;

    pub(crate) fn new(slot: usize, generation: u16) -> Self {
        Self(u32::from(generation) << Self::SLOT_BITS | slot as u32)
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 & ((1 << Self::SLOT_BITS) - 1)) as usize
    }

    pub(crate) fn generation(self) -> u16 {
        (self.0 >> Self::SLOT_BITS) as u16
    }

    /// The number that claim words store.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// From a claim word; zero names no process. The uppermost bit is not the owner's and is ignored.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let bits = bits & (u32::MAX >> 1);
        (bits >> Self::SLOT_BITS != 0).then_some(Self(bits))
    }
}
