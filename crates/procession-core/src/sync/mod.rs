//! Waiting, and the primitives users know: `Lock`, `RLock`, `Semaphore`, `Condition`, `Event`, `Barrier`.
//!
//! The README of this folder holds the state machines and the wake-up argument.

/// Lets a class of objects in the arena, with a field `state`, be sent to other processes.
macro_rules! shared {
    ($class:ident) => {
        impl $class {
            /// The object behind a handle.
            pub fn attach(handle: $crate::ids::Handle) -> $crate::Result<Self> {
                let state = $crate::arena::Ref::attach(handle)?;
                Ok(Self { state })
            }

            /// The handle to send.
            pub fn handle(&self) -> $crate::ids::Handle {
                self.state.handle()
            }

            /// The name that it was made with.
            pub fn name(&self) -> Option<String> {
                self.state.name()
            }
        }
    };
}
use shared;

mod barrier;
mod claim;
mod condition;
pub mod deadlock;
mod death;
pub mod descriptor;
mod event;
mod lock;
mod options;
mod permit_log;
mod permits;
pub(crate) mod primitive;
mod raw;
mod rlock;
pub(crate) mod seen;
mod semaphore;
mod spin;
pub mod wait;
mod waiters;

pub use barrier::{Arrival, Barrier, BarrierError, Last, Participant};
pub use condition::{Condition, Waiter};
pub use event::Event;
pub use lock::Lock;
pub use options::Options;
pub use permits::SEM_VALUE_MAX;
pub use rlock::RLock;
pub use semaphore::Semaphore;
pub(crate) use spin::Spin;

/// The states that refer to other objects, for `reclaim` to destroy.
pub(crate) mod ending {
    pub(crate) type Barrier = super::barrier::BarrierState;
    pub(crate) type Chunk = super::waiters::Chunk;
    pub(crate) type Condition = super::condition::ConditionState;
    pub(crate) type Semaphore = super::permits::Permits;
}

/// Reset this module's process-local state in a child of fork. Async-signal-safe.
pub(crate) fn after_fork_child() {
    claim::after_fork_child();
}

#[cfg(test)]
mod tests;
