//! A dictionary's tables, their segments, and the places of buckets in these.

use super::bucket::SEQUENCE_BITS;
use super::word::BucketWord;
use crate::arena::node::{self, Node, SEGMENT_WORDS};
use crate::arena::Token;
use crate::ids::{Handle, Kind, Owner};
use crate::sync::primitive::{
    AtomicU64,
    Ordering::{Relaxed, Release, SeqCst},
};
use crate::{Error, Result};

/// Buckets of a segment: their words, and behind these, in the same order, their last numbers.
const SEGMENT_BUCKETS: usize = SEGMENT_WORDS / 2;
/// Log2 of the buckets of a segment, and of the smallest table.
pub(super) const LEAST_LOG: u32 = SEGMENT_BUCKETS.ilog2();
/// Log2 of the buckets of the largest table.
pub(super) const MOST_LOG: u32 = 32;
/// Words of a table's node before the tokens of its segments: log2 of its size, and what it was made for; the table
/// before it; the dictionary; the process that made it.
const HEAD_WORDS: usize = 4;
/// Of the first of these words: log2 (8 bits), purpose (8), the node's generation + 1 (25), written last.
const GENERATION_SHIFT: u32 = 39;

pub(super) const DAMAGED: Error = Error::Corrupt("a dictionary's table");
/// A bucket has no room for another entry.
pub(super) const FULL: Error = Error::Exhausted {
    what: "a dictionary's table",
    wanted: 1,
};

/// What a table was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TablePurpose {
    /// Another size. Buckets are frozen and moved one after the other.
    Size = 0,
    /// To keep the table before as it is at one moment, for a snapshot: its buckets are all frozen before the first is
    /// copied, and are freed when the snapshot has been taken.
    Snapshot = 1,
    /// To leave all entries behind, at one moment: all buckets are frozen before the first is made anew, empty.
    Clear = 2,
    /// To end all use of the dictionary: the table before is frozen as a whole, and stays. No other table comes after it.
    Seal = 3,
}

impl TablePurpose {
    /// Whether the table before is to be frozen as a whole first.
    pub fn is_cut(self) -> bool {
        self != Self::Size
    }
}

/// A table as seen through its token. It may be freed at any time: see [`Dict::is_newest`].
#[derive(Clone, Copy)]
pub(super) struct DictTable {
    node: Node,
    pub token: Token,
    /// Log2 of the number of buckets.
    pub log: u32,
    pub purpose: TablePurpose,
    /// The table whose entries come into this one; 0 = none.
    pub before: Token,
}

/// Finds buckets of a table one after the other: the segment is looked up only if it is not that of the last one.
pub(super) struct Finder {
    pub table: DictTable,
    last: Option<(usize, Token, BucketSegment)>,
}

impl Finder {
    pub fn new(table: DictTable) -> Self {
        Self { table, last: None }
    }

    /// A bucket. `None` if the table is gone.
    pub fn place(&mut self, bucket: u64) -> Result<Option<Place>> {
        let bucket = bucket & (self.table.len() - 1);
        let number = (bucket >> LEAST_LOG) as usize;
        let (token, segment) = match self.last {
            Some((last, token, segment)) if last == number => (token, segment),
            _ => {
                let Some((token, segment)) = self.table.segment(number)? else {
                    return Ok(None);
                };
                self.last = Some((number, token, segment));
                (token, segment)
            }
        };
        Ok(Some(segment.place(token, bucket as usize % SEGMENT_BUCKETS)))
    }
}

/// The buckets of a segment.
#[derive(Clone, Copy)]
pub(super) struct BucketSegment {
    pub words: &'static [AtomicU64],
    last_numbers: &'static [AtomicU64],
}

impl BucketSegment {
    fn of(node: &Node) -> Option<Self> {
        let (words, last_numbers) = node.segment()?.split_at(SEGMENT_BUCKETS);
        Some(Self { words, last_numbers })
    }

    pub fn place(&self, token: Token, slot: usize) -> Place {
        Place {
            word: &self.words[slot],
            last_number: &self.last_numbers[slot],
            segment: token,
            slot: slot as u32,
        }
    }
}

/// A bucket of a table.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub word: &'static AtomicU64,
    /// The number of the entry that came into the bucket last (48 bits), and bits of the segment's generation.
    pub last_number: &'static AtomicU64,
    /// The segment that the word lies in.
    pub segment: Token,
    pub slot: u32,
}

impl Place {
    pub fn load(&self) -> BucketWord {
        BucketWord(self.word.load(SeqCst))
    }

    /// The word, if the segment was its table's until now. `None` if the segment is gone: its memory may be another
    /// table's, and a compare-and-swap that expects a word of that one would change it.
    pub fn load_own(&self) -> Result<Option<BucketWord>> {
        let word = self.load();
        Ok(Node::find(self.segment, Kind::DictSegment)?.map(|_| word))
    }

    /// Replace the word, if it still is `from`, which was read from this table or has a token of it.
    pub fn change(&self, from: BucketWord, to: BucketWord) -> bool {
        // SYNC: sequentially consistent: a table is frozen only after a newer one is the newest.
        self.word.compare_exchange(from.0, to.0, SeqCst, Relaxed).is_ok()
    }
}

impl DictTable {
    /// The table that a token names. `None` if it is gone.
    pub fn open(token: Token) -> Result<Option<Self>> {
        let Some(node) = Node::find(token, Kind::DictTable)? else {
            return Ok(None);
        };
        let (Some(log), Some(before)) = (node.load(0), node.load(1)) else {
            return Err(DAMAGED);
        };
        if !node.is_in_use() {
            return Ok(None);
        }
        let purpose = match log >> 8 & 0xff {
            1 => TablePurpose::Snapshot,
            2 => TablePurpose::Clear,
            3 => TablePurpose::Seal,
            _ => TablePurpose::Size,
        };
        let log = log as u32 & 0xff;
        let fits = (LEAST_LOG..=MOST_LOG).contains(&log) && node.len() >= HEAD_WORDS + (1 << (log - LEAST_LOG));
        let before = Token(before);
        let table = Self {
            node,
            token,
            log,
            purpose,
            before,
        };
        fits.then_some(Some(table)).ok_or(DAMAGED)
    }

    /// Make a table. This process owns it; its segments belong to it.
    pub fn make(dict: Handle, log: u32, purpose: TablePurpose, before: Token, me: Owner) -> Result<Self> {
        let segments = 1usize << (log - LEAST_LOG);
        let node = Node::alloc(HEAD_WORDS + segments, Kind::DictTable)?;
        let words = [
            u64::from(log) | (purpose as u64) << 8 | (u64::from(node.generation()) + 1) << GENERATION_SHIFT,
            before.0,
            dict.0,
            u64::from(me.to_bits()),
        ];
        for (index, word) in words.into_iter().enumerate().skip(1) {
            node.store(index, word);
        }
        (0..segments).for_each(|index| node.store(HEAD_WORDS + index, 0));
        // DEATH: before this, a survivor frees the node and nothing else.
        node.store_last(0, words[0]);
        let table = Self {
            node,
            token: node.token(),
            log,
            purpose,
            before,
        };
        for index in 0..segments {
            let segment = Node::alloc_segment().inspect_err(|_| table.free())?;
            let token = segment.token();
            let word = if before.0 == 0 {
                BucketWord::empty(token)
            } else {
                BucketWord::unmade(token)
            };
            if let Some(segment) = BucketSegment::of(&segment) {
                let unused = token.0 << SEQUENCE_BITS;
                // SYNC: releases. The segment may have been one of a table that is gone: a process that takes this word
                // for one of that table sees that it is gone.
                segment.last_numbers.iter().for_each(|to| to.store(unused, Release));
                segment.words.iter().for_each(|to| to.store(word.0, Release));
            }
            // DEATH: before this the segment is this process's own; afterwards the table leads to it.
            node.store(HEAD_WORDS + index, token.0);
            segment.hand_over();
        }
        Ok(table)
    }

    /// Whether the node's maker has written its first words. Otherwise they are those of an earlier use of the cell.
    pub fn is_written(node: &Node) -> bool {
        node.load(0)
            .is_some_and(|word| word >> GENERATION_SHIFT == u64::from(node.generation()) + 1)
    }

    pub fn hand_over(&self) {
        self.node.hand_over();
    }

    pub fn segments(&self) -> usize {
        1 << (self.log - LEAST_LOG)
    }

    /// Number of buckets.
    pub fn len(&self) -> u64 {
        1 << self.log
    }

    /// The token of a segment. `None` if the table is gone: then the memory may be another table's, and a word that is
    /// expected because of a token from there would be found there.
    fn segment_token(&self, number: usize) -> Option<Token> {
        let token = self.node.load(HEAD_WORDS + number).map(Token);
        token.filter(|_| self.node.is_in_use())
    }

    /// A segment's token and its words. `None` if it is gone.
    pub fn segment(&self, number: usize) -> Result<Option<(Token, BucketSegment)>> {
        let Some(token) = self.segment_token(number) else {
            return Ok(None);
        };
        let node = Node::find(token, Kind::DictSegment)?;
        Ok(node.and_then(|node| Some((token, BucketSegment::of(&node)?))))
    }

    /// A bucket. `None` if the table is gone.
    pub fn place(&self, bucket: u64) -> Result<Option<Place>> {
        Finder::new(*self).place(bucket)
    }

    /// Number of units of the migration to this table; 0 if the table before is gone.
    pub fn units(&self) -> Result<u64> {
        Ok(Self::open(self.before)?.map_or(0, |old| old.len().min(self.len())))
    }

    /// The numbers of those buckets of a segment whose words are such. `None` if the segment is gone.
    pub fn buckets_where(&self, number: usize, is: fn(BucketWord) -> bool) -> Result<Option<Vec<u64>>> {
        let Some((token, segment)) = self.segment(number)? else {
            return Ok(None);
        };
        let first = (number * SEGMENT_BUCKETS) as u64;
        let found = (first..)
            .zip(segment.words)
            .filter(|(_, word)| is(BucketWord(word.load(SeqCst))))
            .map(|(bucket, _)| bucket)
            .collect();
        Ok(Node::find(token, Kind::DictSegment)?.map(|_| found))
    }

    /// Free segments and table, but not what its buckets lead to. May be repeated.
    pub fn free(&self) {
        for number in 0..self.segments() {
            if let Some(token) = self.segment_token(number) {
                node::free(token, Kind::DictSegment);
            }
        }
        self.node.free();
    }

    /// The process that made it.
    pub fn maker(&self) -> Option<Owner> {
        self.node.load(3).and_then(|bits| Owner::from_bits(bits as u32))
    }

    /// The handle of the dictionary that it was made for.
    pub fn dict(&self) -> Option<Handle> {
        self.node.load(2).and_then(Handle::from_bits)
    }
}
