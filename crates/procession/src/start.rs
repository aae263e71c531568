//! The ways to start a process.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, Ordering};

/// How a child comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartMethod {
    /// Forked by a helper process that is a fresh copy of the program and has one thread: as safe as `Spawn` and nearly as fast as
    /// `Fork`. The default.
    Forkserver,
    /// The program, executed once more.
    Spawn,
    /// A copy of the calling process, with all its memory: the function may refer to what `main` set up, and arguments are not copied.
    /// Of the threads only the calling one exists in the child; a lock that another one held would stay locked for ever. So it is refused
    /// ([`Error::Threads`](crate::Error::Threads)) while the process has other threads, and while it holds a lock of this crate
    /// ([`Error::Guards`](crate::Error::Guards)). A [`Pool`](crate::Pool) has a thread that watches its workers: the first workers are forked before
    /// it starts, later ones come from the fork server.
    Fork,
}

static DEFAULT: AtomicU8 = AtomicU8::new(0);
const ALL: [StartMethod; 3] = [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Fork];

/// Set how children of this process, and theirs, are started from now on, unless a [`Builder`](crate::Builder) says otherwise.
///
/// ```
/// use procession::{set_start_method, start_method, StartMethod};
///
/// assert_eq!(start_method(), StartMethod::Forkserver);
/// set_start_method(StartMethod::Spawn);
/// assert_eq!(start_method(), StartMethod::Spawn);
/// ```
pub fn set_start_method(method: StartMethod) {
    DEFAULT.store(method as u8, Ordering::Relaxed);
}

/// How children are started unless a [`Builder`](crate::Builder) says otherwise.
pub fn start_method() -> StartMethod {
    ALL[usize::from(DEFAULT.load(Ordering::Relaxed)) % ALL.len()]
}
