//! Deaths for which other processes wait: at each point a victim is killed in a family of its own, while a bystander
//! sleeps on the same object.
//!
//! A sleeper is part of the kernel's state and cannot be copied with the arena. So the operation is stepped anew to
//! each point at which a death differs from the previous one, that is, after each write to the arena and each system
//! call.

use crate::explore::{is_chosen, Report, Thoroughness};
use crate::image::Image;
use crate::operations::Victim;
use crate::remote::kill;
use crate::stage::{board, end_of, Values, World};
use crate::trace::{Step, Tracee};
use libc::pid_t;
use std::fmt::Write as _;
use std::fs::File;
use std::time::{Duration, Instant};

/// How the victim ended.
#[derive(Clone, Copy)]
pub struct Death {
    pub pid: pid_t,
    /// Whether the operation had returned.
    pub returned: bool,
}

/// What the root does once the victim is dead: it panics if something is wrong, and returns what it found.
pub type After = Box<dyn FnOnce(Death) -> String>;

/// An operation for which a process waits.
pub struct Waited {
    pub name: &'static str,
    /// What the root makes, and what it does after the death.
    pub setup: fn() -> (Vec<u64>, After),
    /// What the bystander does; it sleeps in it before the victim begins, and panics if something is wrong.
    pub sleeper: Option<fn(&Values)>,
    pub victim: Victim,
    /// What a survivor does before the root does, until it is killed, too.
    pub repairer: fn(&Values),
}

/// The number of points after which the victim is killed, and after which a survivor is killed, if one is.
type Deaths = (usize, Option<usize>);

/// How long a process may take to fall asleep.
const FALL_ASLEEP: Duration = Duration::from_secs(10);

/// Kill `operation` at every point.
pub fn explore(operation: &Waited, how: Thoroughness) -> Report {
    let mut report = Report::default();
    let mut run = |points| run(operation, points, how.limit, &mut report);
    // The first run goes to the end, and counts the points.
    let count = run((usize::MAX, None)).0 + 1;
    for point in chosen(count, how.points) {
        run((point, None));
    }
    if how.pairs > 0 {
        for point in chosen(count, how.pairs) {
            let seconds = run((point, Some(usize::MAX))).1 + 1;
            for second in chosen(seconds, how.points) {
                run((point, Some(second)));
            }
        }
    }
    report.states = count;
    report
}

fn chosen(count: usize, most: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |&point| is_chosen(point, count, most))
}

/// The result of stepping a process up to its death.
struct Stepped {
    tracee: Tracee,
    /// The number of points at which a death would have differed from the previous one.
    points: usize,
    returned: bool,
}

/// Step a process through this number of points, or to the end of what it does.
fn step(arena: &File, pid: pid_t, wanted: usize) -> Stepped {
    let mut image = Image::of(arena);
    let mut tracee = Tracee::new(pid);
    let mut points = 0;
    while points < wanted {
        match tracee.step(&mut image) {
            Step::Ran(_) => points += usize::from(tracee.touched || tracee.at_syscall),
            Step::Forked(child) => kill(child),
            Step::Through => {
                return Stepped {
                    tracee,
                    points,
                    returned: true,
                }
            }
        }
    }
    Stepped {
        tracee,
        points,
        returned: false,
    }
}

/// Kill the victim after this number of points, or when it is through; then a survivor, if there is a second number.
/// Returns how many points there were.
fn run(operation: &Waited, (first, second): Deaths, limit: Duration, report: &mut Report) -> (usize, usize) {
    let world = World::with_a_future(operation.setup);
    let victim = World::victim(&world.arena, || {
        procession_core::liveness::me().expect("an entry in the process table");
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
    let died = step(&world.arena, victim, first);
    if (first, second) == (usize::MAX, None) {
        (report.instructions, report.syscalls) = (died.tracee.instructions, died.tracee.syscalls);
    }
    died.tracee.kill();
    let mut place = format!(
        "killed at point {}{}",
        died.points,
        if died.returned { ", having returned" } else { "" }
    );
    let mut seconds = 0;
    if let Some(wanted) = second {
        let (repair, values) = (operation.repairer, world.values.clone());
        let survivor = World::victim(&world.arena, || {
            procession_core::liveness::me().expect("an entry in the process table");
            Box::new(move || repair(&values))
        });
        let died = step(&world.arena, survivor, wanted);
        died.tracee.kill();
        seconds = died.points;
        let _ = write!(place, ", its survivor at point {seconds}");
        report.pairs += 1;
    } else {
        report.kills += 1;
    }
    let begin = Instant::now();
    let root = world.go_on(Death {
        pid: victim,
        returned: died.returned,
    });
    for (role, pid) in sleeper
        .map(|pid| ("bystander", pid))
        .into_iter()
        .chain([("root", root)])
    {
        match end_of(pid, limit) {
            Some(0) => {}
            Some(status) => report
                .failures
                .push(format!("{place}: {role}: status {status:#x}: {}", board().said())),
            None => report.failures.push(format!("{place}: the {role} is stuck")),
        }
    }
    report.longest = report.longest.max(begin.elapsed());
    *report.findings.entry(board().said()).or_default() += 1;
    (died.points, seconds)
}

/// Whether a process is in the kernel's futex wait.
pub fn is_asleep(pid: pid_t) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/syscall"))
        .is_ok_and(|text| text.split(' ').next() == Some(&libc::SYS_futex.to_string()))
}
