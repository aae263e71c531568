//! What is shared without a guard: maps, constants and atomics, between processes and when one of them is killed.

mod common;

use common::{by, kill, METHODS};
use procession::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicU8};
use procession::{channel, Array, Bytes, Error, Mutex, Once, Queue, RwLock, Sender, Shared, SharedMap};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    tries: Option<u32>,
    parts: BTreeMap<String, Vec<f64>>,
}

fn job(number: u32) -> Job {
    Job {
        name: format!("job {number}"),
        tries: (number % 2 == 0).then_some(number),
        parts: [("a".to_owned(), vec![f64::from(number); 200])].into(),
    }
}

type Jobs = SharedMap<(u32, String), Job>;

#[test]
fn a_map_takes_any_serde_type_and_all_changes_count() {
    fn work((jobs, counts, from): (Jobs, SharedMap<String, u64>, u32)) {
        for number in from..from + 50 {
            let key = (number, "key".to_owned());
            assert_eq!(jobs.insert(&key, &job(number)).unwrap(), None);
            assert_eq!(jobs.get(&key).unwrap(), Some(job(number)));
            counts.update("all", |count| Some(count.unwrap_or(0) + 1)).unwrap();
        }
    }
    for method in METHODS {
        let (jobs, counts) = (SharedMap::new().unwrap(), SharedMap::<String, u64>::new().unwrap());
        let children: Vec<_> = (0..3)
            .map(|at| by(method).spawn(work, (jobs.clone(), counts.clone(), at * 50)).unwrap())
            .collect();
        for child in children {
            child.join().unwrap();
        }
        assert_eq!(counts.get("all").unwrap(), Some(150), "{method:?}");
        let mut all = jobs.to_vec().unwrap();
        all.sort_by_key(|((number, _), _)| *number);
        assert!(all.into_iter().map(|(_, one)| one).eq((0..150).map(job)));
        assert_eq!(jobs.remove(&(3, "key".to_owned())).unwrap(), Some(job(3)));
        assert!(!jobs.contains_key(&(3, "key".to_owned())).unwrap());
        assert_eq!((jobs.len().unwrap(), jobs.keys().unwrap().len()), (149, 149));
        jobs.clear().unwrap();
        assert!(jobs.is_empty().unwrap());
    }
}

#[test]
fn a_borrowed_key_finds_what_an_owned_one_has_put() {
    let numbers = SharedMap::<Vec<u8>, u8>::new().unwrap();
    numbers.insert(&vec![1, 2, 3], &6).unwrap();
    assert_eq!(numbers.get(&[1, 2, 3][..]).unwrap(), Some(6));
    let lists = SharedMap::<Vec<String>, u8>::new().unwrap();
    lists.insert(&vec!["a".to_owned()], &1).unwrap();
    assert_eq!(lists.remove(&["a".to_owned()][..]).unwrap(), Some(1));
    let options = SharedMap::<Option<Option<u8>>, u8>::new().unwrap();
    options.insert(&Some(None), &1).unwrap();
    assert_eq!(
        (options.get(&None).unwrap(), options.get(&Some(None)).unwrap()),
        (None, Some(1))
    );
}

#[test]
fn a_map_of_moderate_size_survives_writers_that_are_killed() {
    fn write((map, ready): (SharedMap<u32, Vec<u32>>, Sender<()>)) {
        for round in 0.. {
            for key in 0..40 {
                map.insert(&key, &vec![round; 100]).unwrap();
            }
            if round == 1 {
                ready.send(&()).unwrap();
            }
        }
    }
    let map = SharedMap::new().unwrap();
    for method in METHODS {
        let (ready, is_ready) = channel().unwrap();
        let child = by(method).spawn(write, (map.clone(), ready)).unwrap();
        is_ready.recv().unwrap();
        kill(child);
        let all = map.to_vec().unwrap();
        assert_eq!(all.len(), 40, "{method:?}");
        assert!(all
            .iter()
            .all(|(_, items)| items.len() == 100 && items.iter().all(|one| *one == items[0])));
        map.insert(&0, &vec![7; 100]).unwrap();
    }
}

#[test]
fn a_map_refuses_what_it_would_not_keep_alive() {
    let map = SharedMap::<u8, Mutex<u8>>::new().unwrap();
    let refused = map.insert(&1, &Mutex::new(1).unwrap());
    assert!(matches!(refused, Err(Error::Invalid(_))));
    let refused = map.update(&1, |_| Some(Mutex::new(1).unwrap()));
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert!(map.is_empty().unwrap());
    let ends = SharedMap::<u8, Sender<u8>>::new().unwrap();
    assert!(matches!(ends.insert(&1, &channel().unwrap().0), Err(Error::Invalid(_))));
}

#[test]
fn a_panic_in_an_update_changes_nothing() {
    let map = SharedMap::<u8, u8>::new().unwrap();
    map.insert(&1, &1).unwrap();
    let panicked = std::panic::catch_unwind(|| map.update(&1, |_| panic!("in the middle")));
    panicked.unwrap_err();
    assert_eq!(map.update(&1, |old| old.map(|old| old + 1)).unwrap(), Some(2));
}

#[test]
fn a_slice_travels_without_a_copy_by_every_way() {
    fn sum((numbers, from): (Shared<[u64]>, Queue<Bytes>)) -> (u64, Bytes) {
        let block = from.get().unwrap();
        (numbers.iter().sum(), block)
    }
    for method in METHODS {
        let numbers = Shared::from_fn(100_000, |n| n as u64).unwrap();
        let (queue, block) = (Queue::new().unwrap(), Bytes::from_slice(&vec![7; 300_000]).unwrap());
        queue.put(&block).unwrap();
        let child = by(method).spawn(sum, (numbers.clone(), queue)).unwrap();
        let (sum, back) = child.join().unwrap();
        assert_eq!(sum, (0..100_000).sum::<u64>());
        assert!(
            Bytes::ptr_eq(&block, &back) && back.iter().all(|byte| *byte == 7),
            "{method:?}"
        );
    }
    assert!(Shared::<[u32]>::from_slice(&[]).unwrap().is_empty());
}

#[test]
fn a_slice_outlives_the_process_that_made_it() {
    fn make((): ()) -> Shared<[u16]> {
        Shared::from_slice(&[1, 2, 3]).unwrap()
    }
    for method in METHODS {
        let made = by(method).spawn(make, ()).unwrap().join().unwrap();
        assert_eq!(*made, [1, 2, 3], "{method:?}");
    }
}

#[test]
fn atomics_count_in_all_processes() {
    fn count((up, down): (AtomicU64, AtomicI64)) {
        for _ in 0..1000 {
            up.fetch_add(1, SeqCst);
            down.fetch_sub(2, SeqCst);
        }
    }
    for method in METHODS {
        let shared = (AtomicU64::new(0).unwrap(), AtomicI64::new(5).unwrap());
        let children: Vec<_> = (0..3)
            .map(|_| by(method).spawn(count, shared.clone()).unwrap())
            .collect();
        for child in children {
            child.join().unwrap();
        }
        assert_eq!(
            (shared.0.load(SeqCst), shared.1.load(SeqCst)),
            (3000, 5 - 6000),
            "{method:?}"
        );
    }
}

/// Whether serde takes one of these for another.
fn is_taken_for<T: Serialize, U: DeserializeOwned>(value: &T) -> bool {
    let text = serde_json::to_string(value).unwrap();
    serde_json::from_str::<U>(&text).is_ok()
}

fn others<T: Serialize>(value: &T) -> [bool; 4] {
    [
        is_taken_for::<_, Array<u64>>(value),
        is_taken_for::<_, Mutex<u64>>(value),
        is_taken_for::<_, SharedMap<u8, u8>>(value),
        is_taken_for::<_, procession::Lock>(value),
    ]
}

fn kinds<T: Serialize>(value: &T) -> [bool; 5] {
    [
        is_taken_for::<_, Shared<[u64]>>(value) || is_taken_for::<_, Bytes>(value),
        is_taken_for::<_, AtomicU64>(value),
        is_taken_for::<_, AtomicU8>(value),
        is_taken_for::<_, Once>(value),
        is_taken_for::<_, RwLock<u64>>(value) || is_taken_for::<_, RwLock<[u64; 8]>>(value),
    ]
}

#[test]
fn no_kind_of_shared_memory_is_taken_for_another() {
    let constant = Shared::from_slice(&[u64::MAX; 8]).unwrap();
    let (byte, word) = (AtomicU8::new(1).unwrap(), AtomicU64::new(1).unwrap());
    let (once, lock) = (Once::new().unwrap(), RwLock::new([0_u64; 8]).unwrap());
    let single = RwLock::with_readers(0_u64, 1).unwrap();
    // An array whose items look like the head of each kind.
    let arrays: Vec<_> = (0..9_u64)
        .flat_map(|tag| (0..3).map(move |locks| Array::new(&[tag << 32 | locks, 0, 0, 0, 0, 0]).unwrap()))
        .collect();
    assert!(is_taken_for::<_, Shared<[u64]>>(&constant) && is_taken_for::<_, Shared<[u64; 8]>>(&constant));
    assert!(is_taken_for::<_, RwLock<[u64; 8]>>(&lock) && is_taken_for::<_, AtomicI64>(&word));
    assert!(!is_taken_for::<_, Shared<[[u8; 3]]>>(&constant) && !is_taken_for::<_, Shared<u64>>(&constant));
    assert!(!is_taken_for::<_, AtomicU32>(&word) && !is_taken_for::<_, AtomicU64>(&byte));
    assert!(!is_taken_for::<_, RwLock<[u64; 9]>>(&lock));
    for taken in [
        others(&constant),
        others(&word),
        others(&once),
        others(&lock),
        others(&single),
    ] {
        assert_eq!(taken, [false; 4]);
    }
    assert_eq!(kinds(&constant), [true, false, false, false, false]);
    assert_eq!(kinds(&word), [false, true, false, false, false]);
    assert_eq!(kinds(&byte), [false, false, true, false, false]);
    assert_eq!(kinds(&once), [false, false, false, true, false]);
    assert_eq!(kinds(&single), [false, false, false, false, true]);
    assert!(arrays.iter().all(|array| kinds(array) == [false; 5]));
}

#[test]
fn what_cannot_be_shared_is_refused() {
    #[derive(Clone, Copy)]
    #[repr(C, align(32))]
    struct Aligned([u8; 32]);
    // SAFETY: bytes only, and as many as the alignment wants.
    unsafe impl bytemuck::Zeroable for Aligned {}
    // SAFETY: as above.
    unsafe impl bytemuck::Pod for Aligned {}
    assert!(matches!(Shared::new(Aligned([0; 32])), Err(Error::Invalid(_))));
    assert!(matches!(RwLock::new(Aligned([0; 32])), Err(Error::Invalid(_))));
    assert!(matches!(Shared::new([0_u8; 0]), Err(Error::Invalid(_))));
    assert!(matches!(RwLock::with_readers(0_u8, 0), Err(Error::Invalid(_))));
    assert!(matches!(RwLock::with_readers(0_u8, 2000), Err(Error::Invalid(_))));
    assert!(matches!(SharedMap::<u8, u8>::bounded(0), Err(Error::Invalid(_))));
}

#[test]
fn threads_share_all_of_it_and_it_can_be_shown() {
    fn both<T: Send + Sync + std::fmt::Debug>(shared: T) -> String {
        format!("{shared:?}")
    }
    let map = SharedMap::<u8, u8>::new().unwrap();
    map.insert(&1, &2).unwrap();
    assert_eq!(both(map), "SharedMap { len: Some(1), .. }");
    assert_eq!(both(Shared::from_slice(&[1, 2]).unwrap()), "[1, 2]");
    assert_eq!(both(Shared::new(1.5).unwrap()), "1.5");
    assert_eq!(both(AtomicU64::new(3).unwrap()), "3");
    assert_eq!(both(RwLock::new(3).unwrap()), "RwLock { readers: 16, .. }");
    assert_eq!(format!("{:?}", RwLock::new(3).unwrap().read().unwrap()), "3");
    assert_eq!(format!("{:?}", RwLock::new(3).unwrap().write().unwrap()), "3");
    both(Once::new().unwrap());
}
