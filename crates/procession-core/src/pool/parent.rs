//! The pool as the process that made it sees it. It has no thread of its own: every submission, wait and burial also
//! collects finished tasks.

use super::book::Book;
use super::crew::{Death, Overdue, Remains, Stats};
use super::job::{Job, Terms};
use super::shared::{Phase, State, Status, View};
use super::table::Use;
use crate::arena::Handle;
use crate::channel::Message;
use crate::roll::Owner;
use crate::sys::notice::Notice;
use crate::{family, Deadline, Error, Result, WaitError};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A pool, owned by the process that made it.
#[derive(Clone)]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub view: View,
    owner: Owner,
    book: Mutex<Book>,
    /// Grows whenever something happens in `book` that a waiter may wait for.
    pub version: AtomicU64,
    /// Tells the face, which looks after the workers, to ask [`Pool::overdue`] and [`Pool::needs_workers`].
    pub notice: Notice,
}

/// A function in the pool, to be given to jobs. Workers keep what they make of it as long as it, or a job with it,
/// lives.
pub struct Function {
    pub(super) pool: Arc<Inner>,
    pub(super) index: u32,
}

impl Pool {
    /// Create a pool without workers.
    pub fn new() -> Result<Self> {
        let inner = Inner {
            view: View::create()?,
            owner: family()?.me(),
            book: Mutex::new(Book::new()),
            version: AtomicU64::new(0),
            notice: Notice::new()?,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    #[cfg(test)]
    pub(super) fn inner_view(&self) -> &View {
        &self.inner.view
    }

    /// The handle that workers attach to.
    pub fn handle(&self) -> Handle {
        self.inner.view.shared.handle()
    }

    /// Whether this process made the pool. No other process may use it.
    pub fn is_mine(&self) -> bool {
        self.inner.is_mine()
    }

    /// Set when the face should look after the workers: work has ended, a worker must be stopped, or one must be
    /// checked at a certain time.
    pub fn notice(&self) -> &Notice {
        &self.inner.notice
    }

    /// Put a function into the pool. Every worker that does a task of its jobs reads it there.
    pub fn function(&self, function: Message) -> Result<Function> {
        self.inner.only_here()?;
        let view = &self.inner.view;
        let (index, generation) = self.inner.lock().table.take(view, Use::Function { users: 1 })?;
        let slot = view.slot(index)?;
        slot.envelope.post(function);
        slot.next.store(0, Relaxed);
        slot.store(State::of(Status::Function, generation, None));
        Ok(Function {
            pool: Arc::clone(&self.inner),
            index,
        })
    }

    /// Create a job. Without a function its tasks carry their own.
    pub fn job(&self, function: Option<&Function>, terms: Terms) -> Job {
        let key = self
            .inner
            .lock()
            .open(function.map_or(0, |function| function.index), terms);
        Job {
            pool: Arc::clone(&self.inner),
            key,
        }
    }

    /// Create a job of one task, to which none is added.
    pub fn call(&self, function: Option<&Function>, terms: Terms, arguments: Message) -> Result<Job> {
        let mut book = self.inner.lock();
        let key = book.open(function.map_or(0, |function| function.index), terms);
        let added = self.inner.add_task(&mut book, key, 0, arguments);
        book.seal(key);
        self.inner.close_if_done(&book);
        drop(book);
        let pool = Arc::clone(&self.inner);
        let job = Job { pool, key };
        added?;
        job.pool.view.rouse();
        Ok(job)
    }

    /// Make a place for a worker, for [`Worker::attach`](super::Worker::attach). [`bury`](Self::bury) the worker when
    /// its process has ended.
    pub fn enlist(&self) -> Result<u32> {
        self.inner.enlist()
    }

    /// Whether the worker in this place has reported that it is ready.
    pub fn is_ready(&self, place: u32) -> bool {
        self.inner.is_ready(place)
    }

    /// Whether the worker in this place is running a task.
    pub fn is_busy(&self, place: u32) -> bool {
        self.inner.is_busy(place)
    }

    /// Tell the worker in this place to leave when it has finished its current task.
    pub fn dismiss(&self, place: u32) {
        self.inner.dismiss(place);
    }

    /// Record that the process of the worker in `place` has ended. Its task is lost or tried again, and its place is
    /// free.
    pub fn bury(&self, place: u32, death: Death) -> Result<Remains> {
        self.inner.bury(place, death)
    }

    /// The workers that must be stopped, and when to ask again. Each is named once.
    pub fn overdue(&self) -> Overdue {
        self.inner.overdue()
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Close the pool: no more jobs come, and workers leave once all tasks of sealed jobs were taken.
    pub fn close(&self) {
        if !self.is_mine() {
            return;
        }
        let mut book = self.inner.lock();
        book.closing = true;
        self.inner.close_if_done(&book);
        self.inner.tell(&book, 0);
        self.inner.notice.set();
    }

    /// Terminate the pool: workers take no more tasks, and everything unfinished is lost.
    pub fn terminate(&self) {
        if !self.is_mine() {
            return;
        }
        let mut book = self.inner.lock();
        book.closing = true;
        self.inner.enter(Phase::Terminate);
        self.inner.collect(&mut book, 0);
        book.stop_all();
        self.inner.tell(&book, 0);
        self.inner.notice.set();
    }

    /// Whether there is, or may come, work that no worker has taken. If so, workers that left must be replaced.
    pub fn needs_workers(&self) -> bool {
        let book = self.inner.lock();
        match self.inner.view.phase() {
            Phase::Run => true,
            Phase::Close => self.inner.view.is_waiting() && book.unfinished > 0,
            Phase::Terminate => false,
        }
    }

    /// Whether nothing is left to be done and nothing can come.
    pub fn is_idle(&self) -> bool {
        let mut book = self.inner.lock();
        self.inner.collect(&mut book, 0);
        book.unfinished == 0 && book.unsealed == 0
    }

    /// Wait for the next complete job that was to be announced. `None`: there will be none.
    pub fn next_completed(&self, deadline: Deadline) -> Result<Option<u32>, WaitError> {
        self.inner.wait_for(deadline, |book| match book.completed.pop_front() {
            Some(key) => Ok(Some(key)),
            None if book.closing && book.unsealed == 0 && book.announced().next().is_none() => Ok(None),
            None => Err(book.until_completed()),
        })
    }
}

impl Inner {
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_mine(&self) -> bool {
        family().is_ok_and(|family| family.me() == self.owner)
    }

    /// Fail in a child of the process that made the pool. The child has a copy of the book, and must not touch what is
    /// shared.
    pub fn only_here(&self) -> Result<()> {
        if self.is_mine() {
            Ok(())
        } else {
            Err(Error::Inherited("pool"))
        }
    }

    fn enter(&self, phase: Phase) {
        if self.is_mine() {
            self.view.enter(phase);
        }
    }

    pub fn close_if_done(&self, book: &Book) {
        if book.closing && book.unsealed == 0 {
            self.enter(Phase::Close);
        }
    }

    /// Count one user less of the function in this slot, and free the function if there is none left.
    pub fn leave_function(&self, book: &mut Book, index: u32) {
        if index == 0 || book.table.count_user(index, -1) > 0 {
            return;
        }
        if let Ok(slot) = self.view.slot(index) {
            slot.envelope.discard();
            slot.store(State::of(Status::Free, book.table.get(index).1, None));
            book.table.give_back(index);
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        if self.pool.is_mine() {
            self.pool.leave_function(&mut self.pool.lock(), self.index);
        }
    }
}
