//! The operations: what the victim does, and what must hold for the processes that survive it.

mod dict;
mod list;
mod liveness;
mod locks;
mod mailbox;
mod memory;
mod pipe;
mod pool_parent;
mod pool_stops;
mod pools;
mod queue;
mod sync;
mod traced;
mod waited;

use crate::battery::Clock;
use crate::stage::Values;
use procession_core::Deadline;
use std::mem::ManuallyDrop;
use std::time::Duration;

/// Which process of an operation that forks is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The process that runs the operation (and a child it forks, as soon as there is one).
    Caller,
    /// The child it forks, from its first instruction on; its parent lives.
    Child,
    /// The caller, which has no entry in the process table yet.
    Stranger,
}

type Setup = Box<dyn Fn() -> Vec<u64>>;
pub type Victim = Box<dyn Fn(&Values) -> Box<dyn FnOnce()>>;
type Survivor = Box<dyn Fn(&Values, bool) -> String>;
pub type Beside = Box<dyn Fn(&Values, &mut Clock)>;

/// One operation of the engine, with what is needed to kill it.
pub struct Operation {
    pub name: String,
    pub role: Role,
    /// What the root makes and holds; returns handles and numbers for the others.
    pub setup: Setup,
    /// Prepares everything that the operation needs, and returns the operation.
    pub victim: Victim,
    /// What a survivor does: it panics if something is wrong, and returns what it found. `true`: the operation had
    /// returned.
    pub survivor: Survivor,
    /// What the first of two survivors does, until it is killed, too.
    pub repairer: fn(&Values),
    /// What other processes do with the same objects while the victim is stopped: everything that needs nothing the
    /// victim holds.
    pub beside: Beside,
}

impl Operation {
    /// An operation with a victim that needs no preparation except what `victim` does before it returns.
    fn new<F: FnOnce() + 'static>(
        name: impl Into<String>,
        setup: impl Fn() -> Vec<u64> + 'static,
        victim: impl Fn(&Values) -> F + 'static,
        survivor: impl Fn(&Values, bool) -> String + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            role: Role::Caller,
            setup: Box::new(setup),
            victim: Box::new(move |values| Box::new(victim(values))),
            survivor: Box::new(survivor),
            repairer: |_| {
                procession_core::liveness::sweep();
            },
            beside: Box::new(|_, _| ()),
        }
    }

    fn beside(self, beside: impl Fn(&Values, &mut Clock) + 'static) -> Self {
        Self {
            beside: Box::new(beside),
            ..self
        }
    }

    fn repaired_by(self, repairer: fn(&Values)) -> Self {
        Self { repairer, ..self }
    }
}

/// All operations.
pub fn all() -> Vec<Operation> {
    let mut all = queue::operations();
    all.extend(pipe::operations());
    all.extend(locks::operations());
    all.extend(sync::operations());
    all.extend(memory::operations());
    all.extend(dict::operations());
    all.extend(list::operations());
    all.extend(liveness::operations());
    all.extend(traced::operations(|| {
        let mut plain = queue::operations();
        plain.extend(locks::operations());
        plain
    }));
    all
}

/// The operations for which another process waits.
pub fn waited() -> Vec<crate::live::Waited> {
    waited::operations()
}

/// The operations of a pool that are stopped.
pub fn pooled() -> Vec<crate::pooled::Pooled> {
    pool_stops::operations()
}

/// The handle that a number stands for.
pub fn handle(bits: u64) -> procession_core::ids::Handle {
    procession_core::ids::Handle::from_bits(bits).expect("a handle")
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// Long enough to fall asleep.
fn shortly() -> Deadline {
    Deadline::after(Duration::from_millis(3))
}

/// The object's handle; the object stays alive.
fn keep<T>(object: T, handle: impl Fn(&T) -> procession_core::ids::Handle) -> Vec<u64> {
    vec![handle(&ManuallyDrop::new(object)).to_bits()]
}

/// Run `act` in a child that then ends without giving anything back.
fn in_a_child_that_dies(act: impl FnOnce()) {
    // SAFETY: one thread; the child leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        act();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) }
    }
    crate::remote::wait(pid);
}
