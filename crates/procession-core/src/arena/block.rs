//! Blocks: memory for one payload, owned by one process at a time.
//!
//! A block may begin with references: words that each count as one. While a process owns the block they are entries of its holdings; in
//! transit they are the message's.

use super::holdings::epoch;
use super::slab::Cell;
use super::word::{Receiver, State, Word, GENERATION, MAX_REFERENCES};
use super::{Arena, Handle, Kind};
use crate::roll::Owner;
use crate::{family, Error, Result};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Memory of the arena that this process owns alone. Given back when dropped (not by a child of fork that inherited it).
#[derive(Debug)]
pub struct Block {
    ptr: *mut u8,
    len: usize,
    token: Token,
    /// The birth counter when the block was allocated or taken: who was forked since may look at it.
    birth: u64,
    /// The process that owns it: a child of fork has inherited it, and does not.
    epoch: u32,
    /// With how many references it begins.
    references: usize,
}

// SAFETY: a block is memory that its owner has alone; `&self` only reads it.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// A block in transit: what a message stores. Whoever takes the message turns it into a [`Block`] again. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub(crate) u64);

impl Token {
    /// The token as a number, to be sent.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// A token from a number that was sent; validated when it is used.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl Block {
    /// `len` bytes, committed, of unspecified content, aligned to 64.
    pub fn alloc(len: usize) -> Result<Self> {
        let family = family()?;
        let birth = family.arena().births();
        let (cell, word) = Cell::alloc(family.arena(), len, birth, family.me())?;
        Ok(Self {
            ptr: cell.ptr,
            len,
            token: cell.token(word.generation),
            birth,
            epoch: epoch(),
            references: 0,
        })
    }

    /// Have the block begin with references to these objects, which takes 8 bytes each; they go with it, when it is sent as well as when it is dropped.
    pub(crate) fn refer(&mut self, handles: &[Handle]) -> Result<()> {
        let family = family()?;
        let (arena, me) = (family.arena(), family.me());
        let (cell, _) = Cell::find(arena, self.token).ok_or(Error::Stale("block"))?;
        let count = u32::try_from(handles.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Ok(());
        }
        if count > MAX_REFERENCES || self.len / 8 < handles.len() {
            return Err(Error::Corrupt("a message of more parts than a message can have"));
        }
        self.as_mut_slice()[..handles.len() * 8].fill(0);
        // SYNC: releases the zeros, also to whoever looks after a death.
        // DEATH: from here on a survivor looks for references in the block.
        cell.set_references(count);
        self.references = handles.len();
        for (&handle, entry) in handles.iter().zip(cell.references()) {
            let cell = arena.cell_of(handle);
            if !cell.is_some_and(|cell| arena.enter(me, &cell, handle, entry)) {
                return Err(Error::Stale("object in this message"));
            }
        }
        Ok(())
    }

    /// With how many references it begins.
    pub(crate) fn references(&self) -> usize {
        self.references
    }

    /// What the references that the block begins with are to.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        let cell = self.cell().filter(|_| self.references != 0);
        let entries = cell.map_or(&[][..], |(cell, _)| cell.references());
        let handles = entries.iter().map(|entry| Handle::from_bits(entry.load(Relaxed)));
        handles.take(self.references).flatten().collect()
    }

    /// Say what is in it, for its `destroy` to be run if this process dies while it owns the block.
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

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }

    /// Start of the bytes; stays put for the life of the block.
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

    /// The token this block has in transit; ownership stays here until [`Block::send`].
    pub fn token(&self) -> Token {
        self.token
    }

    /// Hand the block to the message that holds its token: this process no longer owns it, and will not free it.
    /// A block that was inherited through fork is not this process's to send: its token stays stale.
    pub fn send(self) -> Token {
        self.leave(State::Transit)
    }

    /// As [`send`](Self::send), to be given back when `receiver` dies and nobody has taken it.
    pub(crate) fn send_to(self, receiver: Receiver) -> Token {
        self.leave(State::Awaited(receiver))
    }

    /// Somebody else is to take what was sent with [`send_to`](Self::send_to), if nobody has yet.
    pub(crate) fn redirect(token: Token, receiver: Receiver) {
        while let Some((cell, waiting)) = in_transit(token) {
            if replace(&cell, waiting, waiting.with(State::Awaited(receiver))) {
                return;
            }
        }
    }

    fn leave(self, state: State) -> Token {
        let token = self.token;
        if let (Some((cell, owned)), Ok(family)) = (self.cell(), family()) {
            let is_awaited = matches!(state, State::Awaited(_));
            if is_awaited {
                family.arena().mark(cell.index / 64);
            }
            // SYNC: releases the content to whoever takes it. Fails only for a block that this process inherited and does not own.
            let _ = replace(&cell, owned, owned.with(state));
            if is_awaited {
                family.arena().mark(cell.index / 64);
            }
        }
        std::mem::forget(self);
        token
    }

    /// Take a block out of transit. Fails when the token is stale or was taken by someone else.
    pub fn take(token: Token, len: usize) -> Result<Self> {
        let family = family()?;
        let (arena, me) = (family.arena(), family.me());
        let stale = || Error::Stale("block");
        let (cell, transit, owned, birth) = loop {
            let (cell, transit) = in_transit(token).ok_or_else(stale)?;
            // Before it is ours: without address space it stays where it is.
            let reach = len.min(cell.capacity()).max(cell.references().len() * 8);
            arena.reach_cell(&cell, reach)?;
            let (birth, owned) = (arena.births(), transit.with(State::Owned(me)));
            arena.tread(cell.index / 64, me);
            // A failure may only mean that the block waits for another receiver now.
            if replace(&cell, transit, owned) {
                break (cell, transit, owned, birth);
            }
        };
        if len > cell.capacity() {
            let _ = replace(&cell, owned, transit);
            return Err(Error::Corrupt("length of a block"));
        }
        // DEATH: before this the birth is an older one: the block may stay in limbo for longer than it need.
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

    /// Where a block in transit lies, for whoever its token was made known to as shared memory. Valid until it is taken or discarded.
    pub(crate) fn peek(token: Token, len: usize) -> Result<*mut u8> {
        let (cell, _) = in_transit(token).ok_or(Error::Stale("block"))?;
        if len > cell.capacity() {
            return Err(Error::Corrupt("length of a block"));
        }
        family()?.arena().reach_cell(&cell, len)?;
        Ok(cell.ptr)
    }

    /// Free a block in transit whose message is thrown away. A stale token does nothing.
    pub fn discard(token: Token) {
        let Ok(family) = family() else { return };
        while let Some((cell, transit)) = in_transit(token) {
            if !cell.references().is_empty() {
                // Only an owner strikes out references.
                drop(Self::take(token, 0));
                return;
            }
            family.arena().tread(cell.index / 64, family.me());
            // A failure may only mean that the block waits for another receiver now.
            if family.arena().free_cell(&cell, transit) {
                return;
            }
        }
    }

    /// Strike out the references that it begins with.
    fn strike_out(&self, arena: &Arena, cell: &Cell, me: Owner) {
        for entry in cell.references().iter().take(self.references) {
            let handle = Handle::from_bits(entry.load(Acquire));
            if let Some((cell, word)) = handle.and_then(|handle| arena.strike(me, handle, entry)) {
                arena.bury(&cell, word);
            }
        }
        cell.set_references(0);
    }

    /// Where it lies, and what its word says while we own it.
    fn cell(&self) -> Option<(Cell, Word)> {
        let family = family().ok()?;
        let (cell, generation) = Cell::find(family.arena(), self.token)?;
        Some((
            cell,
            Word {
                generation,
                state: State::Owned(family.me()),
            },
        ))
    }
}

/// Change the word of a cell from one state to another.
fn replace(cell: &Cell, from: Word, to: Word) -> bool {
    cell.word
        .compare_exchange(from.encode(), to.encode(), AcqRel, Relaxed)
        .is_ok()
}

/// What a token names, if that is in transit.
fn in_transit(token: Token) -> Option<(Cell, Word)> {
    let (cell, generation) = Cell::find(family().ok()?.arena(), token)?;
    let bits = cell.word.load(Acquire);
    let word = Word::decode(bits);
    // A word that says more than its state means was damaged, and would never be as expected.
    let is_sent = matches!(word.state, State::Transit | State::Awaited(_)) && word.encode() == bits;
    (is_sent && word.generation == generation & GENERATION).then_some((cell, word))
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.epoch != epoch() {
            return;
        }
        if let (Ok(family), Some((cell, owned))) = (family(), self.cell()) {
            if self.references != 0 {
                self.strike_out(family.arena(), &cell, family.me());
            }
            family.arena().give_back(&cell, owned, self.birth);
        }
    }
}
