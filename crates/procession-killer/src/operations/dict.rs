//! Changes of a dictionary: of one key, of the table's size, and of all keys at once.

use super::{handle, keep, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::shared::{Change, SharedDict, Snapshot};
use procession_core::Error;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::forget;

/// Keys in a dictionary with many entries: its table has 256 buckets, and one more entry makes it grow.
const FULL: u64 = 256;
/// The victim's key, where it is a new one.
const NEW: u64 = 9000;
/// Keys of other processes, beside the victim.
const OTHERS: u64 = 10_000;
/// Bytes of a value that has memory of its own.
const LARGE: usize = 3000;

/// A value of a key: zeros, except for a few bytes.
fn value(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for place in [0, len / 2, len - 1] {
        bytes[place] = key as u8 | 1;
    }
    bytes
}

fn set(dict: &SharedDict, key: u64, len: usize) {
    let name = dict.key(&key.to_le_bytes(), b"").expect("a key");
    dict.set(&name, &value(key, len)).expect("memory");
}

fn remove(dict: &SharedDict, key: u64) {
    let name = dict.key(&key.to_le_bytes(), b"").expect("a key");
    dict.remove(&name).expect("memory");
}

fn entries(dict: &SharedDict) -> BTreeMap<u64, Vec<u8>> {
    entries_of(&dict.snapshot().expect("memory"))
}

fn entries_of(snapshot: &Snapshot) -> BTreeMap<u64, Vec<u8>> {
    let entry = |item| {
        let [key, _, value] = snapshot.parts(item);
        (u64::from_le_bytes(key.try_into().expect("8 bytes")), value.to_vec())
    };
    snapshot.items().iter().map(entry).collect()
}

fn of(values: &Values) -> SharedDict {
    SharedDict::attach(handle(values[0])).expect("the dictionary")
}

fn stock(keys: u64, len: usize) -> Vec<u64> {
    let dict = SharedDict::create().expect("memory");
    (0..keys).for_each(|key| set(&dict, key, len));
    keep(dict, SharedDict::handle)
}

/// Other processes change other keys.
fn beside(values: &Values, clock: &mut Clock) {
    let dict = clock.time("attach to the same dictionary", || of(values));
    for key in OTHERS..OTHERS + 20 {
        for len in [8, LARGE] {
            clock.time("set another key", || set(&dict, key, len));
        }
        clock.time("remove another key", || remove(&dict, key));
    }
    clock.time("snapshot of the same dictionary", || drop(entries(&dict)));
    clock.time("drop the same dictionary", || drop(dict));
}

/// An operation on a dictionary with so many keys. The survivor finds one of the states in `after`, the first of which
/// is the state before; and then what every process finds.
fn operation(
    name: &str,
    keys: u64,
    len: usize,
    act: fn(&SharedDict),
    after: impl Fn(&mut BTreeMap<u64, Vec<u8>>) + 'static,
) -> Operation {
    Operation::new(
        name,
        move || stock(keys, len),
        move |values| {
            let dict = of(values);
            move || {
                act(&dict);
                forget(dict);
            }
        },
        move |values, done| {
            let dict = of(values);
            let begun: BTreeMap<u64, Vec<u8>> = (0..keys).map(|key| (key, value(key, len))).collect();
            let mut ended = begun.clone();
            after(&mut ended);
            let mut found = entries(&dict);
            // Those of processes beside the victim that were stopped, too.
            found.retain(|&key, _| key < OTHERS);
            let what = if found == ended {
                "after it"
            } else if found.len() != keys as usize && ended.len() > begun.len() {
                let some = found.iter().all(|(key, value)| ended.get(key) == Some(value));
                assert!(
                    some && begun.keys().all(|key| found.contains_key(key)),
                    "entries are lost"
                );
                "in the middle of several"
            } else {
                assert!(found == begun, "neither before nor after it");
                "before it"
            };
            assert!(!done || what == "after it");
            for (key, expected) in &found {
                let name = dict.key(&key.to_le_bytes(), b"").expect("a key");
                let got = dict.get(&name).expect("memory").expect("a value");
                assert_eq!(got.as_slice(), &expected[..]);
            }
            for key in 0..10 {
                set(&dict, key, LARGE);
                remove(&dict, key);
            }
            dict.clear().expect("memory");
            assert_eq!(dict.len().expect("memory"), 0);
            what.to_owned()
        },
    )
    .beside(beside)
    .repaired_by(|values| {
        procession_core::liveness::sweep();
        let dict = of(values);
        set(&dict, OTHERS + 50, LARGE);
        remove(&dict, OTHERS + 50);
    })
}

/// Sealing. The survivor finds the dictionary as it was, or sealed with the same entries; in the end it is sealed.
fn sealing(name: &str, keys: u64, len: usize) -> Operation {
    let seal = |dict: &SharedDict| while !dict.try_seal().expect("memory") {};
    Operation::new(
        name,
        move || stock(keys, len),
        move |values| {
            let dict = of(values);
            move || {
                seal(&dict);
                forget(dict);
            }
        },
        move |values, done| {
            let dict = of(values);
            let name = dict.key(&NEW.to_le_bytes(), b"").expect("a key");
            // It changes nothing, so that the same memory is left in both cases.
            let is_sealed = match dict.get(&name) {
                Ok(_) => false,
                Err(Error::Sealed(_)) => true,
                Err(error) => panic!("{error}"),
            };
            assert!(is_sealed || !done);
            seal(&dict);
            assert!(matches!(dict.get(&name), Err(Error::Sealed(_))));
            assert!(matches!(dict.len(), Err(Error::Sealed(_))));
            let snapshot = dict.sealed_snapshot().expect("memory");
            let expected: BTreeMap<u64, Vec<u8>> = (0..keys).map(|key| (key, value(key, len))).collect();
            assert!(entries_of(&snapshot) == expected, "entries are lost");
            if is_sealed { "sealed" } else { "not sealed" }.to_owned()
        },
    )
    .beside(|values, clock| {
        let dict = clock.time("attach to the same dictionary", || of(values));
        // No change: what it replaces may stay until the next one, so memory would tell whether it came before the seal.
        clock.time("count, or find the dictionary sealed", || {
            assert!(matches!(dict.len(), Ok(_) | Err(Error::Sealed(_))));
        });
        clock.time("look the key up, or find the dictionary sealed", || {
            let key = dict.key(&OTHERS.to_le_bytes(), b"").expect("a key");
            assert!(matches!(dict.get(&key), Ok(_) | Err(Error::Sealed(_))));
        });
        clock.time("drop the same dictionary", || drop(dict));
    })
    .repaired_by(|values| {
        procession_core::liveness::sweep();
        while !of(values).try_seal().expect("memory") {}
    })
}

/// A new key in a dictionary that is full: the oldest entry goes.
fn beyond_a_bound(len: usize) -> Operation {
    const MOST: u64 = 20;
    Operation::new(
        format!("dict set, beyond a bound, {len} bytes"),
        move || {
            let dict = SharedDict::bounded(MOST).expect("memory");
            (0..MOST).for_each(|key| set(&dict, key, len));
            keep(dict, SharedDict::handle)
        },
        move |values| {
            let dict = of(values);
            move || {
                set(&dict, NEW, len);
                forget(dict);
            }
        },
        move |values, done| {
            let dict = of(values);
            let begun: BTreeMap<u64, Vec<u8>> = (0..MOST).map(|key| (key, value(key, len))).collect();
            let mut added = begun.clone();
            added.insert(NEW, value(NEW, len));
            let mut ended = added.clone();
            ended.remove(&0);
            let found = entries(&dict);
            let what = if found == ended {
                "after it"
            } else if found == added {
                "before the oldest entry goes"
            } else {
                assert!(found == begun, "neither before nor after it");
                "before it"
            };
            assert!(!done || what == "after it");
            // A death may leave the bound wrong by one.
            for key in OTHERS..OTHERS + 3 * MOST {
                set(&dict, key, len);
                assert!((MOST - 1..=MOST + 1).contains(&(dict.len().expect("memory") as u64)));
            }
            let found: Vec<u64> = entries(&dict).into_keys().collect();
            assert!(found.last() == Some(&(OTHERS + 3 * MOST - 1)) && found[0] >= OTHERS + 2 * MOST - 1);
            dict.clear().expect("memory");
            what.to_owned()
        },
    )
    .repaired_by(|values| {
        procession_core::liveness::sweep();
        drop(entries(&of(values)));
    })
}

pub fn operations() -> Vec<Operation> {
    let mut all = of_one_key();
    all.push(sealing("dict seal, without a table", 0, 8));
    // One key: how many buckets several keys are in, and so how much memory, differs from one dictionary to the next.
    all.push(sealing("dict seal", 1, LARGE));
    all.extend([8, LARGE].map(beyond_a_bound));
    all.extend(of_all_keys());
    all
}

fn of_one_key() -> Vec<Operation> {
    vec![
        operation(
            "dict set, the first key",
            0,
            8,
            |dict| set(dict, NEW, 8),
            |all| {
                all.insert(NEW, value(NEW, 8));
            },
        ),
        operation(
            "dict set, a new key among many",
            FULL - 20,
            8,
            |dict| set(dict, NEW, 8),
            |all| {
                all.insert(NEW, value(NEW, 8));
            },
        ),
        operation(
            "dict set, another value",
            20,
            8,
            |dict| set(dict, 3, 16),
            |all| {
                all.insert(3, value(3, 16));
            },
        ),
        operation(
            "dict set, large values",
            20,
            LARGE,
            |dict| set(dict, 3, LARGE + 1000),
            |all| {
                all.insert(3, value(3, LARGE + 1000));
            },
        ),
        operation(
            "dict remove",
            20,
            8,
            |dict| remove(dict, 3),
            |all| {
                all.remove(&3);
            },
        ),
        operation(
            "dict remove, of many large values",
            FULL - 20,
            LARGE,
            |dict| remove(dict, 3),
            |all| {
                all.remove(&3);
            },
        ),
        operation(
            "dict change",
            20,
            8,
            |dict| {
                let name = dict.key(&3u64.to_le_bytes(), b"").expect("a key");
                let twice = |now: Option<&[u8]>| Change::Put(Cow::Owned(now.expect("a value").repeat(2)));
                dict.change(&name, twice).expect("memory");
            },
            |all| {
                let twice = all[&3].repeat(2);
                all.insert(3, twice);
            },
        ),
    ]
}

fn of_all_keys() -> Vec<Operation> {
    vec![
        operation(
            "dict set, growing",
            FULL,
            8,
            |dict| (NEW..NEW + 24).for_each(|key| set(dict, key, 8)),
            |all| all.extend((NEW..NEW + 24).map(|key| (key, value(key, 8)))),
        ),
        operation(
            "dict clear",
            40,
            LARGE,
            |dict| dict.clear().expect("memory"),
            BTreeMap::clear,
        ),
        operation(
            "dict snapshot by freezing",
            40,
            LARGE,
            |dict| drop(dict.snapshot_by_freezing().expect("memory")),
            |_| (),
        ),
        operation(
            "dict create, fill and drop",
            1,
            8,
            |_| {
                let dict = SharedDict::create().expect("memory");
                (0..20).for_each(|key| set(&dict, key, if key % 2 == 0 { 8 } else { LARGE }));
            },
            |_| (),
        ),
    ]
}
