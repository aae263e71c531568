//! Blocks: memory for one payload, owned by one process at a time.
//!
//! A block may begin with references: words that each count as one. They belong to the process that owns the block, and
//! to the message in transit.

use super::current::here;
use super::reference_log::epoch;
use super::slab::Cell;
use super::word::{CellState, OwnerWord, Receiver, MAX_REFERENCES};
use super::Arena;
use crate::ids::{Handle, Kind, Owner, GENERATION};
use crate::{Error, Result};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Memory of the arena that this process owns alone. It is given back when dropped, but not by a child of fork that
/// inherited it.
#[derive(Debug)]
pub struct Block {
    ptr: *mut u8,
    len: usize,
    token: Token,
    /// The birth counter when the block was allocated or taken: a process that was forked since may read it.
    birth: u64,
    /// The process that owns the block. A child of fork inherits the value, but not the ownership.
    epoch: u32,
    /// How many references the block begins with.
    references: usize,
}

// SAFETY: a block's owner has its memory alone; `&self` only reads it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// A block in transit, as a message stores it. The process that takes the message turns it into a [`Block`] again.
/// Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(crate) u64);

impl Token {
    /// The token as a number, to be sent.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// A token from a number that was sent; it is validated on use.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl Block {
    /// Allocate `len` bytes: committed, of unspecified content, aligned to 64.
    pub fn alloc(len: usize) -> Result<Self> {
        let (arena, me) = here()?;
        let birth = arena.births();
        let (cell, word) = Cell::alloc(arena, len, birth, me)?;
        Ok(Self {
            ptr: cell.ptr,
            len,
            token: cell.token(word.generation),
            birth,
            epoch: epoch(),
            references: 0,
        })
    }

    /// Make the block begin with references to these objects, 8 bytes each. They go with the block, when it is sent as
    /// well as when it is dropped.
    pub(crate) fn refer(&mut self, handles: &[Handle]) -> Result<()> {
        let (arena, me) = here()?;
        let (cell, _) = Cell::find(arena, self.token).ok_or(Error::Stale("block"))?;
        let count = u32::try_from(handles.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(());
        }
        if count > MAX_REFERENCES || self.len / 8 < handles.len() {
            return Err(Error::Corrupt("a message with more references than it can have"));
        }
        self.as_mut_slice()[..handles.len() * 8].fill(0);
        // SYNC: releases the zeros, also to a reaper.
        // DEATH: from here on a survivor looks for references in the block.
        cell.set_references(count);
        self.references = handles.len();
        for (&handle, entry) in handles.iter().zip(cell.references()) {
            let cell = arena.cell_of(handle);
            if !cell.is_some_and(|cell| arena.acquire(me, &cell, handle, entry)) {
                return Err(Error::Stale("object in this message"));
            }
        }
        Ok(())
    }

    /// How many references the block begins with.
    pub(crate) fn references(&self) -> usize {
        self.references
    }

    /// The handles of the objects that the block's references refer to.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        let cell = self.cell().filter(|_| self.references != 0);
        let entries = cell.map_or(&[][..], |(cell, _)| cell.references());
        let handles = entries.iter().map(|entry| Handle::from_bits(entry.load(Relaxed)));
        handles.take(self.references).flatten().collect()
    }

    /// Record the kind of its content. Its `destroy` is to run if this process dies while it owns the block.
    pub(crate) fn set_kind(&mut self, kind: Kind) {
        if let Some((cell, _)) = self.cell() {
            cell.set_kind(kind);
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `len` committed bytes that only this block's owner uses.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The bytes, for writing.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }

    /// Start of the bytes. It stays the same for the life of the block.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr
    }

    /// Number of bytes asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The token that this block has in transit. Ownership stays here until [`Block::send`].
    pub fn token(&self) -> Token {
        self.token
    }

    /// Hand the block to the message that holds its token: this process no longer owns it, and does not free it. A
    /// process that inherited the block through fork cannot send it: the token stays stale.
    pub fn send(self) -> Token {
        self.leave(CellState::Transit)
    }

    /// As [`send`](Self::send), but the block is given back if `receiver` dies before the block is taken.
    pub(crate) fn send_to(self, receiver: Receiver) -> Token {
        self.leave(CellState::Awaited(receiver))
    }

    /// Change the receiver of what was sent with [`send_to`](Self::send_to). Fails if the token is stale or the block was
    /// taken already.
    pub(crate) fn redirect(token: Token, receiver: Receiver) -> Result<()> {
        while let Some((cell, waiting)) = in_transit(token) {
            if replace(&cell, waiting, waiting.with(CellState::Awaited(receiver))) {
                return Ok(());
            }
        }
        Err(Error::Stale("block"))
    }

    fn leave(self, state: CellState) -> Token {
        let token = self.token;
        if let (Some((cell, owned)), Ok((arena, _))) = (self.cell(), here()) {
            let is_awaited = matches!(state, CellState::Awaited(_));
            if is_awaited {
                arena.mark(cell.index / 64);
            }
            // SYNC: releases the content to the process that takes it. Fails only for a block that this process
            // inherited and does not own.
            let _ = replace(&cell, owned, owned.with(state));
            if is_awaited {
                arena.mark(cell.index / 64);
            }
        }
        std::mem::forget(self);
        token
    }

    /// Take a block out of transit. Fails if the token is stale or the block was taken already.
    pub fn take(token: Token, len: usize) -> Result<Self> {
        let (arena, me) = here()?;
        let stale = || Error::Stale("block");
        let (cell, transit, owned, birth) = loop {
            let (cell, transit) = in_transit(token).ok_or_else(stale)?;
            // Before the block is ours: without address space it stays where it is.
            let reach = len.min(cell.capacity()).max(cell.references().len() * 8);
            arena.reach_cell(&cell, reach)?;
            let (birth, owned) = (arena.births(), transit.with(CellState::Owned(me)));
            arena.add_to_footprint(cell.index / 64, me);
            // A failure may only mean that the block has another receiver now.
            if replace(&cell, transit, owned) {
                break (cell, transit, owned, birth);
            }
        };
        if len > cell.capacity() {
            let _ = replace(&cell, owned, transit);
            return Err(Error::Corrupt("length of a block"));
        }
        // DEATH: before this store the birth is an older one, and the block may stay deferred for longer than
        // necessary.
        cell.renew_birth(birth);
        Ok(Self {
            ptr: cell.ptr,
            len,
            token,
            birth,
            epoch: epoch(),
            references: cell.references().len(),
        })
    }

    /// Address of a block in transit, for a process that learned its token as that of shared memory. Valid until the
    /// block is taken or discarded.
    pub(crate) fn peek(token: Token, len: usize) -> Result<*mut u8> {
        let (cell, _) = in_transit(token).ok_or(Error::Stale("block"))?;
        if len > cell.capacity() {
            return Err(Error::Corrupt("length of a block"));
        }
        here()?.0.reach_cell(&cell, len)?;
        Ok(cell.ptr)
    }

    /// Free a block in transit when its message is discarded. A stale token does nothing.
    pub fn discard(token: Token) {
        let Ok((arena, me)) = here() else { return };
        while let Some((cell, transit)) = in_transit(token) {
            if !cell.references().is_empty() {
                // Only an owner releases references.
                drop(Self::take(token, 0));
                return;
            }
            arena.add_to_footprint(cell.index / 64, me);
            // A failure may only mean that the block has another receiver now.
            if arena.free_cell(&cell, transit) {
                return;
            }
        }
    }

    /// Release the references that the block begins with.
    fn release_references(&self, arena: &Arena, cell: &Cell, me: Owner) {
        for entry in cell.references().iter().take(self.references) {
            if let Some(handle) = Handle::from_bits(entry.load(Acquire)) {
                arena.end(arena.release(me, handle, entry));
            }
        }
        cell.set_references(0);
    }

    /// The block's cell, and its word while this process owns it.
    fn cell(&self) -> Option<(Cell, OwnerWord)> {
        let (arena, me) = here().ok()?;
        let (cell, generation) = Cell::find(arena, self.token)?;
        Some((
            cell,
            OwnerWord {
                generation,
                state: CellState::Owned(me),
            },
        ))
    }
}

/// Change a cell's word, if it still is `from`. Returns whether it was.
fn replace(cell: &Cell, from: OwnerWord, to: OwnerWord) -> bool {
    cell.word
        .compare_exchange(from.encode(), to.encode(), AcqRel, Relaxed)
        .is_ok()
}

/// The cell that a token names, and its word, if it is in transit.
fn in_transit(token: Token) -> Option<(Cell, OwnerWord)> {
    let (cell, generation) = Cell::find(here().ok()?.0, token)?;
    let bits = cell.word.load(Acquire);
    let word = OwnerWord::decode(bits);
    // A word with bits that its state does not use is damaged: the compare-and-swap would never succeed.
    let is_sent = matches!(word.state, CellState::Transit | CellState::Awaited(_)) && word.encode() == bits;
    (is_sent && word.generation == generation & GENERATION).then_some((cell, word))
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.epoch != epoch() {
            return;
        }
        if let (Ok((arena, me)), Some((cell, owned))) = (here(), self.cell()) {
            if self.references != 0 {
                self.release_references(arena, &cell, me);
            }
            arena.give_back(&cell, owned, self.birth);
        }
    }
}
