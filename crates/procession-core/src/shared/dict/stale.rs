//! A process that goes on after it was stopped for long: what it knows of the tables, and what it does to those that lie
//! there now.

use super::layout::Dict;
use super::table::{DictTable, Place, TablePurpose};
use super::word::BucketWord;
use super::SharedDict;
use crate::arena::{node, Token};
use crate::ids::{Kind, GENERATION_BITS};
use crate::Error;

/// Log2 of tables that lie in cells where nothing else comes to lie here.
const LOG: u32 = 14;

fn set(dict: &SharedDict, key: u64) -> crate::Result<()> {
    let key = dict.key(&key.to_ne_bytes(), b"").unwrap();
    dict.set(&key, b"x").map(drop)
}

fn is_there(dict: &SharedDict, key: u64) -> bool {
    dict.contains(&dict.key(&key.to_ne_bytes(), b"").unwrap()).unwrap()
}

fn cell(token: Token) -> u64 {
    token.0 >> GENERATION_BITS
}

fn first_table(dict: &SharedDict) -> DictTable {
    dict.0.replace_table(None, LOG, TablePurpose::Size).unwrap().unwrap()
}

/// Dictionaries with a table each, until one of the tables is such.
fn until(is: impl Fn(&DictTable) -> bool) -> (Vec<SharedDict>, DictTable) {
    let mut dicts = Vec::new();
    for _ in 0..200 {
        let dict = SharedDict::create().unwrap();
        let table = first_table(&dict);
        dicts.push(dict);
        if is(&table) {
            return (dicts, table);
        }
    }
    panic!("no memory was used again");
}

/// Do all of a migration but the last steps, as a process does that is killed there.
fn migrate_all(dict: &Dict, old: &DictTable, new: &DictTable) {
    for bucket in 0..old.len() {
        dict.migrate(new, bucket).unwrap();
        if new.purpose == TablePurpose::Snapshot {
            dict.leave(new, old, bucket).unwrap();
        }
    }
    assert!(dict.is_moving(new));
}

#[test]
fn a_table_that_is_gone_has_no_buckets() {
    let dict = SharedDict::create().unwrap();
    let gone = first_table(&dict);
    drop(dict);
    let (_dicts, table) = until(|table| cell(table.token) == cell(gone.token));
    for bucket in [0, 700, gone.len() - 1] {
        assert!(gone.place(bucket).unwrap().is_none());
        assert!(table.place(bucket).unwrap().is_some());
    }
}

/// A dictionary whose table has been freed by a process that did not note it, a bucket of that table, and the bucket of
/// another dictionary that lies there now.
fn stale_bucket(purpose: TablePurpose) -> (SharedDict, [DictTable; 2], Place, Vec<SharedDict>, Place) {
    let dict = SharedDict::create().unwrap();
    let old = first_table(&dict);
    let new = dict.0.replace_table(Some(&old), LOG, purpose).unwrap().unwrap();
    let place = old.place(0).unwrap().unwrap();
    migrate_all(&dict.0, &old, &new);
    old.free();
    let of = |table: &DictTable| {
        let mut places = (0..table.segments()).map(|number| table.place((number * 256) as u64).unwrap().unwrap());
        places.find(|other| cell(other.segment) == cell(place.segment))
    };
    let (dicts, table) = until(|table| of(table).is_some());
    let other = of(&table).unwrap();
    (dict, [old, new], place, dicts, other)
}

#[test]
fn a_bucket_of_another_table_is_not_frozen() {
    let (dict, [_, new], place, _dicts, other) = stale_bucket(TablePurpose::Size);
    assert_eq!(dict.0.freeze(&new, &place).unwrap(), None);
    assert_eq!(other.load(), BucketWord::empty(other.segment));
}

#[test]
fn a_snapshot_whose_table_is_gone_is_taken_anew() {
    let dict = SharedDict::create().unwrap();
    (0..100).for_each(|key| set(&dict, key).unwrap());
    let old = dict.0.table().unwrap().unwrap();
    let new = dict
        .0
        .replace_table(Some(&old), old.log, TablePurpose::Snapshot)
        .unwrap()
        .unwrap();
    migrate_all(&dict.0, &old, &new);
    node::free(old.place(0).unwrap().unwrap().segment, Kind::DictSegment);
    assert!(dict.0.collect_before(&new, true).unwrap().is_none());
    assert_eq!(dict.snapshot().unwrap().items().len(), 100);
}

#[test]
fn what_comes_after_a_clear_that_is_not_done_counts() {
    let dict = SharedDict::create().unwrap();
    (0..200).for_each(|key| set(&dict, key).unwrap());
    let old = dict.0.table().unwrap().unwrap();
    let new = dict
        .0
        .replace_table(Some(&old), old.log, TablePurpose::Clear)
        .unwrap()
        .unwrap();
    (1000..1200).for_each(|key| set(&dict, key).unwrap());
    dict.0.complete(&new).unwrap();
    assert_eq!(dict.0.about_len(), 200);
    assert_eq!(dict.len().unwrap(), 200);
    dict.clear().unwrap();
    assert_eq!(dict.0.about_len(), 0);
}

#[test]
fn a_clear_that_comes_meanwhile_counts_for_those_that_began_before() {
    let dict = SharedDict::create().unwrap();
    (0..200).for_each(|key| set(&dict, key).unwrap());
    let first = dict.0.table().unwrap().unwrap();
    let other = dict
        .0
        .replace_table(Some(&first), first.log, TablePurpose::Clear)
        .unwrap()
        .unwrap();
    // One that began before it has no table of its own, and leaves nothing half done.
    assert!(dict.0.clear(first.token).unwrap());
    assert!(dict.0.is_newest(&other) && !dict.0.is_moving(&other));
    assert_eq!(dict.len().unwrap(), 0);
    // For one that began later it does not count.
    set(&dict, 1).unwrap();
    assert!(dict.0.clear(other.token).unwrap());
    assert!(!dict.0.is_newest(&other));
    assert_eq!(dict.len().unwrap(), 0);
}

#[test]
fn a_count_that_is_wrong_changes_no_table() {
    let dict = SharedDict::create().unwrap();
    (0..5000).for_each(|key| set(&dict, key).unwrap());
    let table = dict.0.table().unwrap().unwrap();
    for wrong in [-4999, 50_000] {
        dict.0.count(3, wrong);
        dict.0.resize(&table).unwrap();
        assert!(dict.0.is_newest(&table));
        assert_eq!(dict.0.about_len(), 5000);
    }
}

#[test]
fn entries_that_a_bucket_has_no_room_for_stay_where_they_are() {
    let dict = SharedDict::create().unwrap();
    // More than 254 for each of 512 buckets.
    let keys = 140_000;
    (0..keys).for_each(|key| set(&dict, key).unwrap());
    let table = dict.0.table().unwrap().unwrap();
    dict.0.complete(&table).unwrap();
    dict.0
        .replace_table(Some(&table), 9, TablePurpose::Size)
        .unwrap()
        .unwrap();
    let full = (keys..keys + 2000).filter(|&key| matches!(set(&dict, key), Err(Error::Exhausted { .. })));
    assert!(full.count() > 1000);
    assert!((0..keys).all(|key| is_there(&dict, key)));
}
