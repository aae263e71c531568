//! Look-ups. They write nothing, and what they read counts only if it is still in use afterwards.

use super::super::bytes::{ValueBytes, Words};
use super::bucket::{find_in_node, Value};
use super::key::Key;
use super::layout::Dict;
use super::table::{TablePurpose, DAMAGED};
use super::word::BucketWord;
use crate::arena::node::Node;
use crate::ids::Kind;
use crate::{Error, Result};

impl Dict {
    /// The word of a hash's bucket, as it was at some moment during this call. `None` if there is no table yet.
    pub(super) fn word_of(&self, hash: u64) -> Result<Option<BucketWord>> {
        loop {
            let Some(table) = self.table()? else { return Ok(None) };
            let place = table.place(hash)?;
            let word = place.map(|place| place.load());
            if !self.is_newest(&table) {
                continue;
            }
            let (Some(place), Some(word)) = (place, word) else {
                return Err(DAMAGED);
            };
            if word.is_unnumbered() {
                self.number(&place, word)?;
                continue;
            }
            if !word.is_unmade() {
                // A frozen bucket is of a table that is not the newest.
                let fits = word.is_valid() && !word.is_frozen();
                return fits.then_some(Some(word)).ok_or(DAMAGED);
            }
            // SYNC: the bucket was not made yet. So the word of the table before, read after that, is the bucket's
            // content now, or when it was frozen, which was after that as well or before it.
            let old = match self.table_before(&table)? {
                Some(old) => old.place(hash)?.map(|place| (place, place.load())),
                None => None,
            };
            // The table before is there as long as a bucket is not made. Afterwards its memory may be another table's,
            // before it is noted that the entries have moved.
            if place.load().is_unmade() && self.is_newest(&table) && self.is_moving(&table) {
                match old {
                    // All entries were left behind at once.
                    _ if table.purpose == TablePurpose::Clear && self.is_cut(&table) => {
                        return Ok(Some(BucketWord::empty(place.segment)));
                    }
                    Some((old, word)) if word.is_unnumbered() => {
                        self.number(&old, word)?;
                        continue;
                    }
                    Some((_, word)) if !word.is_moved() => {
                        let fits = word.is_valid() && !word.is_unmade();
                        return fits.then_some(Some(word)).ok_or(DAMAGED);
                    }
                    _ => {}
                }
            }
            // By now the bucket is made.
            if place.load().is_unmade() && self.is_newest(&table) {
                return Err(DAMAGED);
            }
        }
    }

    /// The value of a key. With `look` false only whether there is one: then it has no bytes.
    pub(super) fn read(&self, key: &Key, look: bool) -> Result<Option<ValueBytes>> {
        let Some(mut word) = self.word_of(key.hash)? else {
            return Ok(None);
        };
        loop {
            if word.count() == 0 {
                return Ok(None);
            }
            if let Some(found) = read_from(word, key, look)? {
                return Ok(found);
            }
            // The node is gone: its bucket has changed.
            let now = self.word_of(key.hash)?;
            let Some(now) = now.filter(|&now| now != word) else {
                return Err(DAMAGED);
            };
            word = now;
        }
    }
}

/// Look a key up in the node that a word names. `None` if the node, or the value's, is gone.
#[allow(clippy::option_option)]
fn read_from(word: BucketWord, key: &Key, look: bool) -> Result<Option<Option<ValueBytes>>> {
    let Some(node) = Node::find(word.token(), Kind::DictBucket)? else {
        return Ok(None);
    };
    let gone_or_damaged = || if node.is_in_use() { Err(DAMAGED) } else { Ok(None) };
    let Ok(found) = find_in_node(&node, key) else {
        return gone_or_damaged();
    };
    let value = match found.map(|entry| entry.value) {
        Some(Value::Inline { start, len }) if look => {
            let mut words = Words::zeros(if start + len.div_ceil(8) <= node.len() {
                len.div_ceil(8)
            } else {
                return gone_or_damaged();
            });
            node.read(start, words.as_mut());
            Some(ValueBytes::new(words, len))
        }
        Some(Value::Large { token, len }) if look => {
            if !node.is_in_use() {
                return Ok(None);
            }
            return Ok(read_large(token, len)?.map(Some));
        }
        Some(_) => Some(ValueBytes::new(Words::zeros(0), 0)),
        None => None,
    };
    Ok(node.is_in_use().then_some(value))
}

/// Copy a value that has a node of its own. `None` if it is gone.
pub(super) fn read_large(token: crate::arena::Token, len: usize) -> Result<Option<ValueBytes>> {
    let Some(node) = Node::find(token, Kind::DictValue)? else {
        return Ok(None);
    };
    if len > node.len() * 8 {
        return if node.is_in_use() {
            Err(Error::Corrupt("the length of a dictionary's value"))
        } else {
            Ok(None)
        };
    }
    let mut words = Words::try_zeros(len.div_ceil(8))?;
    node.read(0, words.as_mut());
    Ok(node.is_in_use().then(|| ValueBytes::new(words, len)))
}
