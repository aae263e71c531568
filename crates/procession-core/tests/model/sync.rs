//! The engine's waiting primitives, from their own files, without spinning: a spin only checks what the sleep checks
//! again.

pub mod primitive {
    pub use crate::futex::{fence, sleep, wake, AtomicU32, AtomicU64, Ordering, Woken};

    pub fn sleep_low(word: &AtomicU64, expected: u64, timeout: std::time::Duration) -> Woken {
        sleep(word, expected as u32, timeout)
    }

    pub fn wake_low(word: &AtomicU64, n: u32) -> u32 {
        wake(word, n)
    }
}

/// A thread is a process here, and has no id of its own.
pub mod claim {
    use crate::ids::Owner;
    use crate::liveness;

    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Claim(Owner);

    impl Claim {
        pub fn mine() -> crate::Result<Self> {
            liveness::me().map(Self)
        }

        /// The owner fills the thread's part, too, so that both halves of a word count.
        pub fn to_bits(self) -> u64 {
            u64::from(self.0.to_bits()) * (1 << 32 | 1)
        }

        pub fn from_bits(bits: u64) -> Option<Self> {
            Owner::from_bits(bits as u32).map(Self)
        }

        pub fn owner(self) -> Owner {
            self.0
        }

        pub fn scoped(self) -> Self {
            self
        }

        pub fn is_scoped(_bits: u64) -> bool {
            false
        }

        pub fn thread_word(self) -> u32 {
            0
        }
    }
}

pub mod death {
    use super::claim::Claim;
    use crate::liveness;

    #[derive(Clone, Copy)]
    pub enum Holder {
        Process,
        Thread,
    }

    impl Holder {
        pub fn is_dead(self, claim: Claim) -> bool {
            !liveness::is_alive(claim.owner())
        }

        pub fn is_probably_dead(self, claim: Claim) -> bool {
            self.is_dead(claim)
        }
    }
}

pub mod options {
    use super::claim::Claim;
    pub use procession_core::sync::Options;
    use procession_core::Death;

    use crate::ids::Owner;
    #[derive(Debug, Default)]
    pub struct LockOptions;

    impl LockOptions {
        pub fn set(&self, _options: Options<'_>) {}

        pub fn death(&self, dead: Claim, object: &'static str) -> Option<Box<Death>> {
            Some(Box::new(Death {
                owner: dead.owner(),
                pid: 0,
                name: String::new(),
                thread: None,
                panicked: false,
                object,
                object_name: None,
                made: None,
            }))
        }

        pub fn panic(&self, owner: Owner, object: &'static str) -> Death {
            panic!("{owner:?} panicked holding a {object}")
        }
    }
}

/// A list of waiter slots that does not grow.
pub mod waiters {
    use super::primitive::AtomicU64;
    use crate::arena::{Kind, Object};

    const PAIRS: usize = 5;

    #[derive(Debug, Default)]
    pub struct Chunk([AtomicU64; PAIRS * 2]);

    // SAFETY: nothing is shared.
    unsafe impl Object for Chunk {
        const KIND: Kind = Kind::Cell;
        const NAME: &'static str = "list of waiters";
    }

    impl Chunk {
        pub fn pair(&self, number: usize) -> crate::Result<Option<[&AtomicU64; 2]>> {
            Ok(self.pairs().nth(number))
        }

        pub fn reach(&self) -> crate::Result<()> {
            Ok(())
        }

        pub fn pairs(&self) -> impl Iterator<Item = [&AtomicU64; 2]> {
            self.0.chunks_exact(2).map(|pair| [&pair[0], &pair[1]])
        }

        pub fn grow(&self, _seen: &mut usize) -> crate::Result<()> {
            panic!("more processes than slots")
        }
    }
}

macro_rules! shared {
    ($class:ident) => {
        impl $class {
            pub fn handle(&self) -> crate::ids::Handle {
                self.state.handle()
            }
        }
    };
}
use crate::ids::Owner;
use shared;

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
#[path = "../../src/sync/permit_log.rs"]
mod permit_log;
#[path = "../../src/sync/permits.rs"]
mod permits;
#[path = "../../src/sync/raw.rs"]
mod raw;
#[path = "../../src/sync/semaphore.rs"]
mod semaphore;
#[path = "../../src/sync/wait.rs"]
pub mod wait;

pub use event::Event;
pub use lock::Lock;
pub use semaphore::Semaphore;
