//! Binds what lower rooms ask ([`Hooks`]) to the rooms that answer. Nothing else lies here.

use crate::arena::Object;
use crate::hooks::Hooks;
use crate::ids::Kind;
use crate::{arena, channel, liveness, pool, process, reclaim, shared, sync, sys, trace};

/// The answers.
pub(crate) static HOOKS: Hooks = Hooks {
    register_forks: liveness::register_forks,
    me: liveness::me,
    own_start: liveness::own_start,
    pids: || liveness::members().iter().map(|member| member.pid).collect(),
    fork_born_after: liveness::fork_born_after,
    reap_executed: liveness::reap_executed,
    some_process_waits: liveness::some_process_waits,
    destroy,
    reclaim: reclaim::reclaim,
    is_reclaiming: reclaim::in_progress,
    sweep_deferred: reclaim::sweep_deferred,
    note_helpers: liveness::note_helpers,
    deadlock: sync::deadlock::look,
    after_fork_child: &[
        arena::after_fork_child,
        sync::after_fork_child,
        trace::after_fork_child,
        sys::threads::after_fork_child,
    ],
};

/// Run the object's `destroy`. `size` is what its cell holds.
fn destroy(kind: u8, ptr: *const u8, size: usize) {
    // A number that is no kind comes from a damaged note: what the object refers to is unknown.
    let Some(kind) = Kind::from_number(kind) else { return };
    match kind {
        Kind::Queue => run::<channel::Queue>(ptr, size),
        Kind::ResultSlot => run::<process::ResultSlot>(ptr, size),
        Kind::Pool => run::<pool::PoolMemory>(ptr, size),
        Kind::Shared => run::<shared::Shared>(ptr, size),
        Kind::Dict => run::<shared::Dict>(ptr, size),
        Kind::List => run::<shared::ListHead>(ptr, size),
        Kind::Condition => run::<sync::ending::Condition>(ptr, size),
        Kind::Barrier => run::<sync::ending::Barrier>(ptr, size),
        Kind::Cell => run::<sync::ending::Chunk>(ptr, size),
        Kind::Semaphore => run::<sync::ending::Semaphore>(ptr, size),
        Kind::Lane => run::<channel::Lane>(ptr, size),
        Kind::Mailbox => run::<channel::MessageHeader>(ptr, size),
        // These refer to nothing, or are parts of a dictionary or a list and no objects.
        Kind::Lock
        | Kind::RLock
        | Kind::Event
        | Kind::Child
        | Kind::Job
        | Kind::BrokeredFd
        | Kind::DictTable
        | Kind::DictSegment
        | Kind::DictBucket
        | Kind::DictValue
        | Kind::ListRoot
        | Kind::ListNode
        | Kind::ListValue => {}
    }
}

fn run<T: Object>(ptr: *const u8, size: usize) {
    if size >= size_of::<T>() {
        // SAFETY: `destroy` calls this for a cell of T's kind, large enough, aligned to 64 and DYING with this process
        // as its owner; T tolerates any bytes.
        unsafe { &*ptr.cast::<T>() }.destroy();
    }
}
