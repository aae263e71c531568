//! One object, its entries and the operations of three processes, around the engine's own file for them.

#[path = "../../src/arena/change.rs"]
pub mod change;
#[path = "../../src/arena/word.rs"]
pub mod word;

use crate::ids::Handle;
use crate::ids::Owner;

use crate::words::{zeroed, AtomicU64};
use change::{acquire, release, resolve, Counted, Operation};
use loom::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use word::{CellState, Mark, OwnerWord};

/// One object, the operations of three processes, and four entries.
#[repr(C)]
struct Memory {
    operations: [Operation; 3],
    word: AtomicU64,
    entries: [AtomicU64; 4],
}

pub struct Model {
    memory: Arc<Memory>,
    needed: bool,
}

pub fn handle() -> Handle {
    Handle::new(0, 5)
}

impl Counted for Model {
    type Cell = ();

    fn operation(&self, slot: usize) -> Option<&Operation> {
        self.memory.operations.get(slot)
    }

    fn cell(&self, handle: Handle) -> Option<()> {
        (handle == self::handle()).then_some(())
    }

    fn word<'a>(&'a self, (): &'a ()) -> &'a AtomicU64 {
        &self.memory.word
    }

    fn entry(&self, at: u64) -> Option<&AtomicU64> {
        self.memory.entries.get(at as usize / 8)
    }

    fn is_object(&self, (): &()) -> bool {
        true
    }

    fn end_of(&self, (): &()) -> CellState {
        if self.needed {
            CellState::Deferred { upto: 1 }
        } else {
            CellState::Dying(Owner::from_bits(1 << 15).expect("a generation"))
        }
    }
}

impl Model {
    /// An object with one reference, recorded in entry 0. If it is `needed`, it may come back to life after its last
    /// reference is gone.
    pub fn new(needed: bool) -> Self {
        let memory: Arc<Memory> = zeroed();
        memory.entries[0].store(handle().to_bits(), SeqCst);
        let state = CellState::Object {
            mark: Mark::default(),
            refs: 1,
        };
        memory.word.store(OwnerWord { generation: 5, state }.encode(), SeqCst);
        Self { memory, needed }
    }

    fn entry_at(&self, entry: usize) -> (u64, &AtomicU64) {
        (entry as u64 * 8, &self.memory.entries[entry])
    }

    pub fn acquire(&self, slot: usize, entry: usize) -> bool {
        acquire(self, slot, &(), handle(), self.entry_at(entry)).is_ok()
    }

    pub fn acquire_if_possible(&self, slot: usize, entry: usize) {
        self.acquire(slot, entry);
    }

    pub fn release(&self, slot: usize, entry: usize) {
        release(self, slot, handle(), self.entry_at(entry));
    }

    /// Another object's handle appears in an entry, if the entry is free.
    pub fn occupy(&self, entry: usize) {
        let _ = self.memory.entries[entry].compare_exchange(0, 7, SeqCst, SeqCst);
    }

    /// What the reaper of the process in a slot does with its entry.
    pub fn reap(&self, slot: usize, entry: usize) {
        resolve(self, slot);
        if self.memory.entries[entry].load(SeqCst) == handle().to_bits() {
            self.release(slot, entry);
        }
    }

    /// Check that count and entries agree, and that the object is not in the middle of a change.
    pub fn check_counts(&self) {
        let held = |entry: &&AtomicU64| entry.load(SeqCst) == handle().to_bits();
        let entries = self.memory.entries.iter().filter(held).count() as u32;
        match OwnerWord::decode(self.memory.word.load(SeqCst)).state {
            CellState::Object { refs, .. } => {
                assert!(refs == entries && refs > 0, "{refs} references, {entries} entries");
            }
            CellState::Deferred { .. } | CellState::Dying(_) => assert_eq!(entries, 0),
            other => panic!("{other:?}"),
        }
    }
}
