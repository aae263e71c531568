//! Nodes around the engine's own files for the shared dictionary and the shared list. A segment has four words, and its cell is used again at
//! once, so that stale tokens and words occur.
//!
//! Cells of other nodes are used once. Their words never change once another thread can read them, so they are no events.

use crate::ids::Handle;
use crate::words::adopt;
use crate::Result;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::Arc;

/// A token of a cell and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub u64);

/// # Safety
/// None is needed here: no memory is shared with another process.
pub unsafe trait Object: Sync + Sized + 'static {
    const KIND: crate::ids::Kind;
    const NAME: &'static str;
    fn destroy(&self) {}
}

/// Only survivors look for a node's dictionary or list.
pub fn look_up<T>(_handle: Handle) -> Result<Option<&'static T>> {
    unimplemented!("no process dies")
}

/// A dictionary or a list. It ends when a model destroys it.
#[derive(Debug)]
pub struct Ref<T>(Arc<T>);

impl<T> Ref<T> {
    /// Zero-filled, of which the first words are shared by all threads. The others are hints: each thread has its own.
    pub fn with_shared(bytes: usize) -> Self {
        let mut memory = Arc::<MaybeUninit<T>>::new(MaybeUninit::zeroed());
        let slot = Arc::get_mut(&mut memory).expect("not shared yet");
        adopt(slot.as_mut_ptr().cast(), bytes);
        // SAFETY: models ask only for types for which zeros are valid.
        Self(unsafe { Arc::from_raw(Arc::into_raw(memory).cast()) })
    }
}

impl<T> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

pub mod node {
    use super::Token;
    use crate::futex::{AtomicU64, Ordering::*};
    use crate::ids::{Kind, Owner, GENERATION_BITS};
    use crate::liveness::me;
    use crate::words::zeroed;
    use crate::Result;
    use std::sync::atomic::{AtomicU64 as Plain, AtomicUsize};
    use std::sync::{Arc, Mutex};

    pub const TOKEN_BITS: u32 = 53;
    pub const SEGMENT_WORDS: usize = 4;
    pub const TREE_WIDTH: usize = 2;

    /// Every other one is a segment's.
    const CELLS: usize = 32;
    const WORDS: usize = 32;
    /// A cell's state: generation, kind, process that owns it (0: its structure does), whether it is in use.
    const IN_USE: u64 = 1;
    const OWNER: u64 = 0xff << 8;

    type Segment = [AtomicU64; SEGMENT_WORDS];

    struct Memory {
        states: Arc<[AtomicU64; CELLS]>,
        segments: Arc<[Segment; CELLS]>,
        words: Vec<[Plain; WORDS]>,
        free: Mutex<Vec<usize>>,
        in_use: AtomicUsize,
        /// Every change of the allocator sees what was done before the previous one.
        order: Arc<AtomicU64>,
    }

    loom::lazy_static! {
        static ref MEMORY: Memory = Memory {
            states: zeroed(),
            segments: zeroed(),
            words: (0..CELLS).map(|_| [const { Plain::new(0) }; WORDS]).collect(),
            // Segments lie in cells of their own, as in the engine.
            free: Mutex::new((0..CELLS).rev().collect()),
            in_use: AtomicUsize::new(0),
            order: zeroed(),
        };
    }

    /// Must be called once before other threads exist.
    pub fn prepare() {
        assert_eq!(in_use(), 0);
    }

    /// The number of cells that were not given back.
    pub fn in_use() -> usize {
        MEMORY.in_use.load(Relaxed)
    }

    #[derive(Clone, Copy)]
    pub struct Node {
        cell: usize,
        generation: u32,
        kind: Kind,
    }

    fn is_segment_cell(cell: usize) -> bool {
        cell % 2 == 1
    }

    impl Node {
        pub fn alloc(words: usize, kind: Kind) -> Result<Self> {
            assert!(words <= WORDS);
            MEMORY.order.fetch_add(1, AcqRel);
            MEMORY.in_use.fetch_add(1, Relaxed);
            let cell = {
                let mut free = MEMORY.free.lock().unwrap();
                let fits = |&cell: &usize| is_segment_cell(cell) == (kind == Kind::DictSegment);
                let at = free.iter().rposition(fits).expect("cells enough");
                free.remove(at)
            };
            let generation = MEMORY.states[cell].load(Acquire) >> 32;
            let owner = u64::from(me()?.to_bits() & 0xff);
            let state = generation << 32 | (kind as u64) << 16 | owner << 8 | IN_USE;
            MEMORY.states[cell].store(state, Release);
            Ok(Self {
                cell,
                generation: generation as u32,
                kind,
            })
        }

        pub fn alloc_segment() -> Result<Self> {
            Self::alloc(SEGMENT_WORDS, Kind::DictSegment)
        }

        pub fn find(token: Token, kind: Kind) -> Result<Option<Self>> {
            let Some(cell) = ((token.0 >> GENERATION_BITS) as usize).checked_sub(1) else {
                return Ok(None);
            };
            let generation = (token.0 & ((1 << GENERATION_BITS) - 1)) as u32;
            let node = Self { cell, generation, kind };
            assert!(cell < CELLS, "a token of no cell");
            Ok(node.is_in_use().then_some(node))
        }

        pub fn token(&self) -> Token {
            Token((self.cell as u64 + 1) << GENERATION_BITS | u64::from(self.generation))
        }

        pub fn len(&self) -> usize {
            WORDS
        }

        pub fn load(&self, index: usize) -> Option<u64> {
            MEMORY.words[self.cell].get(index).map(|word| word.load(Relaxed))
        }

        pub fn read(&self, start: usize, to: &mut [u64]) -> bool {
            (start..).zip(to).all(|(index, to)| match self.load(index) {
                Some(word) => {
                    *to = word;
                    true
                }
                None => false,
            })
        }

        pub fn store(&self, index: usize, word: u64) {
            MEMORY.words[self.cell][index].store(word, Relaxed);
        }

        pub fn write(&self, start: usize, from: &[u64]) {
            (start..).zip(from).for_each(|(index, &word)| self.store(index, word));
        }

        pub fn store_last(&self, index: usize, word: u64) {
            self.store(index, word);
        }

        pub fn generation(&self) -> u32 {
            self.generation
        }

        pub fn segment(&self) -> Option<&'static [AtomicU64]> {
            let words: &Segment = &MEMORY.segments[self.cell];
            // SAFETY: a model ends before its memory.
            is_segment_cell(self.cell).then(|| unsafe { std::slice::from_raw_parts(words.as_ptr(), SEGMENT_WORDS) })
        }

        /// The state, if it is that of this node.
        fn state(&self) -> Option<u64> {
            let state = MEMORY.states[self.cell].load(Acquire);
            let mine = u64::from(self.generation) << 32 | (self.kind as u64) << 16 | IN_USE;
            (state & !OWNER == mine).then_some(state)
        }

        pub fn is_in_use(&self) -> bool {
            self.state().is_some()
        }

        pub fn is_owned(&self) -> bool {
            self.state().is_some_and(|state| state & OWNER != 0)
        }

        pub fn is_owned_by(&self, owner: Owner) -> bool {
            self.state()
                .is_some_and(|state| state >> 8 & 0xff == u64::from(owner.to_bits() & 0xff))
        }

        pub fn hand_over(&self) {
            while let Some(state) = self.state().filter(|state| state & OWNER != 0) {
                let _ = MEMORY.states[self.cell].compare_exchange(state, state & !OWNER, AcqRel, Relaxed);
            }
        }

        pub fn free(&self) {
            while let Some(state) = self.state() {
                let next = (u64::from(self.generation) + 1) << 32;
                if MEMORY.states[self.cell]
                    .compare_exchange(state, next, AcqRel, Relaxed)
                    .is_ok()
                {
                    MEMORY.in_use.fetch_sub(1, Relaxed);
                    if is_segment_cell(self.cell) {
                        MEMORY.order.fetch_add(1, AcqRel);
                        MEMORY.free.lock().unwrap().push(self.cell);
                    }
                }
            }
        }
    }

    pub fn free(token: Token, kind: Kind) {
        if let Ok(Some(node)) = Node::find(token, kind) {
            node.free();
        }
    }
}
