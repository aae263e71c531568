//! What children of fork inherit, and what they do not.

use std::sync::atomic::Ordering::SeqCst;

use super::{counters, Counter};
use crate::arena::count::SWEEP_AT;
use crate::arena::{link, unlink, Block, Ref};
use crate::shared::SharedBytes;
use crate::sync::Lock;
use crate::{family, liveness, reclaim};

/// A child of fork, with pipes to tell it to go on and to learn that it has reached `park`.
struct ForkedChild {
    pid: i32,
    go: std::io::PipeWriter,
    ready: std::io::PipeReader,
}

/// The child's side.
struct Parked {
    go: std::io::PipeReader,
    ready: std::io::PipeWriter,
}

impl Parked {
    /// Tell the parent, and wait until it says to go on.
    fn park(&mut self) {
        use std::io::{Read, Write};
        self.ready.write_all(b"x").unwrap();
        self.go.read_exact(&mut [0]).unwrap();
    }
}

impl ForkedChild {
    fn new(work: impl FnOnce(&mut Parked) -> bool) -> Self {
        let (go_reader, go) = std::io::pipe().unwrap();
        let (ready, ready_writer) = std::io::pipe().unwrap();
        // SAFETY: the test has no other thread that matters, and the child leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop((go, ready));
            let mut parked = Parked {
                go: go_reader,
                ready: ready_writer,
            };
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut parked))).unwrap_or(false);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!fine)) }
        }
        Self { pid, go, ready }
    }

    fn wait_parked(&mut self) {
        use std::io::Read;
        self.ready.read_exact(&mut [0]).unwrap();
    }

    /// Let the child run to its end, which must be a success.
    fn finish(mut self) {
        use std::io::Write;
        self.go.write_all(b"x").unwrap();
        assert_eq!(self.reap(), 0);
    }

    fn kill(self) {
        // SAFETY: an unreaped child of ours.
        assert_eq!(unsafe { libc::kill(self.pid, libc::SIGKILL) }, 0);
        assert_eq!(self.reap(), -libc::SIGKILL);
    }

    fn reap(&self) -> i32 {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid);
        liveness::sweep();
        if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            -libc::WTERMSIG(status)
        }
    }
}

#[test]
fn what_is_made_after_a_fork_is_free_at_once() {
    let mut child = ForkedChild::new(|parked| {
        parked.park();
        true
    });
    child.wait_parked();
    for len in [1000, 200_000] {
        drop(made_now((len, 1)));
        assert_eq!((counters().deferred, counters().objects, counters().transit), (0, 0, 0));
    }
    child.finish();
}

/// A block and an object made now.
fn made_now((len, value): (usize, u64)) -> (Block, Ref<Counter>) {
    let object = Ref::<Counter>::create().unwrap();
    object.value.store(value, SeqCst);
    (Block::alloc(len).unwrap(), object)
}

#[test]
fn a_free_is_deferred_as_long_as_the_child_lives() {
    for len in [1000, 200_000] {
        let mut block = Some(Block::alloc(len).unwrap());
        let mut object = Some(Ref::<Counter>::create().unwrap());
        block.as_mut().unwrap().as_mut_slice().fill(1);
        object.as_ref().unwrap().value.store(42, SeqCst);
        let mut child = ForkedChild::new(|parked| {
            parked.park();
            let (block, object) = (block.take().unwrap(), object.take().unwrap());
            let seen = block.as_slice().iter().all(|&byte| byte == 1) && object.value.load(SeqCst) == 42;
            // Its own sweep does not free what it may still read, either.
            reclaim::sweep_deferred().unwrap();
            parked.park();
            seen && object.value.load(SeqCst) == 42 && block.as_slice().iter().all(|&byte| byte == 1)
        });
        child.wait_parked();
        let handle = object.as_ref().unwrap().handle();
        drop((block.take(), object.take()));
        assert_eq!(counters().deferred, 2);
        reclaim::sweep_deferred().unwrap();
        assert_eq!(counters().deferred, 2);
        let others: Vec<_> = (0..200).map(|_| made_now((len, 7))).collect();
        std::io::Write::write_all(&mut child.go, b"x").unwrap();
        child.wait_parked();
        drop(others);
        child.finish();
        assert_eq!((counters().deferred, counters().objects), (0, 0));
        let other = Ref::<Counter>::create().unwrap();
        assert!(!link(&other.value, handle).unwrap());
    }
}

#[test]
fn a_drop_that_sweeps_releases_what_the_swept_objects_refer_to() {
    let lock = Lock::create().unwrap();
    let guarded: Vec<_> = (1..SWEEP_AT).map(|_| SharedBytes::guarded(8, &lock).unwrap()).collect();
    let mut first = ForkedChild::new(|parked| {
        parked.park();
        // As its reaper does before it sweeps: the next sweep is that of any process.
        liveness::forget_inherited(liveness::me().unwrap());
        parked.park();
        true
    });
    first.wait_parked();
    drop(guarded);
    assert_eq!(counters().deferred as u64, SWEEP_AT - 1, "no drop has swept");
    let object = Ref::<Counter>::create().unwrap();
    let mut second = ForkedChild::new(|parked| {
        parked.park();
        true
    });
    second.wait_parked();
    std::io::Write::write_all(&mut first.go, b"x").unwrap();
    first.wait_parked();
    drop(object);
    assert_eq!(counters().deferred, 1, "the object of this drop");
    drop(lock);
    first.finish();
    second.finish();
    assert_eq!((counters().objects, counters().deferred), (0, 0));
}

/// The end of an object adds its slab to the footprint, which may need memory, in the middle of the change of a
/// reference.
#[test]
fn a_drop_without_memory_for_the_footprint_sweeps_nothing() {
    use crate::ids::Handle;
    use std::io::{Read, Write};
    let family = family().unwrap();
    let (arena, footprint) = (
        family.arena(),
        &family.arena().directory_of(family.me().slot()).unwrap().footprint,
    );
    let (mut handles, mut handed) = std::io::pipe().unwrap();
    // Its objects fill a slab of this process, and the last ones lie in a slab of its own.
    let mut maker = ForkedChild::new(|parked| {
        parked.park();
        let made: Vec<_> = (0..130).map(|_| Ref::<Counter>::create().unwrap()).collect();
        let last = made.last().unwrap().handle();
        handed.write_all(&last.to_bits().to_le_bytes()).unwrap();
        parked.park();
        drop(made);
        parked.park();
        true
    });
    maker.wait_parked();
    let lock = Lock::create().unwrap();
    let guarded = SharedBytes::guarded(8, &lock).unwrap();
    let mut heir = ForkedChild::new(|parked| {
        parked.park();
        liveness::forget_inherited(liveness::me().unwrap());
        parked.park();
        true
    });
    heir.wait_parked();
    drop((guarded, lock));
    maker.go.write_all(b"x").unwrap();
    maker.wait_parked();
    let mut bits = [0; 8];
    handles.read_exact(&mut bits).unwrap();
    let object = Ref::<Counter>::attach(Handle::from_bits(u64::from_le_bytes(bits)).unwrap()).unwrap();
    maker.go.write_all(b"x").unwrap();
    maker.wait_parked();

    let mut blocks = Vec::new();
    let mut exhaust = || {
        arena.header().budget.store(1, SeqCst);
        blocks.extend(std::iter::from_fn(|| Block::alloc(1024).ok()));
    };
    exhaust();
    arena.header().budget.store(u64::MAX, SeqCst);
    let mut others = Vec::new();
    while footprint.near.last().unwrap().load(SeqCst) == 0 {
        others.push(Block::alloc(32 << 10).unwrap());
    }
    exhaust();
    assert_eq!(footprint.head.load(SeqCst), 0, "the next slab needs a chunk");
    heir.go.write_all(b"x").unwrap();
    heir.wait_parked();
    drop(object);
    assert_ne!(footprint.head.load(SeqCst), 0, "the slab of the object was the next");

    arena.header().budget.store(u64::MAX, SeqCst);
    heir.finish();
    maker.finish();
    reclaim::sweep_deferred().unwrap();
    assert_eq!((counters().objects, counters().deferred), (0, 0));
}

#[test]
fn what_is_deferred_lives_again_when_a_child_sends_it() {
    let other = Ref::<Counter>::create().unwrap();
    let mut object = Some(Ref::<Counter>::create().unwrap());
    let handle = object.as_ref().unwrap().handle();
    let mut child = ForkedChild::new(|parked| {
        parked.park();
        let inherited = object.take().unwrap();
        link(&other.value, inherited.handle()).unwrap()
    });
    child.wait_parked();
    drop(object.take());
    assert_eq!((counters().deferred, counters().objects), (1, 1));
    child.finish();
    let received = Ref::<Counter>::attach(handle).unwrap();
    unlink(&other.value).unwrap();
    drop((received, other));
    assert_eq!((counters().deferred, counters().objects), (0, 0));
}

#[test]
fn a_clone_of_what_was_inherited_is_inherited_too() {
    let object = Ref::<Counter>::create().unwrap();
    let before = counters();
    ForkedChild::new(|parked| {
        let copies: Vec<_> = (0..3).map(|_| object.clone()).collect();
        let own = Ref::<Counter>::attach(object.handle()).unwrap();
        let twice = own.clone();
        let counted = counters().refs == before.refs + 1;
        drop((copies, own, twice));
        parked.park();
        counted && counters().refs == before.refs
    })
    .finish();
    assert_eq!(counters(), before);
}

#[test]
fn what_a_killed_child_held_comes_back() {
    let shared = Ref::<Counter>::create().unwrap();
    let before = counters();
    for round in 0..5 {
        let mut child = ForkedChild::new(|parked| {
            let blocks: Vec<_> = (0..50).map(|n| Block::alloc(n * 3000).unwrap()).collect();
            let objects: Vec<_> = (0..300).map(|_| Ref::<Counter>::create().unwrap()).collect();
            let held = Ref::<Counter>::attach(shared.handle()).unwrap();
            parked.park();
            drop((blocks, objects, held));
            true
        });
        child.wait_parked();
        assert_eq!(counters().objects, before.objects + 300);
        if round % 2 == 0 {
            child.kill();
        } else {
            child.finish();
        }
        assert_eq!(counters(), before, "round {round}");
    }
    let bytes = family().unwrap().arena().bytes();
    assert!(bytes.used + bytes.idle < 16 << 20, "{bytes:?}");
}

#[test]
fn a_child_inherits_no_lock_that_a_thread_of_its_parent_held() {
    let busy = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while busy.load(SeqCst) {
                    drop(made_now((100_000, 1)));
                }
            });
        }
        for _ in 0..200 {
            let child = ForkedChild::new(|_| {
                let (block, object) = made_now((100_000, 1));
                drop(object.clone());
                drop((block, object));
                true
            });
            assert_eq!(child.reap(), 0);
        }
        busy.store(false, SeqCst);
    });
    liveness::sweep();
    reclaim::sweep_deferred().unwrap();
    assert_eq!((counters().objects, counters().deferred, counters().transit), (0, 0, 0));
}

/// How many slabs are looked at because of the death of a child that owns a few cells.
fn looks_for_a_death() -> u64 {
    let child = ForkedChild::new(|parked| {
        let _held = (
            Block::alloc(100).unwrap(),
            Block::alloc(3000).unwrap(),
            Ref::<Counter>::create().unwrap(),
        );
        parked.park();
        true
    });
    let mut child = child;
    child.wait_parked();
    let before = reclaim::LOOKS.load(SeqCst);
    child.kill();
    reclaim::LOOKS.load(SeqCst) - before
}

#[test]
fn a_death_costs_what_the_dead_owned_whatever_else_lives() {
    family().unwrap().me();
    let alone = looks_for_a_death();
    let mut blocks: Vec<Block> = (0..8000).map(|_| Block::alloc(1000).unwrap()).collect();
    let objects: Vec<Ref<Counter>> = (0..8000).map(|_| Ref::create().unwrap()).collect();
    let before = counters();
    assert_eq!((before.owned >= 8000, before.objects), (true, 8000));
    let beside = looks_for_a_death();
    assert!(beside <= alone + 2, "{beside} looks, alone {alone}");
    assert_eq!(counters(), before);
    // Nor does a death cost more for what is in transit to others, or for what this process has owned before.
    let tokens: Vec<_> = blocks.drain(..4000).map(Block::send).collect();
    assert!(looks_for_a_death() <= alone + 2);
    tokens.into_iter().for_each(Block::discard);
    drop((blocks, objects));
    assert!(looks_for_a_death() <= alone + 2);
    assert_eq!((counters().objects, counters().deferred), (0, 0));
}

#[test]
fn what_a_process_owned_in_many_slabs_comes_back() {
    let before = counters();
    for count in [10, 1000, 20_000] {
        let mut child = ForkedChild::new(move |parked| {
            let _held: Vec<_> = (0..count).map(|number| Block::alloc(number % 5000).unwrap()).collect();
            parked.park();
            true
        });
        child.wait_parked();
        assert!(counters().owned >= before.owned + count);
        child.kill();
        assert_eq!(counters(), before, "{count} blocks");
    }
}
