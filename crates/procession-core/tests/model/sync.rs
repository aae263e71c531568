//! The engine's waiting room, from its own files, without spinning: a spin only looks at what the sleep looks at again.

pub mod primitive {
    pub use crate::futex::{fence, sleep, wake, AtomicU32, AtomicU64, Ordering, Woken};
}

pub mod spin {
    #[derive(Debug, Default)]
    pub struct Spin;

    impl Spin {
        #[allow(clippy::unused_self)]
        pub fn run<T>(&self, _ready: impl FnMut() -> Option<T>) -> Option<T> {
            None
        }
    }
}

#[path = "../../src/sync/event.rs"]
mod event;
#[path = "../../src/sync/lock.rs"]
mod lock;
#[path = "../../src/sync/raw.rs"]
mod raw;
#[path = "../../src/sync/semaphore.rs"]
mod semaphore;
#[path = "../../src/sync/wait.rs"]
pub mod wait;

pub use event::Event;
pub use lock::Lock;
pub use semaphore::Semaphore;
