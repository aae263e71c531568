//! The words of a dictionary that its users share. Leaves its tables to `table`, the entries to `bucket`, and what is done
//! with them to `change`, `read` and `migrate`.

use super::bucket::{discard_last, last_number_before, Bucket, SEQUENCE_BITS};
use super::table::{DictTable, Place, TablePurpose, DAMAGED};
use super::word::BucketWord;
use crate::arena::node::{self, Node};
use crate::arena::{Object, Token};
use crate::ids::Kind;
use crate::sync::primitive::{AtomicU64, Ordering};
use crate::{Error, Result};
use Ordering::{Acquire, Relaxed, SeqCst};

/// The order of loads of a table's words and of the dictionary's newest table.
pub(super) const ORDER: Ordering = SeqCst;
/// The bits of an entry's number.
const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
/// By how much a bound may be wrong after deaths before that is corrected.
const UNDER_WAY: u64 = 16;
/// Number of counters that processes count entries in.
const STRIPES: usize = 16;

const SEALED: Error = Error::Sealed("dictionary");

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
    /// Seed of the hash. Written once, before another process knows the dictionary, as the handle is.
    pub(super) seed: AtomicU64,
    pub(super) handle: AtomicU64,
    /// How many entries there may be; 0 = any number. Written once, as well.
    pub(super) most: AtomicU64,
    /// What the counts are wrong by.
    correction: AtomicU64,
    /// The last entry's number.
    sequence: Sequence,
    /// Hint: how many entries there are, in several parts. A death can leave it a little wrong.
    counts: [CountLine; STRIPES],
}

/// Numbers of entries, which order them by age.
#[repr(C, align(64))]
pub(super) struct Sequence(AtomicU64);

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
        for word in words.words {
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
        // A claim of excess entries needs all of them in one counter.
        let slot = if self.most.load(Relaxed) == 0 {
            slot % STRIPES
        } else {
            0
        };
        let stripe = &self.counts[slot].0;
        stripe.fetch_add(by as u64, Relaxed).wrapping_add(by as u64) as i64
    }

    /// Count an entry less if there are more than there may be. The caller then removes one.
    pub(super) fn claim_excess(&self) -> bool {
        let most = self.most.load(Relaxed);
        let bound = i64::try_from(most).unwrap_or(i64::MAX);
        let (count, is_beyond) = (&self.counts[0].0, |len: u64| most != 0 && len as i64 > bound);
        let mut now = count.load(Relaxed);
        while is_beyond(now.wrapping_add(self.correction.load(Relaxed))) {
            match count.compare_exchange(now, now.wrapping_sub(1), Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(other) => now = other,
            }
        }
        false
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
            let words = table.segment(number)?.map_or(&[][..], |(_, segment)| segment.words);
            len += words
                .iter()
                .map(|word| BucketWord(word.load(ORDER)).count() as u64)
                .sum::<u64>();
        }
        if !self.is_newest(table) {
            return Ok(None);
        }
        let wrong_by = len.wrapping_sub(noted) as i64;
        // Changes that are under way are in one of the two: with a bound, a small difference is not taken for an error.
        if wrong_by.unsigned_abs() <= UNDER_WAY && self.most.load(Relaxed) != 0 {
            return Ok(Some(len));
        }
        let right = known.wrapping_add_signed(wrong_by);
        // On failure another process corrected it.
        let _ = self.correction.compare_exchange(known, right, Relaxed, Relaxed);
        Ok(Some(len))
    }

    /// The number of the entry that has the greatest, or had it.
    pub(super) fn last_number(&self) -> u64 {
        self.sequence.0.load(SeqCst) & SEQUENCE
    }

    /// Give the new entry of a bucket its number, if it has none. The word is one of this dictionary's, in which the
    /// entry has no number. Afterwards it has another value.
    pub(super) fn number(&self, place: &Place, word: BucketWord) -> Result<()> {
        let node = Node::find(word.token(), Kind::DictBucket)?;
        let before = node.and_then(|node| last_number_before(&node).filter(|_| node.is_in_use()));
        if let Some(before) = before {
            self.number_after(place, before, word);
        }
        // A node is gone only if its word has changed.
        if place.load() == word {
            return Err(DAMAGED);
        }
        Ok(())
    }

    /// As [`number`](Self::number), where the bucket's last number before that is known.
    pub(super) fn number_after(&self, place: &Place, before: u64, word: BucketWord) {
        if place.last_number.load(SeqCst) == before {
            // SYNC: the number is taken after the entry came into the table. So whatever process finds another entry
            // with a greater number found this one, too, if it looked for it before.
            let number = (self.sequence.0.fetch_add(1, SeqCst) + 1) & SEQUENCE;
            // On failure another process did it. A last number comes once at a place, so one that is late does nothing.
            let _ = place
                .last_number
                .compare_exchange(before, before & !SEQUENCE | number, SeqCst, Relaxed);
        }
        place.change(word, word.numbered());
    }

    /// Whether the table before this one has been frozen as a whole.
    pub(super) fn is_cut(&self, table: &DictTable) -> bool {
        self.cut.load(SeqCst) == table.token.0
    }
}
