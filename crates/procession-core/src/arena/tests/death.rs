//! Death at any instruction: a process steps through an operation and is killed at one point after the other; what it
//! owned comes back.

use std::sync::atomic::Ordering::SeqCst;

use super::{counters, Counter, Counters};
use crate::arena::{cells, link, unlink, Block, Ref};
use crate::ids::{Handle, Owner};
use crate::liveness;
use crate::{family, reclaim};

/// How many instructions a test steps through in all, by default: every point of an unoptimised build would be
/// millions.
const BUDGET: u64 = 60_000;

/// Distance between the points at which an operation of `length` instructions is killed. `PROCESSION_KILL_BUDGET` makes
/// it smaller.
fn stride(length: u64) -> usize {
    let set = std::env::var("PROCESSION_KILL_BUDGET")
        .ok()
        .and_then(|text| text.parse().ok());
    let points = (2 * set.unwrap_or(BUDGET) / length.max(1)).clamp(4, length.max(4));
    (length / points).max(1) as usize
}

/// How a stepped child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Killed after the requested number of instructions.
    Killed,
    /// Finished after this many instructions.
    After(u64),
}

/// Run `operation` in a child, and kill it after `steps` instructions. Also returns the child's owner.
fn step(steps: u64, operation: &dyn Fn()) -> (Ended, Owner) {
    in_child(operation, |pid| {
        let mut status = 0;
        let mut taken = 0;
        // SAFETY: the child is ours; `status` outlives the calls.
        unsafe {
            libc::waitpid(pid, &raw mut status, 0);
            loop {
                if taken == steps {
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, &raw mut status, 0);
                    return Ended::Killed;
                }
                libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0);
                libc::waitpid(pid, &raw mut status, 0);
                if libc::WIFEXITED(status) {
                    assert_eq!(libc::WEXITSTATUS(status), 0);
                    return Ended::After(taken);
                }
                assert!(libc::WIFSTOPPED(status), "status {status:#x} after {taken} steps");
                assert_eq!(libc::WSTOPSIG(status), libc::SIGTRAP, "after {taken} steps");
                taken += 1;
            }
        }
    })
}

/// Run `operation` in a child, at full speed.
fn run(operation: &dyn Fn()) -> Owner {
    let to_the_end = |pid| {
        let mut status = 0;
        // SAFETY: the child is ours; `status` outlives the calls.
        unsafe {
            libc::waitpid(pid, &raw mut status, 0);
            libc::ptrace(libc::PTRACE_CONT, pid, 0, 0);
            libc::waitpid(pid, &raw mut status, 0);
        }
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
    };
    in_child(operation, to_the_end).1
}

/// Run `operation` in a child that stops before it, for `follow` to trace.
fn in_child<T>(operation: &dyn Fn(), follow: impl FnOnce(i32) -> T) -> (T, Owner) {
    let owner = Ref::<Counter>::create().unwrap();
    // SAFETY: the test has one thread; the child leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        owner.value.store(family().unwrap().me().to_bits().into(), SeqCst);
        // SAFETY: plain system calls.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        operation();
        // SAFETY: as above.
        unsafe { libc::_exit(0) }
    }
    let result = follow(pid);
    (result, Owner::from_bits(owner.value.load(SeqCst) as u32).unwrap())
}

/// Kill `operation` at points all over it. After each death the arena must be what it was before, except for what
/// `allowed` permits.
fn at_many_points(operation: &dyn Fn(), allowed: impl Fn(Counters, Counters) -> bool) {
    // Slabs that do not exist yet, and this process's own reference log, are made now.
    operation();
    drop(Ref::<Counter>::create().unwrap());
    let before = counters();
    let (Ended::After(length), owner) = step(u64::MAX, operation) else {
        unreachable!()
    };
    assert!(!liveness::is_alive(owner));
    assert!(
        allowed(before, counters()),
        "through to the end: {before:?} then {:?}",
        counters()
    );
    for point in (0..length).step_by(stride(length)) {
        let before = counters();
        let (ended, owner) = step(point, operation);
        // Its length depends a little on what exists already.
        assert!(ended == Ended::Killed || point > length / 2);
        assert!(!liveness::is_alive(owner));
        let after = counters();
        assert!(
            allowed(before, after),
            "killed at {point} of {length}: {before:?} then {after:?}"
        );
        operation();
        assert!(
            allowed(after, counters()),
            "after the death at {point} of {length}: {after:?} then {:?}",
            counters()
        );
    }
}

fn nothing_left(before: Counters, after: Counters) -> bool {
    before == after
}

#[test]
fn killed_with_a_small_block() {
    at_many_points(&|| drop(Block::alloc(100).unwrap()), nothing_left);
}

#[test]
fn killed_with_large_blocks() {
    // A slab that is partly in use, with a hole.
    let mut blocks: Vec<_> = (0..4).map(|_| Block::alloc(300_000).unwrap()).collect();
    blocks.remove(1);
    at_many_points(
        &|| {
            let pair = (Block::alloc(70_000).unwrap(), Block::alloc(100_000).unwrap());
            drop(pair.0);
            drop(pair.1);
        },
        nothing_left,
    );
    drop(blocks);
    assert!(counters().owned <= 1, "all but the reference log: {:?}", counters());
}

#[test]
fn killed_with_a_block_in_transit() {
    // A sent block belongs to the message, which is not the arena's: at most one stays behind.
    at_many_points(
        &|| {
            let token = Block::alloc(200).unwrap().send();
            drop(Block::take(token, 200).unwrap());
        },
        |before, after| {
            let stays = after.transit - before.transit;
            stays <= 1
                && before
                    == Counters {
                        transit: before.transit,
                        ..after
                    }
        },
    );
}

#[test]
fn killed_with_a_segment() {
    at_many_points(
        &|| {
            let (index, generation) = cells::alloc_segment().unwrap();
            cells::free_segment(index, generation);
        },
        nothing_left,
    );
}

#[test]
fn killed_with_a_new_object() {
    at_many_points(&|| drop(Ref::<Counter>::create().unwrap()), nothing_left);
}

#[test]
fn killed_while_attaching_and_dropping() {
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    at_many_points(&|| drop(Ref::<Counter>::attach(handle).unwrap()), nothing_left);
    drop(object);
    assert_eq!(counters().objects, 0);
}

#[test]
fn killed_between_the_words_of_an_attach() {
    // As above, but near its end, where the mark and the entry change.
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    let operation: &dyn Fn() = &|| std::mem::forget(Ref::<Counter>::attach(handle).unwrap());
    let (Ended::After(length), owner) = step(u64::MAX, operation) else {
        unreachable!()
    };
    assert!(!liveness::is_alive(owner));
    let before = counters();
    for point in (0..length).rev().take(400).step_by(stride(length).min(50)) {
        let (_, owner) = step(point, operation);
        assert!(!liveness::is_alive(owner));
        assert_eq!(counters(), before, "killed at {point} of {length}");
    }
}

#[test]
fn killed_with_references_in_a_block() {
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    at_many_points(
        &|| {
            // Four references at once.
            let held = Ref::<Counter>::attach(handle).unwrap();
            let (mut small, mut large) = (Block::alloc(64).unwrap(), Block::alloc(70_000).unwrap());
            small.refer(&[handle, handle]).unwrap();
            large.refer(&[handle]).unwrap();
            drop((held, small, large));
        },
        nothing_left,
    );
    drop(object);
    assert_eq!(counters().objects, 0);
}

#[test]
fn killed_between_objects_that_refer_to_each_other() {
    let (from, to) = (Ref::<Counter>::create().unwrap(), Ref::<Counter>::create().unwrap());
    let (entry, handle) = (&from.value, to.handle());
    let operation = || {
        unlink(entry).unwrap();
        assert!(link(entry, handle).unwrap() && !link(entry, handle).unwrap());
        unlink(entry).unwrap();
    };
    operation();
    let before = counters();
    at_many_points(&operation, |_, after| {
        let refs = before.refs + u64::from(entry.load(SeqCst) != 0);
        after == Counters { refs, ..before }
    });
}

#[test]
fn a_reclaimer_killed_in_the_middle() {
    let object = Ref::<Counter>::create().unwrap();
    let handle: Handle = object.handle();
    let referring = || {
        let mut block = Block::alloc(200).unwrap();
        block.refer(&[handle, handle]).unwrap();
        block
    };
    let hold = || {
        let _all = std::mem::ManuallyDrop::new((
            Block::alloc(100).unwrap(),
            Block::alloc(100_000).unwrap(),
            Ref::<Counter>::create().unwrap(),
            Ref::<Counter>::attach(handle).unwrap(),
            referring(),
        ));
    };
    // Its slabs exist already.
    hold();
    let before = counters();
    let mut points = vec![u64::MAX];
    while let Some(point) = points.pop() {
        // One dead process that has not been reclaimed, then one that dies while reclaiming it.
        let first = run(&hold);
        let (ended, second) = step(point, &|| assert!(!liveness::is_alive(first)));
        if let (Ended::After(length), u64::MAX) = (ended, point) {
            points.extend((0..length).step_by(stride(length)));
        }
        assert!(!liveness::is_alive(second));
        assert!(!liveness::is_alive(first));
        assert_eq!(counters(), before, "reclaimer killed at {point}");
    }
}

/// Run `operation` in a child, stop it after `steps` instructions while `meanwhile` runs, then let it run to its end.
fn pause(steps: u64, operation: &dyn Fn(), meanwhile: &dyn Fn()) {
    let followed = in_child(operation, |pid| {
        let mut status = 0;
        // SAFETY: the child is ours; `status` outlives the calls.
        unsafe {
            libc::waitpid(pid, &raw mut status, 0);
            for _ in 0..steps {
                libc::ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0);
                libc::waitpid(pid, &raw mut status, 0);
                if libc::WIFEXITED(status) {
                    return status;
                }
            }
            meanwhile();
            libc::ptrace(libc::PTRACE_CONT, pid, 0, 0);
            libc::waitpid(pid, &raw mut status, 0);
        }
        status
    });
    assert!(libc::WIFEXITED(followed.0) && libc::WEXITSTATUS(followed.0) == 0);
    assert!(!liveness::is_alive(followed.1));
}

#[test]
fn no_process_waits_for_one_that_is_stopped_while_it_changes_a_count() {
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    let mut held = Some(object);
    let operation: &dyn Fn() = &|| drop(Ref::<Counter>::attach(handle).unwrap());
    let change = || {
        let mut block = Block::alloc(100).unwrap();
        block.refer(&[handle, handle]).unwrap();
        assert!(Block::alloc(64).unwrap().refer(&[handle]).is_ok());
    };
    change();
    operation();
    let (Ended::After(length), owner) = step(u64::MAX, operation) else {
        unreachable!()
    };
    assert!(!liveness::is_alive(owner));
    let before = counters();
    for point in (0..length).step_by(stride(length)) {
        pause(point, operation, &change);
        assert_eq!(counters(), before, "stopped at {point} of {length}");
    }
    drop(held.take());
    assert_eq!(counters().objects, 0);
}

#[test]
fn no_process_waits_for_a_reclaimer_that_is_stopped() {
    let object = Ref::<Counter>::create().unwrap();
    let handle = object.handle();
    let hold = || {
        let _all = std::mem::ManuallyDrop::new((
            Block::alloc(100).unwrap(),
            Block::alloc(100_000).unwrap(),
            Ref::<Counter>::attach(handle).unwrap(),
        ));
    };
    hold();
    let before = counters();
    let mut points = vec![u64::MAX];
    while let Some(point) = points.pop() {
        let first = run(&hold);
        let reclaim = || assert!(!liveness::is_alive(first));
        if point == u64::MAX {
            let (Ended::After(length), second) = step(point, &reclaim) else {
                unreachable!()
            };
            assert!(!liveness::is_alive(second));
            points.extend((0..length).step_by(4 * stride(length)));
        } else {
            // Meanwhile another death is reclaimed, deferred memory is swept, and references change.
            pause(point, &reclaim, &|| {
                assert!(!liveness::is_alive(first));
                assert!(!liveness::is_alive(run(&hold)));
                drop(Ref::<Counter>::attach(handle).unwrap());
                reclaim::sweep_deferred().unwrap();
            });
        }
        assert!(!liveness::is_alive(first));
        assert_eq!(counters(), before, "reclaimer stopped at {point}");
    }
}
