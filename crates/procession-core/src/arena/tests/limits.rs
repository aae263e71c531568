//! Memory, address space and descriptors that run out, or are taken away.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};

use super::{counters, Counter, Counters};
use crate::arena::layout::MIN_SIZE;
use crate::arena::window::Windows;
use crate::arena::{Arena, Block, Bytes, Ref, Token};
use crate::sys::memory::{self, Mapped};
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

/// Sandboxes and test harnesses set their limit like this: after the family exists.
#[test]
fn a_limit_of_the_address_space_leaves_what_it_leaves() {
    let before = address_space_in_use();
    let arena = family().unwrap().arena();
    drop(Ref::<Counter>::create().unwrap());
    let taken = address_space_in_use() - before;
    assert!(taken < 100 << 20, "{} MB", taken >> 20);
    limit(libc::RLIMIT_AS, address_space_in_use() + (128 << 20));
    let mut block = Block::alloc(64 << 20).unwrap();
    block.as_mut_slice().fill(1);
    let small: Vec<_> = (0..10_000).map(|n| Block::alloc(n % 3000).unwrap()).collect();
    let error = Block::alloc(200 << 20).map(drop).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    drop((block, small));
    assert_eq!(counters().owned, 1, "the reference log");
    drop(Block::alloc(64 << 20).unwrap());
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    drop(Block::alloc(200 << 20).unwrap());
    assert!(arena.bytes().used < 1 << 20);
}

#[test]
fn a_limited_address_space_is_left_to_the_program_in_part() {
    family().unwrap();
    limit(libc::RLIMIT_AS, address_space_in_use() + (100 << 20));
    let mut blocks = Vec::new();
    let error = loop {
        match Block::alloc(300_000) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, Error::Exhausted { .. }) && blocks.len() > 100,
        "{error}"
    );
    let own = vec![1_u8; 12 << 20];
    assert_eq!(own.iter().map(|&byte| usize::from(byte)).sum::<usize>(), own.len());
}

#[test]
fn no_address_space_is_an_error() {
    limit(libc::RLIMIT_AS, address_space_in_use() + (18 << 20));
    assert!(matches!(family().map(drop), Err(Error::Exhausted { .. })));
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    family().unwrap();
}

/// A process that finds no address space for a message leaves it in transit.
#[test]
fn a_message_that_cannot_be_mapped_is_not_lost() {
    let sizes = [100 << 20, 1000];
    let (handed, token) = std::sync::mpsc::channel();
    // Another process makes them, so this one has not mapped their memory.
    let family = family().unwrap();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: this test has one thread; the child only allocates.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let tokens = sizes.map(|len| {
            let mut block = Block::alloc(len).unwrap();
            block.as_mut_slice().fill(9);
            block.send().to_bits()
        });
        for token in tokens {
            writer.write_all(&token.to_le_bytes()).unwrap();
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) };
    }
    for _ in sizes {
        let mut bits = [0; 8];
        reader.read_exact(&mut bits).unwrap();
        handed.send(Token::from_bits(u64::from_le_bytes(bits))).unwrap();
    }
    limit(libc::RLIMIT_AS, address_space_in_use() + (64 << 20));
    let large = token.recv().unwrap();
    for _ in 0..3 {
        assert!(matches!(Block::take(large, sizes[0]), Err(Error::Exhausted { .. })));
        assert!(matches!(Block::peek(large, sizes[0]), Err(Error::Exhausted { .. })));
    }
    assert_eq!(
        Block::take(token.recv().unwrap(), sizes[1]).unwrap().as_slice(),
        [9; 1000]
    );
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    let block = Block::take(large, sizes[0]).unwrap();
    assert!(block.as_slice().iter().all(|&byte| byte == 9));
    drop(block);
    assert!(family.arena().bytes().used < 1 << 20);
    // SAFETY: waits for a child of this test.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

#[test]
fn memory_that_is_locked_is_not_filled() {
    let family = family().unwrap();
    drop(Block::alloc(1 << 20).unwrap());
    // SAFETY: plain system call.
    assert_eq!(unsafe { libc::mlockall(libc::MCL_CURRENT) }, 0);
    let committed = memory::committed_bytes(family.arena_fd().unwrap()).unwrap();
    assert!(committed < 64 << 20, "{} MB", committed >> 20);
    drop(Block::alloc(1 << 20).unwrap());
}

#[test]
fn a_small_limit_of_file_sizes_is_an_error_and_no_signal() {
    limit(libc::RLIMIT_FSIZE, 1 << 20);
    assert!(matches!(family().map(drop), Err(Error::Exhausted { .. })));
    limit(libc::RLIMIT_FSIZE, 300 << 20);
    assert_eq!(family().unwrap().arena().layout().size, 256 << 20);
    let blocks: Vec<_> = std::iter::from_fn(|| Block::alloc(3 << 20).ok()).collect();
    assert!(blocks.len() > 40, "{} of 3 MB in 256 MB", blocks.len());
    drop(blocks);
    // Smaller blocks find no room for slabs of their own, and use what is there.
    drop(Block::alloc(100_000).unwrap());
    assert_eq!(counters(), Counters::default());
}

/// Space that was once filled with blocks of one size has room for others.
#[test]
fn slabs_become_those_of_other_sizes_when_room_is_out() {
    limit(libc::RLIMIT_FSIZE, 64 << 20);
    for len in [100_000, 500_000, 70_000, 1_000_000, 200_000, 40_000] {
        let blocks: Vec<_> = std::iter::from_fn(|| Block::alloc(len).ok()).collect();
        assert!(blocks.len() * len > 20 << 20, "{} of {len}", blocks.len());
        let starts: Vec<_> = blocks.iter().map(|block| block.as_ptr() as usize).collect();
        assert!(starts.windows(2).all(|pair| pair[0].abs_diff(pair[1]) >= len));
        drop(blocks);
        assert_eq!(counters(), Counters::default(), "after {len}");
    }
}

#[test]
fn an_exhausted_arena_says_so_and_works_again() {
    std::env::set_var("PROCESSION_ARENA_SIZE", "64M");
    let fd = family().unwrap().arena_fd().unwrap();
    for len in [5000, 3 << 20, 100_000, 9000] {
        let mut blocks = Vec::new();
        let error = loop {
            match Block::alloc(len) {
                Ok(block) => blocks.push(block),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Exhausted { .. }), "{error}");
        assert!(
            blocks.len() * len > 40 << 20,
            "{} of {len}: {error}, {:?} of {}",
            blocks.len(),
            family().unwrap().arena().bytes(),
            memory::committed_bytes(fd).unwrap()
        );
        assert!(memory::committed_bytes(fd).unwrap() <= 64 << 20);
        assert!(Block::alloc(len).is_err());
        blocks.truncate(blocks.len() / 2);
        drop(Block::alloc(len).unwrap());
        drop(blocks);
        assert_eq!(counters(), Counters::default());
    }
    assert!(matches!(Block::alloc(1 << 40), Err(Error::Exhausted { .. })));
    assert!(matches!(Block::alloc(usize::MAX), Err(Error::Exhausted { .. })));
}

#[test]
fn more_than_the_machine_has_is_refused_before_it_hurts() {
    let total = crate::sys::limits::total().unwrap();
    let error = Block::alloc(total as usize * 2).map(drop).unwrap_err();
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert_eq!(counters(), Counters::default());
    drop(Block::alloc(1 << 20).unwrap());
}

#[test]
fn idle_memory_is_kept_warm_and_given_back_when_asked() {
    let arena = family().unwrap().arena();
    drop((Block::alloc(4 << 20).unwrap(), Block::alloc(2 << 20).unwrap()));
    let warm = |used, idle| Bytes { used, idle };
    assert_eq!(arena.bytes(), warm(0, 6 << 20));
    let keep = Block::alloc(3 << 20).unwrap();
    assert_eq!(arena.bytes(), warm(4 << 20, 2 << 20), "warm memory is used again");
    arena.trim(2 << 20).unwrap();
    assert_eq!(arena.bytes(), warm(4 << 20, 2 << 20));
    arena.trim(0).unwrap();
    assert_eq!(arena.bytes(), warm(4 << 20, 0));
    drop(keep);
    let small: Vec<_> = (0..10_000).map(|n| Block::alloc(n % 3000).unwrap()).collect();
    drop(small);
    arena.trim(0).unwrap();
    assert_eq!(arena.bytes(), warm(0, 0));
    let mut block = Block::alloc(2999).unwrap();
    block.as_mut_slice().fill(1);
}

/// Memory that cannot be given back is still usable, and is given back the next time.
#[test]
fn a_trim_that_fails_loses_nothing() {
    let family = family().unwrap();
    drop((Block::alloc(4 << 20).unwrap(), Block::alloc(300).unwrap()));
    let idle = family.arena().bytes().idle;
    memory::NO_PUNCH.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(family.arena().trim(0).is_err());
    memory::NO_PUNCH.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!((family.arena().bytes().idle, counters()), (idle, Counters::default()));
    let mut block = Block::alloc(10 << 20).unwrap();
    block.as_mut_slice().fill(1);
    drop(block);
    family.arena().trim(0).unwrap();
    assert_eq!(family.arena().bytes(), Bytes::default());
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
    let fd = memory::create(MIN_SIZE).unwrap();
    let file = memory::FileId::of(fd.as_fd()).unwrap();
    let windows = Windows::place(file, MIN_SIZE).unwrap();
    windows.map(&Ok(fd.as_fd()), 0, 1).unwrap();
    drop(fd);
    let none = || Err(Error::Corrupt("no descriptor"));
    let (offset, length) = (20 << 20, 6 << 20);
    assert!(windows.covers(0, 100) && !windows.covers(offset, 1));
    windows.map(&none(), offset, length).unwrap();
    assert!(windows.covers(offset, length) && !windows.covers(offset - 1, 1));
    let at = windows.range(offset, length).unwrap();
    assert!(memory::is_mapping_of(file, at, length, offset));
    memory::populate(at, 1 << 20, "a test").unwrap();
    // SAFETY: mapped above, and nothing else uses it.
    unsafe {
        at.write_bytes(7, 1 << 20);
        memory::remove(at, 64 << 10).unwrap();
        assert_eq!((at.read(), at.add(64 << 10).read()), (0, 7));
    }
}

/// Two threads that map the same at once, a fork in the middle, and a foreign mapping.
#[test]
fn a_window_that_is_there_already_is_used_if_it_is_ours() {
    let fd = memory::create(MIN_SIZE).unwrap();
    let file = memory::FileId::of(fd.as_fd()).unwrap();
    let windows = Windows::place(file, MIN_SIZE).unwrap();
    let fd = || Ok(fd.as_fd());
    let at = |offset| windows.range(offset, 1).unwrap();
    let window = 4 << 20;
    assert_eq!(
        memory::map_at(fd().unwrap(), at(window), window, window).unwrap(),
        Mapped::Done
    );
    assert_eq!(
        memory::map_at(fd().unwrap(), at(3 * window), window, 0).unwrap(),
        Mapped::Done
    );
    windows.map(&fd(), 0, 3 * window).unwrap();
    assert!(windows.covers(0, 3 * window));
    for _ in 0..2 {
        assert!(matches!(
            windows.map(&fd(), 2 * window, 3 * window),
            Err(Error::Exhausted { .. })
        ));
        assert!(!windows.covers(3 * window, 1), "of another part of the file");
    }
    windows.map(&fd(), 4 * window, window).unwrap();
    // SAFETY: mapped above, and nothing uses it.
    unsafe { memory::unmap(at(3 * window), window) };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| windows.map(&fd(), 0, MIN_SIZE).unwrap());
        }
    });
    assert!(windows.covers(0, MIN_SIZE));
}

#[test]
fn an_attached_arena_is_the_same_memory() {
    let family = family().unwrap();
    let fd = family.arena_fd().unwrap().try_clone_to_owned().unwrap();
    let second = Arena::attach(fd).unwrap();
    assert_eq!(second.id(), family.id());
    assert!(!std::ptr::eq(second.header(), family.arena().header()));
    let again = crate::Family::attach(family.arena_fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    assert!(std::ptr::eq(again.arena(), family.arena()));
    let stranger = Arena::create().unwrap();
    let foreign = stranger.fd().unwrap().try_clone_to_owned().unwrap();
    assert!(matches!(crate::Family::attach(foreign), Err(Error::Foreign(_))));
    let file = std::fs::File::open("/dev/zero").unwrap();
    assert!(matches!(Arena::attach(file.into()), Err(Error::Corrupt(_))));
}
