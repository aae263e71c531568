//! Finds all states of the arena in which the victim of an operation can leave it, and gives each one to a survivor of
//! its own.

use crate::image::{Image, Words};
use crate::operations::{Operation, Role};
use crate::remote::{kill, wait};
use crate::stage::{survive, Survived, World};
use crate::trace::{Step, Tracee};
use procession_core::arena::Counters;
use procession_core::liveness;
use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

/// How thorough a run is.
#[derive(Clone, Copy)]
pub struct Thoroughness {
    /// The most kill points of each operation, spread over it; with two deaths, the most points of each of the two.
    pub points: usize,
    /// The number of the first death's points that are combined with a second death.
    pub pairs: usize,
    /// No process may take longer.
    pub limit: Duration,
}

/// What an operation did to the arena, instruction by instruction.
struct Recording {
    start: Image,
    /// Instructions, with the words that had changed after each. Between two changes the state is the same.
    changes: Vec<(u64, Words)>,
    instructions: u64,
    syscalls: u64,
    /// A process that must go on living for the recording to be valid: the parent of a child that was the victim.
    bystander: Option<Tracee>,
}

/// The result of killing an operation.
#[derive(Default)]
pub struct Report {
    pub instructions: u64,
    pub syscalls: u64,
    /// Different states of the arena.
    pub states: usize,
    /// Single deaths, and pairs of deaths.
    pub kills: usize,
    pub pairs: usize,
    pub findings: BTreeMap<String, usize>,
    pub longest: Duration,
    pub failures: Vec<String>,
}

impl Recording {
    /// Step a process through an operation, to its end, and kill it.
    fn make(arena: &File, role: Role, prepare: impl FnOnce() -> Box<dyn FnOnce()>) -> Self {
        let victim = World::victim(arena, || {
            if role != Role::Stranger {
                liveness::me().expect("an entry in the process table");
            }
            prepare()
        });
        let mut image = Image::of(arena);
        let mut tracee = Tracee::new(victim);
        let mut recording = Self {
            start: image.copy(),
            changes: Vec::new(),
            instructions: 0,
            syscalls: 0,
            bystander: None,
        };
        loop {
            match tracee.step(&mut image) {
                Step::Ran(changed) if changed.is_empty() => {}
                Step::Ran(changed) => recording.changes.push((tracee.instructions, changed)),
                Step::Forked(child) => {
                    wait(child);
                    match role {
                        Role::Child => {
                            while !matches!(tracee.step(&mut image), Step::Through) {}
                            recording.start = image.copy();
                            recording.bystander = Some(std::mem::replace(&mut tracee, Tracee::new(child)));
                            recording.changes.clear();
                        }
                        Role::Caller | Role::Stranger => kill(child),
                    }
                }
                Step::Through => break,
            }
        }
        assert!(image.is_like(&Image::of(arena)), "a write to the arena was missed");
        (recording.instructions, recording.syscalls) = (tracee.instructions, tracee.syscalls);
        tracee.kill();
        recording
    }

    /// Visit all states, in order, with the instruction after which each begins; then the last one again, with the
    /// operation having returned.
    fn each(&self, mut see: impl FnMut(usize, u64, &Image, bool)) {
        let mut image = self.start.copy();
        see(0, 0, &image, false);
        for (number, (instruction, words)) in self.changes.iter().enumerate() {
            image.apply(words);
            see(number + 1, *instruction, &image, false);
        }
        see(self.changes.len() + 1, self.instructions, &image, true);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if let Some(bystander) = self.bystander.take() {
            bystander.kill();
        }
    }
}

/// Whether to use number `number` of `count`, when at most `most` are wanted: the first and the last, and others spread
/// between them.
pub fn is_chosen(number: usize, count: usize, most: usize) -> bool {
    count <= most || number == 0 || number + 1 == count || number * most / count != (number - 1) * most / count
}

/// Kill `operation` at every point.
pub fn explore(operation: &Operation, how: Thoroughness) -> Report {
    let world = World::found(&operation.setup);
    let values = &world.values;
    let length = world.arena.metadata().expect("the arena's size").len();
    let recording = Recording::make(&world.arena, operation.role, || (operation.victim)(values));
    let mut report = Report {
        instructions: recording.instructions,
        syscalls: recording.syscalls,
        states: recording.changes.len() + 1,
        ..Report::default()
    };
    let count = recording.changes.len() + 2;
    let mut all_is_well: Option<Counters> = None;
    recording.each(|number, instruction, image, done| {
        let mut judge = |image: &Image, place: &dyn Fn() -> String| {
            let survived = survive(&image.arena(length), how.limit, || (operation.survivor)(values, done));
            report.judge(survived, &mut all_is_well, place);
        };
        if is_chosen(number, count, how.points) {
            judge(image, &|| format!("killed after instruction {instruction}"));
            report.kills += 1;
        }
        if how.pairs > 0 && is_chosen(number, count, how.pairs) {
            let arena = image.arena(length);
            let second = Recording::make(&arena, Role::Caller, || {
                let (repair, values) = (operation.repairer, values.clone());
                Box::new(move || repair(&values))
            });
            let count = second.changes.len() + 2;
            second.each(|number, next, image, _| {
                if is_chosen(number, count, how.points) {
                    let mut judge = |image: &Image, place: &dyn Fn() -> String| {
                        let survived = survive(&image.arena(length), how.limit, || (operation.survivor)(values, done));
                        report.judge(survived, &mut all_is_well, place);
                    };
                    judge(image, &|| {
                        format!("killed after instruction {instruction}, its survivor after {next}")
                    });
                    report.pairs += 1;
                }
            });
        }
    });
    report
}

impl Report {
    fn judge(&mut self, survived: Survived, all_is_well: &mut Option<Counters>, place: &dyn Fn() -> String) {
        self.longest = self.longest.max(survived.time);
        match survived.found {
            Ok((found, counters)) => {
                *self.findings.entry(found).or_default() += 1;
                let expected = *all_is_well.get_or_insert(counters);
                if counters != expected {
                    self.failures.push(format!(
                        "{}: {expected:?} would be right, {counters:?} is left",
                        place()
                    ));
                }
            }
            Err(why) => self.failures.push(format!("{}: {why}", place())),
        }
    }
}
