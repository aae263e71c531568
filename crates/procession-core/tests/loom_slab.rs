//! The allocator's cells (owner words, hints, partial slabs, what is committed), compiled from the engine's own files,
//! under every order of their atomic operations that the memory model allows.
//!
//! No cell belongs to two processes, what a process has allocated is committed, and without a death no cell is lost:
//! every cell that is free at the end is found again.

#![allow(dead_code, missing_docs, unused_imports)] // a model uses only part of each file
#![allow(clippy::unnecessary_wraps, clippy::unused_self)] // a model keeps the signatures of what it replaces

#[macro_use]
#[path = "model/derived.rs"]
mod derived;
#[path = "model/arena.rs"]
mod arena;
#[path = "../src/ids/mod.rs"]
mod ids;
pub mod cells {}
#[path = "model/loom_futex.rs"]
mod futex;
#[path = "model/liveness.rs"]
mod liveness;
#[path = "model/slab.rs"]
mod memory;
#[path = "model/loom_words.rs"]
mod words;

mod sys {
    pub mod atomic {
        pub use crate::futex::{AtomicU32, AtomicU64, Ordering};
    }
}

pub use procession_core::{Error, Result};

use futex::Ordering::Relaxed;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use memory::slab::Cell;
use memory::word::{CellState, OwnerWord};
use memory::Arena;
use words::check;

/// Small cells, eight to a slab.
const CLASS: usize = 17;
const CELLS: usize = 8;

/// An arena and the contents of its cells; loom tracks which thread wrote each content and when.
struct Counted {
    arena: Arena,
    content: Vec<UnsafeCell<u32>>,
}

type Owned = (Cell, OwnerWord);

impl Counted {
    fn new() -> Self {
        Self {
            arena: Arena::new(),
            content: (0..2 * CELLS).map(|_| UnsafeCell::new(0)).collect(),
        }
    }

    /// Allocate a cell and write to it.
    fn alloc(&self) -> Owned {
        let owned = self
            .arena
            .alloc_cell(CLASS, 1, liveness::me().unwrap())
            .expect("there is room");
        assert!(self.arena.is_committed(&owned.0), "not committed");
        let at = owned.0.index as usize / 64 * CELLS + owned.0.index as usize % 64;
        // SAFETY: the cell is ours alone; this is what loom checks here.
        self.content[at].with_mut(|content| unsafe { *content += 1 });
        owned
    }

    fn free(&self, (cell, word): Owned) {
        assert!(self.arena.is_committed(&cell), "given back while in use");
        assert!(self.arena.free_cell(&cell, word));
    }

    /// Give back what is committed of a slab, if no process uses it.
    fn trim(&self, slab: u32) {
        if let Some(slab) = self.arena.slab(slab) {
            self.arena
                .trim_slab(&slab, liveness::me().unwrap())
                .expect("no failure");
        }
    }

    fn fill(&self, cells: usize) -> Vec<Owned> {
        (0..cells).map(|_| self.alloc()).collect()
    }

    /// Make a slab with two cells, both free and committed. All generations of the other cells are used up, so that a
    /// trim takes few steps.
    fn with_two_cells() -> Arc<Self> {
        let memory = Self::new();
        for (cell, word) in memory.fill(CELLS).drain(2..) {
            cell.word.store(word.with(CellState::Spent).encode(), Relaxed);
        }
        for number in 0..2 {
            let cell = memory.arena.cell(number).expect("filled above");
            let word = OwnerWord::decode(cell.word.load(Relaxed));
            memory.free((cell, word));
        }
        Arc::new(memory)
    }

    /// Check that all free cells of `slabs` slabs are found, without another slab. `used` cells are in use.
    fn has_lost_nothing(&self, slabs: u32, used: usize) {
        let owned = self.fill(slabs as usize * CELLS - used);
        assert_eq!(self.arena.slab_count(), slabs, "a free cell was not found");
        let mut cells: Vec<_> = owned.iter().map(|(cell, _)| cell.index).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), owned.len());
    }
}

fn process<T: 'static>(memory: &Arc<Counted>, body: impl FnOnce(&Counted) -> T + 'static) -> thread::JoinHandle<T> {
    let memory = memory.clone();
    thread::spawn(move || body(&memory))
}

#[test]
fn two_processes_that_allocate_get_different_cells() {
    check(2, || {
        let memory = Arc::new(Counted::new());
        let first = memory.alloc();
        let other = process(&memory, Counted::alloc);
        let mine = memory.alloc();
        let others = other.join().unwrap();
        let cells = [first.0.index, mine.0.index, others.0.index];
        assert!(cells[0] != cells[1] && cells[0] != cells[2] && cells[1] != cells[2]);
        memory.has_lost_nothing(1, 3);
    });
}

#[test]
fn two_processes_that_need_a_slab_make_one() {
    check(2, || {
        let memory = Arc::new(Counted::new());
        let other = process(&memory, Counted::alloc);
        let mine = memory.alloc();
        assert_ne!(mine.0.index, other.join().unwrap().0.index);
        memory.has_lost_nothing(1, 2);
    });
}

#[test]
fn a_cell_freed_while_the_slab_is_found_full_is_found_again() {
    check(2, || {
        let memory = Arc::new(Counted::new());
        let mut owned = memory.fill(CELLS);
        let given = owned.pop().expect("eight");
        let other = process(&memory, move |memory| memory.free(given));
        // This finds the freed cell, or one of another slab.
        memory.alloc();
        other.join().unwrap();
        let slabs = memory.arena.slab_count();
        memory.has_lost_nothing(slabs, CELLS);
    });
}

#[test]
fn two_processes_that_allocate_and_free_lose_no_cell() {
    check(2, || {
        let memory = Arc::new(Counted::new());
        memory.fill(CELLS - 1);
        let turn = |memory: &Counted| {
            let owned = memory.alloc();
            memory.free(owned);
        };
        let other = process(&memory, turn);
        turn(&memory);
        other.join().unwrap();
        let slabs = memory.arena.slab_count();
        memory.has_lost_nothing(slabs, CELLS - 1);
    });
}

#[test]
fn a_reclaimer_that_heals_hints_frees_no_cell_in_use() {
    check(1, || {
        let memory = Arc::new(Counted::new());
        let mut owned = memory.fill(CELLS);
        let given = owned.pop().expect("eight");
        let other = process(&memory, move |memory| memory.free(given));
        let healer = process(&memory, |memory| memory.arena.heal_hints(0));
        memory.alloc();
        other.join().unwrap();
        healer.join().unwrap();
        let slabs = memory.arena.slab_count();
        memory.has_lost_nothing(slabs, CELLS);
    });
}

#[test]
fn a_process_that_allocates_beside_a_trim_has_committed_memory() {
    check(1, || {
        let memory = Arc::new(Counted::new());
        let owned = memory.alloc();
        memory.free(owned);
        let trimmer = process(&memory, |memory| memory.trim(0));
        let owned = memory.alloc();
        memory.free(owned);
        trimmer.join().unwrap();
        let slabs = memory.arena.slab_count();
        memory.has_lost_nothing(slabs, 0);
    });
}

#[test]
fn two_processes_that_allocate_what_was_given_back_commit_it() {
    check(1, || {
        let memory = Counted::with_two_cells();
        memory.trim(0);
        let turn = |memory: &Counted| {
            let owned = memory.alloc();
            memory.free(owned);
            memory.trim(0);
        };
        let other = process(&memory, turn);
        turn(&memory);
        other.join().unwrap();
        let slabs = memory.arena.slab_count();
        memory.has_lost_nothing(slabs, CELLS - 2);
    });
}

#[test]
fn two_processes_that_trim_lose_no_cell() {
    check(1, || {
        let memory = Counted::with_two_cells();
        let other = process(&memory, |memory| memory.trim(0));
        memory.trim(0);
        other.join().unwrap();
        memory.has_lost_nothing(1, CELLS - 2);
    });
}
