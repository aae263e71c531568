//! Changes of one key. Each takes effect by one compare-and-swap of the bucket's word.

use super::super::bytes::{bytes_of, ValueBytes, Words};
use super::bucket::{discard_last, Bucket, Entry, Intent, Value, LARGEST_INLINE};
use super::key::Key;
use super::layout::Dict;
use super::making::{make, make_value, NewEntry, NewValue};
use super::read::read_large;
use super::recover::settle;
use super::table::{DictTable, Place, DAMAGED, FULL};
use super::word::{BucketWord, MOST_ENTRIES};
use crate::arena::node::{self, Node};
use crate::arena::Token;
use crate::ids::{Kind, Owner};
use crate::sync::primitive::Ordering::SeqCst;
use crate::Result;
use std::borrow::Cow;

/// What to do with a key.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// Leave it as it is.
    Keep,
    /// Remove it.
    Remove,
    /// Give it this value.
    Put(Cow<'a, [u8]>),
}

/// Changes in one counter between two checks of the table's size.
const CHECK_EVERY: i64 = 16;
/// The entries of a bucket that must be there for a check, and those that ask for one: the counters are hints, and a
/// table must not grow by them alone.
const SHARED: usize = 2;
const CROWDED: usize = 6;

/// What an attempt has made and no table names yet. Freed when dropped.
#[derive(Default)]
struct Draft {
    node: Option<Node>,
    value: Option<(Node, usize)>,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // DEATH: as long as the node is there, a survivor finds the value through it.
        if let Some((value, _)) = self.value {
            value.free();
        }
        if let Some(node) = self.node {
            node.free();
        }
    }
}

impl Draft {
    /// The value's bytes in a node of their own, which is reused if it has the same ones.
    fn value(&mut self, bytes: &[u8]) -> Result<Token> {
        if let Some((node, len)) = self.value {
            let mut words = vec![0; len.div_ceil(8)];
            node.read(0, &mut words);
            if len == bytes.len() && bytes_of(&words, len) == bytes {
                return Ok(node.token());
            }
            // A draft that names the value must not outlive it.
            drop(std::mem::take(self));
        }
        let node = make_value(bytes)?;
        // DEATH: this process owns the node.
        self.value = Some((node, bytes.len()));
        Ok(node.token())
    }

    /// Put another node in the place of the last.
    fn replace(&mut self, node: Node) {
        if let Some((value, _)) = self.value {
            // DEATH: from here on the value belongs to what names it; the new node does.
            value.hand_over();
        }
        if let Some(last) = self.node.replace(node) {
            last.free();
        }
    }

    /// The node is in its table now.
    fn forget(&mut self) {
        self.node = None;
        self.value = None;
    }
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// Nothing.
    Kept,
    /// A key was added.
    Added,
    /// The value of a key was replaced.
    Replaced,
    /// A key was removed.
    Removed,
}

/// A bucket that is about to be changed.
struct BucketChange<'a> {
    place: Place,
    word: BucketWord,
    bucket: &'a Bucket,
    found: Option<Entry>,
    dict: &'a Dict,
}

impl Dict {
    /// Change a key by what `decide` returns for its value, which may be asked several times: the last time counts.
    /// With `look` false it is told that there is a value, but no bytes.
    pub(super) fn change<'a>(
        &self,
        me: Owner,
        key: &Key,
        look: bool,
        mut decide: impl FnMut(Option<&[u8]>) -> Change<'a>,
    ) -> Result<Done> {
        let mut draft = Draft::default();
        loop {
            let (table, place, word, bucket) = self.bucket_to_change(key.hash)?;
            let found = bucket.find(key)?;
            let mut current = None;
            if let Some(entry) = found.filter(|_| look) {
                current = value_of(&bucket, &entry)?;
                if current.is_none() {
                    self.check_changed(&table, &place, word)?;
                    continue;
                }
            }
            let shown = current.as_ref().map(ValueBytes::as_slice);
            let decision = decide(shown.or(found.map(|_| &[][..])));
            let attempt = BucketChange {
                place,
                word,
                bucket: &bucket,
                found,
                dict: self,
            };
            let is_done = match (&decision, found) {
                (Change::Keep, _) | (Change::Remove, None) => return Ok(Done::Kept),
                (Change::Remove, Some(entry)) => attempt.remove(&entry, &mut draft)?,
                (Change::Put(bytes), _) => attempt.put(key, bytes, &mut draft)?,
            };
            if is_done {
                return Ok(match (&decision, found) {
                    (Change::Put(_), Some(_)) => Done::Replaced,
                    (Change::Put(_), None) => {
                        self.note_len(&table, me, 1, word.count() + 1);
                        Done::Added
                    }
                    _ => {
                        self.note_len(&table, me, -1, 0);
                        Done::Removed
                    }
                });
            }
        }
    }

    /// Remove the entry with a number, which a key of this hash had. Returns whether it was there still. The caller counts
    /// the entries.
    pub(super) fn remove_numbered(&self, hash: u64, number: u64) -> Result<bool> {
        let mut draft = Draft::default();
        loop {
            let (_, place, word, bucket) = self.bucket_to_change(hash)?;
            let mut entries = bucket.entries();
            let found = entries.find(|entry| entry.as_ref().map_or(true, |entry| entry.sequence == number));
            let Some(entry) = found.transpose()? else {
                // If the bucket has changed meanwhile, its last number may be that of another entry.
                if place.load() == word {
                    return Ok(false);
                }
                continue;
            };
            let attempt = BucketChange {
                place,
                word,
                bucket: &bucket,
                found: Some(entry),
                dict: self,
            };
            if attempt.remove(&entry, &mut draft)? {
                return Ok(true);
            }
        }
    }

    /// The bucket of a hash in the newest table as it is now, in which all that its node's maker left undone is done.
    fn bucket_to_change(&self, hash: u64) -> Result<(DictTable, Place, BucketWord, Bucket)> {
        loop {
            let table = self.table_to_change()?;
            self.help(&table)?;
            let Some((place, word)) = self.place_to_change(&table, hash)? else {
                continue;
            };
            if let Some(bucket) = bucket_of(&place, word)? {
                return Ok((table, place, word, bucket));
            }
            self.check_changed(&table, &place, word)?;
        }
    }

    /// What a word names is gone only if the word has changed.
    fn check_changed(&self, table: &DictTable, place: &Place, word: BucketWord) -> Result<()> {
        if self.is_newest(table) && place.load() == word {
            Err(DAMAGED)
        } else {
            Ok(())
        }
    }

    /// The bucket of a hash in the newest table, and its word. `None` if the table is not the newest any more, or the
    /// bucket was not made yet: look again.
    fn place_to_change(&self, table: &DictTable, hash: u64) -> Result<Option<(Place, BucketWord)>> {
        let place = table.place(hash)?;
        let word = place.map(|place| place.load());
        if !self.is_newest(table) {
            return Ok(None);
        }
        let (Some(place), Some(word)) = (place, word) else {
            return Err(DAMAGED);
        };
        if word.is_unmade() {
            self.migrate(table, hash)?;
            let is_unmade = place.load() == word && self.is_newest(table);
            return if is_unmade { Err(DAMAGED) } else { Ok(None) };
        }
        if word.is_unnumbered() {
            self.number(&place, word)?;
            return Ok(None);
        }
        // A frozen bucket is of a table that is not the newest.
        let fits = word.is_valid() && !word.is_frozen();
        fits.then_some(Some((place, word))).ok_or(DAMAGED)
    }

    /// Count an entry that came or went. Now and then, see whether the table should have another size.
    fn note_len(&self, table: &DictTable, me: Owner, by: i64, in_bucket: usize) {
        let count = self.count(me.slot(), by);
        if count % CHECK_EVERY == 0 && (by < 0 || in_bucket >= SHARED) || in_bucket >= CROWDED {
            // The change is made, and does not depend on this. Without memory for another table, this one serves.
            let _ = self.resize(table);
        }
    }
}

/// The content of a bucket, with all that its node's maker left undone. `None` if it has changed.
fn bucket_of(place: &Place, word: BucketWord) -> Result<Option<Bucket>> {
    if word.count() == 0 {
        if word.token() != place.segment {
            discard_last(word.token())?;
        }
        return Ok(Some(Bucket::empty()));
    }
    let Some(node) = Node::find(word.token(), Kind::DictBucket)? else {
        return Ok(None);
    };
    let bucket = Bucket::copy(&node)?.map(|bucket| bucket.numbered(place.last_number));
    if let Some(bucket) = &bucket {
        settle(&node, bucket);
    }
    Ok(bucket)
}

/// A value's bytes. `None` if they are gone.
fn value_of(bucket: &Bucket, entry: &Entry) -> Result<Option<ValueBytes>> {
    match entry.value {
        Value::Inline { start, len } => Ok(Some(ValueBytes::new(Words::of(bucket.inline(start, len)), len))),
        Value::Large { token, len } => read_large(token, len),
    }
}

impl BucketChange<'_> {
    /// The entries besides the one found.
    fn others(&self) -> Result<Vec<&[u64]>> {
        let found = self.found.map(|entry| entry.start);
        let mut others = Vec::with_capacity(self.word.count());
        for entry in self.bucket.entries() {
            let entry = entry?;
            if Some(entry.start) != found {
                others.push(self.bucket.words(&entry));
            }
        }
        Ok(others)
    }

    fn intent(&self, fresh: Option<Token>, adds: bool) -> Intent {
        let doomed = self.found.and_then(|entry| match entry.value {
            Value::Large { token, .. } => Some(token.0),
            Value::Inline { .. } => None,
        });
        Intent {
            segment: self.place.segment.0,
            slot: self.place.slot,
            before: if self.word.count() == 0 { 0 } else { self.word.token().0 },
            fresh: fresh.map_or(0, |token| token.0),
            doomed: doomed.unwrap_or(0),
            all_fresh: false,
            // All entries have numbers, so this is the last as long as the word is the same.
            last_number: adds.then(|| self.place.last_number.load(SeqCst)),
        }
    }

    /// Put the draft's node into the table. False if the bucket has changed.
    fn publish(&self, draft: &mut Draft, node: Node, count: usize, intent: Intent) -> bool {
        if intent.fresh == 0 && draft.value.is_some() {
            // This attempt needs no value of its own any more.
            drop(std::mem::take(draft));
        }
        draft.replace(node);
        // DEATH: before this, a survivor frees the node and the value that it adds; afterwards it frees what the node
        // replaces.
        let word = match intent.last_number {
            Some(_) => BucketWord::unnumbered(node.token(), count),
            None => BucketWord::entries(node.token(), count),
        };
        if !self.place.change(self.word, word) {
            return false;
        }
        draft.forget();
        if let Some(before) = intent.last_number {
            // DEATH: before this, the first process that looks at the bucket does it.
            self.dict.number_after(&self.place, before, word);
        }
        node::free(Token(intent.doomed), Kind::DictValue);
        node::free(Token(intent.before), Kind::DictBucket);
        node.hand_over();
        true
    }

    fn remove(&self, entry: &Entry, draft: &mut Draft) -> Result<bool> {
        let others = self.others()?;
        if others.is_empty() {
            let last = self.word.token();
            // DEATH: the word leads to the node, which the next process that changes this bucket frees.
            let is_done = self.place.change(self.word, BucketWord::empty(last));
            if is_done {
                if let Value::Large { token, .. } = entry.value {
                    node::free(token, Kind::DictValue);
                }
                node::free(last, Kind::DictBucket);
            }
            return Ok(is_done);
        }
        let intent = self.intent(None, false);
        let node = make(intent, others.iter().copied(), None)?;
        Ok(self.publish(draft, node, others.len(), intent))
    }

    fn put(&self, key: &Key, bytes: &[u8], draft: &mut Draft) -> Result<bool> {
        let fresh = (bytes.len() > LARGEST_INLINE).then(|| draft.value(bytes)).transpose()?;
        let value = match fresh {
            Some(token) => NewValue::Large {
                token,
                len: bytes.len(),
            },
            None => NewValue::Inline(bytes),
        };
        let new = match &self.found {
            Some(entry) => NewEntry::replaced(self.bucket, entry, key.hash, value),
            None => NewEntry::of(key, value),
        };
        let others = self.others()?;
        if others.len() >= MOST_ENTRIES {
            return Err(FULL);
        }
        let intent = self.intent(fresh, self.found.is_none());
        let node = make(intent, others.iter().copied(), Some(&new))?;
        Ok(self.publish(draft, node, others.len() + 1, intent))
    }
}
