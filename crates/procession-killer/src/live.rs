//! Deaths that others are waiting for: at each point a victim is killed in a family of its own, while a bystander sleeps on the same object.
//!
//! A sleeper is the kernel's, and cannot be copied with the arena: so the operation is stepped anew to each point at which a death
//! differs from the one before, that is, after each write to the arena and each system call.

use crate::explore::{is_chosen, Report, Thoroughness};
use crate::image::Image;
use crate::operations::Victim;
use crate::stage::{board, end_of, Values, World};
use crate::trace::{kill, Step, Tracee};
use libc::pid_t;
use std::time::{Duration, Instant};

/// How the victim ended.
#[derive(Clone, Copy)]
pub struct Death {
    pub pid: pid_t,
    /// The operation had returned.
    pub returned: bool,
}

/// What the root does once the victim is dead: panics when something is wrong, says what it found.
pub type After = Box<dyn FnOnce(Death) -> String>;

/// An operation for which somebody waits.
pub struct Waited {
    pub name: &'static str,
    /// What the root makes, and what it does after the death.
    pub setup: fn() -> (Vec<u64>, After),
    /// What the bystander does, asleep in it by the time the victim begins; it panics when something is wrong.
    pub sleeper: Option<fn(&Values)>,
    pub victim: Victim,
}

/// How long a process may take to fall asleep.
const FALL_ASLEEP: Duration = Duration::from_secs(10);

/// Kill `operation` at every point.
pub fn explore(operation: &Waited, how: Thoroughness) -> Report {
    let mut report = Report::default();
    // The first time it runs to its end; so it is known how many points there are.
    let count = run(operation, usize::MAX, how.limit, &mut report) + 1;
    report.states = count;
    for point in (0..count).filter(|&point| is_chosen(point, count, how.points)) {
        run(operation, point, how.limit, &mut report);
    }
    report
}

/// Kill it after `wanted` points, or when it is through. How many there were.
fn run(operation: &Waited, wanted: usize, limit: Duration, report: &mut Report) -> usize {
    let world = World::with_a_future(operation.setup);
    let victim = World::victim(&world.arena, || {
        procession_core::roll::me().expect("a place in the roll");
        (operation.victim)(&world.values)
    });
    let sleeper = operation.sleeper.map(|sleeper| {
        let pid = World::bystander(&world.arena, || sleeper(&world.values));
        let begin = Instant::now();
        while !is_asleep(pid) {
            assert!(
                begin.elapsed() < FALL_ASLEEP,
                "the bystander does not wait: {}",
                board().said()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        pid
    });
    let mut image = Image::of(&world.arena);
    let mut tracee = Tracee::new(victim);
    let (mut points, mut returned) = (0, false);
    while points < wanted {
        match tracee.step(&mut image) {
            Step::Ran(_) => points += usize::from(tracee.touched || tracee.at_syscall),
            Step::Forked(child) => kill(child),
            Step::Through => {
                returned = true;
                break;
            }
        }
    }
    if wanted == usize::MAX {
        (report.instructions, report.syscalls) = (tracee.instructions, tracee.syscalls);
    }
    tracee.kill();
    report.kills += 1;
    let begin = Instant::now();
    let root = world.go_on(Death { pid: victim, returned });
    let place = || {
        format!(
            "killed at point {points}{}",
            if returned { ", having returned" } else { "" }
        )
    };
    for (who, pid) in sleeper
        .map(|pid| ("bystander", pid))
        .into_iter()
        .chain([("root", root)])
    {
        match end_of(pid, limit) {
            Some(0) => {}
            Some(status) => report
                .failures
                .push(format!("{}: {who}: status {status:#x}: {}", place(), board().said())),
            None => report.failures.push(format!("{}: the {who} is stuck", place())),
        }
    }
    report.longest = report.longest.max(begin.elapsed());
    *report.outcomes.entry(board().said()).or_default() += 1;
    points
}

/// Whether a process is in the kernel's futex wait.
fn is_asleep(pid: pid_t) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/syscall"))
        .is_ok_and(|text| text.split(' ').next() == Some(&libc::SYS_futex.to_string()))
}
