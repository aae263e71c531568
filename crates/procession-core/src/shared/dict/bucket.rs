//! A bucket's node: a header and all entries of the bucket, as words. It is never changed once a table names it.
//!
//! The header is an intent. Until the node is handed over to its table, it tells a survivor what is to be freed now
//! that the node is in the table, or what is to be freed with it because it is not.

use super::super::bytes::{bytes_of, pack, Words};
use super::key::Key;
use crate::arena::node::{self, Node, TOKEN_BITS};
use crate::arena::Token;
use crate::ids::Kind;
use crate::{Error, Result};

/// Words of the header: segment, and whether the header is a long one; the node's generation, slot and number of words;
/// the node that this one replaces.
const HEADER: usize = 3;
/// Words of a long header. The two more are the value that the node adds, and the value that it drops.
const LONG_HEADER: usize = 5;
const IS_LONG: u64 = 1 << 63;
/// All values of the node that have nodes of their own come into the table with it.
const ALL_FRESH: u64 = 1 << 62;
/// Words of an entry before its key: sequence number and part of the hash; lengths.
const ENTRY: usize = 2;
/// Values of more bytes than this have a node of their own.
pub(super) const LARGEST_INLINE: usize = 1024;
/// Marks the length of a value that has a node of its own.
const LARGE: u64 = 1 << 31;
/// The longest value, in bytes.
pub(super) const LONGEST_VALUE: usize = (1 << 40) - 1;
const SEQUENCE_BITS: u32 = 48;
/// Of the header's second word: number of words (30 bits), slot (9), generation + 1 (25). It is written last: if the
/// generation is not the node's, the words are those of an earlier use of the cell, or zeros.
const SLOT_SHIFT: u32 = 30;
const GENERATION_SHIFT: u32 = 39;
const USED: u64 = (1 << SLOT_SHIFT) - 1;
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
    words: Words<32>,
}

fn tag_of(hash: u64) -> u64 {
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
fn header_of(first: u64) -> usize {
    if first & IS_LONG == 0 {
        HEADER
    } else {
        LONG_HEADER
    }
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
        let mut words = Words::zeros(used);
        node.read(0, words.as_mut());
        Ok(node.is_in_use().then_some(Self { words }))
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
        }
    }

    fn header(&self) -> usize {
        header_of(self.words[0])
    }

    /// A word of a long header; 0 if the header is a short one.
    fn long(&self, index: usize) -> u64 {
        let word = (index < self.header()).then(|| self.words.get(index)).flatten();
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

    /// The entry of a key that is not there yet.
    pub fn of(key: &'a Key, sequence: u64, value: NewValue<'a>) -> Self {
        Self {
            sequence,
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

/// Whether the node's maker has written all of it.
pub(super) fn is_written(node: &Node) -> bool {
    node.load(1)
        .is_some_and(|word| word >> GENERATION_SHIFT == u64::from(node.generation()) + 1)
}

/// Make a node of entries that are copied as they are, and of one that is written. This process owns it.
pub(super) fn make<'a>(
    intent: Intent,
    kept: impl Iterator<Item = &'a [u64]> + Clone,
    new: Option<&NewEntry<'_>>,
) -> Result<Node> {
    let is_long = intent.fresh | intent.doomed != 0;
    let header = if is_long { LONG_HEADER } else { HEADER };
    let used = header + kept.clone().map(<[u64]>::len).sum::<usize>() + new.map_or(0, NewEntry::words);
    if used as u64 > USED {
        return Err(Error::Exhausted {
            what: "a dictionary's bucket",
            wanted: used as u64 * 8,
        });
    }
    let node = Node::alloc(used, Kind::DictBucket)?;
    let flags = if is_long { IS_LONG } else { 0 } | if intent.all_fresh { ALL_FRESH } else { 0 };
    node.store(0, intent.segment | flags);
    node.store(2, intent.before);
    if is_long {
        node.store(3, intent.fresh);
        node.store(4, intent.doomed);
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
