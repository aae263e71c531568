//! Handles: references that are valid at any mapping address.

/// Bits of a cell's generation.
pub(crate) const GENERATION_BITS: u32 = 24;
/// Largest generation. A cell that has had it is never used again, so no two users of a cell share a generation.
pub(crate) const GENERATION: u32 = (1 << GENERATION_BITS) - 1;

/// A reference to an arena object, valid in every process of the family: number of its cell + 1 (upper bits) and
/// generation (24 bits). Never zero. Its generation shows whether it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(crate) u64);

impl Handle {
    pub(crate) fn new(cell: u32, generation: u32) -> Self {
        Self((u64::from(cell) + 1) << GENERATION_BITS | u64::from(generation))
    }

    /// Number of the cell, if it is a possible one, and generation.
    pub(crate) fn split(self) -> Option<(u32, u32)> {
        let cell = (self.0 >> GENERATION_BITS).checked_sub(1)?;
        Some((u32::try_from(cell).ok()?, self.0 as u32 & GENERATION))
    }

    /// The handle as a number, to be sent.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// A handle from a number that was sent; it is validated on use.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}
