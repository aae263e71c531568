//! The order of entries by age, and what a bound removes.

use super::table::{TablePurpose, LEAST_LOG};
use super::{Change, Done, Key, SharedDict};
use crate::ids::Kind;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::VecDeque;

fn key(dict: &SharedDict, name: u64) -> Key {
    dict.key(&name.to_ne_bytes(), b"").unwrap()
}

fn set(dict: &SharedDict, name: u64) -> Done {
    dict.set(&key(dict, name), b"value").unwrap()
}

fn names(dict: &SharedDict) -> Vec<u64> {
    let snapshot = dict.snapshot().unwrap();
    let name = |item| u64::from_ne_bytes(snapshot.parts(item)[0].try_into().unwrap());
    snapshot.items().iter().map(name).collect()
}

/// Two names of one bucket.
fn of_one_bucket(dict: &SharedDict) -> [u64; 2] {
    let bucket = |name: &u64| key(dict, *name).hash & ((1 << LEAST_LOG) - 1);
    let other = (1..10_000).find(|name| bucket(name) == bucket(&0));
    [0, other.unwrap()]
}

#[test]
fn an_entry_that_comes_late_is_younger_than_those_that_were_seen_without_it() {
    let dict = SharedDict::create().unwrap();
    let [late, beside] = of_one_bucket(&dict);
    let early = beside + 1;
    let mut attempts = 0;
    let done = dict.change(&key(&dict, late), |_| {
        attempts += 1;
        match attempts {
            // The attempt is in vain: its bucket changes.
            1 => assert_eq!(set(&dict, beside), Done::Added),
            _ => assert_eq!(set(&dict, early), Done::Added),
        }
        assert!(!names(&dict).contains(&late));
        Change::Put(Cow::Borrowed(b"late"))
    });
    assert_eq!((done.unwrap(), attempts), (Done::Added, 2));
    assert_eq!(names(&dict), [beside, early, late]);
}

/// Publish a new entry as a process does that is stopped before the entry has a number.
fn publish_unnumbered(dict: &SharedDict, name: u64) {
    let key = key(dict, name);
    let table = dict.0.table().unwrap().unwrap();
    let place = table.place(key.hash).unwrap().unwrap();
    let word = place.load();
    assert_eq!(word.count(), 0);
    let intent = super::bucket::Intent {
        segment: place.segment.0,
        slot: place.slot,
        last_number: Some(place.last_number.load(std::sync::atomic::Ordering::SeqCst)),
        ..Default::default()
    };
    let new = super::making::NewEntry::of(&key, super::making::NewValue::Inline(b"value"));
    let node = super::making::make(intent, std::iter::empty(), Some(&new)).unwrap();
    assert!(place.change(word, super::word::BucketWord::unnumbered(node.token(), 1)));
}

/// A look at a dictionary, which finds an entry or the number of entries.
type Look = fn(&SharedDict, u64);

#[test]
fn whatever_finds_an_entry_gives_it_its_place() {
    let looks: [Look; 8] = [
        |dict, name| assert!(dict.contains(&key(dict, name)).unwrap()),
        |dict, name| assert!(dict.get(&key(dict, name)).unwrap().is_some()),
        |dict, name| assert_eq!(set(dict, name), Done::Replaced),
        |dict, name| assert_eq!(dict.change(&key(dict, name), |_| Change::Keep).unwrap(), Done::Kept),
        |dict, _| assert_eq!(dict.len().unwrap(), 2),
        |dict, _| assert_eq!(names(dict).len(), 2),
        |dict, _| assert_eq!(dict.snapshot_by_freezing().unwrap().items().len(), 2),
        |dict, _| {
            let table = dict.0.table().unwrap().unwrap();
            let new = dict
                .0
                .replace_table(Some(&table), LEAST_LOG + 1, TablePurpose::Size)
                .unwrap();
            dict.0.complete(&new.unwrap()).unwrap();
        },
    ];
    for (number, look) in looks.into_iter().enumerate() {
        let dict = SharedDict::create().unwrap();
        set(&dict, 0);
        let bucket = |name: u64| key(&dict, name).hash & 1023;
        let mut others = (1..).filter(|&name| bucket(name) != bucket(0));
        let late = others.next().unwrap();
        let younger = others.find(|&name| bucket(name) != bucket(late)).unwrap();
        publish_unnumbered(&dict, late);
        look(&dict, late);
        set(&dict, younger);
        assert_eq!(names(&dict), [0, late, younger], "look {number}");
        let found = dict.snapshot_by_freezing().unwrap();
        assert_eq!(found.items().len(), 3);
        assert_eq!(names(&dict), [0, late, younger], "look {number}");
    }
}

#[test]
fn the_last_number_of_a_bucket_comes_once() {
    let dict = SharedDict::create().unwrap();
    set(&dict, 0);
    let table = dict.0.table().unwrap().unwrap();
    let place = table.place(key(&dict, 0).hash).unwrap().unwrap();
    let load = || place.last_number.load(std::sync::atomic::Ordering::SeqCst);
    let (old, word) = (load(), place.load());
    let node = crate::arena::node::Node::find(word.token(), Kind::DictBucket)
        .unwrap()
        .unwrap();
    let before = super::bucket::last_number_before(&node).unwrap();
    // A process that was stopped before it gave the entry its number: the entry has one.
    dict.0.number_after(&place, before, word);
    assert_eq!((load(), place.load()), (old, word));
}

proptest! {
    #[test]
    fn a_bound_removes_the_oldest(
        most in 1..40usize,
        steps in proptest::collection::vec((0..80u64, 0..5u8), 0..400),
    ) {
        let dict = SharedDict::bounded(most as u64).unwrap();
        let mut expected = VecDeque::new();
        for (name, way) in steps {
            if way == 0 {
                dict.remove(&key(&dict, name)).unwrap();
                expected.retain(|&other| other != name);
                continue;
            }
            if set(&dict, name) == Done::Added {
                expected.push_back(name);
            }
            if expected.len() > most {
                expected.pop_front();
            }
            prop_assert!(dict.len().unwrap() <= most);
        }
        prop_assert_eq!(names(&dict), Vec::from(expected));
    }
}

#[test]
fn a_bound_holds_with_threads_and_after_a_wrong_count() {
    let most = 5000;
    let dict = SharedDict::bounded(most).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let dict = SharedDict::attach(dict.handle()).unwrap();
            scope.spawn(move || {
                for number in 0..20_000 {
                    assert_eq!(set(&dict, thread << 32 | number), Done::Added);
                }
            });
        }
    });
    let found = names(&dict);
    assert_eq!(found.len() as u64, most);
    // Each thread's entries are in its order, and its last one is there.
    for thread in 0..4 {
        let mine: Vec<u64> = found.iter().copied().filter(|name| name >> 32 == thread).collect();
        assert!(mine.is_sorted());
    }
    for (thread, wrong) in [(4, -100), (5, 100)] {
        dict.0.count(0, wrong);
        // The count is corrected when a process looks at all entries.
        for number in 0..2 * most {
            assert_eq!(set(&dict, thread << 32 | number), Done::Added);
        }
        assert_eq!(dict.len().unwrap() as u64, most);
    }
}
