//! A dictionary in one process: against `BTreeMap`, with threads, across sizes, and what is left of it.

use super::table::TablePurpose;
use super::{Change, Done, SharedDict};
use crate::arena::{counters, current, Block, Counters};
use crate::Error;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn set(dict: &SharedDict, key: u64, value: &[u8]) -> Done {
    dict.set(&dict.key(&key.to_ne_bytes(), b"").unwrap(), value).unwrap()
}

fn get(dict: &SharedDict, key: u64) -> Option<Vec<u8>> {
    let found = dict.get(&dict.key(&key.to_ne_bytes(), b"").unwrap()).unwrap();
    found.map(|bytes| bytes.as_slice().to_vec())
}

fn remove(dict: &SharedDict, key: u64) -> Done {
    let key = dict.key(&key.to_ne_bytes(), b"").unwrap();
    dict.change(&key, |_| Change::Remove).unwrap()
}

fn all(dict: &SharedDict) -> Vec<(u64, Vec<u8>)> {
    let snapshot = dict.snapshot().unwrap();
    let item = |item| {
        let [key, form, value] = snapshot.parts(item);
        assert_eq!(form, b"");
        (u64::from_ne_bytes(key.try_into().unwrap()), value.to_vec())
    };
    snapshot.items().iter().map(item).collect()
}

/// What is in use besides dictionaries. The first object of a process makes its reference log.
fn at_rest() -> Counters {
    drop(SharedDict::create().unwrap());
    counters().unwrap()
}

/// A value of this many bytes that can be told from others.
fn value(key: u64, len: usize) -> Vec<u8> {
    (0..len).map(|index| (key as usize + index) as u8).collect()
}

/// Keys of a dictionary that grows.
const MANY: u64 = 30_000;
/// Keys of a dictionary that keeps its size, in about as many buckets.
const KEYS: u64 = 2000;
/// How often each thread changes each key.
const ROUNDS: u64 = 7;

/// Set when dropped, also by a panic: the test is over.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A step of a history.
#[derive(Clone, Debug)]
enum DictStep {
    Set(u64, usize),
    Remove(u64),
    Append(u64, usize),
}

fn step() -> impl Strategy<Value = DictStep> {
    let key = 0..40u64;
    let len = prop_oneof![0..40usize, 1020..1030usize, 4000..9000usize];
    prop_oneof![
        (key.clone(), len.clone()).prop_map(|(key, len)| DictStep::Set(key, len)),
        key.clone().prop_map(DictStep::Remove),
        (key, len).prop_map(|(key, len)| DictStep::Append(key, len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn it_is_a_map(steps in proptest::collection::vec(step(), 0..120)) {
        let before = at_rest();
        let dict = SharedDict::create().unwrap();
        let (mut model, mut order) = (BTreeMap::new(), Vec::new());
        for step in steps {
            let key = match step { DictStep::Set(key, _) | DictStep::Remove(key) | DictStep::Append(key, _) => key };
            let there = model.contains_key(&key);
            match step {
                DictStep::Set(key, len) => {
                    let expected = if there { Done::Replaced } else { Done::Added };
                    prop_assert_eq!(set(&dict, key, &value(key, len)), expected);
                    model.insert(key, value(key, len));
                }
                DictStep::Remove(key) => {
                    prop_assert_eq!(remove(&dict, key), if there { Done::Removed } else { Done::Kept });
                    model.remove(&key);
                }
                DictStep::Append(key, len) => {
                    let expected = model.entry(key).or_default();
                    let name = dict.key(&key.to_ne_bytes(), b"").unwrap();
                    dict.change(&name, |now| {
                        let mut now = now.map_or(Vec::new(), <[u8]>::to_vec);
                        now.extend(value(len as u64, len));
                        Change::Put(Cow::Owned(now))
                    }).unwrap();
                    expected.extend(value(len as u64, len));
                }
            }
            if !model.contains_key(&key) {
                order.retain(|&other| other != key);
            } else if !there {
                order.push(key);
            }
            prop_assert_eq!(get(&dict, key), model.get(&key).cloned());
        }
        let expected: Vec<_> = order.iter().map(|key| (*key, model[key].clone())).collect();
        prop_assert_eq!(all(&dict), expected);
        prop_assert_eq!(dict.len().unwrap(), model.len());
        drop(dict);
        prop_assert_eq!(counters().unwrap(), before);
    }
}

#[test]
fn it_grows_and_shrinks_and_leaves_nothing() {
    let before = at_rest();
    let dict = SharedDict::create().unwrap();
    for key in 0..MANY {
        assert_eq!(set(&dict, key, &key.to_ne_bytes()), Done::Added);
    }
    assert!(dict.0.table().unwrap().unwrap().len() >= MANY / 2);
    assert_eq!(dict.len().unwrap() as u64, MANY);
    for key in 0..MANY {
        assert_eq!(get(&dict, key).as_deref(), Some(&key.to_ne_bytes()[..]));
    }
    assert!(
        all(&dict).iter().map(|(key, _)| *key).eq(0..MANY),
        "in the order of insertion"
    );
    for key in 0..MANY {
        assert_eq!(remove(&dict, key), Done::Removed);
    }
    assert!(dict.is_empty().unwrap());
    assert!(dict.0.table().unwrap().unwrap().len() <= 4096);
    let left = counters().unwrap();
    assert!(left.transit - before.transit < 20, "{left:?} {before:?}");
    drop(dict);
    assert_eq!(counters().unwrap(), before);
}

#[test]
fn threads_add_up() {
    let dict = SharedDict::create().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    for key in 0..KEYS {
                        let key = dict.key(&key.to_ne_bytes(), b"").unwrap();
                        let plus_one = |now: Option<&[u8]>| {
                            let now = now.map_or(0, |now| u64::from_ne_bytes(now.try_into().unwrap()));
                            Change::Put(Cow::Owned((now + 1).to_ne_bytes().to_vec()))
                        };
                        dict.change(&key, plus_one).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(dict.len().unwrap() as u64, KEYS);
    assert!(all(&dict).iter().all(|(_, value)| value == &(4 * ROUNDS).to_ne_bytes()));
}

#[test]
fn a_snapshot_is_a_cut() {
    // One thread moves an amount from key to key: the sum is the same at every moment but one, when it is less.
    let dict = SharedDict::create().unwrap();
    for key in 0..KEYS {
        set(&dict, key, b"");
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = Ends(&done);
            for turn in 0..20_000u64 {
                // Added before it is removed: a cut never shows fewer than KEYS.
                set(&dict, KEYS + turn, b"");
                remove(&dict, turn);
            }
        });
        while !done.load(Relaxed) {
            let keys: Vec<u64> = all(&dict).into_iter().map(|(key, _)| key).collect();
            assert!(
                keys.len() as u64 == KEYS || keys.len() as u64 == KEYS + 1,
                "{}",
                keys.len()
            );
            assert!(keys.windows(2).all(|pair| pair[0] + 1 == pair[1]), "no gap");
            let len = dict.len().unwrap() as u64;
            assert!(len == KEYS || len == KEYS + 1, "{len}");
        }
    });
}

#[test]
fn a_frozen_snapshot_is_a_cut_and_others_go_on() {
    let before = at_rest();
    let dict = SharedDict::create().unwrap();
    for key in 0..KEYS {
        set(&dict, key, &value(key, if key % 10 == 0 { 3000 } else { 5 }));
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = Ends(&done);
            for turn in 0..10_000u64 {
                let key = KEYS + turn;
                set(&dict, key, &value(key, if key % 10 == 0 { 3000 } else { 5 }));
                remove(&dict, turn);
            }
        });
        let check = || {
            while !done.load(Relaxed) {
                let first = dict.0.head();
                let Some(collected) = dict.0.collect_frozen(first, true).unwrap() else {
                    continue;
                };
                let len: usize = collected.words.iter().map(|word| word.count()).sum();
                assert!(len as u64 == KEYS || len as u64 == KEYS + 1, "{len}");
            }
        };
        scope.spawn(check);
        scope.spawn(check);
    });
    assert_eq!(dict.len().unwrap() as u64, KEYS);
    for (key, found) in all(&dict) {
        assert_eq!(found, value(key, if key % 10 == 0 { 3000 } else { 5 }));
    }
    drop(dict);
    assert_eq!(counters().unwrap(), before);
}

/// A snapshot begins, and goes no further: its maker is stopped. Meanwhile memory is used up. Each call ends, also if it
/// fails, and nothing is lost.
#[test]
fn without_memory_beside_a_snapshot_calls_end() {
    let dict = SharedDict::create().unwrap();
    for key in 0..KEYS {
        set(&dict, key, &value(key, if key % 10 == 0 { 3000 } else { 5 }));
    }
    let table = dict.0.table_to_change().unwrap();
    dict.0.complete(&table).unwrap();
    let cut = dict
        .0
        .replace_table(Some(&table), table.len().ilog2(), TablePurpose::Snapshot);
    dict.0.make_cut(&cut.unwrap().unwrap()).unwrap();
    let budget = &current().unwrap().header().budget;
    budget.store(1, Relaxed);
    let sizes = [4096, 3072, 1536, 1024, 768, 512, 384, 256, 192, 128, 64];
    let until_refused = |len| std::iter::from_fn(move || Block::alloc(len).ok());
    let full = sizes.iter().flat_map(|&len| until_refused(len)).collect::<Vec<_>>();
    let mut removed = 0;
    for key in 0..KEYS {
        let key = dict.key(&key.to_ne_bytes(), b"").unwrap();
        match dict.change(&key, |_| Change::Remove) {
            Ok(Done::Removed) => removed += 1,
            Err(Error::Exhausted { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(removed < KEYS, "there was memory");
    assert!(matches!(dict.len(), Ok(_) | Err(Error::Exhausted { .. })));
    drop(full);
    budget.store(u64::MAX, Relaxed);
    assert_eq!(dict.len().unwrap() as u64, KEYS - removed);
    assert_eq!(all(&dict).len() as u64, KEYS - removed);
}

/// Each thread sets a key and clears, beside snapshots that replace the table all the time. Every call comes to its end, and
/// leaves nothing of what the thread set before it.
#[test]
fn clears_end_beside_each_other_and_snapshots() {
    let before = at_rest();
    let dict = SharedDict::create().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clears: Vec<_> = (0..3)
            .map(|key| {
                let dict = &dict;
                scope.spawn(move || {
                    for _ in 0..300 {
                        set(dict, key, b"x");
                        dict.clear().unwrap();
                        assert_eq!(get(dict, key), None);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Relaxed) {
                drop(dict.snapshot_by_freezing().unwrap());
            }
        });
        let _end = Ends(&done);
        for clear in clears {
            clear.join().unwrap();
        }
    });
    assert!(dict.is_empty().unwrap());
    drop(dict);
    assert_eq!(counters().unwrap(), before);
}

#[test]
fn clear_is_one_step() {
    let before = at_rest();
    let dict = SharedDict::create().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _end = Ends(&done);
            for key in 0..20_000u64 {
                set(&dict, key, &value(key, if key % 50 == 0 { 3000 } else { 5 }));
            }
        });
        scope.spawn(|| {
            while !done.load(Relaxed) {
                dict.clear().unwrap();
                // What was there before the call is gone.
                std::thread::yield_now();
            }
        });
        while !done.load(Relaxed) {
            let keys: Vec<u64> = all(&dict).into_iter().map(|(key, _)| key).collect();
            assert!(
                keys.windows(2).all(|pair| pair[0] + 1 == pair[1]),
                "only the oldest are gone: {keys:?}"
            );
            // Looked up from the youngest to the oldest: after one that was gone, all are.
            if let Some(&last) = keys.last() {
                let there = (last.saturating_sub(50)..=last).rev();
                let there: Vec<bool> = there.map(|key| get(&dict, key).is_some()).collect();
                assert!(there.windows(2).all(|pair| pair[0] >= pair[1]), "{there:?}");
            }
        }
    });
    dict.clear().unwrap();
    assert!(dict.is_empty().unwrap() && all(&dict).is_empty());
    set(&dict, 1, b"x");
    assert_eq!(all(&dict), [(1, b"x".to_vec())]);
    drop(dict);
    assert_eq!(counters().unwrap(), before);
}
