//! The pool: tasks that one process gives out, workers that pull them, results that come back without a thread in
//! between.
//!
//! The [`Pool`] belongs to the process that made it; a [`Worker`] is its counterpart in each worker process. They share
//! nothing but one object of slots (`shared`), a queue of tasks and a stack of finished ones (`task_queue`). The README
//! beside this file argues why it is correct. What a task means, how a worker process is started and how it ended are
//! left to the faces.

mod cut;
mod feed;
mod job;
mod job_record;
mod job_table;
mod monitor;
mod parent;
mod recent;
mod room;
pub(crate) mod seen;
mod shared;
mod slots;
mod table;
mod task_queue;
mod types;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

pub use cut::Cutter;
pub use feed::Feed;
pub use job::{Function, Job};
pub use parent::Pool;
pub use room::Intake;
pub use shared::Phase;
pub(crate) use shared::PoolMemory;
pub use types::{
    Item, JobOptions, Loss, Overdue, Priority, Stats, TaskOptions, Withdrawn, WorkerDeath, WorkerEnd, WorkerStats,
};
pub use worker::{Task, Verdict, Worker};
