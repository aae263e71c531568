//! Shared bytes in one process, and across forks and deaths.

use super::{Shared, SharedBytes, INLINE};
use crate::arena::Ref;
use crate::ids::Handle;
use crate::{family, Error};
use std::sync::atomic::Ordering::Relaxed;

fn bytes_of(shared: &SharedBytes) -> Vec<u8> {
    // SAFETY: the bytes exist as long as `shared`; no test writes them meanwhile.
    unsafe { std::slice::from_raw_parts(shared.as_ptr(), shared.len()) }.to_vec()
}

fn fill(shared: &SharedBytes, value: u8) {
    // SAFETY: as above.
    unsafe { shared.as_ptr().write_bytes(value, shared.len()) };
}

#[test]
fn zeros_of_every_size_even_where_others_wrote() {
    for length in [0, 1, INLINE, INLINE + 1, 4096, 32 << 10, (32 << 10) + 1, 200_000] {
        for _ in 0..3 {
            let shared = SharedBytes::create(length).unwrap();
            assert_eq!(shared.len(), length);
            assert_eq!(shared.as_ptr() as usize % 16, 0);
            assert!(bytes_of(&shared).iter().all(|&byte| byte == 0));
            fill(&shared, 0xff);
        }
    }
}

#[test]
fn all_references_see_the_same_bytes() {
    for length in [8, 1000, 100_000] {
        let one = SharedBytes::create(length).unwrap();
        let other = SharedBytes::attach(one.handle()).unwrap();
        let third = other.clone();
        fill(&one, 7);
        drop(one);
        drop(other);
        assert_eq!(bytes_of(&third), vec![7; length]);
        let handle = third.handle();
        drop(third);
        assert!(matches!(SharedBytes::attach(handle), Err(Error::Stale(_))));
    }
}

#[test]
fn the_last_reference_gives_the_memory_back() {
    let before = family().unwrap().arena().bytes().used;
    let shared = SharedBytes::create(10 << 20).unwrap();
    let other = shared.clone();
    let used = family().unwrap().arena().bytes().used;
    assert!(used >= before + (10 << 20));
    drop(shared);
    assert_eq!(family().unwrap().arena().bytes().used, used);
    drop(other);
    // The block that the object lay in counts as used as long as the object's slab exists.
    assert!(family().unwrap().arena().bytes().used < before + (1 << 20));
}

#[test]
fn a_length_that_makes_no_sense_is_refused() {
    for (length, inline) in [(8, true), (1000, false), (100_000, false)] {
        let shared = SharedBytes::create(length).unwrap();
        let object = Ref::<Shared>::attach(shared.handle()).unwrap();
        for wrong in [1 << 30, u64::MAX] {
            object.length.store(wrong, Relaxed);
            assert!(matches!(SharedBytes::attach(shared.handle()), Err(Error::Corrupt(_))));
        }
        object.length.store(length as u64, Relaxed);
        assert_eq!(object.token().is_none(), inline);
    }
}

#[test]
fn more_than_there_is_is_an_error() {
    assert!(matches!(SharedBytes::create(1 << 50), Err(Error::Exhausted { .. })));
    assert!(matches!(SharedBytes::create(usize::MAX), Err(Error::Exhausted { .. })));
    assert!(SharedBytes::create(1 << 20).is_ok());
    assert!(Handle::from_bits(1).is_none_or(|handle| SharedBytes::attach(handle).is_err()));
}
