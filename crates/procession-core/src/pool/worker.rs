//! A worker: claims tasks and sends results.

use super::shared::{now, Phase, PoolSlot, PoolView, SlotNote, StateWord, Status};
use crate::channel::{Incoming, Message};
use crate::ids::{Handle, Kind, Owner};
use crate::sync::wait::Purpose;
use crate::trace::What;
use crate::{family, Deadline, Error, Result, WaitError};

use std::sync::atomic::{
    fence,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use std::time::Duration;

/// Arguments of at most this many bytes stay in shared memory until the task is finished. If the task kills its worker,
/// the parent can tell what they were.
const LEFT_IN_PLACE: usize = 4096;

/// How a task ended, as the worker sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It returned; the message is its result.
    Done,
    /// It failed; the message is its error.
    Raised,
}

/// A worker's end of a pool.
pub struct Worker {
    view: PoolView,
    index: u32,
    generation: u32,
    me: Owner,
}

/// A claimed task. The worker that claimed it ends it with [`Worker::finish`], or dies.
#[derive(Debug)]
pub struct Task {
    index: u32,
    state: StateWord,
    function: Option<(u32, u32)>,
    begin: u64,
}

impl Task {
    /// The identity of the job's function in this pool: equal numbers mean equal functions. `None`: the task carries
    /// its own.
    pub fn function(&self) -> Option<(u32, u32)> {
        self.function
    }
}

impl Worker {
    /// Attach to slot `index` of the pool `handle`, which the parent reserved with
    /// [`Pool::enlist`](super::Pool::enlist).
    pub fn attach(handle: Handle, index: u32) -> Result<Self> {
        let view = PoolView::attach(handle)?;
        let state = view
            .slot(index)?
            .load()
            .filter(|state| state.status == Status::Starting);
        let state = state.ok_or(Error::Stale("worker index in a pool"))?;
        let worker = Self {
            view,
            index,
            generation: state.generation,
            me: family()?.me(),
        };
        worker.tell(Status::Starting);
        Ok(worker)
    }

    /// Whether this process is the one that attached, and not a child that it forked.
    pub fn is_here(&self) -> bool {
        family().is_ok_and(|family| family.me() == self.me)
    }

    fn own_slot(&self) -> &PoolSlot {
        self.view
            .slot(self.index)
            .expect("attach found this slot, and slots stay")
    }

    fn tell(&self, status: Status) {
        self.own_slot()
            .tell(StateWord::of(status, self.generation, Some(self.me)));
    }

    /// Report that the worker is initialised and will take tasks.
    pub fn ready(&self) {
        self.own_slot().note(SlotNote::Ready).store(now(), Relaxed);
        self.tell(Status::Ready);
    }

    /// Report that the worker cannot start, and why. It should end now.
    pub fn fail(&self, why: Message) {
        self.own_slot().header.post(why);
        self.tell(Status::Failed);
    }

    /// The next task, and the message it was submitted with. Waits as long as it takes. `None`: there will be no task
    /// for this worker.
    pub fn next(&self) -> Result<Option<(Task, Incoming)>, WaitError> {
        loop {
            if self.view.phase() == Phase::Terminate || self.is_dismissed() {
                return Ok(None);
            }
            if let Some((index, state)) = self.view.claim(self.me, &self.own_slot().next)? {
                if self.view.is_waiting() {
                    self.view.wake_one();
                }
                match self.unpack(index, state) {
                    Ok(task) => return Ok(Some(task)),
                    // The task was cancelled, and what belonged to it is gone: this worker is about to be stopped.
                    Err(_) if !self.is_at(index, state) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            if self.view.phase() != Phase::Run {
                return Ok(None);
            }
            if !self.spin() {
                let shared = &self.view.shared;
                let purpose = Purpose::of(Kind::Pool, Some(shared.handle()));
                let mut slept = false;
                shared.work.sleep_for(purpose, Deadline::Never, || {
                    // SYNC: the store comes before the check: see `PoolView::wake_one`.
                    shared.wake_pending.store(0, SeqCst);
                    let wanted = self.is_wanted();
                    if wanted && slept {
                        // The spinner did not claim the task: it may be stopped.
                        shared.spinner.store(0, SeqCst);
                    }
                    slept = true;
                    wanted.then_some(())
                })?;
            }
        }
    }

    fn is_wanted(&self) -> bool {
        self.view.is_waiting() || self.view.phase() != Phase::Run || self.is_dismissed()
    }

    fn is_dismissed(&self) -> bool {
        self.own_slot().is_dismissed()
    }

    /// Look for work for a while without sleeping, if no other worker does. Returns whether there is any.
    fn spin(&self) -> bool {
        let spinner = &self.view.shared.spinner;
        if spinner.compare_exchange(0, self.me.to_bits(), SeqCst, Relaxed).is_err() {
            return false;
        }
        let found = self.view.shared.work.spin(|| self.is_wanted().then_some(()));
        self.view.leave_spinner(self.me);
        found.is_some()
    }

    fn unpack(&self, index: u32, state: StateWord) -> Result<(Task, Incoming)> {
        let begin = now();
        let slot = self.view.slot(index)?;
        let function = match slot.aux.load(Acquire) {
            0 => None,
            function => {
                let state = self
                    .view
                    .slot(function)?
                    .load()
                    .filter(|state| state.status == Status::Function);
                Some((function, state.ok_or(Error::Corrupt("a task's function"))?.generation))
            }
        };
        let arguments = slot.header.open_or_copy(LEFT_IN_PLACE)?;
        let own = self.own_slot();
        own.add_to_note(SlotNote::Received, arguments.size() as u64);
        self.view.trace(What::TaskStart, index, state.generation);
        let task = Task {
            index,
            state,
            function,
            begin,
        };
        Ok((task, arguments))
    }

    /// The message that defines a task's function. [`Stale`](Error::Stale) if the task was cancelled, and the function
    /// freed.
    pub fn function(&self, task: &Task) -> Result<Vec<u8>> {
        let function = task.function.ok_or(Error::Corrupt("a task's function"))?;
        let body = self.view.slot(function.0)?.header.copy_body();
        // SYNC: the fence comes after the loads of the copy. A slot that is used anew has another generation.
        fence(Acquire);
        if self.is_current(function) {
            body
        } else {
            Err(Error::Stale("function of a task"))
        }
    }

    /// Whether a function seen before is still valid.
    pub fn is_current(&self, (function, generation): (u32, u32)) -> bool {
        let state = self.view.slot(function).ok().and_then(PoolSlot::load);
        state.is_some_and(|state| state.status == Status::Function && state.generation == generation)
    }

    /// Report how long one item of this task's job takes, so that the parent can choose the size of its tasks.
    pub fn measured(&self, task: &Task, per_item: Duration) {
        if let Some(Ok(slot)) = task.function.map(|(function, _)| self.view.slot(function)) {
            let now = u32::try_from(per_item.as_nanos()).unwrap_or(u32::MAX).max(1);
            let before = slot.next.load(Relaxed);
            // A hint, and an average of averages: it does not matter which worker overwrites which.
            let average = if before == 0 { now } else { before / 2 + now / 2 };
            slot.next.store(average.max(1), Relaxed);
        }
    }

    /// Record that the function is called now, for the first or a further item of the task. A time limit holds for each
    /// item alone.
    pub fn begin_item(&self) {
        self.own_slot().note(SlotNote::Since).store(now(), Relaxed);
    }

    /// Whether the task was cancelled. Its worker is then about to be stopped.
    pub fn is_cancelled(&self, task: &Task) -> bool {
        !self.is_at(task.index, task.state)
    }

    fn is_at(&self, index: u32, state: StateWord) -> bool {
        self.view.slot(index).ok().and_then(PoolSlot::load) == Some(state)
    }

    /// End a task with its result. When this returns, the result is safe, even if the worker dies. `false`: the task
    /// was cancelled; its worker is about to be stopped and must not go on.
    #[expect(clippy::needless_pass_by_value, reason = "a task is finished once")]
    pub fn finish(&self, task: Task, verdict: Verdict, message: Message) -> Result<bool> {
        let Task {
            index, state, begin, ..
        } = task;
        let slot = self.view.slot(index)?;
        let own = self.own_slot();
        // This comes before the result overwrites the arguments: see `Slots::reap`.
        own.note(SlotNote::Since).store(0, Relaxed);
        let took = now().saturating_sub(begin);
        own.add_to_note(SlotNote::Busy, took);
        own.add_to_note(SlotNote::Sent, message.size() as u64);
        slot.header.discard();
        slot.header.post(message);
        let status = if verdict == Verdict::Done {
            Status::Done
        } else {
            Status::Raised
        };
        let tasks = own.aux.load(Relaxed);
        own.keep_time(tasks, took, verdict == Verdict::Raised);
        own.aux.store(tasks.wrapping_add(1), Relaxed);
        self.view.trace(What::TaskEnd, index, state.generation);
        if !slot.swap(state, StateWord { status, ..state }) {
            let cancelled = StateWord {
                status: Status::Cancelled,
                ..state
            };
            return if slot.load() == Some(cancelled) {
                Ok(false)
            } else {
                Err(Error::Corrupt("a task's state"))
            };
        }
        self.view.push_finished(index)?;
        Ok(true)
    }
}
