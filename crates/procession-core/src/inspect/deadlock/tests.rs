//! Deadlocks against a model: programs that lock correctly, or deadlock, and an observer that reads them as they run.

use super::super::snapshot::{HolderSeen, LockSeen};
use super::*;
use proptest::prelude::*;

/// What a thread of the model does next.
#[derive(Clone, Debug, Default)]
struct ModelThread {
    /// Its process; several threads may share one.
    pid: u32,
    /// Locks that it holds, in the order in which it acquired them.
    held: Vec<usize>,
    wait: Option<ModelWait>,
    is_stopped: bool,
    /// It waits for something else: an event, say. For ever, unless it is told.
    is_idle: bool,
}

#[derive(Clone, Copy, Debug)]
struct ModelWait {
    lock: usize,
    since: u64,
    endless: bool,
}

/// Random numbers from a seed: xorshift64*.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Threads that acquire locks without a timeout only in the order of their numbers, or in any order with one.
#[derive(Debug)]
struct LockingModel {
    now: u64,
    random: Random,
    workers: Vec<ModelThread>,
    holder: Vec<Option<usize>>,
}

impl LockingModel {
    fn new(seed: u64, workers: usize, locks: usize) -> Self {
        let mut random = Random(seed | 1);
        let worker = |number: usize| ModelThread {
            pid: 100 + (number - random.below(number.min(2) + 1)) as u32,
            ..ModelThread::default()
        };
        Self {
            now: 1_000,
            workers: (0..workers).map(worker).collect(),
            random,
            holder: vec![None; locks],
        }
    }

    fn acquire(&mut self, number: usize, lock: usize) {
        self.holder[lock] = Some(number);
        self.workers[number].held.push(lock);
        self.workers[number].wait = None;
    }

    fn release(&mut self, number: usize, at: usize) {
        let lock = self.workers[number].held.remove(at);
        self.holder[lock] = None;
    }

    /// One thread makes a step, of the first `active` threads and for the first `locks` locks.
    fn step(&mut self, active: usize, locks: usize) {
        self.now += self.random.below(8) as u64;
        let number = self.random.below(active);
        if self.random.one_in(20) {
            self.workers[number].is_stopped ^= true;
        }
        let worker = self.workers[number].clone();
        if worker.is_stopped {
            return;
        }
        if let Some(wait) = worker.wait {
            if self.holder[wait.lock].is_none() {
                self.acquire(number, wait.lock);
            } else if !wait.endless && self.random.one_in(10) {
                self.workers[number].wait = None;
            }
            return;
        }
        if worker.is_idle || self.random.one_in(30) {
            self.workers[number].is_idle = !self.random.one_in(5);
            return;
        }
        if !worker.held.is_empty() && self.random.one_in(2) {
            let at = self.random.below(worker.held.len());
            return self.release(number, at);
        }
        let endless = !self.random.one_in(4);
        let least = worker.held.iter().max().map_or(0, |&lock| lock + 1);
        let from = if endless { least } else { 0 };
        if from < locks {
            let lock = from + self.random.below(locks - from);
            if worker.held.contains(&lock) {
                return;
            }
            if self.holder[lock].is_none() {
                self.acquire(number, lock);
            } else {
                let since = self.now;
                self.workers[number].wait = Some(ModelWait { lock, since, endless });
            }
        }
    }

    /// What an observer reads. The model runs on while it reads, by up to three steps before each thread and lock.
    fn look(&mut self, active: usize, locks: usize) -> FamilySnapshot {
        let late = |random: &mut Random| random.below(11) as u64;
        let mut seen = FamilySnapshot {
            taken_ms: self.now - late(&mut self.random),
            ..FamilySnapshot::default()
        };
        let run_on = |model: &mut Self| {
            for _ in 0..model.random.below(4) {
                model.step(active, locks);
            }
        };
        for number in 0..self.workers.len() {
            run_on(self);
            let worker = self.workers[number].clone();
            let state = if worker.is_stopped {
                ProcessState::Stopped
            } else {
                ProcessState::Sleeping
            };
            let waits = worker.wait.map(|wait| {
                let since_ms = wait.since - late(&mut self.random);
                WaitSeen {
                    kind: ["lock", "rlock"][wait.lock % 2],
                    object: Some(id_of(wait.lock)),
                    operation: "acquire",
                    for_ms: self.now - since_ms,
                    since_ms,
                    thread: Some(tid_of(number)),
                    joined: None,
                    endless: wait.endless,
                }
            });
            seen.processes
                .push(process(worker.pid, state, waits.into_iter().collect()));
        }
        for lock in 0..self.holder.len() {
            run_on(self);
            let holder = self.holder[lock].map(|number| HolderSeen {
                pid: Some(self.workers[number].pid),
                name: String::new(),
                thread: tid_of(number),
            });
            seen.locks.push(LockSeen {
                id: id_of(lock),
                kind: ["lock", "rlock"][lock % 2],
                made: None,
                count: u32::from(holder.is_some()),
                holder,
                waiters_bit: false,
                waiters: Vec::new(),
            });
        }
        seen
    }
}

fn id_of(lock: usize) -> ObjectId {
    ObjectId::new(lock as u32, 0)
}

fn tid_of(worker: usize) -> u32 {
    1_000 + worker as u32
}

fn process(pid: u32, state: ProcessState, waits: Vec<WaitSeen>) -> ProcessSeen {
    ProcessSeen {
        pid,
        name: format!("worker-{pid}"),
        program: String::new(),
        parent: None,
        state,
        start_method: None,
        role: None,
        age_ms: 0,
        cpu_ms: 0,
        threads: 1,
        private_bytes: 0,
        shared_bytes: 0,
        owned_bytes: 0,
        waits,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Looks at a program without a deadlock show none, whatever it does while it is looked at, and however much
    /// happens between two looks.
    #[test]
    fn correct_programs_have_no_deadlock(
        seed: u64, workers in 2..9_usize, locks in 2..7_usize, between in 0..40_usize,
    ) {
        let mut model = LockingModel::new(seed, workers, locks);
        let mut before = model.look(workers, locks);
        for _ in 0..40 {
            for _ in 0..between {
                model.step(workers, locks);
            }
            let after = model.look(workers, locks);
            prop_assert_eq!(deadlocks(&before, &after), []);
            prop_assert_eq!(self_waits(&before, &after), []);
            before = after;
        }
    }

    /// A deadlock of 2 to 8 threads is found once it has lasted for longer than clocks are wrong, with the threads that
    /// wait for its members beside it, and nothing else.
    #[test]
    fn each_deadlock_is_found_and_nothing_else(
        seed: u64, others in 1..6_usize, locks in 2..7_usize, size in 2..9_usize, waiting in 0..4_usize,
    ) {
        let mut model = LockingModel::new(seed, others + size + waiting, locks + size);
        for _ in 0..50 {
            model.step(others, locks);
        }
        for member in 0..size {
            model.acquire(others + member, locks + member);
        }
        for member in 0..size + waiting {
            let since = model.now;
            let lock = locks + (member + 1) % size;
            model.workers[others + member].wait = Some(ModelWait { lock, since, endless: true });
        }
        model.now += 60;
        let before = model.look(others, locks);
        prop_assert!(may_be_deadlocked(&before, &[]));
        let after = model.look(others, locks);
        let found = deadlocks(&before, &after);
        prop_assert_eq!(found.len(), 1);
        let key = |worker: usize| (model.workers[worker].pid, tid_of(worker));
        let mut expected: Vec<_> = (others..others + size).map(key).collect();
        let members = &found[0].members;
        let mut threads: Vec<_> = members.iter().map(|one| (one.pid, one.thread)).collect();
        prop_assert_eq!(threads[0], *expected.iter().min().unwrap());
        for (one, next) in members.iter().zip(members.iter().cycle().skip(1)) {
            let holder = model.holder[(0..locks + size).find(|&lock| Some(id_of(lock)) == one.lock).unwrap()].unwrap();
            prop_assert_eq!(tid_of(holder), next.thread);
        }
        threads.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(threads, expected);
    }
}

type Change = fn(&mut FamilySnapshot);

/// A deadlock of two threads, in two looks.
fn pair() -> (FamilySnapshot, FamilySnapshot) {
    let mut model = LockingModel::new(1, 2, 2);
    for member in 0..2 {
        model.acquire(member, member);
        let since = model.now;
        model.workers[member].wait = Some(ModelWait {
            lock: 1 - member,
            since,
            endless: true,
        });
        model.workers[member].is_stopped = false;
    }
    model.now += 60;
    let quiet = |model: &mut LockingModel| {
        let mut seen = model.look(1, 0);
        seen.processes
            .iter_mut()
            .for_each(|one| one.state = ProcessState::Sleeping);
        seen
    };
    (quiet(&mut model), quiet(&mut model))
}

#[test]
fn whatever_may_pass_by_itself_is_no_deadlock() {
    let (before, after) = pair();
    assert_eq!(deadlocks(&before, &after).len(), 1);
    let changes: [(&str, Change); 6] = [
        ("a timeout", |seen| seen.processes[1].waits[0].endless = false),
        ("an unknown thread", |seen| seen.processes[1].waits[0].thread = None),
        ("a thread that runs", |seen| seen.processes[1].waits.clear()),
        ("a dead process", |seen| seen.processes[1].state = ProcessState::Dead),
        ("an event", |seen| {
            seen.processes[1].waits[0].kind = "event";
            seen.processes[1].waits[0].operation = "wait";
        }),
        ("a holder that is gone", |seen| {
            seen.locks[0].holder.as_mut().unwrap().pid = None;
        }),
    ];
    for (what, change) in changes {
        for changes_before in [false, true] {
            let (mut before, mut after) = pair();
            change(if changes_before { &mut before } else { &mut after });
            assert_eq!(deadlocks(&before, &after), [], "{what}");
        }
    }
    let (before, mut after) = pair();
    after.processes[1].waits[0].since_ms = before.taken_ms - 5;
    assert_eq!(
        deadlocks(&before, &after),
        [],
        "a wait that began during the earlier look"
    );
    let (before, mut after) = pair();
    after.locks[0].holder = None;
    assert_eq!(deadlocks(&before, &after), [], "a lock that was released");
}

#[test]
fn a_deadlock_that_was_found_lasts_until_something_of_it_has_changed() {
    let (before, after) = pair();
    let found = deadlocks(&before, &after).remove(0);
    let look_with = |change: Change| {
        let mut seen = after.clone();
        change(&mut seen);
        lasting(&found, &seen)
    };
    assert_eq!(look_with(|_| ()).as_ref(), Some(&found));
    let awake: Change = |seen| seen.processes[1].waits[0].thread = None;
    assert!(look_with(awake).is_some(), "a thread that is awake to look about");
    let changes: [(&str, Change); 6] = [
        ("a timeout", |seen| seen.processes[1].waits[0].endless = false),
        ("another thread", |seen| seen.processes[1].waits[0].thread = Some(1)),
        ("a new wait", |seen| seen.processes[1].waits[0].since_ms += 1_000),
        ("a thread that runs", |seen| seen.processes[1].waits.clear()),
        ("a dead process", |seen| seen.processes[1].state = ProcessState::Dead),
        ("another holder", |seen| {
            seen.locks[0].holder.as_mut().unwrap().thread += 1;
        }),
    ];
    for (what, change) in changes {
        assert_eq!(look_with(change), None, "{what}");
    }
}

#[test]
fn another_look_is_wanted_for_what_is_not_known_yet() {
    let (before, after) = pair();
    let members = deadlocks(&before, &after).remove(0).members;
    let known: Vec<_> = members.iter().map(|one| (one.pid, one.thread)).collect();
    assert!(may_be_deadlocked(&after, &[]) && may_be_deadlocked(&after, &known[..1]));
    assert!(!may_be_deadlocked(&after, &known));
    let mut awake = after.clone();
    awake.processes[1].waits[0].thread = None;
    assert!(may_be_deadlocked(&awake, &[]) && !may_be_deadlocked(&awake, &known));
    awake.locks[0].holder = None;
    awake.locks[1].holder = None;
    assert!(!may_be_deadlocked(&awake, &[]));
}

#[test]
fn a_stopped_process_may_have_got_the_lock_for_which_it_seems_to_wait() {
    let look = |state| {
        let (mut before, mut after) = pair();
        for seen in [&mut before, &mut after] {
            seen.locks[1].holder = seen.locks[0].holder.clone();
            seen.processes[0].state = state;
        }
        self_waits(&before, &after).len()
    };
    assert_eq!((look(ProcessState::Sleeping), look(ProcessState::Stopped)), (1, 0));
}

#[test]
fn a_wait_for_the_end_of_a_process_may_be_part_of_a_deadlock() {
    let joins = |thread| {
        let (mut before, mut after) = pair();
        for seen in [&mut before, &mut after] {
            let wait = &mut seen.processes[0].waits[0];
            (wait.kind, wait.operation, wait.object) = ("process", "join", None);
            wait.joined = thread;
        }
        (before, after)
    };
    let (before, _) = pair();
    let other = before.processes[1].pid;
    let thread = before.processes[1].waits[0].thread.unwrap();
    let (before, after) = joins(Some((other, thread)));
    let found = deadlocks(&before, &after).remove(0);
    let kinds: Vec<_> = found.members.iter().map(|one| (one.kind, one.lock.is_some())).collect();
    assert!(kinds.contains(&("process", false)) && kinds.len() == 2, "{kinds:?}");
    assert!(may_be_deadlocked(&before, &[]));
    assert_eq!(lasting(&found, &after).as_ref(), Some(&found));
    let (before, after) = joins(None);
    assert_eq!(deadlocks(&before, &after), [], "a process with several threads");
    assert_eq!(lasting(&found, &after), None);
}

#[test]
fn the_members_of_a_deadlock_may_be_stopped() {
    let (mut before, mut after) = pair();
    for seen in [&mut before, &mut after] {
        seen.processes[0].state = ProcessState::Stopped;
    }
    assert_eq!(deadlocks(&before, &after).len(), 1);
}
