//! The ways to start a process.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU8, Ordering};

/// How a child is started.
///
/// ```
/// use procession::{Builder, StartMethod};
///
/// for method in [StartMethod::Forkserver, StartMethod::Spawn] {
///     let child = Builder::new().start_method(method).spawn(|n: u32| n + 1, 1)?;
///     assert_eq!(child.join()?, 2);
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StartMethod {
    /// Fork the child from a helper process, which is a fresh copy of the program and has one thread. As safe as
    /// `Spawn` and nearly as fast as `Fork`. The default.
    ///
    /// The program's constructors (functions that run before `main`) run once, in the helper, and its children have
    /// what these set up. A constructor must not start a thread: the helper then ends, and a start fails with
    /// [`Error::ForkServer`](crate::Error::ForkServer). Threads that the constructors of shared libraries start remain;
    /// a lock that such a thread holds at the moment of a fork stays locked in the child. `Spawn` has neither limit.
    Forkserver,
    /// Execute the program again. The constructors of the program run in each child.
    ///
    /// Whatever the start method, constructors may use shared objects, but must not start processes: in a child, that
    /// is [`Error::Invalid`](crate::Error::Invalid).
    Spawn,
    /// Copy the calling process with all its memory: the function may refer to what `main` set up, and arguments are
    /// not copied. Only the calling thread exists in the child, where a lock that another thread held would stay locked
    /// for ever. So this method is refused ([`Error::Threads`](crate::Error::Threads)) while the process has other
    /// threads, and while it holds a lock of this crate ([`Error::Guards`](crate::Error::Guards)). A
    /// [`Pool`](crate::Pool) has a thread that watches its workers: it forks the first workers before that thread
    /// starts, and takes later ones from the fork server.
    Fork,
}

static DEFAULT: AtomicU8 = AtomicU8::new(0);
const ALL: [StartMethod; 3] = [StartMethod::Forkserver, StartMethod::Spawn, StartMethod::Fork];

/// Set the start method of this process and of its descendants. A [`Builder`](crate::Builder) can override it for one
/// child.
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

/// The start method. A [`Builder`](crate::Builder) can override it for one child.
pub fn start_method() -> StartMethod {
    ALL[usize::from(DEFAULT.load(Ordering::Relaxed)) % ALL.len()]
}
