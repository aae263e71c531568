//! Changes of a list: of one item, of runs of items, and of all items at once.

use super::{handle, keep, Operation};
use crate::battery::Clock;
use crate::stage::Values;
use procession_core::shared::{KnownPages, SharedList};
use procession_core::Error;
use std::mem::forget;
use std::ops::Range;

/// Bytes of a value that has memory of its own.
const LARGE: usize = 300;
/// The first bytes of items of other processes, beside the victim.
const OTHERS: u64 = 10_000;

/// An item that begins with a number.
fn item(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(len.max(8), number as u8);
    bytes
}

fn splice(list: &SharedList, range: Range<u64>, items: &[Vec<u8>]) {
    assert!(list.splice(items, |_, _| Some(range.clone())).expect("memory"));
}

fn append(list: &SharedList, number: u64, len: usize) {
    let done = list.splice(&[item(number, len)], |_, len| Some(len..len));
    assert!(done.expect("memory"));
}

fn items(list: &SharedList) -> Vec<Vec<u8>> {
    let items = list.items(|len| 0..len).expect("memory");
    items.iter().map(<[u8]>::to_vec).collect()
}

fn of(values: &Values) -> SharedList {
    SharedList::attach(handle(values[0])).expect("the list")
}

fn begun(count: u64, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| item(number, len)).collect()
}

fn is_other(item: &[u8]) -> bool {
    u64::from_le_bytes(item[..8].try_into().expect("8 bytes")) >= OTHERS
}

/// Other processes add items behind the last, and remove those.
fn beside(values: &Values, clock: &mut Clock) {
    let list = clock.time("attach to the same list", || of(values));
    for number in OTHERS..OTHERS + 5 {
        for len in [8, LARGE] {
            clock.time("append to the same list", || append(&list, number, len));
        }
        clock.time("remove from the same list", || {
            let at_end = |_, len: u64| Some(len.saturating_sub(1)..len);
            let _ = list.splice::<Vec<u8>>(&[], at_end).expect("memory");
        });
    }
    clock.time("snapshot of the same list", || drop(items(&list)));
    clock.time("drop the same list", || drop(list));
}

/// An operation on a list with so many items. The survivor finds the state before it, or the one that `after` makes of
/// that.
fn operation(
    name: &str,
    count: u64,
    len: usize,
    act: fn(&SharedList),
    after: impl Fn(&mut Vec<Vec<u8>>) + 'static,
) -> Operation {
    Operation::new(
        name,
        move || {
            let list = SharedList::create().expect("memory");
            splice(&list, 0..0, &begun(count, len));
            keep(list, SharedList::handle)
        },
        move |values| {
            let list = of(values);
            move || {
                act(&list);
                forget(list);
            }
        },
        move |values, done| {
            let list = of(values);
            let mut ended = begun(count, len);
            after(&mut ended);
            let mut found = items(&list);
            assert_eq!(list.len().expect("memory"), found.len() as u64);
            for (index, expected) in found.iter().enumerate() {
                let got = list.get(index as i64).expect("memory").expect("an item");
                assert_eq!(got.as_slice(), &expected[..]);
            }
            // Those of processes beside the victim that were stopped, too.
            found.retain(|item| !is_other(item));
            let what = if found == ended {
                "after it"
            } else {
                assert!(found == begun(count, len), "neither before nor after it");
                "before it"
            };
            assert!(!done || what == "after it");
            for number in 0..10 {
                append(&list, number, LARGE);
            }
            let _ = list.splice::<Vec<u8>>(&[], |_, len| Some(0..len)).expect("memory");
            assert!(list.is_empty().expect("memory"));
            what.to_owned()
        },
    )
    .beside(beside)
    .repaired_by(|values| {
        procession_core::liveness::sweep();
        let list = of(values);
        append(&list, OTHERS + 50, LARGE);
    })
}

/// Sealing. The survivor finds the list as it was, or sealed with the same items; in the end it is sealed.
fn sealing(name: &str, count: u64, len: usize) -> Operation {
    let seal = |list: &SharedList| while !list.try_seal().expect("memory") {};
    Operation::new(
        name,
        move || {
            let list = SharedList::create().expect("memory");
            splice(&list, 0..0, &begun(count, len));
            keep(list, SharedList::handle)
        },
        move |values| {
            let list = of(values);
            move || {
                seal(&list);
                forget(list);
            }
        },
        move |values, done| {
            let list = of(values);
            // It changes nothing, so that the same memory is left in both cases.
            let is_sealed = match list.len() {
                Ok(_) => false,
                Err(Error::Sealed(_)) => true,
                Err(error) => panic!("{error}"),
            };
            assert!(is_sealed || !done);
            seal(&list);
            assert!(matches!(list.get(0), Err(Error::Sealed(_))));
            assert!(matches!(list.len(), Err(Error::Sealed(_))));
            assert!(matches!(list.items(|len| 0..len), Err(Error::Sealed(_))));
            let sealed = list.try_sealed_items(&mut KnownPages::default()).expect("memory");
            let found: Vec<_> = sealed.expect("few items").iter().map(<[u8]>::to_vec).collect();
            assert!(found == begun(count, len), "items are lost");
            if is_sealed { "sealed" } else { "not sealed" }.to_owned()
        },
    )
    .beside(move |values, clock| {
        let list = clock.time("attach to the same list", || of(values));
        // The same item again: memory does not tell whether this came before the seal.
        clock.time("set an item, or find the list sealed", || {
            let done = list.splice(&[item(0, len)], |_, now| (now > 0).then_some(0..1));
            assert!(matches!(done, Ok(_) | Err(Error::Sealed(_))), "{done:?}");
        });
        clock.time("look at an item, or find the list sealed", || {
            assert!(matches!(list.get(0), Ok(_) | Err(Error::Sealed(_))));
        });
        clock.time("drop the same list", || drop(list));
    })
    .repaired_by(|values| {
        procession_core::liveness::sweep();
        while !of(values).try_seal().expect("memory") {}
    })
}

pub fn operations() -> Vec<Operation> {
    vec![
        sealing("list seal, the first root", 0, 8),
        sealing("list seal", 70, LARGE),
        operation(
            "list append, the first item",
            0,
            8,
            |list| append(list, 7, 8),
            |all| all.push(item(7, 8)),
        ),
        operation(
            "list append, another leaf",
            32,
            8,
            |list| append(list, 7, LARGE),
            |all| all.push(item(7, LARGE)),
        ),
        operation(
            "list set, among many",
            1100,
            8,
            |list| splice(list, 40..41, &[item(7, 16)]),
            |all| all[40] = item(7, 16),
        ),
        operation(
            "list set, large values",
            40,
            LARGE,
            |list| splice(list, 3..4, &[item(7, LARGE + 100)]),
            |all| all[3] = item(7, LARGE + 100),
        ),
        operation(
            "list insert, a leaf is divided",
            64,
            8,
            |list| splice(list, 3..3, &[item(7, 8)]),
            |all| all.insert(3, item(7, 8)),
        ),
        operation(
            "list remove, leaves are joined",
            66,
            LARGE,
            |list| splice(list, 64..65, &[]),
            |all| drop(all.remove(64)),
        ),
        operation(
            "list splice, many leaves",
            200,
            LARGE,
            |list| splice(list, 10..190, &[item(7, 8), item(8, LARGE)]),
            |all| drop(all.splice(10..190, [item(7, 8), item(8, LARGE)])),
        ),
        operation(
            "list reverse",
            70,
            8,
            |list| {
                let mut all = items(list);
                all.reverse();
                splice(list, 0..70, &all);
            },
            |all| all.reverse(),
        ),
        operation("list clear", 70, LARGE, |list| splice(list, 0..70, &[]), Vec::clear),
        operation(
            "list create, fill and drop",
            1,
            8,
            |_| {
                let list = SharedList::create().expect("memory");
                (0..70).for_each(|number| append(&list, number, if number % 2 == 0 { 8 } else { LARGE }));
            },
            |_| (),
        ),
    ]
}
