//! Synchronization primitives between processes, shaped on `std::sync`.
//!
//! A clone, or a copy sent as an argument or through a queue, is the same primitive.

mod barrier;
mod condvar;
mod event;
mod lock;
mod mutex;
mod poison;
mod semaphore;

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::Condvar;
pub use event::Event;
pub(crate) use lock::any_guard;
pub use lock::{Lock, LockGuard};
pub use mutex::{Mutex, MutexGuard, Value};
pub use poison::{LockError, LockResult, Poisoned};
pub use semaphore::{Permit, Semaphore};
