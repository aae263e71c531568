//! What the pool and its workers share: slots, and the words that say which of them wait, run and are finished.

use crate::arena::{Block, Label, Object, Ref, Token};
use crate::channel::MessageHeader;
use crate::ids::{Handle, Kind, Owner};
use crate::sync::wait::EventCount;
pub(crate) use crate::sys::memory::nanoseconds as now;
use crate::trace::{self, What};
use crate::{Error, Result};
use std::mem::size_of;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// Number of slots in the pool object itself; each further segment doubles the number.
const FIRST: u32 = 64;
/// Number of queues: one for each [`Priority`](super::Priority), the highest first.
pub(super) const QUEUES: usize = 3;
/// Number of segments beyond the first.
pub(super) const SEGMENTS: usize = 20;

/// What a slot holds. Only the parent allocates and frees slots. A worker only moves tasks from PENDING to RUNNING to
/// DONE or RAISED, and writes its own worker slot. The parent may also move PENDING to FREE (withdrawn) and RUNNING to
/// CANCELLED.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Status {
    Free = 0,
    /// A queued task.
    Pending = 1,
    /// A task that runs in the owner given in the same word.
    Running = 2,
    /// A task whose result is in the header.
    Done = 3,
    /// A task whose error is in the header.
    Raised = 4,
    /// A job's function, read by all its tasks.
    Function = 5,
    /// A worker that was enlisted and has not reported that it is ready.
    Starting = 6,
    /// A worker that takes tasks.
    Ready = 7,
    /// A worker that could not start; the reason is in the header.
    Failed = 8,
    /// A task whose worker is to be stopped. Its result is ignored.
    Cancelled = 9,
}

impl Status {
    fn from_bits(bits: u8) -> Option<Self> {
        use Status::{Cancelled, Done, Failed, Free, Function, Pending, Raised, Ready, Running, Starting};
        let all = [
            Free, Pending, Running, Done, Raised, Function, Starting, Ready, Failed, Cancelled,
        ];
        all.get(bits as usize).copied()
    }
}

/// A slot's state word: `owner (32) | generation (24) | status (8)`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StateWord {
    pub owner: u32,
    pub generation: u32,
    pub status: Status,
}

impl StateWord {
    pub const GENERATIONS: u32 = 1 << 24;

    pub fn of(status: Status, generation: u32, owner: Option<Owner>) -> Self {
        Self {
            owner: owner.map_or(0, Owner::to_bits),
            generation,
            status,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.owner) << 32 | u64::from(self.generation % Self::GENERATIONS) << 8 | self.status as u64
    }

    fn unpack(word: u64) -> Option<Self> {
        Some(Self {
            owner: ((word & !DISMISSED) >> 32) as u32,
            generation: (word as u32) >> 8,
            status: Status::from_bits(word as u8)?,
        })
    }
}

/// A bit above the owner, in a worker's slot: the worker must leave when it has finished its current task. Written by
/// the parent, and kept by the worker.
const DISMISSED: u64 = 1 << 63;

/// One task, function or worker.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct PoolSlot {
    state: AtomicU64,
    /// Task: the next one in the queue. Worker: the task that it is about to claim, or runs.
    pub next: AtomicU32,
    /// Task: its function's slot (0 = the task carries its own); once finished, the next lower one in the stack.
    /// Worker: number of tasks done.
    pub aux: AtomicU32,
    pub header: MessageHeader,
}

impl PoolSlot {
    /// `None`: a stray write left an invalid state here.
    pub fn load(&self) -> Option<StateWord> {
        StateWord::unpack(self.state.load(Acquire))
    }

    pub fn store(&self, state: StateWord) {
        self.state.store(state.pack(), Release);
    }

    /// Store a state as [`store`](Self::store) does, in a worker's slot. Keeps the bit that says that the worker was
    /// dismissed.
    pub fn tell(&self, state: StateWord) {
        let keeping = |word: u64| Some(state.pack() | word & DISMISSED);
        let _ = self.state.fetch_update(Release, Relaxed, keeping);
    }

    /// Tell the worker of this slot to leave.
    pub fn dismiss(&self) {
        self.state.fetch_or(DISMISSED, SeqCst);
    }

    pub fn is_dismissed(&self) -> bool {
        self.state.load(SeqCst) & DISMISSED != 0
    }

    /// SYNC: `AcqRel`, so that a process that claims a task sees what was written before the task became pending.
    pub fn swap(&self, from: StateWord, to: StateWord) -> bool {
        self.state
            .compare_exchange(from.pack(), to.pack(), AcqRel, Relaxed)
            .is_ok()
    }
}

/// What a worker reports about itself, in words of its slot's header. The header holds no message unless the worker
/// failed. The words are hints for people and clocks; nothing in the pool's memory depends on them.
#[derive(Clone, Copy)]
pub(crate) enum SlotNote {
    /// When it began its current item; 0 = it has none. In nanoseconds of the monotonic clock, as all times here.
    Since = 0,
    /// When it became ready.
    Ready = 1,
    /// Time spent on tasks that are over.
    Busy = 2,
    /// Bytes that it was sent with tasks.
    Received = 3,
    /// Bytes of its results.
    Sent = 4,
    /// Tasks that failed. The words behind it are `recent`'s.
    Failed = 5,
}

impl PoolSlot {
    pub fn note(&self, note: SlotNote) -> &AtomicU64 {
        &self.header.spare_words()[note as usize]
    }

    /// Add to a worker's note. Only the worker writes it, so no swap is needed.
    pub fn add_to_note(&self, note: SlotNote, more: u64) {
        let word = self.note(note);
        word.store(word.load(Relaxed).wrapping_add(more), Relaxed);
    }
}

/// The phases of a pool's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd)]
#[repr(u32)]
pub enum Phase {
    /// Workers take tasks.
    Run = 0,
    /// No more work will come; workers leave when the queue is empty.
    Close = 1,
    /// Workers leave at once.
    Terminate = 2,
}

/// A value with a cache line of its own. The `CachePadded` of crossbeam is aligned to 128 bytes, and objects to 64.
#[repr(align(64))]
#[derive(Debug, Default)]
pub(super) struct CacheLine<T>(pub T);

/// Where feeders wait: they have more to submit than the queue should hold.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct FeederWait {
    /// The number of finished tasks from which on feeders must be woken; 0 = none waits.
    pub at: AtomicU32,
    pub count: EventCount,
}

// Slots do not share cache lines.
const _: () = assert!(std::mem::offset_of!(PoolMemory, first) % 64 == 0 && size_of::<PoolSlot>() == 128);

/// What workers did that have ended, for observers. Only the parent writes it, when it frees a worker's slot.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Past {
    pub workers: AtomicU64,
    /// Tasks that they finished, and how many of these failed.
    pub done: AtomicU64,
    pub failed: AtomicU64,
}

/// The pool object.
#[repr(C)]
pub struct PoolMemory {
    /// The queues' heads: `tag (32) | slot (32)`. The slot is the one claimed last. Zero is at first in its place: it
    /// stands for the slot with the queue's number, which has no other use than to start the queue.
    pub(super) heads: [CacheLine<AtomicU64>; QUEUES],
    /// The stack of finished tasks: `number of tasks (32) | top slot (32)`.
    pub(super) finished: CacheLine<AtomicU64>,
    pub(super) room: CacheLine<FeederWait>,
    /// The number of finished tasks from which on a waiter in the parent must be woken; 0 = none waits.
    pub(super) wake_at: AtomicU32,
    /// The idle worker that looks for work without sleeping. While there is one, submitting wakes no other.
    pub(super) spinner: AtomicU32,
    /// 1: a worker was woken and has not looked at the queue since. Until it has, submitting wakes no other.
    pub(super) wake_pending: AtomicU32,
    pub(super) phase: AtomicU32,
    /// Idle workers sleep here.
    pub(super) work: EventCount,
    /// Waiters for results sleep here.
    pub(super) done: EventCount,
    /// Segments as blocks in transit. They belong to this object, so they outlive the parent as long as a worker refers
    /// to it.
    pub(super) segments: [AtomicU64; SEGMENTS],
    pub(super) past: CacheLine<Past>,
    pub(super) first: [PoolSlot; FIRST as usize],
}

// SAFETY: all fields are atomics, arrays of them or built of them; zero is an empty pool; every value read is checked
// before use.
unsafe impl Object for PoolMemory {
    const KIND: Kind = Kind::Pool;
    const NAME: &'static str = "pool";

    fn destroy(&self) {
        for slot in &self.first {
            slot.header.discard();
        }
        for (k, word) in self.segments.iter().enumerate() {
            let token = Token(word.load(Acquire));
            if token.0 == 0 {
                break;
            }
            if let Ok(ptr) = segment_ptr(token, k) {
                for i in 0..segment_len(k) {
                    // SAFETY: the block spans `segment_len(k)` slots and stays until the discard below.
                    unsafe { (*ptr.add(i as usize)).header.discard() };
                }
            }
            Block::discard(token);
        }
    }
}

pub(super) fn segment_len(k: usize) -> u32 {
    FIRST << k
}

fn segment_ptr(token: Token, k: usize) -> Result<*mut PoolSlot> {
    Block::peek(token, segment_len(k) as usize * size_of::<PoolSlot>()).map(<*mut u8>::cast)
}

/// The pool object as one process sees it.
pub(super) struct PoolView {
    pub shared: Ref<PoolMemory>,
    segments: [AtomicPtr<PoolSlot>; SEGMENTS],
}

impl PoolView {
    pub fn create(label: Label<'_>) -> Result<Self> {
        Ok(Self {
            shared: Ref::labelled(label)?,
            segments: Default::default(),
        })
    }

    pub fn attach(handle: Handle) -> Result<Self> {
        Ok(Self {
            shared: Ref::attach(handle)?,
            segments: Default::default(),
        })
    }

    /// An event of the task in this slot.
    #[inline]
    pub fn trace(&self, what: What, slot: u32, generation: u32) {
        trace::note(
            what,
            self.shared.handle(),
            u64::from(generation) << 32 | u64::from(slot),
        );
    }

    /// The slot of this number. Fails if no such slot was ever made.
    pub fn slot(&self, index: u32) -> Result<&PoolSlot> {
        if let Some(slot) = self.shared.first.get(index as usize) {
            return Ok(slot);
        }
        let k = (index / FIRST).ilog2() as usize;
        let cached = self.segments.get(k).ok_or(Error::Corrupt("a pool's slot number"))?;
        let mut ptr = cached.load(Acquire);
        if ptr.is_null() {
            ptr = segment_ptr(Token(self.shared.segments[k].load(Acquire)), k)?;
            cached.store(ptr, Release);
        }
        // SAFETY: `ptr` is a segment of `segment_len(k)` slots, aligned and initialised by `grow`, freed only with the
        // pool object, to which `self.shared` holds a reference; index - segment_len(k) is less than segment_len(k) by
        // the choice of k.
        Ok(unsafe { &*ptr.add((index - segment_len(k)) as usize) })
    }

    /// Make the next segment and return the numbers of its slots. Only the parent calls it, under its lock.
    pub fn grow(&self) -> Result<std::ops::Range<u32>> {
        let exhausted = Error::Exhausted {
            what: "a pool's tasks",
            wanted: u64::from(segment_len(SEGMENTS)),
        };
        let k = self
            .shared
            .segments
            .iter()
            .position(|word| word.load(Acquire) == 0)
            .ok_or(exhausted)?;
        let mut block = Block::alloc(segment_len(k) as usize * size_of::<PoolSlot>())?;
        block.as_mut_slice().fill(0);
        // DEATH: between these two lines the block still belongs to the parent and is freed with it; the stale token
        // that it leaves here does no harm.
        self.shared.segments[k].store(block.token().0, Release);
        block.send();
        Ok(segment_len(k)..segment_len(k + 1))
    }

    /// The slots that exist without growing: those in the object, except the first, which start the queues.
    pub fn initial() -> std::ops::Range<u32> {
        QUEUES as u32..FIRST
    }

    pub fn phase(&self) -> Phase {
        match self.shared.phase.load(Acquire) {
            0 => Phase::Run,
            1 => Phase::Close,
            _ => Phase::Terminate,
        }
    }

    /// Enter a later phase and tell all workers.
    pub fn enter(&self, phase: Phase) {
        self.shared.phase.fetch_max(phase as u32, SeqCst);
        self.shared.work.notify(u32::MAX);
    }
}
