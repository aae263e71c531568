//! How nodes of buckets and of values are written.

use super::super::bytes::pack;
use super::bucket::{
    header_of, tag_of, Bucket, Entry, Intent, ALL_FRESH, ENTRY, GENERATION_SHIFT, HAS_NEW, IS_LONG, LARGE,
    SEQUENCE_BITS, SLOT_SHIFT, USED,
};
use super::key::Key;
use crate::arena::node::Node;
use crate::arena::Token;
use crate::ids::Kind;
use crate::{Error, Result};

/// The longest value, in bytes.
const LONGEST_VALUE: usize = (1 << 40) - 1;

/// What becomes of the value of an entry that is written.
#[derive(Clone, Copy)]
pub(super) enum NewValue<'a> {
    Inline(&'a [u8]),
    Large { token: Token, len: usize },
}

impl NewValue<'_> {
    fn words(self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len().div_ceil(8),
            Self::Large { .. } => 2,
        }
    }

    fn field(self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Large { .. } => LARGE,
        }
    }
}

/// An entry that is written: its key and form, and its value.
#[derive(Clone, Copy)]
pub(super) struct NewEntry<'a> {
    pub sequence: u64,
    pub hash: u64,
    pub key: &'a [u64],
    pub key_len: usize,
    pub form: &'a [u64],
    pub form_len: usize,
    pub value: NewValue<'a>,
}

impl<'a> NewEntry<'a> {
    pub fn words(&self) -> usize {
        ENTRY + self.key.len() + self.form.len() + self.value.words()
    }

    /// The entry of a key that is not there yet. It has no number.
    pub fn of(key: &'a Key, value: NewValue<'a>) -> Self {
        Self {
            sequence: 0,
            hash: key.hash,
            key: &key.words,
            key_len: key.len,
            form: &key.form,
            form_len: key.form_len,
            value,
        }
    }

    /// An entry with another value.
    pub fn replaced(bucket: &'a Bucket, entry: &Entry, hash: u64, value: NewValue<'a>) -> Self {
        let end = entry.form + entry.form_len.div_ceil(8);
        Self {
            sequence: entry.sequence,
            hash,
            key: &bucket.words[entry.key..entry.form],
            key_len: entry.key_len,
            form: &bucket.words[entry.form..end],
            form_len: entry.form_len,
            value,
        }
    }

    fn write(&self, node: &Node, start: usize) -> usize {
        node.store(
            start,
            self.sequence & ((1 << SEQUENCE_BITS) - 1) | tag_of(self.hash) << SEQUENCE_BITS,
        );
        let lengths = (self.key_len as u64) << 44 | (self.form_len as u64) << 32 | self.value.field();
        node.store(start + 1, lengths);
        let mut at = start + ENTRY;
        for &word in self.key.iter().chain(self.form) {
            node.store(at, word);
            at += 1;
        }
        match self.value {
            NewValue::Inline(bytes) => {
                let mut chunks = bytes.chunks_exact(8);
                for chunk in chunks.by_ref() {
                    node.store(at, u64::from_ne_bytes(chunk.try_into().unwrap_or_default()));
                    at += 1;
                }
                let rest = chunks.remainder();
                if !rest.is_empty() {
                    let mut last = [0; 8];
                    last[..rest.len()].copy_from_slice(rest);
                    node.store(at, u64::from_ne_bytes(last));
                    at += 1;
                }
            }
            NewValue::Large { token, len } => {
                node.store(at, token.0);
                node.store(at + 1, len as u64);
                at += 2;
            }
        }
        at
    }
}

/// Make a node of entries that are copied as they are, and of one that is written. This process owns it.
pub(super) fn make<'a>(
    intent: Intent,
    kept: impl Iterator<Item = &'a [u64]> + Clone,
    new: Option<&NewEntry<'_>>,
) -> Result<Node> {
    let is_long = intent.fresh | intent.doomed != 0;
    let flags = if is_long { IS_LONG } else { 0 }
        | if intent.all_fresh { ALL_FRESH } else { 0 }
        | if intent.last_number.is_some() { HAS_NEW } else { 0 };
    let header = header_of(flags);
    let used = header + kept.clone().map(<[u64]>::len).sum::<usize>() + new.map_or(0, NewEntry::words);
    if used as u64 > USED {
        return Err(Error::Exhausted {
            what: "a dictionary's bucket",
            wanted: used as u64 * 8,
        });
    }
    let node = Node::alloc(used, Kind::DictBucket)?;
    node.store(0, intent.segment | flags);
    node.store(2, intent.before);
    if is_long {
        node.store(3, intent.fresh);
        node.store(4, intent.doomed);
    }
    if let Some(number) = intent.last_number {
        node.store(header - 1, number);
    }
    let mut at = header;
    for entry in kept {
        for &word in entry {
            node.store(at, word);
            at += 1;
        }
    }
    if let Some(new) = new {
        new.write(&node, at);
    }
    let last =
        (u64::from(node.generation()) + 1) << GENERATION_SHIFT | u64::from(intent.slot) << SLOT_SHIFT | used as u64;
    // DEATH: before this, a survivor frees the node and nothing else.
    node.store_last(1, last);
    Ok(node)
}

/// Copy a value into a node of its own. This process owns it.
pub(super) fn make_value(bytes: &[u8]) -> Result<Node> {
    if bytes.len() > LONGEST_VALUE {
        return Err(Error::Exhausted {
            what: "a dictionary's value",
            wanted: bytes.len() as u64,
        });
    }
    let node = Node::alloc(bytes.len().div_ceil(8), Kind::DictValue)?;
    let mut buffer = [0; 64];
    for (number, chunk) in bytes.chunks(512).enumerate() {
        let words = chunk.len().div_ceil(8);
        pack(chunk, &mut buffer[..words]);
        (number * 64..)
            .zip(&buffer[..words])
            .for_each(|(index, &word)| node.store(index, word));
    }
    Ok(node)
}
