//! Memory, address space and descriptors that run out, or are taken away.

use std::os::fd::{AsFd, AsRawFd};

use super::{census, Census};
use crate::arena::layout::MIN_SIZE;
use crate::arena::{Arena, Block};
use crate::sys::memory;
use crate::{family, Error};

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` outlives the call.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

fn address_space_in_use() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_small_address_space_makes_a_small_arena_that_works() {
    limit(libc::RLIMIT_AS, address_space_in_use() + (1 << 30));
    let arena = family().unwrap().arena();
    assert!(
        (MIN_SIZE..=512 << 20).contains(&arena.layout().size),
        "{:?}",
        arena.layout()
    );
    let mut block = Block::alloc(64 << 20).unwrap();
    block.as_mut_slice().fill(1);
    let small: Vec<_> = (0..10_000).map(|n| Block::alloc(n % 3000).unwrap()).collect();
    drop((block, small));
    assert_eq!(census(), Census::default());
}

#[test]
fn no_address_space_is_an_error() {
    limit(libc::RLIMIT_AS, address_space_in_use() + (16 << 20));
    assert!(matches!(family().map(drop), Err(Error::Exhausted { .. })));
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    family().unwrap();
}

#[test]
fn a_small_limit_of_file_sizes_is_an_error_and_no_signal() {
    limit(libc::RLIMIT_FSIZE, 1 << 20);
    assert!(matches!(family().map(drop), Err(Error::Exhausted { .. })));
    limit(libc::RLIMIT_FSIZE, 300 << 20);
    assert_eq!(family().unwrap().arena().layout().size, 256 << 20);
}

#[test]
fn an_exhausted_arena_says_so_and_works_again() {
    std::env::set_var("PROCESSION_ARENA_SIZE", "64M");
    let arena = family().unwrap().arena();
    assert_eq!(arena.layout().size, 64 << 20);
    // Slabs stay slabs of their class, so small blocks come last.
    for len in [3 << 20, 100_000, 5000] {
        let mut blocks = Vec::new();
        let error = loop {
            match Block::alloc(len) {
                Ok(block) => blocks.push(block),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Exhausted { .. }), "{error}");
        assert!(!blocks.is_empty());
        assert!(Block::alloc(len).is_err());
        blocks.truncate(blocks.len() / 2);
        drop(Block::alloc(len).unwrap());
        drop(blocks);
        assert_eq!(census(), Census::default());
    }
    assert!(matches!(Block::alloc(1 << 40), Err(Error::Exhausted { .. })));
    assert!(matches!(Block::alloc(usize::MAX), Err(Error::Exhausted { .. })));
}

#[test]
fn runs_fill_a_small_arena_and_leave_it() {
    std::env::set_var("PROCESSION_ARENA_SIZE", "64M");
    for _ in 0..3 {
        let mut blocks = Vec::new();
        while let Ok(block) = Block::alloc(1 << 20) {
            blocks.push(block);
        }
        assert!(blocks.len() > 40, "{} MB of 64", blocks.len());
        drop(blocks);
        assert_eq!(census(), Census::default());
    }
}

#[test]
fn more_than_the_machine_has_is_refused_before_it_hurts() {
    let total = crate::sys::limits::total().unwrap();
    let error = Block::alloc(total as usize * 2).map(drop).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert_eq!(census(), Census::default());
    drop(Block::alloc(1 << 20).unwrap());
}

#[test]
fn idle_memory_is_kept_warm_and_given_back_when_asked() {
    let arena = family().unwrap().arena();
    drop((Block::alloc(10 << 20).unwrap(), Block::alloc(3 << 20).unwrap()));
    assert_eq!(arena.run_bytes().unwrap(), (0, 13 << 20));
    let keep = Block::alloc(1 << 20).unwrap();
    assert_eq!(
        arena.run_bytes().unwrap(),
        (1 << 20, 12 << 20),
        "warm memory is used again"
    );
    arena.trim(4 << 20).unwrap();
    let (used, idle) = arena.run_bytes().unwrap();
    assert!(used == 1 << 20 && idle <= 4 << 20);
    arena.trim(0).unwrap();
    assert_eq!(arena.run_bytes().unwrap(), (1 << 20, 0));
    drop(keep);
}

#[test]
fn a_closed_descriptor_is_opened_again() {
    let family = family().unwrap();
    let file = memory::FileId::of(family.arena_fd().unwrap()).unwrap();
    for replaced in [false, true] {
        let number = family.arena_fd().unwrap().as_raw_fd();
        assert!(number >= 512, "away from the program's own: {number}");
        // SAFETY: closing behind the arena's back is what is tested.
        assert_eq!(unsafe { libc::close(number) }, 0);
        let other = std::fs::File::open("/dev/null").unwrap();
        if replaced {
            // SAFETY: plain system call; the number is free.
            assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        }
        let mut block = Block::alloc(20 << 20).unwrap();
        block.as_mut_slice().fill(1);
        // Opening it through the mapping takes a capability; without it the arena works, but cannot be handed on.
        if let Ok(found) = family.arena_fd() {
            assert_eq!(memory::FileId::of(found.as_fd()).unwrap(), file);
            assert_ne!(found.as_raw_fd(), if replaced { number } else { -1 });
        }
        if replaced {
            // SAFETY: the number is the test's own now.
            unsafe { libc::close(number) };
        }
    }
}

#[test]
fn memory_comes_and_goes_without_a_descriptor() {
    let (fd, base) = memory::create(1 << 20).unwrap();
    drop(fd);
    memory::populate(base, 1 << 20, "a test").unwrap();
    // SAFETY: mapped above, and used by nobody else.
    unsafe {
        base.write_bytes(7, 1 << 20);
        memory::remove(base, 64 << 10).unwrap();
        assert_eq!((base.read(), base.add(64 << 10).read()), (0, 7));
        memory::unmap(base, 1 << 20);
    }
}

#[test]
fn an_attached_arena_is_the_same_memory() {
    let family = family().unwrap();
    let fd = family.arena_fd().unwrap().try_clone_to_owned().unwrap();
    let second = Arena::attach(fd).unwrap();
    assert_eq!(second.id(), family.id());
    assert!(!std::ptr::eq(second.header(), family.arena().header()));
    assert!(std::ptr::eq(
        crate::Family::attach(family.arena_fd().unwrap().try_clone_to_owned().unwrap()).unwrap(),
        family
    ));
    let stranger = Arena::create().unwrap();
    let foreign = stranger.fd().unwrap().try_clone_to_owned().unwrap();
    assert!(matches!(crate::Family::attach(foreign), Err(Error::Foreign(_))));
    let file = std::fs::File::open("/dev/zero").unwrap();
    assert!(matches!(Arena::attach(file.into()), Err(Error::Corrupt(_))));
}
