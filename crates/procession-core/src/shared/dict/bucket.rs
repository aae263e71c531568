//! A bucket's node: a header and all entries of the bucket, as words. It is never changed once a table names it.
//!
//! The header is an intent. Until the node is handed over to its table, it tells a survivor what is to be freed now
//! that the node is in the table, or what is to be freed with it because it is not.

use super::super::bytes::{bytes_of, Words};
use super::key::Key;
use crate::arena::node::{self, Node, TOKEN_BITS};
use crate::arena::Token;
use crate::ids::Kind;
use crate::sync::primitive::{AtomicU64, Ordering::SeqCst};
use crate::{Error, Result};

/// Words of the header: segment, and whether the header is a long one; the node's generation, slot and number of words;
/// the node that this one replaces.
const HEADER: usize = 3;
/// Words of a long header. The two more are the value that the node adds, and the value that it drops.
const LONG_HEADER: usize = 5;
pub(super) const IS_LONG: u64 = 1 << 63;
/// All values of the node that have nodes of their own come into the table with it.
pub(super) const ALL_FRESH: u64 = 1 << 62;
/// The header has one more word, behind the others: the bucket's last number before the node came into the table. One
/// entry, whose number is written as 0, has the bucket's next number.
pub(super) const HAS_NEW: u64 = 1 << 61;
/// Words of an entry before its key: sequence number and part of the hash; lengths.
pub(super) const ENTRY: usize = 2;
/// Values of more bytes than this have a node of their own.
pub(super) const LARGEST_INLINE: usize = 1024;
/// Marks the length of a value that has a node of its own.
pub(super) const LARGE: u64 = 1 << 31;
pub(super) const SEQUENCE_BITS: u32 = 48;
/// Of the header's second word: number of words (30 bits), slot (9), generation + 1 (25). It is written last: if the
/// generation is not the node's, the words are those of an earlier use of the cell, or zeros.
pub(super) const SLOT_SHIFT: u32 = 30;
pub(super) const GENERATION_SHIFT: u32 = 39;
pub(super) const USED: u64 = (1 << SLOT_SHIFT) - 1;
const SLOT: u64 = (1 << (GENERATION_SHIFT - SLOT_SHIFT)) - 1;
const TOKEN: u64 = (1 << TOKEN_BITS) - 1;

const DAMAGED: Error = Error::Corrupt("a dictionary's bucket");

/// What a node is about to replace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Intent {
    pub segment: u64,
    pub slot: u32,
    /// The node that is replaced; 0 = none.
    pub before: u64,
    /// The node of a value that comes into the table with this node; 0 = none.
    pub fresh: u64,
    /// The node of a value that leaves the table when this node comes into it; 0 = none.
    pub doomed: u64,
    /// Whether all values with a node of their own come into the table with this node.
    pub all_fresh: bool,
    /// If an entry of the node has no number yet: the bucket's last number.
    pub last_number: Option<u64>,
}

/// Where an entry's parts lie in the words of its bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub start: usize,
    pub end: usize,
    pub sequence: u64,
    pub key: usize,
    pub key_len: usize,
    pub form: usize,
    pub form_len: usize,
    pub value: Value,
}

/// An entry's value: where it lies in the bucket, or the token of its own node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Inline { start: usize, len: usize },
    Large { token: Token, len: usize },
}

/// A copy of a bucket's words.
pub(super) struct Bucket {
    pub(super) words: Words<32>,
}

pub(super) fn tag_of(hash: u64) -> u64 {
    hash >> SEQUENCE_BITS
}

/// Read an entry that begins at `start`, with the words that `load` returns.
fn entry_at(start: usize, load: impl Fn(usize) -> Option<u64>) -> Option<(u64, Entry)> {
    let (first, lengths) = (load(start)?, load(start + 1)?);
    let (key_len, form_len) = ((lengths >> 44) as usize, (lengths >> 32 & 0xfff) as usize);
    let key = start + ENTRY;
    let form = key + key_len.div_ceil(8);
    let value = form + form_len.div_ceil(8);
    let (value, end) = if lengths & LARGE == 0 {
        let len = (lengths & (LARGE - 1)) as usize;
        (Value::Inline { start: value, len }, value + len.div_ceil(8))
    } else {
        let (token, len) = (load(value)?, load(value + 1)?);
        let token = Token(token & TOKEN);
        let len = len as usize;
        (Value::Large { token, len }, value + 2)
    };
    Some((
        first & !((1 << SEQUENCE_BITS) - 1),
        Entry {
            start,
            end,
            sequence: first & ((1 << SEQUENCE_BITS) - 1),
            key,
            key_len,
            form,
            form_len,
            value,
        },
    ))
}

/// The words of a node make no sense: it is damaged, or no longer in use.
pub(super) struct Unreadable;

/// Find a key in a node, without a copy of the whole. What is returned counts only if the node is in use afterwards.
pub(super) fn find_in_node(node: &Node, key: &Key) -> Result<Option<Entry>, Unreadable> {
    let used = (node.load(1).ok_or(Unreadable)? & USED) as usize;
    let mut start = header_of(node.load(0).ok_or(Unreadable)?);
    while start < used {
        let (tag, entry) = entry_at(start, |index| node.load(index)).ok_or(Unreadable)?;
        if tag >> SEQUENCE_BITS == tag_of(key.hash) && entry.key_len == key.len {
            let same = (entry.key..)
                .zip(&*key.words)
                .all(|(index, &word)| node.load(index) == Some(word));
            if same {
                return Ok(Some(entry));
            }
        }
        start = entry.end;
    }
    Ok(None)
}

/// Words of a header that begins with this word.
pub(super) fn header_of(first: u64) -> usize {
    let words = if first & IS_LONG == 0 { HEADER } else { LONG_HEADER };
    words + usize::from(first & HAS_NEW != 0)
}

/// The bucket's last number before the node came into the table, if an entry of the node has no number.
pub(super) fn last_number_before(node: &Node) -> Option<u64> {
    let first = node.load(0).filter(|first| first & HAS_NEW != 0)?;
    node.load(header_of(first) - 1)
}

impl Bucket {
    /// A bucket without entries.
    pub fn empty() -> Self {
        Self {
            words: Words::zeros(HEADER),
        }
    }

    /// Copy a node. `None` if it is no longer in use.
    pub fn copy(node: &Node) -> Result<Option<Self>> {
        let used = node.load(1).map(|word| (word & USED) as usize);
        let Some(used) = used.filter(|&used| (HEADER..=node.len()).contains(&used)) else {
            return if node.is_in_use() { Err(DAMAGED) } else { Ok(None) };
        };
        let mut words = Words::try_zeros(used)?;
        node.read(0, words.as_mut());
        Ok(node.is_in_use().then_some(Self { words }))
    }

    /// The same bucket, in which the entry without a number has the bucket's last number.
    pub fn numbered(mut self, last_number: &AtomicU64) -> Self {
        if self.words[0] & HAS_NEW != 0 {
            let number = last_number.load(SeqCst) & ((1 << SEQUENCE_BITS) - 1);
            let entries = self.entries().map_while(Result::ok);
            let new = entries.filter(|entry| entry.sequence == 0).map(|entry| entry.start);
            for start in new.collect::<Vec<_>>() {
                self.words.as_mut()[start] |= number;
            }
        }
        self
    }

    /// What the node was to do when it was made.
    pub fn intent(&self) -> Intent {
        Intent {
            segment: self.words[0] & TOKEN,
            slot: (self.words[1] >> SLOT_SHIFT & SLOT) as u32,
            before: self.words[2] & TOKEN,
            fresh: self.long(3),
            doomed: self.long(4),
            all_fresh: self.words[0] & ALL_FRESH != 0,
            last_number: None,
        }
    }

    fn header(&self) -> usize {
        header_of(self.words[0])
    }

    /// A word of a long header; 0 if the header is a short one.
    fn long(&self, index: usize) -> u64 {
        let is_long = self.words[0] & IS_LONG != 0;
        let word = is_long.then(|| self.words.get(index)).flatten();
        word.map_or(0, |word| word & TOKEN)
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry>> + '_ {
        let mut start = self.header();
        std::iter::from_fn(move || {
            if start >= self.words.len() {
                return None;
            }
            let found = entry_at(start, |index| self.words.get(index).copied());
            let found = found.filter(|(_, entry)| entry.end <= self.words.len());
            start = found.map_or(usize::MAX, |(_, entry)| entry.end);
            Some(found.map(|(_, entry)| entry).ok_or(DAMAGED))
        })
    }

    /// The entry of a key.
    pub fn find(&self, key: &Key) -> Result<Option<Entry>> {
        for entry in self.entries() {
            let entry = entry?;
            let same = entry.key_len == key.len
                && self.words[entry.start] >> SEQUENCE_BITS == tag_of(key.hash)
                && self.words[entry.key..entry.form] == *key.words;
            if same {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    pub fn words(&self, entry: &Entry) -> &[u64] {
        &self.words[entry.start..entry.end]
    }

    pub fn key_bytes(&self, entry: &Entry) -> &[u8] {
        bytes_of(&self.words[entry.key..entry.form], entry.key_len)
    }

    pub fn form_bytes(&self, entry: &Entry) -> &[u8] {
        let end = entry.form + entry.form_len.div_ceil(8);
        bytes_of(&self.words[entry.form..end], entry.form_len)
    }

    /// The bytes of a value that lies in the bucket.
    pub fn inline(&self, start: usize, len: usize) -> &[u8] {
        bytes_of(&self.words[start..start + len.div_ceil(8)], len)
    }

    /// The same bucket with other values in the place of those that have a node of their own.
    pub fn with_large(&self, tokens: &[Token]) -> Self {
        let mut words = self.words.clone();
        let large = self
            .entries()
            .map_while(Result::ok)
            .filter_map(|entry| match entry.value {
                Value::Large { .. } => Some(entry.end - 2),
                Value::Inline { .. } => None,
            });
        for (index, token) in large.zip(tokens) {
            words.as_mut()[index] = token.0;
        }
        Self { words }
    }

    /// The tokens of all values that have a node of their own.
    pub fn large(&self) -> impl Iterator<Item = Token> + '_ {
        self.entries()
            .map_while(Result::ok)
            .filter_map(|entry| match entry.value {
                Value::Large { token, .. } => Some(token),
                Value::Inline { .. } => None,
            })
    }
}

/// Whether the node's maker has written all of it.
pub(super) fn is_written(node: &Node) -> bool {
    node.load(1)
        .is_some_and(|word| word >> GENERATION_SHIFT == u64::from(node.generation()) + 1)
}

/// Free what the node of a bucket that became empty leaves: its values, then itself. May be repeated.
pub(super) fn discard_last(token: Token) -> Result<()> {
    if let Some(node) = Node::find(token, Kind::DictBucket)? {
        if let Some(bucket) = Bucket::copy(&node)? {
            bucket.large().for_each(|value| node::free(value, Kind::DictValue));
            node.free();
        }
    }
    Ok(())
}
