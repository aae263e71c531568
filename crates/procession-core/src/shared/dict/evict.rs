//! A dictionary with a bound loses its oldest entries.
//!
//! Each process knows a part of the oldest entries, in order, from the last time that it looked at all of them. No entry
//! that comes later is older than these. So the first of them that is still there is the oldest of all. Nothing of this
//! is shared.

use super::super::bytes::room;
use super::bucket::Bucket;
use super::key::hash;
use super::layout::Dict;
use super::table::{DictTable, DAMAGED};
use crate::arena::node::Node;
use crate::ids::Kind;
use crate::sync::primitive::Ordering::Relaxed;
use crate::Result;

/// One in so many entries is remembered as one of the oldest.
const PART: usize = 4;
/// How often a table that is replaced meanwhile is looked at anew, before that is left to the next change.
const ROUNDS: usize = 8;

/// An entry, by its number and its key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aged {
    pub number: u64,
    pub hash: u64,
}

/// Some of the oldest entries of a dictionary; the last is the oldest.
pub(super) trait Oldest {
    /// Take the last one out.
    fn pop(&self) -> Option<Aged>;
    /// Remember these in the place of the others.
    fn keep(&self, found: Vec<Aged>);
}

impl Dict {
    /// Remove the oldest entries while there are more than there may be.
    pub(super) fn evict(&self, oldest: &impl Oldest) -> Result<()> {
        let mut looks = 0;
        while self.claim_excess() {
            // DEATH: the count is one too low: see `recount`.
            let removed = self.remove_oldest(oldest);
            if let Ok(true) = removed {
                continue;
            }
            self.count(0, 1);
            if removed.is_err() {
                // The entry that was taken out is the oldest still.
                oldest.keep(Vec::new());
            }
            removed?;
            looks += 1;
            if looks > ROUNDS {
                break;
            }
            if let Some(found) = self.find_oldest()? {
                oldest.keep(found);
            }
        }
        Ok(())
    }

    /// Remove the oldest of the entries that are known and there still. False if there is none.
    fn remove_oldest(&self, oldest: &impl Oldest) -> Result<bool> {
        while let Some(Aged { number, hash }) = oldest.pop() {
            if self.remove_numbered(hash, number)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Look at all entries. `None` if the table was replaced meanwhile.
    pub(super) fn find_oldest(&self) -> Result<Option<Vec<Aged>>> {
        let last = self.last_number();
        let Some(table) = self.table()? else { return Ok(None) };
        self.complete(&table)?;
        let Some(len) = self.recount(&table)? else {
            return Ok(None);
        };
        let mut all = room(len as usize)?;
        for number in 0..table.segments() {
            if !self.look_at(&table, number, last, &mut all)? || !self.is_newest(&table) {
                return Ok(None);
            }
        }
        let part = (all.len() / PART).max(1).min(all.len());
        if part < all.len() {
            all.select_nth_unstable(part);
        }
        all.truncate(part);
        all.shrink_to_fit();
        let mut oldest = all;
        oldest.sort_unstable_by(|one, other| other.cmp(one));
        Ok(Some(oldest))
    }

    /// Add the entries of a segment that have a number up to `last`: later ones are perhaps not found. False if the table
    /// is gone.
    fn look_at(&self, table: &DictTable, number: usize, last: u64, all: &mut Vec<Aged>) -> Result<bool> {
        let Some((token, segment)) = table.segment(number)? else {
            return Ok(false);
        };
        let seed = self.seed.load(Relaxed);
        for slot in 0..segment.words.len() {
            let place = segment.place(token, slot);
            loop {
                let Some(word) = place.load_own()? else {
                    return Ok(false);
                };
                if word.is_unnumbered() {
                    self.number(&place, word)?;
                    continue;
                }
                if word.count() == 0 {
                    break;
                }
                let node = Node::find(word.token(), Kind::DictBucket)?;
                let bucket = node.map_or(Ok(None), |node| Bucket::copy(&node))?;
                let bucket = bucket.map(|bucket| bucket.numbered(place.last_number));
                let is_same = place.load() == word;
                let Some(bucket) = bucket.filter(|_| is_same) else {
                    // A node is gone only if its word has changed.
                    if is_same {
                        return Err(DAMAGED);
                    }
                    continue;
                };
                for entry in bucket.entries() {
                    let entry = entry?;
                    // There is room: entries with such numbers were there when they were counted.
                    if entry.sequence <= last && all.len() < all.capacity() {
                        all.push(Aged {
                            number: entry.sequence,
                            hash: hash(seed, bucket.key_bytes(&entry)),
                        });
                    }
                }
                break;
            }
        }
        Ok(true)
    }
}
