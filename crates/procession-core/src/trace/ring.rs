//! The ring of a process, and how the process comes by it. Leaves the slots to `event`.

use super::event::{EventSlot, What, Written};
use crate::arena;
use crate::hooks::hooks;
use crate::ids::Owner;
use crate::sys::memory::nanoseconds;
use rustix::io::Errno;
use rustix::process::{test_kill_process, Pid};
use std::cell::Cell;
use std::sync::atomic::{
    fence, AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The head of a ring; it has the place of the first slots. Zero-filled is a ring that no process has.
#[repr(C, align(64))]
pub(super) struct Head {
    /// `Owner` of the process whose events these are. Zero while it changes.
    pub owner: AtomicU32,
    /// That process's identifier.
    pub pid: AtomicU32,
    /// The position of the next event: grows by one each, also from one process of the ring to the next. Positions that
    /// fall on the head have none. A position whose event never comes is a lost one.
    pub next: AtomicU64,
    /// The position from which on events are this process's.
    pub first: AtomicU64,
    reserved: [u64; 5],
}

/// Slots in whose place the head lies.
pub(super) const HEAD: u64 = (size_of::<Head>() / size_of::<EventSlot>()) as u64;

/// From here on a new process begins anew: a slot knows positions that are less than 2^33 apart, and one that was cleared
/// must not look like a later one. Nor is a damaged position kept.
const MOST_POSITIONS: u64 = 1 << 32;

const _: () = assert!(size_of::<Head>() == 64 && size_of::<EventSlot>() == 32);

/// This process's ring; null until its first event, [`BUSY`] while a thread makes it.
static RING: AtomicPtr<Head> = AtomicPtr::new(std::ptr::null_mut());
/// The tracer during whose trace there was no memory for a ring: it is not asked for again. Zero: none.
static REFUSED: AtomicU32 = AtomicU32::new(0);

/// Number of slots of this process's ring, less one. Written before [`RING`].
static MASK: AtomicU64 = AtomicU64::new(0);

const BUSY: *mut Head = std::ptr::without_provenance_mut(align_of::<Head>());

thread_local! {
    /// The kernel's number of this thread, or zero.
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

fn thread() -> u32 {
    match THREAD.get() {
        0 => {
            let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            THREAD.set(thread);
            thread
        }
        thread => thread,
    }
}

/// Forget the parent's ring and thread. Async-signal-safe.
pub(crate) fn after_fork_child() {
    RING.store(std::ptr::null_mut(), Relaxed);
    THREAD.set(0);
}

/// Write an event, or count it as lost.
#[cold]
#[inline(never)]
pub(super) fn record(what: What, object: u64, detail: u64) {
    let Some(ring) = ring() else {
        if let Some(arena) = arena::existing() {
            arena.trace_words().lost.fetch_add(1, Relaxed);
        }
        return;
    };
    let event = Written {
        what,
        thread: thread(),
        time: nanoseconds(),
        object,
        detail,
    };
    ring.write(MASK.load(Relaxed), event);
}

fn ring() -> Option<&'static Head> {
    let ring = RING.load(Acquire);
    if ring.is_null() {
        return begin();
    }
    // SAFETY: neither null nor busy: the ring of this process, which stays mapped and is all atomics.
    (ring != BUSY).then(|| unsafe { &*ring })
}

/// Make this process's ring. The threads that come here meanwhile lose their events. So does this thread, if it comes
/// here again while it enters the process table.
#[cold]
fn begin() -> Option<&'static Head> {
    let tracer = arena::tracer().load(Relaxed);
    if REFUSED.load(Relaxed) == tracer
        || RING
            .compare_exchange(std::ptr::null_mut(), BUSY, Acquire, Relaxed)
            .is_err()
    {
        return None;
    }
    let ring = take();
    if ring.is_none() {
        REFUSED.store(tracer, Relaxed);
    }
    let at = ring.map_or(std::ptr::null_mut(), |ring| std::ptr::from_ref(ring).cast_mut());
    RING.store(at, Release);
    ring
}

/// Take over the ring of this process's slot in the process table. Its previous process is dead and reaped.
fn take() -> Option<&'static Head> {
    let arena = arena::existing()?;
    let me = (hooks().me)().ok()?;
    let (at, length) = arena.ring(me.slot()).ok()?;
    // SAFETY: committed and mapped for good, aligned to more than 64, and all atomics.
    let head = unsafe { at.cast::<Head>().as_ref() };
    let mask = length / size_of::<EventSlot>() as u64 - 1;
    MASK.store(mask, Relaxed);
    head.take_over(mask, me, std::process::id());
    Some(head)
}

impl Head {
    /// Give the ring, which has as many slots as the mask says, to another process.
    pub(super) fn take_over(&self, mask: u64, owner: Owner, pid: u32) {
        // DEATH: until the owner is written the ring is no process's; the slot's next process begins again.
        self.owner.store(0, Relaxed);
        // SYNC: an observer that sees any of what follows sees that the ring is not the dead process's any more.
        fence(Release);
        for number in HEAD..=mask {
            self.slot(number).clear();
        }
        // DEATH: an observer that has not read what the dead process wrote counts it by these two. They stay true if
        // this process dies as well.
        let next = self.next.load(Relaxed);
        let first = if (HEAD..MOST_POSITIONS).contains(&next) {
            next
        } else {
            HEAD
        };
        self.next.store(first, Relaxed);
        self.first.store(first, Relaxed);
        self.pid.store(pid, Relaxed);
        self.owner.store(owner.to_bits(), Release);
    }

    /// The slot with this number, which is no more than the mask.
    fn slot(&self, number: u64) -> &EventSlot {
        // SAFETY: this is the process's own ring, which is one mapping, of as many slots as the mask says.
        unsafe { &*std::ptr::from_ref(self).cast::<EventSlot>().add(number as usize) }
    }

    /// Write an event into the ring, which has as many slots as the mask says.
    pub(super) fn write(&self, mask: u64, event: Written) {
        loop {
            let position = self.next.fetch_add(1, Relaxed);
            let number = position & mask;
            if number >= HEAD {
                return self.slot(number).write(position, event);
            }
        }
    }
}

/// Switch the trace off if its tracer is dead: nobody else would.
pub(crate) fn forget_dead_tracer() {
    let word = arena::tracer();
    let tracer = word.load(Relaxed);
    if tracer == 0 {
        return;
    }
    // A number that is none of a process: damage.
    let pid = i32::try_from(tracer).ok().and_then(Pid::from_raw);
    if pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH)) {
        let _ = word.compare_exchange(tracer, 0, Relaxed, Relaxed);
    }
}
