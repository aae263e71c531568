//! The identity of this process: name, parent, children.

use crate::children::Children;
use serde::{Deserialize, Serialize};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::Mutex;

/// A process of the family.
///
/// ```
/// fn family((): ()) -> (String, String) {
///     let parent = procession::parent().expect("a child has one");
///     (procession::current().name().to_owned(), parent.name().to_owned())
/// }
/// let names = procession::spawn(family, ())?.join()?;
/// assert_eq!(names, ("Process-1".to_owned(), "MainProcess".to_owned()));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// Whether it ends when its parent dies; may be set for a process that is not daemonic.
    pub(crate) dies_with_parent: bool,
    /// Whether it is a pool's worker: it may have children although it is daemonic, and they die with it.
    pub(crate) worker: bool,
    /// Whether it ignores SIGINT.
    pub(crate) ignores_interrupts: bool,
    /// The numbers of its ancestors and its own, each counted among siblings; empty for the first process.
    pub(crate) path: Vec<u32>,
}

impl Process {
    /// The process ID.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The process's name: the one that it was given, or a generated one. The first process is `MainProcess`, its
    /// children are `Process-1`, `Process-2`..., the children of the latter `Process-2:1`...
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the process is daemonic: it ends with its parent.
    ///
    /// ```
    /// fn is_daemon((): ()) -> bool {
    ///     procession::current().is_daemon()
    /// }
    /// assert!(procession::Builder::new().daemon(true).spawn(is_daemon, ())?.join()?);
    /// assert!(!procession::current().is_daemon());
    /// # Ok::<(), procession::Error>(())
    /// ```
    pub fn is_daemon(&self) -> bool {
        self.daemon
    }
}

/// What this process knows about itself.
pub(crate) struct Here {
    pub me: Process,
    pub parent: Option<Process>,
    pub children: Children,
    /// Held while a fork server is started.
    pub fork_server: Mutex<()>,
    count: AtomicU32,
}

/// Set at most once in a process's life, and never freed. An atomic pointer, so that a child of fork never finds a lock
/// on it held.
static HERE: AtomicPtr<Here> = AtomicPtr::new(ptr::null_mut());

impl Here {
    pub(crate) fn new(me: Process, parent: Option<Process>) -> Self {
        Self {
            me,
            parent,
            children: Children::default(),
            fork_server: Mutex::new(()),
            count: AtomicU32::new(0),
        }
    }

    /// The identity of a child to start, without the pid, which is not known yet.
    pub(crate) fn next_child(&self, name: Option<String>, daemon: bool) -> Process {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let path: Vec<u32> = self.me.path.iter().copied().chain([number]).collect();
        let name = name.unwrap_or_else(|| {
            let numbers: Vec<String> = path.iter().map(u32::to_string).collect();
            format!("Process-{}", numbers.join(":"))
        });
        Process {
            pid: 0,
            name,
            daemon,
            dies_with_parent: daemon || self.me.worker,
            worker: false,
            ignores_interrupts: false,
            path,
        }
    }
}

/// This process.
pub(crate) fn here() -> &'static Here {
    let known = HERE.load(Ordering::Acquire);
    if known.is_null() {
        let me = Process {
            pid: pid(),
            name: "MainProcess".into(),
            daemon: false,
            dies_with_parent: false,
            worker: false,
            ignores_interrupts: false,
            path: Vec::new(),
        };
        let fresh = Box::into_raw(Box::new(Here::new(me, None)));
        let placed = HERE.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
        if placed.is_err() {
            // SAFETY: allocated above and not shared with any other thread.
            drop(unsafe { Box::from_raw(fresh) });
        }
        return here();
    }
    // SAFETY: a `Here` that was placed is never freed.
    unsafe { &*known }
}

/// Make this process `me`, a child of `parent`.
pub(crate) fn become_child(mut me: Process, parent: Process) -> &'static Here {
    me.pid = pid();
    procession_core::liveness::set_name(&me.name);
    let fresh = Box::leak(Box::new(Here::new(me, Some(parent))));
    HERE.store(fresh, Ordering::Release);
    fresh
}

fn pid() -> i32 {
    std::process::id() as i32
}

/// This process.
///
/// ```
/// assert_eq!(procession::current().name(), "MainProcess");
/// assert_eq!(procession::current().pid() as u32, std::process::id());
/// ```
pub fn current() -> &'static Process {
    &here().me
}

/// The process that started this one; `None` in the first process.
///
/// ```
/// fn parent((): ()) -> Option<i32> {
///     procession::parent().map(|parent| parent.pid())
/// }
/// assert_eq!(parent(()), None);
/// assert_eq!(procession::spawn(parent, ())?.join()?, Some(procession::current().pid()));
/// # Ok::<(), procession::Error>(())
/// ```
pub fn parent() -> Option<&'static Process> {
    here().parent.as_ref()
}

/// The number of processes that can run at once, as [`std::thread::available_parallelism`] estimates it, or 1 if it
/// cannot.
///
/// ```
/// let pool = procession::Pool::new(procession::cpu_count())?;
/// # drop(pool);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_on() {
        let main = here();
        assert_eq!(main.me.name(), "MainProcess");
        assert_eq!(main.next_child(None, false).name(), "Process-1");
        assert_eq!(main.next_child(Some("Test".into()), false).name(), "Test");
        let third = main.next_child(None, false);
        assert_eq!(third.name(), "Process-3");
        let third = Here::new(third, Some(main.me.clone()));
        assert_eq!(third.next_child(None, false).name(), "Process-3:1");
        assert_eq!(third.next_child(None, false).name(), "Process-3:2");
    }
}
