//! The process table between real processes. Each test needs a process of its own (cargo nextest gives it one).

mod exec;

use super::own::me_already;
use super::table::entry;
use super::*;
use crate::family;
use crate::ids::Owner;
use std::time::Duration;

fn fork_born_between(after: u64, upto: u64) -> bool {
    Forks::find().between(after, upto)
}

fn births() -> u64 {
    family().unwrap().arena().births()
}

/// Fork. The child runs `child` and exits with its answer as exit code.
pub(crate) fn fork(child: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the test has no other thread that matters, and the child leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!fine)) }
        }
        pid => pid,
    }
}

pub(crate) fn kill(pid: i32) {
    // SAFETY: `pid` is an unreaped child of this test.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
}

/// Wait for a child, and return its exit code.
pub(crate) fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        -libc::WTERMSIG(status)
    }
}

pub(crate) fn wait_until(mut what: impl FnMut() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

#[test]
fn a_fork_beside_the_first_use_has_its_entry_reserved() {
    // As when another thread has made the arena and is about to register this process.
    crate::arena::current().unwrap();
    let child = fork(|| me_already().is_some() && members().len() == 2);
    assert_eq!(reap(child), 0);
}

#[test]
fn a_process_has_one_entry_and_a_child_another() {
    let here = family().unwrap().me();
    assert_eq!(me().unwrap(), here);
    set_name("root");
    let child = fork(|| {
        let mine = me().unwrap();
        set_name("child");
        let about = members().into_iter().find(|member| member.owner == mine).unwrap();
        mine != here
            && is_alive(here)
            && about.pid == std::process::id()
            && about.parent == Some(here)
            && about.state == MemberState::Live
            && about.name == "child"
            && describe(here) == Some((about_parent_pid(here), "root".into()))
    });
    assert_eq!(reap(child), 0);
    assert_eq!(sweep(), 1, "only this process is left");
    assert_eq!(members().len(), 1);
}

fn about_parent_pid(owner: Owner) -> u32 {
    members()
        .into_iter()
        .find(|member| member.owner == owner)
        .map_or(0, |member| member.pid)
}

#[test]
fn a_killed_process_is_dead_even_as_a_zombie_and_its_slot_is_used_again() {
    family().unwrap().me();
    let mut dead = Vec::new();
    for _ in 0..400 {
        let child = fork(|| loop {
            std::thread::park();
        });
        wait_until(|| members().iter().any(|member| member.pid == child as u32));
        let owner = members()
            .iter()
            .find(|member| member.pid == child as u32)
            .unwrap()
            .owner;
        assert!(is_alive(owner));
        kill(child);
        wait_until(|| !is_alive(owner));
        assert!(is_known_dead(owner));
        reap(child);
        assert!(!dead.contains(&owner), "a claim names one process for ever");
        dead.push(owner);
    }
    assert_eq!(members().len(), 1);
    assert!(dead.iter().all(|&owner| !is_alive(owner)));
}

#[test]
fn a_fork_between_birth_and_drop_is_seen_by_its_descendants_too() {
    family().unwrap().me();
    let born = births();
    assert!(!fork_born_between(born, births()));
    let child = fork(|| {
        let seen = fork_born_between(born, births());
        let own = births();
        let grandchild = fork(|| fork_born_between(born, births()));
        let quiet = !fork_born_between(own, own);
        seen && quiet && reap(grandchild) == 0 && {
            set_name("parked");
            std::thread::park();
            true
        }
    });
    wait_until(|| members().iter().any(|member| member.name == "parked"));
    assert!(fork_born_between(born, births()) && fork_born_after(born) && !fork_born_after(births()));
    assert!(
        !fork_born_between(births(), births()),
        "what is made now is inherited by no process"
    );
    kill(child);
    reap(child);
    sweep();
    assert!(!fork_born_between(born, births()) && !fork_born_after(born));
}

#[test]
fn a_failed_fork_leaves_no_entry_when_abandoned() {
    family().unwrap().me();
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: libc::RLIM_INFINITY,
    };
    let mut before = limit;
    // SAFETY: both structures outlive the calls.
    // Root is not bound by this limit: then the fork succeeds and there is nothing to test.
    let child = unsafe {
        libc::getrlimit(libc::RLIMIT_NPROC, &raw mut before);
        libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit);
        let child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
        libc::setrlimit(libc::RLIMIT_NPROC, &raw const before);
        child
    };
    if child > 0 {
        reap(child);
    } else {
        assert_eq!(members().len(), 2);
        abandon_reserved();
    }
    sweep();
    assert_eq!(members().len(), 1);
}

#[test]
fn a_full_process_table_is_an_error_of_the_start() {
    std::env::set_var("PROCESSION_ARENA_SIZE", "64M");
    let here = family().unwrap().me();
    let (pid, start) = (
        std::process::id(),
        crate::sys::proc::start_time(std::process::id()).unwrap(),
    );
    let claim = || registry::claim(entry::Stage::Live, pid, start, Some(here), false);
    let refused = || {
        // SAFETY: the child, if there is one, exits at once.
        match unsafe { crate::process::fork() } {
            // SAFETY: ends the process.
            Ok(crate::process::Forked::Child) => unsafe { libc::_exit(1) },
            Ok(crate::process::Forked::Parent(_)) => false,
            Err(error) => matches!(error, crate::Error::ProcessTableFull(4096)),
        }
    };
    let mut others = Vec::new();
    while check_room().is_ok() {
        others.push(claim().unwrap());
        assert!(others.len() < 4096);
    }
    assert!(refused() && others.len() > 4000);
    // A process that does not ask still finds room. When there is none left, no other process is harmed.
    assert_eq!(reap(fork(|| me().is_ok())), 0);
    while let Ok(owner) = claim() {
        others.push(owner);
    }
    assert!(refused());
    let object = crate::arena::Ref::<crate::process::ResultSlot>::create().unwrap();
    // An error, and no panic, whatever the child does.
    let fails = || {
        let full = |error: &crate::Error| matches!(error, crate::Error::ProcessTableFull(4096));
        let copy = object.clone();
        let failed = family().is_err_and(|error| full(&error))
            && crate::arena::Block::alloc(10).is_err_and(|error| full(&error))
            && crate::arena::counters().is_err_and(|error| full(&error));
        drop(copy);
        failed && me().is_err()
    };
    assert_eq!(reap(fork(fails)), 0);
    assert!(is_alive(here) && crate::arena::Block::alloc(100_000).is_ok());
    for owner in others {
        let (table, _) = table::my_entry().unwrap();
        table.release(owner, table.get(owner).unwrap().life());
    }
    assert!(check_room().is_ok());
    assert_eq!(reap(fork(|| me().is_ok())), 0);
    sweep();
    assert_eq!(members().len(), 1);
}

#[test]
fn a_waiting_process_reaps_children_that_are_not_asked_about() {
    let here = family().unwrap().me();
    // A process with a dead parent, and an entry that was reserved for a child that was never born.
    let parent = fork(|| {
        fork(|| {
            let block = crate::arena::Block::alloc(100_000).unwrap();
            std::mem::forget(block);
            let (pid, start) = (std::process::id(), own_start());
            registry::claim(entry::Stage::Starting, pid, start, me().ok(), true).unwrap();
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        });
        true
    });
    assert_eq!(reap(parent), 0);
    let alone = || members().iter().all(|member| member.owner == here);
    let nothing = crate::sync::wait::EventCount::default();
    let deadline = crate::Deadline::after(Duration::from_secs(60));
    let end = nothing.wait(deadline, || alone().then_some(()));
    assert!(end.is_ok(), "{:?}", members());
    assert_eq!(crate::arena::counters().unwrap(), crate::arena::Counters::default());
}

#[test]
fn a_process_of_another_user_takes_no_living_one_for_dead() {
    // SAFETY: asks, changes nothing.
    if unsafe { libc::geteuid() } != 0 {
        return; // Only root may become another user.
    }
    let here = family().unwrap().me();
    let other = fork(|| {
        // SAFETY: the child is alone, and changes itself.
        let changed = unsafe { libc::setresuid(65_534, 65_534, 65_534) } == 0;
        changed && is_alive(here) && sweep() == 2
    });
    assert_eq!(reap(other), 0);
    assert!(is_alive(here));
}

#[test]
fn a_reaper_that_dies_is_succeeded() {
    family().unwrap().me();
    let child = fork(|| loop {
        std::thread::park();
    });
    wait_until(|| members().iter().any(|member| member.pid == child as u32));
    let owner = members()
        .iter()
        .find(|member| member.pid == child as u32)
        .unwrap()
        .owner;
    kill(child);
    reap(child);
    // A reaper that marked the entry and died.
    let reaper = fork(|| {
        let entry = entry(owner).unwrap();
        let life = entry.life();
        entry.change(life, super::entry::Life::dead(owner.generation(), me().unwrap()))
    });
    assert_eq!(reap(reaper), 0);
    assert!(is_known_dead(owner));
    assert_eq!(sweep(), 1);
    assert_eq!(members().len(), 1);
}

#[test]
fn many_processes_at_once_grow_the_table() {
    family().unwrap().me();
    let children: Vec<_> = (0..200)
        .map(|_| {
            fork(|| loop {
                std::thread::park();
            })
        })
        .collect();
    wait_until(|| {
        members()
            .iter()
            .filter(|member| member.state == MemberState::Live)
            .count()
            == 201
    });
    let owners: std::collections::HashSet<_> = members().into_iter().map(|member| member.owner).collect();
    assert_eq!(owners.len(), 201);
    for &child in &children {
        kill(child);
    }
    for child in children {
        reap(child);
    }
    assert_eq!(sweep(), 1);
}

#[test]
fn names_are_cut_at_a_character() {
    family().unwrap().me();
    set_name(&"ä".repeat(40));
    assert_eq!(members()[0].name, "ä".repeat(32));
    set_name(&format!("x{}", "ä".repeat(40)));
    assert_eq!(members()[0].name, format!("x{}", "ä".repeat(31)));
}

#[test]
fn entries_that_the_hints_have_lost_are_found_again() {
    let here = family().unwrap().me();
    let (table, _) = table::my_entry().unwrap();
    let claim = || table.claim_any(super::entry::Stage::Live, std::process::id(), 0, Some(here), false);
    // The process that claimed these died after it had set the hint.
    let lost: Vec<_> = (0..5).map(|_| claim().unwrap()).collect();
    for owner in &lost {
        let entry = table.get(*owner).unwrap();
        assert!(entry.change(entry.life(), super::entry::Life::free(owner.generation())));
    }
    let mut all: Vec<_> = std::iter::from_fn(claim).collect();
    let slot_of = |owner: &Owner| owner.slot();
    assert!(lost
        .iter()
        .all(|owner| all.iter().any(|other| slot_of(other) == slot_of(owner))));
    assert!(claim().is_none());
    // A reaper that died after it had cleared the hint.
    let owner = all.pop().unwrap();
    let entry = table.get(owner).unwrap();
    assert!(entry.change(entry.life(), super::entry::Life::dead(owner.generation(), lost[0])));
    table.hint(owner.slot()).store(0, std::sync::atomic::Ordering::Relaxed);
    assert!(claim().is_none());
    assert!(table.in_use().any(|(slot, _)| slot == owner.slot()));
}

#[test]
fn an_entry_that_has_had_all_its_generations_is_not_used_again() {
    let here = family().unwrap().me();
    let (table, _) = table::my_entry().unwrap();
    let claim = || table.claim_any(super::entry::Stage::Live, std::process::id(), 0, Some(here), false);
    let spent = claim().unwrap();
    let entry = table.get(spent).unwrap();
    assert!(entry.change(entry.life(), super::entry::Life::free(u16::MAX - 1)));
    let all: Vec<_> = std::iter::from_fn(claim).collect();
    let last = all.iter().find(|owner| owner.slot() == spent.slot()).unwrap();
    assert_eq!(last.generation(), u16::MAX);
    table.release(*last, entry.life());
    assert!(claim().is_none());
}

#[test]
fn processes_bound_to_a_core_each_have_all_these_cores_together() {
    me().unwrap();
    let own = crate::sys::limits::usable_cores();
    let known = cores(own);
    assert_eq!(known, own.count_ones());
    // The cores of two children, as their numbers modulo 64; a machine may have both already.
    let others = [1 << 62, 1 << 63];
    for other in others {
        assert_eq!(reap(fork(|| cores(other) >= known)), 0);
    }
    assert_eq!(cores(0), (own | others[0] | others[1]).count_ones());
}
