//! A list in one process: against `Vec`, with threads, and what is left of it.

use super::read::{place_in, KnownPages, MOST_COPIED};
use super::SharedList;
use crate::arena::{counters, Counters};
use proptest::prelude::*;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

fn value(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|index| (number as usize + index) as u8).collect()
}

fn all(list: &SharedList) -> Vec<Vec<u8>> {
    let items = list.items(|len| 0..len).unwrap();
    assert_eq!(items.len_of_list() as usize, items.iter().len());
    items.iter().map(<[u8]>::to_vec).collect()
}

fn get(list: &SharedList, index: i64) -> Option<Vec<u8>> {
    list.get(index).unwrap().map(|bytes| bytes.as_slice().to_vec())
}

fn splice(list: &SharedList, range: Range<u64>, values: &[Vec<u8>]) {
    assert!(list.splice(values, |_, _| Some(range.clone())).unwrap());
}

fn push(list: &SharedList, value: &[u8]) {
    assert!(list.splice(&[value], |_, len| Some(len..len)).unwrap());
}

/// What is in use besides lists. The first object of a process makes its reference log.
fn at_rest() -> Counters {
    drop(SharedList::create().unwrap());
    counters().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]
    #[test]
    fn it_is_a_vec(steps in proptest::collection::vec(
        (any::<u64>(), 0..3u64, prop_oneof![0..4usize, 30..70usize, 300..2000usize], 0..4usize, 0..5usize), 0..60)
    ) {
        let before = at_rest();
        let list = SharedList::create().unwrap();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for (at, lost, new, size, kind) in steps {
            let len = model.len() as u64;
            // At the end, at the beginning, or anywhere; a few items, or as many as come.
            let start = match kind { 0 => len, 1 => 0, _ => at % (len + 1) };
            let lost = [lost, new as u64, len][kind % 3].min(len - start);
            let sizes = [3, 8, 128, 129];
            let new: Vec<_> = (0..new as u64 / (1 + lost % 4))
                .map(|number| value(at.wrapping_add(number), sizes[(number as usize + size) % 4])).collect();
            splice(&list, start..start + lost, &new);
            model.splice(start as usize..(start + lost) as usize, new);
            prop_assert_eq!(list.len().unwrap(), model.len() as u64);
            for index in [0, -1, start as i64, (at % 3000) as i64, -((at % 3000) as i64)] {
                let expected = place_in(index, model.len() as u64).map(|at| model[at as usize].clone());
                prop_assert_eq!(get(&list, index), expected);
            }
        }
        prop_assert_eq!(&all(&list), &model);
        for range in [3..40u64, 0..0, 100..5000] {
            let some = list.items(|_| range.clone()).unwrap();
            let end = (range.end as usize).min(model.len());
            let expected = &model[(range.start as usize).min(end)..end];
            prop_assert!(some.iter().eq(expected.iter().map(Vec::as_slice)));
        }
        drop(list);
        prop_assert_eq!(counters().unwrap(), before);
    }
}

#[test]
fn many_items_come_one_by_one_and_go_and_leave_nothing() {
    const MANY: u64 = 20_000;
    let before = at_rest();
    let list = SharedList::create().unwrap();
    for number in 0..MANY {
        push(&list, &number.to_ne_bytes());
    }
    for number in (0..MANY).step_by(97) {
        assert_eq!(get(&list, number as i64), Some(number.to_ne_bytes().to_vec()));
    }
    let full = counters().unwrap();
    assert!(
        full.transit - before.transit < MANY as usize / 28,
        "leaves are not full: {full:?}"
    );
    // From the middle, so that leaves and nodes above them are joined.
    for number in 0..MANY - 20 {
        splice(&list, (MANY - number) / 2..(MANY - number) / 2 + 1, &[]);
    }
    assert_eq!(list.len().unwrap(), 20);
    let left = counters().unwrap();
    assert!(left.transit - before.transit < 20, "{left:?} {before:?}");
    drop(list);
    assert_eq!(counters().unwrap(), before);
}

#[test]
fn a_version_is_a_content() {
    let list = SharedList::create().unwrap();
    push(&list, b"a");
    let (version, _) = list.look(0).unwrap().unwrap();
    assert_eq!(list.items(|len| 0..len).unwrap().version(), version);
    let replace = |by: &[u8]| list.splice(&[by], |now, _| (now == version).then_some(0..1)).unwrap();
    assert!(replace(b"b"));
    assert!(!replace(b"c"), "it has changed");
    splice(&list, 0..1, &[b"a".to_vec()]);
    assert!(!replace(b"c"), "it has changed, and changed back");
    assert_eq!(all(&list), [b"a"]);
}

#[test]
fn no_change_is_lost_between_threads_and_each_look_is_one_moment() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 3000;
    let before = at_rest();
    let list = SharedList::create().unwrap();
    // The first two items are moved between, and have the same sum at any moment; the third counts.
    splice(&list, 0..0, &[1000u64, 1000, 0].map(|n| n.to_ne_bytes().to_vec()));
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let (ended, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let changers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let list = &list;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        loop {
                            let items = list.items(|_| 0..3).unwrap();
                            let [one, other, count] =
                                <[u64; 3]>::try_from(items.iter().map(number).collect::<Vec<_>>()).unwrap();
                            let new = [one - 1 + 2 * (round % 2), other + 1 - 2 * (round % 2), count + 1];
                            let new = new.map(u64::to_ne_bytes);
                            if list
                                .splice(&new, |now, _| (now == items.version()).then_some(0..3))
                                .unwrap()
                            {
                                break;
                            }
                        }
                        push(
                            list,
                            &value(thread << 32 | round, if round % 16 == 0 { 400 } else { 8 }),
                        );
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !ended.load(Relaxed) {
                let items = list.items(|len| 0..len).unwrap();
                let values: Vec<_> = items.iter().collect();
                assert_eq!(number(values[0]) + number(values[1]), 2000);
                assert!(values.len() as u64 - 3 <= number(values[2]));
                assert_eq!(values.len() as u64, items.len_of_list());
                looks.fetch_add(1, Relaxed);
            }
        });
        let results: Vec<_> = changers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.store(true, Relaxed);
        for result in results {
            result.unwrap();
        }
    });
    let items = all(&list);
    assert_eq!(number(&items[2]), THREADS * ROUNDS);
    let mut added = items[3..].to_vec();
    let mut expected: Vec<_> = (0..THREADS)
        .flat_map(|thread| (0..ROUNDS).map(move |round| (thread << 32 | round, round)))
        .map(|(name, round)| value(name, if round % 16 == 0 { 400 } else { 8 }))
        .collect();
    added.sort();
    expected.sort();
    assert_eq!(added, expected);
    drop(list);
    assert_eq!(counters().unwrap(), before);
}

/// An attempt that begins anew copies only the nodes that a change has replaced.
#[test]
fn a_look_beside_changes_copies_each_node_once() {
    let list = SharedList::create().unwrap();
    let values: Vec<[u8; 8]> = (0..10_000u64).map(u64::to_ne_bytes).collect();
    list.splice(&values, |_, len| Some(len..len)).unwrap();
    let nodes = |known: &KnownPages| known.len();
    let mut quiet = KnownPages::default();
    assert_eq!(
        list.try_items(&mut quiet, |len| 0..len).unwrap().unwrap().iter().len(),
        10_000
    );

    let changes = Cell::new(0);
    let mut known = KnownPages::default();
    let items = list.try_items(&mut known, |len| {
        if changes.replace(changes.get() + 1) < 20 {
            assert!(list.splice(&[[1; 8]], |_, len| Some(len..len)).unwrap());
        }
        0..len
    });
    assert_eq!(items.unwrap().unwrap().iter().len(), 10_020);
    assert_eq!(changes.get(), 21);
    assert!(nodes(&known) <= nodes(&quiet) + 20 * 4, "{} nodes", nodes(&known));
}

/// A long list is copied in several calls, between which its reader may give up.
#[test]
fn a_long_look_pauses_and_goes_on() {
    let list = SharedList::create().unwrap();
    let values: Vec<[u8; 1]> = vec![[7]; 40 * MOST_COPIED];
    list.splice(&values, |_, len| Some(len..len)).unwrap();
    let mut known = KnownPages::default();
    let mut calls = 1;
    while list.try_items(&mut known, |len| 0..len).unwrap().is_none() {
        calls += 1;
    }
    assert!((2..4).contains(&calls), "{calls} calls");
}
