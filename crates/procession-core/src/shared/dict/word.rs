//! The word of a bucket in a table.
//!
//! `live (1) | unmade (1) | frozen (1) | count (8) | token (53)`. Live and unmade together mean that an entry has no
//! number yet. The token of an unmade or a moved bucket, and of one
//! that never had an entry, is that of the segment that the word lies in. The token of a bucket that became empty is
//! that of its last node, which may have to be freed still. So each value comes at most once at a place in memory: a
//! compare-and-swap by a process that was stopped for long succeeds only if nothing has changed. Zero is no value.

use crate::arena::node::TOKEN_BITS;
use crate::arena::Token;

const COUNT_BITS: u32 = 8;
const FROZEN: u64 = 1 << (TOKEN_BITS + COUNT_BITS);
const UNMADE: u64 = FROZEN << 1;
const LIVE: u64 = UNMADE << 1;
/// The count of a bucket whose entries have moved to the next table.
const MOVED: u64 = (1 << COUNT_BITS) - 1;
/// The most entries that a bucket can have.
pub(super) const MOST_ENTRIES: usize = MOVED as usize - 1;

/// A bucket's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketWord(pub u64);

impl BucketWord {
    fn new(flags: u64, count: u64, token: Token) -> Self {
        Self(flags | count << TOKEN_BITS | token.0 & ((1 << TOKEN_BITS) - 1))
    }

    /// A bucket of a new table: its entries are still in the table before it.
    pub fn unmade(segment: Token) -> Self {
        Self::new(UNMADE, 0, segment)
    }

    /// An empty bucket, and its last node, or its segment if it had none.
    pub fn empty(last: Token) -> Self {
        Self::new(LIVE, 0, last)
    }

    /// A bucket with this many entries, in this node.
    pub fn entries(node: Token, count: usize) -> Self {
        Self::new(LIVE, count as u64, node)
    }

    /// As [`entries`](Self::entries), and one of them, which is new, has no number yet.
    pub fn unnumbered(node: Token, count: usize) -> Self {
        Self::new(LIVE | UNMADE, count as u64, node)
    }

    /// The same bucket, when all entries have numbers.
    pub fn numbered(self) -> Self {
        Self(self.0 & !UNMADE)
    }

    /// A bucket whose entries are in the next table.
    pub fn moved(segment: Token) -> Self {
        Self::new(LIVE | FROZEN, MOVED, segment)
    }

    /// The same bucket, never to be changed in this table again.
    pub fn frozen(self) -> Self {
        Self(self.0 | FROZEN)
    }

    pub fn is_unmade(self) -> bool {
        self.0 & (UNMADE | LIVE) == UNMADE
    }

    pub fn is_unnumbered(self) -> bool {
        self.0 & (LIVE | UNMADE | FROZEN) == LIVE | UNMADE
    }

    /// Whether the word has one of the values above, and all entries have numbers.
    pub fn is_valid(self) -> bool {
        self.is_unmade() || self.0 & (UNMADE | LIVE) == LIVE
    }

    pub fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    pub fn is_moved(self) -> bool {
        self.is_frozen() && self.raw_count() == MOVED
    }

    fn raw_count(self) -> u64 {
        self.0 >> TOKEN_BITS & MOVED
    }

    /// Number of entries.
    pub fn count(self) -> usize {
        if self.is_moved() {
            0
        } else {
            self.raw_count() as usize
        }
    }

    pub fn token(self) -> Token {
        Token(self.0 & ((1 << TOKEN_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bits_decode(bits: u64) {
            let word = BucketWord(bits);
            prop_assert!(word.count() <= MOST_ENTRIES + 1);
            prop_assert!(!(word.is_unmade() && bits >> 63 == 1));
        }

        #[test]
        fn values_differ_and_are_never_zero(token in 1u64..1 << TOKEN_BITS, count in 1..=MOST_ENTRIES) {
            let token = Token(token);
            let new = BucketWord::unnumbered(token, count);
            let values = [BucketWord::unmade(token), BucketWord::empty(token), BucketWord::entries(token, count), BucketWord::moved(token), new];
            for (index, value) in values.iter().enumerate() {
                prop_assert!(value.0 != 0 && value.token() == token);
                prop_assert!(value.is_valid() != value.is_unnumbered() && value.is_unnumbered() == (*value == new));
                prop_assert!(!values[..index].contains(value));
            }
            prop_assert_eq!(values[2].frozen().count(), count);
            prop_assert!(new.count() == count && new.numbered() == values[2]);
            prop_assert!(values[3].is_moved() && !values[2].frozen().is_moved());
        }
    }
}
