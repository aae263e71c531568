//! Processes that work on the arena while others of them are killed.

use std::sync::atomic::Ordering::SeqCst;

use super::{counters, Counter};
use crate::arena::{Block, Ref};
use crate::ids::Handle;
use crate::{liveness, reclaim};

/// Pseudo-random numbers, the same in each run.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *seed >> 33
}

/// Allocate, pass through transit, hold and release, for ever.
fn churn(mut seed: u64, shared: &[Handle], done: &Counter) -> ! {
    let mut blocks: Vec<Block> = Vec::new();
    let mut objects: Vec<Ref<Counter>> = Vec::new();
    loop {
        match next(&mut seed) % 6 {
            0 => blocks.push(Block::alloc(next(&mut seed) as usize % 3000).unwrap()),
            1 => blocks.push(Block::alloc(next(&mut seed) as usize % 400_000).unwrap()),
            2 => objects.push(Ref::create().unwrap()),
            3 => {
                let one = shared[next(&mut seed) as usize % shared.len()];
                objects.push(Ref::attach(one).unwrap());
            }
            4 => drop(objects.pop()),
            _ => blocks.truncate(next(&mut seed) as usize % 30),
        }
        for (number, block) in (0_u8..).zip(&mut blocks) {
            if let Some(byte) = block.as_mut_slice().first_mut() {
                *byte = number;
            }
        }
        let marked = |(number, block): (u8, &Block)| block.as_slice().first().is_none_or(|&byte| byte == number);
        assert!((0_u8..).zip(&blocks).all(marked), "another process's memory");
        done.value.fetch_add(1, SeqCst);
        objects.truncate(20);
    }
}

#[test]
fn a_storm_of_deaths_leaves_nothing() {
    let shared: Vec<Ref<Counter>> = (0..3).map(|_| Ref::create().unwrap()).collect();
    let handles: Vec<Handle> = shared.iter().map(Ref::handle).collect();
    let done = Ref::<Counter>::create().unwrap();
    let before = counters();
    let mut seed = 1;
    let mut start = |seed| {
        // SAFETY: the test has one thread; the child is killed, or leaves by `_exit`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let work = std::panic::AssertUnwindSafe(|| churn(seed, &handles, &done));
            let _ = std::panic::catch_unwind(work);
            // SAFETY: ends the process.
            unsafe { libc::_exit(1) }
        }
        pid
    };
    let mut children: Vec<i32> = (10..14).map(&mut start).collect();
    for round in 0..150 {
        // Let the children work. How much they do is random, and so is where they are then.
        let enough = done.value.load(SeqCst) + next(&mut seed) % 500;
        while done.value.load(SeqCst) < enough {
            std::thread::yield_now();
            assert_eq!(count_ended(&children), 0, "a child found something wrong");
        }
        wait_for_registration();
        let victim = next(&mut seed) as usize % children.len();
        end(children[victim]);
        liveness::sweep();
        children[victim] = start(100 + round);
    }
    wait_for_registration();
    children.into_iter().for_each(end);
    assert_eq!(liveness::sweep(), 1);
    reclaim::sweep_deferred().unwrap();
    assert_eq!(counters(), before);
}

/// Wait until every child has taken over the entry that was reserved for it. A child that is killed before that cannot
/// be told from a slow fork, and its entry stays reserved for a while.
fn wait_for_registration() {
    while liveness::members()
        .iter()
        .any(|member| member.state == liveness::MemberState::Starting)
    {
        std::thread::yield_now();
    }
}

/// Kill a child, and notice its death.
fn end(pid: i32) {
    let mut status = 0;
    // SAFETY: an unreaped child of ours.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, &raw mut status, 0);
    }
    assert!(libc::WIFSIGNALED(status), "it had ended before: {status:#x}");
}

/// How many children ended by themselves. They are not reaped.
fn count_ended(children: &[i32]) -> usize {
    let ended = |&&pid: &&i32| {
        // SAFETY: zeros are a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` outlives the call.
        let code = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, how) };
        // SAFETY: `waitid` filled it in, or it is zero.
        code != 0 || unsafe { info.si_pid() } != 0
    };
    children.iter().filter(ended).count()
}
