//! How entries come from one table into the next. Any process helps; none waits.
//!
//! A *unit* is the least set of buckets of both tables whose entries lie in each other: of a table that doubles, one
//! bucket and the two that its entries go to. A unit is migrated in four steps, each of which may be repeated by any
//! process: freeze the old buckets; copy their entries into nodes for the new buckets; free the old nodes; mark the old
//! buckets as moved.

use super::bucket::{discard_last, Bucket, Intent, Value};
use super::key::hash;
use super::layout::Dict;
use super::making::{make, make_value};
use super::read::read_large;
use super::recover::settle;
use super::table::{DictTable, Finder, Place, TablePurpose, DAMAGED, FULL, LEAST_LOG, MOST_LOG};
use super::word::{BucketWord, MOST_ENTRIES};
use crate::arena::node::{self, Node};
use crate::arena::Token;
use crate::family;
use crate::ids::{Handle, Kind};
use crate::liveness::is_alive;
use crate::sync::primitive::Ordering::{Relaxed, SeqCst};
use crate::Result;

/// Units that a process migrates before each of its own changes.
const STEP: u64 = 4;

impl Dict {
    /// The newest table, made if there is none.
    pub(super) fn table_to_change(&self) -> Result<DictTable> {
        loop {
            if let Some(table) = self.table()? {
                return Ok(table);
            }
            self.replace_table(None, LEAST_LOG, TablePurpose::Size)?;
        }
    }

    /// Make a table of 2^`log` buckets the newest, unless another process replaces the table `old`. All entries must
    /// have come into `old`. Returns the table if it became the newest.
    pub(super) fn replace_table(
        &self,
        old: Option<&DictTable>,
        log: u32,
        purpose: TablePurpose,
    ) -> Result<Option<DictTable>> {
        let before = old.map_or(Token(0), |table| table.token);
        let Some(handle) = Handle::from_bits(self.handle.load(Relaxed)) else {
            return Err(DAMAGED);
        };
        let new = DictTable::make(handle, log, purpose, before, family()?.me())?;
        if let Some(old) = old {
            // Its maker may have died after it became the newest.
            old.hand_over();
        }
        // DEATH: before this, a survivor frees the new table; afterwards it finds it to be the newest.
        if self
            .head
            .compare_exchange(before.0, new.token.0, SeqCst, Relaxed)
            .is_ok()
        {
            new.hand_over();
            return Ok(Some(new));
        }
        new.free();
        Ok(None)
    }

    /// Replace a table by one for as many entries as there are, if it is far too small or too large.
    pub(super) fn resize(&self, table: &DictTable) -> Result<()> {
        if table.purpose == TablePurpose::Snapshot && self.is_moving(table) && !table.maker().is_some_and(is_alive) {
            self.complete(table)?;
        }
        let len = self.about_len();
        if wanted(table, len).is_none() {
            return Ok(());
        }
        if self.is_moving(table) {
            let is_kept = match table.purpose {
                // The table before belongs to a snapshot that is being taken, unless there is hardly any room left.
                TablePurpose::Snapshot => len <= 4 * table.len(),
                TablePurpose::Size | TablePurpose::Clear | TablePurpose::Seal => {
                    position(self.cursor.load(Relaxed), table) < table.units()?
                }
            };
            if is_kept {
                return Ok(());
            }
        }
        self.complete(table)?;
        // The count is a hint.
        let wanted = self.recount(table)?.and_then(|len| wanted(table, len));
        wanted.map_or(Ok(()), |log| {
            self.replace_table(Some(table), log, TablePurpose::Size).map(drop)
        })
    }

    /// Freeze all of the table before, if that comes before everything else.
    pub(super) fn make_cut(&self, table: &DictTable) -> Result<()> {
        if !table.purpose.is_cut() || self.is_cut(table) {
            return Ok(());
        }
        let known = self.cut.load(SeqCst);
        let Some(old) = self.table_before(table)? else {
            return Ok(());
        };
        let mut finder = Finder::new(old);
        for number in 0..old.segments() {
            let Some(buckets) = old.buckets_where(number, |word| !word.is_frozen())? else {
                return Ok(());
            };
            for bucket in buckets {
                let Some(place) = finder.place(bucket)? else {
                    return Ok(());
                };
                if self.freeze(table, &place)?.is_none() {
                    return Ok(());
                }
            }
        }
        if self.is_newest(table) {
            // On failure another process did it.
            let _ = self.cut.compare_exchange(known, table.token.0, SeqCst, Relaxed);
        }
        Ok(())
    }

    /// Do a share of the migration to the newest table.
    pub(super) fn help(&self, table: &DictTable) -> Result<()> {
        if !self.is_moving(table) {
            return Ok(());
        }
        let Some(old) = self.table_before(table)? else {
            return Ok(());
        };
        let units = table.len().min(old.len());
        let now = self.cursor.load(Relaxed);
        let (mine, start) = (table.token.0 << 32, position(now, table));
        if start >= units {
            return Ok(());
        }
        let end = (start + STEP).min(units);
        if self.cursor.compare_exchange(now, mine | end, Relaxed, Relaxed).is_err() {
            return Ok(());
        }
        // DEATH: units that were taken on and not migrated are migrated by the first change of one of their buckets,
        // or by the next process that needs all of them.
        self.make_cut(table)?;
        let (mut from, mut to) = (Finder::new(old), Finder::new(*table));
        for unit in start..end {
            self.migrate_from(&mut from, &mut to, unit)?;
        }
        if end == units && table.purpose != TablePurpose::Snapshot {
            self.complete(table)?;
        }
        Ok(())
    }

    /// The table before the newest one. `None` if it is not needed any more: all entries have come over, or the table is
    /// not the newest any more.
    pub(super) fn table_before(&self, table: &DictTable) -> Result<Option<DictTable>> {
        let old = DictTable::open(table.before)?;
        Ok(old.filter(|_| self.is_newest(table) && self.is_moving(table)))
    }

    /// Migrate everything, and free the table before.
    pub(super) fn complete(&self, table: &DictTable) -> Result<()> {
        if !self.is_moving(table) {
            return Ok(());
        }
        let known = self.complete.load(SeqCst);
        if let Some(old) = DictTable::open(table.before)? {
            self.make_cut(table)?;
            let (mut from, mut to) = (Finder::new(old), Finder::new(*table));
            for number in 0..old.segments() {
                // Segments are freed when everything has moved.
                for bucket in old
                    .buckets_where(number, |word| !word.is_moved())?
                    .into_iter()
                    .flatten()
                {
                    self.migrate_from(&mut from, &mut to, bucket)?;
                    if table.purpose == TablePurpose::Snapshot {
                        self.leave(table, &old, bucket)?;
                    }
                }
            }
            for number in 0..old.segments() {
                let left = old.buckets_where(number, |word| !word.is_moved())?;
                let is_done = left.is_none_or(|left| left.is_empty());
                if !self.is_newest(table) || !self.is_moving(table) {
                    return Ok(());
                }
                if !is_done {
                    return Err(DAMAGED);
                }
            }
            // DEATH: a survivor finds all units moved, and frees what is left.
            old.free();
        }
        if self.is_newest(table) {
            // On failure another process did it.
            let _ = self.complete.compare_exchange(known, table.token.0, SeqCst, Relaxed);
        }
        Ok(())
    }

    /// Free what a snapshot kept of a bucket, after it was copied.
    pub(super) fn leave(&self, table: &DictTable, old: &DictTable, bucket: u64) -> Result<()> {
        let Some(place) = old.place(bucket)? else {
            return Ok(());
        };
        let Some(word) = place.load_own()? else { return Ok(()) };
        if self.is_newest(table) && self.is_moving(table) && self.is_cut(table) && !word.is_moved() {
            discard_last(word.token())?;
            place.change(word, BucketWord::moved(place.segment));
        }
        Ok(())
    }

    /// Migrate the unit that a bucket belongs to. Does nothing if the table is not the newest any more.
    pub(super) fn migrate(&self, table: &DictTable, bucket: u64) -> Result<()> {
        self.make_cut(table)?;
        match self.table_before(table)? {
            Some(old) => self.migrate_from(&mut Finder::new(old), &mut Finder::new(*table), bucket),
            None => Ok(()),
        }
    }

    /// As [`migrate`](Self::migrate), after the cut, if there is to be one.
    fn migrate_from(&self, from: &mut Finder, to: &mut Finder, bucket: u64) -> Result<()> {
        let (old, table) = (from.table, &{ to.table });
        if table.purpose.is_cut() && !self.is_cut(table) {
            return Ok(());
        }
        let units = table.len().min(old.len());
        let unit = bucket & (units - 1);
        let of = |table: &DictTable| (unit..table.len()).step_by(units as usize);
        let mut parents = Vec::with_capacity(2);
        for number in of(&old) {
            let Some(place) = from.place(number)? else {
                return Ok(());
            };
            let Some(word) = self.freeze(table, &place)? else {
                return Ok(());
            };
            parents.push((place, word));
        }
        if parents.iter().all(|(_, word)| word.is_moved()) {
            return Ok(());
        }
        let is_cleared = table.purpose == TablePurpose::Clear;
        let mut buckets = Vec::with_capacity(2);
        for (place, word) in &parents {
            if word.count() == 0 {
                if !word.is_moved() && word.token() != place.segment {
                    discard_last(word.token())?;
                }
                continue;
            }
            // A node that is gone was freed by a process that had migrated this unit.
            let Some(node) = Node::find(word.token(), Kind::DictBucket)? else {
                continue;
            };
            let Some(bucket) = Bucket::copy(&node)? else { continue };
            settle(&node, &bucket);
            if is_cleared {
                discard_last(word.token())?;
            } else {
                buckets.push(bucket.numbered(place.last_number));
            }
        }
        let seed = self.seed.load(Relaxed);
        for number in of(table) {
            let Some(place) = to.place(number)? else { return Ok(()) };
            if place.load() == BucketWord::unmade(place.segment) {
                let copies_values = table.purpose == TablePurpose::Snapshot;
                let belongs = |bytes: &[u8]| hash(seed, bytes) & (table.len() - 1) == number;
                fill(&place, &buckets, belongs, copies_values)?;
                // What the table before has of it must not be freed.
                if place.load() == BucketWord::unmade(place.segment) {
                    return Err(DAMAGED);
                }
            }
        }
        if table.purpose == TablePurpose::Snapshot {
            return Ok(());
        }
        for (place, word) in parents.iter().filter(|(_, word)| !word.is_moved()) {
            if word.count() != 0 && !is_cleared {
                node::free(word.token(), Kind::DictBucket);
            }
            // DEATH: before this a survivor migrates the unit once more, and finds it done.
            if place.change(*word, BucketWord::moved(place.segment)) && is_cleared {
                self.count(unit as usize, -(word.count() as i64));
            }
        }
        Ok(())
    }

    /// Freeze a bucket of the table before. `None` if the table is not the newest any more.
    pub(super) fn freeze(&self, table: &DictTable, place: &Place) -> Result<Option<BucketWord>> {
        loop {
            let Some(word) = place.load_own()? else {
                return Ok(None);
            };
            if !self.is_newest(table) || !self.is_moving(table) {
                return Ok(None);
            }
            if word.is_frozen() {
                return Ok(Some(word));
            }
            if word.is_unnumbered() {
                self.number(place, word)?;
                continue;
            }
            if word.is_unmade() || !word.is_valid() {
                return Err(DAMAGED);
            }
            if place.change(word, word.frozen()) {
                return Ok(Some(word.frozen()));
            }
        }
    }
}

/// The size that a table should have with so many entries, as log2. `None` if it has it.
///
/// A table shrinks to no less than an eighth: however many entries come before the smaller one is the newest, as long as
/// they fit the larger one a bucket has room for them.
fn wanted(table: &DictTable, len: u64) -> Option<u32> {
    let (buckets, log) = (table.len(), table.log);
    if len > buckets && log < MOST_LOG {
        Some(log + 1)
    } else if len < buckets / 8 && log > LEAST_LOG {
        let fits = (2 * len).max(1).next_power_of_two().ilog2();
        Some(fits.max(log - 3).max(LEAST_LOG))
    } else {
        None
    }
}

/// How many units of a table's migration have been taken on, by the cursor.
fn position(cursor: u64, table: &DictTable) -> u64 {
    let is_mine = cursor >> 32 == table.token.0 & u64::from(u32::MAX);
    if is_mine {
        cursor & u64::from(u32::MAX)
    } else {
        0
    }
}

/// Fill a new bucket with those entries that belong to it, unless another process does. Values with a node of their own
/// are copied if the old bucket keeps them.
fn fill(place: &Place, buckets: &[Bucket], belongs: impl Fn(&[u8]) -> bool, copies_values: bool) -> Result<()> {
    let mut values = Values::default();
    let copies;
    let mut buckets = buckets;
    if copies_values && buckets.iter().any(|bucket| bucket.large().next().is_some()) {
        let mut own = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let Some(bucket) = values.copy(bucket)? else {
                return Ok(());
            };
            own.push(bucket);
        }
        copies = own;
        buckets = &copies;
    }
    let mut kept = Vec::new();
    for bucket in buckets {
        for entry in bucket.entries() {
            let entry = entry?;
            if belongs(bucket.key_bytes(&entry)) {
                kept.push(bucket.words(&entry));
            }
        }
    }
    if kept.len() > MOST_ENTRIES {
        return Err(FULL);
    }
    let unmade = BucketWord::unmade(place.segment);
    if kept.is_empty() {
        place.change(unmade, BucketWord::empty(place.segment));
        return Ok(());
    }
    let intent = Intent {
        segment: place.segment.0,
        slot: place.slot,
        all_fresh: !values.0.is_empty(),
        ..Intent::default()
    };
    let node = make(intent, kept.iter().copied(), None)?;
    // DEATH: from here on a survivor finds the values through the node.
    values.0.iter().for_each(Node::hand_over);
    // DEATH: a survivor finds whether the table names the node.
    if place.change(unmade, BucketWord::entries(node.token(), kept.len())) {
        values.0.clear();
        node.hand_over();
    } else {
        drop(values);
        node.free();
    }
    Ok(())
}

/// Copies of values that no table names yet. Freed when dropped.
#[derive(Default)]
struct Values(Vec<Node>);

impl Drop for Values {
    fn drop(&mut self) {
        self.0.iter().for_each(Node::free);
    }
}

impl Values {
    /// The same bucket with copies of its values that have a node of their own. `None` if one of them is gone: then
    /// the bucket has been migrated.
    fn copy(&mut self, bucket: &Bucket) -> Result<Option<Bucket>> {
        let first = self.0.len();
        for entry in bucket.entries() {
            let Value::Large { token, len } = entry?.value else {
                continue;
            };
            let Some(bytes) = read_large(token, len)? else {
                return Ok(None);
            };
            self.0.push(make_value(bytes.as_slice())?);
        }
        let tokens: Vec<Token> = self.0[first..].iter().map(Node::token).collect();
        Ok(Some(bucket.with_large(&tokens)))
    }
}
