//! All entries, or their number, as they were at one moment.

use super::super::bytes::{make_room, ValueBytes};
use super::bucket::{Bucket, Value};
use super::layout::{Dict, ORDER};
use super::read::read_large;
use super::table::{DictTable, Place, TablePurpose, DAMAGED, LEAST_LOG};
use super::word::BucketWord;
use super::SharedDict;
use crate::arena::node::Node;
use crate::arena::Token;
use crate::ids::Kind;
use crate::Result;
use std::ops::Range;

/// How often all words are read again, and how often that is done for a new table, before the table is frozen.
const PASSES: usize = 16;
const ATTEMPTS: usize = 3;
/// How many tables are frozen, or found frozen, before the caller is asked whether it still wants the snapshot.
const ROUNDS: usize = 64;

/// An entry of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotItem {
    /// Orders entries by age.
    pub sequence: u64,
    key: Range<usize>,
    form: Range<usize>,
    value: Range<usize>,
}

/// All entries, the oldest first.
#[derive(Debug, Default)]
pub struct Snapshot {
    bytes: Vec<u8>,
    items: Vec<SnapshotItem>,
}

impl Snapshot {
    /// The entries.
    pub fn items(&self) -> &[SnapshotItem] {
        &self.items
    }

    /// The bytes of an entry's key, of its form, and of its value.
    pub fn parts(&self, item: &SnapshotItem) -> [&[u8]; 3] {
        [&item.key, &item.form, &item.value].map(|range| &self.bytes[range.clone()])
    }

    fn push(&mut self, bytes: &[u8]) -> Result<Range<usize>> {
        let start = self.bytes.len();
        make_room(&mut self.bytes, bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(start..self.bytes.len())
    }
}

/// The entries of a bucket, and those values that have a node of their own.
type Content = (Bucket, Vec<ValueBytes>);

/// What was read of a table.
#[derive(Default)]
pub(super) struct Collected {
    pub words: Vec<BucketWord>,
    /// With entries: those of each bucket.
    buckets: Vec<Option<Content>>,
}

impl SharedDict {
    /// All entries as they were at one moment during this call.
    pub fn snapshot(&self) -> Result<Snapshot> {
        loop {
            if let Some(snapshot) = self.try_snapshot()? {
                return Ok(snapshot);
            }
        }
    }

    /// As [`snapshot`](Self::snapshot), but `None` if other processes were faster several times: call it again. Between the
    /// calls, the caller can see whether it still wants the snapshot.
    pub fn try_snapshot(&self) -> Result<Option<Snapshot>> {
        self.0.collect(true)?.map(Snapshot::of).transpose()
    }

    /// As [`snapshot`](Self::snapshot), in the way that is taken when the entries change all the time. For tools.
    #[doc(hidden)]
    pub fn snapshot_by_freezing(&self) -> Result<Snapshot> {
        loop {
            if let Some(collected) = self.0.collect_frozen(self.0.head(), true)? {
                return Snapshot::of(collected);
            }
        }
    }

    /// The number of entries at one moment during this call.
    pub fn len(&self) -> Result<usize> {
        loop {
            if let Some(len) = self.try_len()? {
                return Ok(len);
            }
        }
    }

    /// As [`len`](Self::len), but `None` if other processes were faster several times: call it again.
    pub fn try_len(&self) -> Result<Option<usize>> {
        let collected = self.0.collect(false)?;
        Ok(collected.map(|collected| collected.words.iter().map(|word| word.count()).sum()))
    }

    /// Remove all entries, at one moment.
    pub fn clear(&self) -> Result<()> {
        while !self.try_clear()? {}
        Ok(())
    }

    /// As [`clear`](Self::clear), but false if other processes were faster several times: then nothing is removed, and this
    /// is to be called again. Between the calls, the caller can see whether it still wants that.
    pub fn try_clear(&self) -> Result<bool> {
        self.0.clear(self.0.head())
    }

    /// End all use of the dictionary, at one moment: every other call of any process fails with `Error::Sealed` from then
    /// on, and `sealed_snapshot` has what the calls before left. False if other processes were faster several times: then it
    /// is not sealed, and this is to be called again.
    pub fn try_seal(&self) -> Result<bool> {
        self.0.seal()
    }

    /// The entries of a dictionary that is sealed.
    pub fn sealed_snapshot(&self) -> Result<Snapshot> {
        let sealed = self.0.newest_table()?;
        let Some(table) = sealed.filter(|table| table.purpose == TablePurpose::Seal) else {
            return Err(DAMAGED);
        };
        if table.before.0 == 0 {
            return Ok(Snapshot::default());
        }
        self.0.make_cut(&table)?;
        self.0.collect_before(&table, true)?.map_or(Err(DAMAGED), Snapshot::of)
    }

    /// Whether there were no entries at one moment during this call.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl Snapshot {
    fn of(collected: Collected) -> Result<Self> {
        let mut snapshot = Self::default();
        for (bucket, values) in collected.buckets.into_iter().flatten() {
            let mut large = values.iter();
            for entry in bucket.entries() {
                let entry = entry?;
                let key = snapshot.push(bucket.key_bytes(&entry))?;
                let form = snapshot.push(bucket.form_bytes(&entry))?;
                let value = match entry.value {
                    Value::Inline { start, len } => snapshot.push(bucket.inline(start, len))?,
                    Value::Large { .. } => snapshot.push(large.next().map_or(&[][..], ValueBytes::as_slice))?,
                };
                make_room(&mut snapshot.items, 1)?;
                snapshot.items.push(SnapshotItem {
                    sequence: entry.sequence,
                    key,
                    form,
                    value,
                });
            }
        }
        snapshot.items.sort_unstable_by_key(|item| item.sequence);
        Ok(snapshot)
    }
}

impl Dict {
    /// Remove all entries, at one moment. What another process removes at once counts, if its table became the newest after
    /// `first` was: then that moment is in this call as well. False if other processes were faster in all rounds.
    pub(super) fn clear(&self, first: Token) -> Result<bool> {
        for _ in 0..ROUNDS {
            let Some(table) = self.table()? else { return Ok(true) };
            self.complete(&table)?;
            // A table is replaced only when it is complete, and complete only after the cut.
            if table.purpose == TablePurpose::Clear && table.token != first {
                return Ok(true);
            }
            if let Some(new) = self.replace_table(Some(&table), LEAST_LOG, TablePurpose::Clear)? {
                self.complete(&new)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Make a table the newest that none comes after. False if other processes were faster in all rounds.
    fn seal(&self) -> Result<bool> {
        for _ in 0..ROUNDS {
            let table = self.newest_table()?;
            match &table {
                Some(table) if table.purpose == TablePurpose::Seal => {
                    self.make_cut(table)?;
                    return Ok(true);
                }
                Some(table) => self.complete(table)?,
                None => {}
            }
            self.replace_table(table.as_ref(), LEAST_LOG, TablePurpose::Seal)?;
        }
        Ok(false)
    }

    /// Read all buckets at one moment. `None` if other processes were faster in all attempts.
    fn collect(&self, entries: bool) -> Result<Option<Collected>> {
        let first = self.head();
        for _ in 0..ATTEMPTS {
            let Some(table) = self.table()? else {
                return Ok(Some(Collected::default()));
            };
            if table.purpose == TablePurpose::Snapshot && self.is_moving(&table) {
                break;
            }
            self.complete(&table)?;
            let mut collected = Collected::default();
            for _ in 0..PASSES {
                let changed = self.pass(&table, &table, entries, &mut collected)?;
                if !self.is_newest(&table) {
                    break;
                }
                if changed == Some(0) {
                    return Ok(Some(collected));
                }
            }
        }
        self.collect_frozen(first, entries)
    }

    /// As [`collect`](Self::collect), by a table that keeps the one before it as it is. Another snapshot's table does,
    /// too, if it became the newest after `first` was: then its moment is in this call as well. `None` if other processes
    /// were faster in all rounds.
    pub(super) fn collect_frozen(&self, first: Token, entries: bool) -> Result<Option<Collected>> {
        for _ in 0..ROUNDS {
            let Some(table) = self.table()? else {
                return Ok(Some(Collected::default()));
            };
            if table.purpose == TablePurpose::Snapshot && table.token != first && self.is_moving(&table) {
                self.make_cut(&table)?;
                let collected = self.collect_before(&table, entries)?;
                if collected.is_some() {
                    self.complete(&table)?;
                    return Ok(collected);
                }
                // The frozen table is being given up, perhaps by a process that died in the middle.
                self.complete(&table)?;
                continue;
            }
            self.complete(&table)?;
            self.replace_table(Some(&table), table.log, TablePurpose::Snapshot)?;
        }
        Ok(None)
    }

    /// Read the table before this one, which is frozen. `None` if it is not kept any more.
    pub(super) fn collect_before(&self, table: &DictTable, entries: bool) -> Result<Option<Collected>> {
        let Some(old) = self.table_before(table)? else {
            return Ok(None);
        };
        let mut collected = Collected::default();
        if self.pass(table, &old, entries, &mut collected)?.is_none() {
            return Ok(None);
        }
        let is_whole = collected.words.iter().all(|word| word.is_frozen() && !word.is_moved())
            && (!entries || collected.is_whole());
        Ok((is_whole && self.is_newest(table) && self.is_moving(table)).then_some(collected))
    }

    /// Read those buckets of a table that have changed since they were read. Returns how many that were, or `None` if
    /// the table is gone because `newest` is not the newest any more.
    fn pass(
        &self,
        newest: &DictTable,
        table: &DictTable,
        entries: bool,
        collected: &mut Collected,
    ) -> Result<Option<usize>> {
        let mut changed = 0;
        for number in 0..table.segments() {
            let Some((token, segment)) = table.segment(number)? else {
                // The table before may be freed when all has moved, before that is noted.
                let is_there = newest.token == table.token && self.is_newest(newest);
                return if is_there { Err(DAMAGED) } else { Ok(None) };
            };
            for (slot, word) in segment.words.iter().enumerate() {
                let mut word = BucketWord(word.load(ORDER));
                let place = segment.place(token, slot);
                while word.is_unnumbered() {
                    // Otherwise the word may be that of another table.
                    if Node::find(token, Kind::DictSegment)?.is_none() {
                        return Ok(None);
                    }
                    self.number(&place, word)?;
                    word = place.load();
                }
                let index = number << LEAST_LOG | slot;
                if collected.words.get(index) == Some(&word) {
                    continue;
                }
                changed += 1;
                let content = if entries { copy_of(&place, word)? } else { None };
                collected.enter(index, word, content, entries)?;
            }
            // Otherwise the words may be those of another table.
            if Node::find(token, Kind::DictSegment)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(changed))
    }
}

impl Collected {
    fn enter(&mut self, index: usize, word: BucketWord, content: Option<Content>, entries: bool) -> Result<()> {
        if let Some(known) = self.words.get_mut(index) {
            *known = word;
        } else {
            make_room(&mut self.words, 1)?;
            self.words.push(word);
        }
        match self.buckets.get_mut(index) {
            Some(known) => *known = content,
            None if entries => {
                make_room(&mut self.buckets, 1)?;
                self.buckets.push(content);
            }
            None => {}
        }
        Ok(())
    }

    /// Whether all buckets with entries could be read.
    fn is_whole(&self) -> bool {
        let mut pairs = self.words.iter().zip(&self.buckets);
        pairs.all(|(word, content)| word.count() == 0 || content.is_some())
    }
}

/// What a bucket has. `None` if that is nothing, or has changed.
fn copy_of(place: &Place, word: BucketWord) -> Result<Option<Content>> {
    if word.count() == 0 {
        return Ok(None);
    }
    let Some(node) = Node::find(word.token(), Kind::DictBucket)? else {
        return Ok(None);
    };
    let Some(bucket) = Bucket::copy(&node)? else {
        return Ok(None);
    };
    let bucket = bucket.numbered(place.last_number);
    let mut values = Vec::new();
    for entry in bucket.entries() {
        if let Value::Large { token, len } = entry?.value {
            let Some(bytes) = read_large(token, len)? else {
                return Ok(None);
            };
            values.push(bytes);
        }
    }
    Ok(Some((bucket, values)))
}
