//! Position-independent references.

/// A reference to an arena object, valid in every process of the family: granule (64 bytes, 34 bits) and generation (30 bits).
/// Never zero. A stale handle is detected by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub(crate) u64);

impl Handle {
    /// The handle as a number, to be sent.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// A handle from a number that was sent; validated when it is used.
    pub fn from_bits(bits: u64) -> Option<Self> {
        (bits != 0).then_some(Self(bits))
    }
}
