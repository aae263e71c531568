//! The values of a change, as words.

use super::super::bytes::{pack, room};
use super::layout::{ListItem, NewNode, LARGEST_INLINE};
use crate::arena::Token;
use crate::Result;

/// Values as words, where they are not too long for a leaf.
pub(super) struct Packed {
    words: Vec<u64>,
    pub lens: Vec<usize>,
}

impl Packed {
    pub fn of<V: AsRef<[u8]>>(values: &[V]) -> Result<Self> {
        let mut lens = room(values.len())?;
        lens.extend(values.iter().map(|value| value.as_ref().len()));
        let inline = lens.iter().filter(|&&len| len <= LARGEST_INLINE);
        let mut words = room(inline.map(|len| len.div_ceil(8)).sum())?;
        for value in values.iter().map(AsRef::as_ref) {
            if value.len() <= LARGEST_INLINE {
                let at = words.len();
                words.resize(at + value.len().div_ceil(8), 0);
                pack(value, &mut words[at..]);
            }
        }
        Ok(Self { words, lens })
    }

    /// The values as items, of which these are the nodes of long ones.
    pub fn items<'a>(&'a self, large: &'a [NewNode]) -> impl Iterator<Item = ListItem<'a>> + 'a {
        let mut words = &self.words[..];
        let mut large = large.iter();
        self.lens.iter().map(move |&len| {
            if len > LARGEST_INLINE {
                let token = large.next().map_or(Token(0), |new| new.node.token());
                return ListItem::Large { token, is_fresh: true };
            }
            let (own, rest) = words.split_at(len.div_ceil(8));
            words = rest;
            ListItem::Inline(own, len)
        })
    }
}
