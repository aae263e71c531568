//! The workers as the parent sees them: their places, their time, their end.

use super::book::Book;
use super::job::{Entry, Loss};
use super::parent::Inner;
use super::shared::{now, Note, Slot, State, Status};
use super::table::Use;
use crate::channel::Incoming;
use crate::roll::{self, Owner};
use crate::Result;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

/// How long a worker may take to make a function and its arguments from their bytes, which may include loading modules,
/// before the time limit of the task begins.
const LOADING: Duration = Duration::from_secs(30);

/// How a worker's process ended, as far as the face knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Death {
    /// The process.
    pub pid: i32,
    /// Its exit code, or the negative signal number.
    pub exitcode: i32,
    /// The kernel ended it because memory ran out.
    pub out_of_memory: bool,
    /// Its stack, in the words of its language.
    pub stack: Option<String>,
    /// The body of the task that it was running, as far as it is still there. Filled in at the burial.
    pub arguments: Option<Vec<u8>>,
}

/// What a dead worker left behind.
#[derive(Debug)]
pub enum Remains {
    /// It had not reported that it was ready.
    Unready {
        /// Whether it had taken its place, and so was about to be initialised.
        begun: bool,
    },
    /// It could not start, and gave this reason.
    Failed(Incoming),
    /// It worked. The task that it was running, if any, is lost now or will be tried again.
    Worked {
        /// Whether a task went with it.
        lost: bool,
    },
}

/// The workers that must be stopped.
#[derive(Debug, Default)]
pub struct Overdue {
    /// The places of workers that have run their task for too long, or that run a withdrawn one.
    pub places: Vec<u32>,
    /// Ask again after this time, or when the pool's notice is set.
    pub again: Option<Duration>,
}

/// What a pool has done and is doing.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Tasks that ended with a result, with an error, or with the death of their worker.
    pub done: u64,
    /// Tasks in line.
    pub queued: u64,
    /// Tasks that workers are running.
    pub running: u64,
    /// The workers.
    pub workers: Vec<WorkerStats>,
}

/// What a worker has done.
#[derive(Clone, Copy, Debug)]
pub struct WorkerStats {
    /// Its place.
    pub place: u32,
    /// Whether it is running a task.
    pub running: bool,
    /// Tasks done.
    pub tasks: u32,
    /// Time spent on tasks.
    pub busy: Duration,
    /// Time between tasks.
    pub idle: Duration,
    /// Bytes that it was sent with tasks.
    pub received: u64,
    /// Bytes of its results.
    pub sent: u64,
}

/// The parent's record of a worker.
#[derive(Default)]
pub(super) struct Hand {
    /// The task (slot, generation) that it was last seen running, and when it was first seen running it.
    seen: Option<(u32, u32, Instant)>,
    /// The task (slot, generation) for which it is to be stopped, and the time limit that the task exceeded, unless the
    /// task was withdrawn.
    condemned: Option<(u32, u32, Option<Duration>)>,
    /// Whether `overdue` has named it.
    named: bool,
}

impl Inner {
    pub fn enlist(&self) -> Result<u32> {
        self.only_here()?;
        let mut book = self.lock();
        let (index, generation) = book.table.take(&self.view, Use::Worker)?;
        let slot = self.view.slot(index)?;
        slot.next.store(0, Relaxed);
        slot.aux.store(0, Relaxed);
        for word in slot.envelope.spare_words() {
            word.store(0, Relaxed);
        }
        slot.store(State::of(Status::Starting, generation, None));
        book.crew.insert(index, Hand::default());
        Ok(index)
    }

    fn place_state(&self, place: u32) -> Option<(&Slot, State)> {
        let slot = self.view.slot(place).ok()?;
        Some((slot, slot.load()?))
    }

    pub fn is_ready(&self, place: u32) -> bool {
        self.place_state(place)
            .is_some_and(|(_, state)| state.status == Status::Ready)
    }

    pub fn is_busy(&self, place: u32) -> bool {
        let book = self.lock();
        self.task_of(&book, place).is_some()
    }

    pub fn dismiss(&self, place: u32) {
        let book = self.lock();
        if book.crew.contains_key(&place) && self.is_mine() {
            if let Ok(slot) = self.view.slot(place) {
                slot.dismiss();
                self.view.shared.work.notify(u32::MAX);
            }
        }
    }

    /// The task that the worker in `place` runs: slot, state, job.
    fn task_of(&self, book: &Book, place: u32) -> Option<(u32, State, u32)> {
        let (slot, state) = self.place_state(place)?;
        if state.status != Status::Ready {
            return None;
        }
        let index = slot.next.load(SeqCst);
        let (Use::Task { job, .. }, generation) = book.table.get(index) else {
            return None;
        };
        let task = self.view.slot(index).ok()?.load()?;
        let its = task.owner == state.owner && task.generation == generation;
        let running = matches!(task.status, Status::Running | Status::Condemned);
        (its && running).then_some((index, task, job))
    }

    /// Condemn a running task: nothing that comes of it counts any more. `false`: it is finished.
    pub fn condemn(&self, book: &mut Book, index: u32, state: State, after: Option<Duration>) -> bool {
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        if !self.is_mine() {
            return false;
        }
        // Look the place up before the worker can learn of the condemnation, so that its burial knows.
        let place = book
            .crew
            .keys()
            .copied()
            .find(|&place| self.place_state(place).is_some_and(|(_, at)| at.owner == state.owner));
        let condemned = State {
            status: Status::Condemned,
            ..state
        };
        if !slot.swap(state, condemned) {
            return false;
        }
        if let Some(hand) = place.and_then(|place| book.crew.get_mut(&place)) {
            hand.condemned = Some((index, state.generation, after));
        }
        true
    }

    pub fn overdue(&self) -> Overdue {
        let mut book = self.lock();
        self.collect(&mut book, 0);
        let mut again = book.timed.keys().next().copied();
        let (clock, time) = (now(), Instant::now());
        if again.is_some() {
            for place in book.crew.keys().copied().collect::<Vec<_>>() {
                if let Some(left) = self.check_time(&mut book, place, clock, time) {
                    again = again.map(|again| again.min(left));
                }
            }
        }
        book.next_look = again.and_then(|again| time.checked_add(again));
        let mut places = Vec::new();
        for (&place, hand) in &mut book.crew {
            if hand.condemned.is_some() && !std::mem::replace(&mut hand.named, true) {
                places.push(place);
            }
        }
        Overdue { places, again }
    }

    /// Condemn the task that the worker in `place` runs, if it takes too long. Otherwise return how long it may still
    /// take.
    fn check_time(&self, book: &mut Book, place: u32, clock: u64, time: Instant) -> Option<Duration> {
        let (index, state, job) = self.task_of(book, place)?;
        let timeout = book.jobs[job as usize].as_ref()?.terms.timeout?;
        if state.status != Status::Running {
            return None;
        }
        let since = self.view.slot(place).ok()?.note(Note::Since).load(Relaxed);
        let hand = book.crew.get_mut(&place)?;
        let first = match hand.seen {
            Some((slot, generation, first)) if (slot, generation) == (index, state.generation) => first,
            _ => hand.seen.insert((index, state.generation, time)).2,
        };
        let (took, limit) = if since == 0 {
            // The task is claimed, but its function is not called yet.
            (time.saturating_duration_since(first), timeout.saturating_add(LOADING))
        } else {
            (Duration::from_nanos(clock.saturating_sub(since)), timeout)
        };
        let left = limit.saturating_sub(took);
        if !left.is_zero() {
            return Some(left);
        }
        self.condemn(book, index, state, Some(timeout));
        None
    }

    pub fn bury(&self, place: u32, mut death: Death) -> Result<Remains> {
        self.only_here()?;
        let mut book = self.lock();
        self.collect(&mut book, 0);
        let (Use::Worker, generation) = book.table.get(place) else {
            return Err(crate::Error::Stale("worker"));
        };
        let slot = self.view.slot(place)?;
        let state = slot.load().filter(|state| state.generation == generation);
        let owner = state.and_then(|state| Owner::from_bits(state.owner));
        let unready = Remains::Unready { begun: owner.is_some() };
        let remains = match state.map(|state| state.status) {
            Some(Status::Failed) => slot.envelope.open().map_or(unready, Remains::Failed),
            Some(Status::Ready) => Remains::Worked { lost: false },
            _ => unready,
        };
        let mut lost = false;
        let hand = book.crew.remove(&place).unwrap_or_default();
        if let Some(owner) = owner {
            let task = slot.next.load(SeqCst);
            if slot.note(Note::Since).load(Relaxed) != 0 {
                // The function was running, so the result had not begun to take the arguments' place.
                death.arguments = self
                    .view
                    .slot(task)
                    .ok()
                    .and_then(|task| task.envelope.copy_body().ok());
            }
            lost = self.bury_task(&mut book, task, owner, &hand, death);
            self.view.leave_lookout(owner);
        }
        slot.envelope.discard();
        slot.store(State::of(Status::Free, generation, None));
        book.table.give_back(place);
        self.tell(&book, 0);
        drop(book);
        if let Some(owner) = owner {
            // The roll asks the kernel, and gives back what the dead worker owned.
            let _ = roll::is_alive(owner);
        }
        // The dead worker may have been woken for work: another must do it.
        self.view.shared.work.notify(u32::MAX);
        Ok(if let Remains::Worked { .. } = remains {
            Remains::Worked { lost }
        } else {
            remains
        })
    }

    /// Settle the task that the dead `owner` had noted. It is lost if it still ran, and finished if only the worker's
    /// report is missing.
    fn bury_task(&self, book: &mut Book, index: u32, owner: Owner, hand: &Hand, death: Death) -> bool {
        let (Use::Task { job, item, function }, generation) = book.table.get(index) else {
            return false;
        };
        let Ok(slot) = self.view.slot(index) else {
            return false;
        };
        let state = slot
            .load()
            .filter(|state| state.generation == generation && state.owner == owner.to_bits());
        let loss = match state.map(|state| state.status) {
            Some(Status::Running) => {
                if self.try_again(book, job, item, function) {
                    self.release(book, index);
                    return true;
                }
                Loss::Died(Box::new(death))
            }
            Some(Status::Condemned) => match hand.condemned {
                Some((slot, of, Some(after))) if (slot, of) == (index, generation) => {
                    Loss::TimedOut(after, Box::new(death))
                }
                // The item was settled when the task was withdrawn.
                _ => Loss::Cancelled,
            },
            Some(Status::Done | Status::Raised) => {
                self.note(book, index);
                return false;
            }
            _ => return false,
        };
        // The job of a withdrawn task may be over, and its key in use for another job.
        let waited_for = book.waits_for(job, item, index) && book.settle(job, item, Entry::Lost(loss));
        self.release(book, index);
        if waited_for {
            book.check_complete(job);
            self.end_if_over(book, job);
        }
        true
    }

    /// Put a task whose worker died back in line, if its job's terms allow it.
    fn try_again(&self, book: &mut Book, key: u32, item: u64, function: u32) -> bool {
        let Some(job) = &mut book.jobs[key as usize] else {
            return false;
        };
        if !matches!(job.entry(item), Some(Entry::Waiting { .. })) {
            return false;
        }
        let Some(spare) = job.spares.get_mut(&item) else {
            return false;
        };
        spare.left -= 1;
        let message = if spare.left == 0 {
            job.spares.remove(&item).map(|spare| spare.message)
        } else {
            spare.message.duplicate().ok()
        };
        let Some(Ok(index)) = message.map(|message| self.put_in_line(book, (key, item, function), message)) else {
            return false;
        };
        if let Some(Entry::Waiting { slot, .. }) = book.job(key).entry(item) {
            *slot = index;
        }
        self.view.rouse();
        true
    }

    pub fn stats(&self) -> Stats {
        let mut book = self.lock();
        self.collect(&mut book, 0);
        let clock = now();
        let mut workers: Vec<WorkerStats> = book
            .crew
            .keys()
            .filter_map(|&place| self.worker_stats(&book, place, clock))
            .collect();
        workers.sort_by_key(|worker| worker.place);
        let running = workers.iter().filter(|worker| worker.running).count() as u64;
        Stats {
            done: book.done,
            queued: book.unfinished.saturating_sub(running),
            running,
            workers,
        }
    }

    fn worker_stats(&self, book: &Book, place: u32, clock: u64) -> Option<WorkerStats> {
        let (slot, state) = self.place_state(place)?;
        let note = |note| match state.status {
            Status::Ready => slot.note(note).load(Relaxed),
            _ => 0,
        };
        let passed = |since| if since == 0 { 0 } else { clock.saturating_sub(since) };
        let running = self.task_of(book, place).is_some();
        let busy = note(Note::Busy).saturating_add(if running { passed(note(Note::Since)) } else { 0 });
        let life = passed(note(Note::Ready));
        Some(WorkerStats {
            place,
            running,
            tasks: slot.aux.load(Relaxed),
            busy: Duration::from_nanos(busy),
            idle: Duration::from_nanos(life.saturating_sub(busy)),
            received: note(Note::Received),
            sent: note(Note::Sent),
        })
    }
}
