//! The pool: tasks that one process gives out, workers that pull them, results that come back without a thread in
//! between.
//!
//! The [`Pool`] belongs to the process that made it; a [`Worker`] is its counterpart in each worker process. They share
//! nothing but one object of slots (`shared`), a queue of tasks and a stack of finished ones (`task_queue`). The README
//! beside this file argues why it is correct. What a task means, how a worker process is started and how it ended are
//! left to the faces.

mod collect;
mod cut;
mod job;
mod job_table;
mod parent;
mod room;
mod shared;
mod table;
mod task_queue;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

pub use collect::Withdrawn;
pub use cut::Cutter;
pub use job::{Item, Job, Loss, TaskOptions};
pub use parent::{Function, Pool};
pub use room::{Feed, Intake};
pub use shared::Phase;
pub(crate) use shared::Shared;
pub use worker::{Task, Verdict, Worker};
pub use workers::{Death, Overdue, Stats, WorkerEnd, WorkerStats};
