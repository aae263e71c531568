//! A dictionary's memory: the words that its users share, and its tables. Leaves the entries to `bucket`, and what is
//! done with them to `change`, `read` and `migrate`.

use super::bucket::{discard_last, Bucket};
use super::word::BucketWord;
use crate::arena::node::{self, Node, SEGMENT_WORDS};
use crate::arena::{look_up, Object, Token};
use crate::ids::{Handle, Kind, Owner};
use crate::sync::primitive::{AtomicU64, Ordering};
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, Release, SeqCst};

/// The order of loads of a table's words and of the dictionary's newest table.
pub(super) const ORDER: Ordering = SeqCst;
/// Log2 of the buckets of a segment, and of the smallest table.
pub(super) const LEAST_LOG: u32 = SEGMENT_WORDS.ilog2();
/// Log2 of the buckets of the largest table.
pub(super) const MOST_LOG: u32 = 32;
/// Number of counters that processes count entries in.
const STRIPES: usize = 16;
/// Words of a table's node before the tokens of its segments: log2 of its size, and what it was made for; the table
/// before it; the dictionary; the process that made it.
const HEAD_WORDS: usize = 4;
/// Of the first of these words: log2 (8 bits), purpose (8), the node's generation + 1 (25), written last.
const GENERATION_SHIFT: u32 = 39;

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

#[repr(C, align(64))]
struct CountLine(AtomicU64);

/// A dictionary in the arena. Zero-filled is an empty one; the first change makes its table.
#[repr(C, align(64))]
pub struct Dict {
    /// Token of the newest table; 0 = none yet.
    pub(super) head: AtomicU64,
    /// Token of the newest table whose entries have all come over from the table before it.
    pub(super) complete: AtomicU64,
    /// Token of the newest table whose table before was frozen as a whole.
    pub(super) cut: AtomicU64,
    /// Hint: the units of the newest table's migration that some process has taken on (lower half), and which table is
    /// meant (upper half).
    pub(super) cursor: AtomicU64,
    /// Seed of the hash. Written once, before another process knows the dictionary, as the next two are.
    pub(super) seed: AtomicU64,
    pub(super) handle: AtomicU64,
    /// What the counts are wrong by.
    correction: AtomicU64,
    /// The next entry's number.
    pub(super) sequence: Sequence,
    /// Hint: how many entries there are, in several parts. A death can leave it a little wrong.
    counts: [CountLine; STRIPES],
}

/// Numbers of entries, which order them by age.
#[repr(C, align(64))]
pub(super) struct Sequence(pub AtomicU64);

// SAFETY: all fields are atomics, zero is valid, tokens read are checked before they lead anywhere (`Node`).
unsafe impl Object for Dict {
    const KIND: Kind = Kind::Dict;
    const NAME: &'static str = "dictionary";

    fn destroy(&self) {
        let head = Token(self.head.load(Acquire));
        let before = DictTable::open(head).ok().flatten().map(|table| table.before);
        // DEATH: tokens stay where they are until everything that they lead to is freed; what is freed twice is stale.
        for token in before.into_iter().chain([head]) {
            destroy_table(token);
        }
        self.head.store(0, SeqCst);
    }
}

/// Free a table and all that its buckets lead to.
fn destroy_table(token: Token) {
    let Ok(Some(table)) = DictTable::open(token) else {
        return;
    };
    for number in 0..table.segments() {
        // Without address space the segment's nodes stay, and are lost.
        let Ok(Some((_, words))) = table.segment(number) else {
            continue;
        };
        for word in words {
            let word = BucketWord(word.load(Acquire));
            // Without address space the node stays, and is lost.
            let _ = destroy_bucket(word.token());
        }
    }
    table.free();
}

/// Free a bucket's node, its values, and what it would have freed. Does nothing for a token that names no bucket.
fn destroy_bucket(token: Token) -> Result<()> {
    let Some(node) = Node::find(token, Kind::DictBucket)? else {
        return Ok(());
    };
    if let Some(bucket) = Bucket::copy(&node)? {
        let intent = bucket.intent();
        node::free(Token(intent.doomed), Kind::DictValue);
        node::free(Token(intent.before), Kind::DictBucket);
    }
    discard_last(token)
}

impl Dict {
    pub(super) fn head(&self) -> Token {
        // SYNC: sequentially consistent: a word of a table counts if the table is still the newest after it was read.
        Token(self.head.load(SeqCst))
    }

    /// The newest table, if there is one. Fails if the dictionary is sealed: by then its content is final.
    pub(super) fn table(&self) -> Result<Option<DictTable>> {
        let table = self.newest_table()?;
        if let Some(table) = table.filter(|table| table.purpose == TablePurpose::Seal) {
            self.make_cut(&table)?;
            return Err(SEALED);
        }
        Ok(table)
    }

    /// As [`table`](Self::table), of a dictionary that may be sealed.
    pub(super) fn newest_table(&self) -> Result<Option<DictTable>> {
        loop {
            let head = self.head();
            if head.0 == 0 {
                return Ok(None);
            }
            if let Some(table) = DictTable::open(head)? {
                return Ok(Some(table));
            }
            if self.head() == head {
                return Err(DAMAGED);
            }
        }
    }

    /// Whether a table is the newest still.
    pub(super) fn is_newest(&self, table: &DictTable) -> bool {
        self.head() == table.token
    }

    /// Whether entries of the newest table may still be in the table before it.
    pub(super) fn is_moving(&self, table: &DictTable) -> bool {
        table.before.0 != 0 && self.complete.load(SeqCst) != table.token.0
    }

    /// Count entries that came or went.
    pub(super) fn count(&self, slot: usize, by: i64) -> i64 {
        let stripe = &self.counts[slot % STRIPES].0;
        stripe.fetch_add(by as u64, Relaxed).wrapping_add(by as u64) as i64
    }

    /// About how many entries there are.
    pub(super) fn about_len(&self) -> u64 {
        let sum = self.counts.iter().fold(self.correction.load(Relaxed), |sum, line| {
            sum.wrapping_add(line.0.load(Relaxed))
        });
        (sum as i64).max(0) as u64
    }

    /// Count the entries of the newest table, which all have come into, and correct the count. `None` if the table is
    /// not the newest any more.
    pub(super) fn recount(&self, table: &DictTable) -> Result<Option<u64>> {
        let (noted, known) = (self.about_len(), self.correction.load(Relaxed));
        let mut len = 0;
        for number in 0..table.segments() {
            let words = table.segment(number)?.map_or(&[][..], |(_, words)| words);
            len += words
                .iter()
                .map(|word| BucketWord(word.load(ORDER)).count() as u64)
                .sum::<u64>();
        }
        if !self.is_newest(table) {
            return Ok(None);
        }
        let right = known.wrapping_add(len).wrapping_sub(noted);
        // On failure another process corrected it.
        let _ = self.correction.compare_exchange(known, right, Relaxed, Relaxed);
        Ok(Some(len))
    }

    /// Whether the table before this one has been frozen as a whole.
    pub(super) fn is_cut(&self, table: &DictTable) -> bool {
        self.cut.load(SeqCst) == table.token.0
    }
}

pub(super) const DAMAGED: Error = Error::Corrupt("a dictionary's table");
const SEALED: Error = Error::Sealed("dictionary");
/// A bucket has no room for another entry.
pub(super) const FULL: Error = Error::Exhausted {
    what: "a dictionary's table",
    wanted: 1,
};

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
    last: Option<(usize, Token, &'static [AtomicU64])>,
}

impl Finder {
    pub fn new(table: DictTable) -> Self {
        Self { table, last: None }
    }

    /// A bucket. `None` if the table is gone.
    pub fn place(&mut self, bucket: u64) -> Result<Option<Place>> {
        let bucket = bucket & (self.table.len() - 1);
        let number = (bucket >> LEAST_LOG) as usize;
        let (segment, words) = match self.last {
            Some((last, segment, words)) if last == number => (segment, words),
            _ => {
                let Some((segment, words)) = self.table.segment(number)? else {
                    return Ok(None);
                };
                self.last = Some((number, segment, words));
                (segment, words)
            }
        };
        let slot = bucket as usize % SEGMENT_WORDS;
        Ok(Some(Place {
            word: &words[slot],
            segment,
            slot: slot as u32,
        }))
    }
}

/// A bucket of a table.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub word: &'static AtomicU64,
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
            segment
                .segment()
                .into_iter()
                .flatten()
                // SYNC: releases. The segment may have been one of a table that is gone: a process that takes this word
                // for one of that table sees that it is gone.
                .for_each(|to| to.store(word.0, Release));
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
    pub fn segment(&self, number: usize) -> Result<Option<(Token, &'static [AtomicU64])>> {
        let Some(token) = self.segment_token(number) else {
            return Ok(None);
        };
        let node = Node::find(token, Kind::DictSegment)?;
        Ok(node.and_then(|node| Some((token, node.segment()?))))
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
        let Some((token, words)) = self.segment(number)? else {
            return Ok(None);
        };
        let first = (number * SEGMENT_WORDS) as u64;
        let found = (first..)
            .zip(words)
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

    /// The dictionary that it was made for. `None` if that is gone.
    pub fn dict(&self) -> Result<Option<&'static Dict>> {
        let handle = self.node.load(2).and_then(Handle::from_bits);
        handle.map_or(Ok(None), look_up::<Dict>)
    }
}
