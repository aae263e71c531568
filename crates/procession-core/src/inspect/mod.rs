//! What a family's processes do, seen from outside: which family there is, which process holds and awaits what, how
//! much lies in each queue.
//!
//! An observer opens the arena for reading, and copies what it looks at. It writes nothing, except for the word that
//! switches a trace on and off, waits for nothing, and sends no signal. The README of this folder says what that rests on.

mod budget;
mod cells;
mod deadlock;
mod error;
mod file;
mod find;
mod listing;
mod objects;
mod processes;
mod queues;
mod snapshot;
#[cfg(test)]
mod tests;
mod trace;

pub use deadlock::{deadlocks, lasting, may_be_deadlocked, self_waits, Deadlock, DeadlockMember};
pub use error::InspectError;
pub use find::{families, FamilyFound, Inspector};
pub use snapshot::{
    BarrierSeen, CollectionSeen, ConditionSeen, EndedProcess, EventSeen, FamilySnapshot, HolderSeen, LockSeen,
    MemoryUse, ObjectId, ObjectLabel, PoolSeen, PoolWorkerSeen, ProcessSeen, ProcessState, QueueSeen, SemaphoreSeen,
    WaitSeen,
};
pub use trace::{TraceEvent, Tracer};
