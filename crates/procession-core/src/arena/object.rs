//! Reference-counted objects in the arena, with their types. Leaves to `count` what happens when the last reference
//! goes.

use super::class::{class_of, LARGEST_SMALL};
use super::current::here;
use super::label::{Label, MOST};
use super::reference_log::{epoch, held};
use super::slab::Cell;
use super::word::{CellNote, CellState, Mark, OwnerWord};
use crate::ids::Handle;
use crate::ids::Kind;
use crate::{Error, Result};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// The shared state of an object: only atomics (and bytes guarded by them), no pointers.
///
/// # Safety
/// All-zero bytes must be a valid value, every field must tolerate any value another process may write,
/// the size must not exceed 32 KiB, the alignment 64.
pub unsafe trait Object: Sync + Sized + 'static {
    /// The kind of this type.
    const KIND: Kind;
    /// The name of this type in errors.
    const NAME: &'static str;
    /// Release what the object refers to. Runs when the last reference is gone and no process can see the object any
    /// more. If the process that runs it dies, a survivor runs it again: each step must be harmless when repeated. It
    /// must not create, attach or drop a [`Ref`].
    fn destroy(&self) {}
}

/// A counted reference to an object. Clone retains, drop releases.
pub struct Ref<T: Object> {
    handle: Handle,
    ptr: *const T,
    /// The process that counts the reference. In a child of fork it is an inherited one, which counts nothing.
    epoch: u32,
    marker: PhantomData<T>,
}

// SAFETY: T is Sync and lives in memory shared by processes anyway; a Ref may be dropped by any thread.
unsafe impl<T: Object> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Object> Sync for Ref<T> {}

impl<T: Object> std::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref<{}>({:#x})", T::NAME, self.handle.0)
    }
}

impl<T: Object> Ref<T> {
    /// Create a zero-filled object.
    pub fn create() -> Result<Self> {
        Self::labelled(Label::default())
    }

    /// Create a zero-filled object with this label.
    pub fn labelled(label: Label<'_>) -> Result<Self> {
        const { assert!(size_of::<T>() + MOST <= LARGEST_SMALL && align_of::<T>() <= 64) };
        let (arena, me) = here()?;
        let parts = label.parts();
        let length = size_of::<T>() + parts.bytes();
        let class = class_of(length).ok_or(Error::Corrupt("object size"))?;
        let (cell, owned) = arena.alloc_cell(class, length, me)?;
        // SAFETY: the cell is ours alone, and at least as large as T.
        unsafe { cell.ptr.write_bytes(0, size_of::<T>()) };
        cell.write_note(arena.births() as u32, T::KIND as u8);
        if parts.bytes() != 0 {
            if let Err(error) = cell.write_label(arena, label) {
                arena.free_cell(&cell, owned);
                return Err(error);
            }
        }
        let handle = Handle::new(cell.index, owned.generation);
        let mut held = held();
        let entry = match held.reserve(arena, me) {
            Ok(entry) => entry,
            Err(error) => {
                arena.free_cell(&cell, owned);
                return Err(error);
            }
        };
        // DEATH: an entry for a cell that is no object means nothing; the cell is an ordinary one of this process.
        entry.store(handle.0, Release);
        // SYNC: releases the zeros to every process that attaches.
        let mark = Mark::default();
        cell.word
            .store(owned.with(CellState::Object { mark, refs: 1 }).encode(), Release);
        held.entered(handle, entry);
        drop(held);
        Ok(Self::over(handle, &cell))
    }

    /// Take a reference to the object behind a handle. Checks the range of the family's cells, the generation and the
    /// kind.
    pub fn attach(handle: Handle) -> Result<Self> {
        let (arena, me) = here()?;
        let stale = || Error::Stale(T::NAME);
        let cell = arena.cell_of(handle).ok_or_else(stale)?;
        if cell.size < size_of::<T>() {
            return Err(stale());
        }
        arena.reach_cell(&cell, size_of::<T>())?;
        let mut held = held();
        let fits = || CellNote::decode(cell.note.load(Relaxed)).kind == T::KIND as u8;
        if held.add_clone(handle) {
            return if fits() {
                Ok(Self::over(handle, &cell))
            } else {
                held.remove_clone(handle);
                Err(stale())
            };
        }
        let entry = held.reserve(arena, me)?;
        // The note is stable as long as the generation is, which `acquire` checks.
        if !fits() || !arena.acquire(me, &cell, handle, entry) {
            held.give_back(entry);
            return Err(stale());
        }
        held.entered(handle, entry);
        drop(held);
        Ok(Self::over(handle, &cell))
    }

    /// The name that the object was made with.
    pub fn name(&self) -> Option<String> {
        name_of(self.handle)
    }

    fn over(handle: Handle, cell: &Cell) -> Self {
        Self {
            handle,
            ptr: cell.ptr.cast(),
            epoch: epoch(),
            marker: PhantomData,
        }
    }

    /// The handle, to be sent.
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the object lives as long as it is referred to (an inherited one, as long as this child of fork
        // lives), the mapping as long as the process; T tolerates any bytes.
        unsafe { &*self.ptr }
    }
}

impl<T: Object> Clone for Ref<T> {
    fn clone(&self) -> Self {
        if self.epoch == epoch() {
            held().add_clone(self.handle);
        }
        Self { ..*self }
    }
}

impl<T: Object> Drop for Ref<T> {
    fn drop(&mut self) {
        if self.epoch != epoch() {
            return;
        }
        // Without a family there would be no Ref.
        let Ok((arena, me)) = here() else { return };
        let mut held = held();
        let Some(entry) = held.remove_clone(self.handle) else {
            return;
        };
        let ended = arena.release(me, self.handle, entry);
        held.give_back(entry);
        drop(held);
        arena.end(ended);
    }
}

/// The name that the program gave an object.
pub(crate) fn name_of(handle: Handle) -> Option<String> {
    let (arena, _) = here().ok()?;
    arena.cell_of(handle)?.name(arena)
}

/// The object behind a handle, ended or not, for recovery after a death. It may be freed at any time: check again after
/// reading from it. Fails if this process has no address space to look, which says nothing about the object.
pub(crate) fn look_up<T: Object>(handle: Handle) -> Result<Option<&'static T>> {
    let (arena, _) = here()?;
    if let Some((index, _)) = handle.split() {
        arena.reach_descriptor(index)?;
    }
    let Some(cell) = arena.cell_of(handle) else {
        return Ok(None);
    };
    let word = OwnerWord::decode(cell.word.load(Acquire));
    let there = handle
        .split()
        .is_some_and(|(_, generation)| generation == word.generation)
        && matches!(
            word.state,
            CellState::Object { .. } | CellState::Deferred { .. } | CellState::Dying(_)
        );
    let fits = CellNote::decode(cell.note.load(Relaxed)).kind == T::KIND as u8 && cell.size >= size_of::<T>();
    if !(there && fits) {
        return Ok(None);
    }
    arena.reach_cell(&cell, size_of::<T>())?;
    // SAFETY: a cell of at least the size, aligned to 64, mapped for ever; T tolerates any bytes.
    Ok(Some(unsafe { &*cell.ptr.cast::<T>() }))
}

/// Whether an object still has references, or an inherited copy of one in a child of fork. Takes none itself.
pub fn exists(handle: Handle) -> Result<bool> {
    let (arena, _) = here()?;
    let Some((index, generation)) = handle.split() else {
        return Ok(false);
    };
    arena.reach_descriptor(index)?;
    Ok(arena.cell_of(handle).is_some_and(|cell| {
        let word = OwnerWord::decode(cell.word.load(Acquire));
        let counted = matches!(word.state, CellState::Object { .. } | CellState::Deferred { .. });
        counted && word.generation == generation
    }))
}

/// Make a word of an object refer to another object, which counts as a reference. False if that object is gone, or the
/// word is not zero.
pub(crate) fn link(entry: &AtomicU64, to: Handle) -> Result<bool> {
    let (arena, me) = here()?;
    Ok(arena
        .cell_of(to)
        .is_some_and(|cell| arena.acquire(me, &cell, to, entry)))
}

/// Release the reference in a word of an object that is being destroyed. May be repeated.
pub(crate) fn unlink(entry: &AtomicU64) -> Result<()> {
    let (arena, me) = here()?;
    if let Some(handle) = Handle::from_bits(entry.load(Acquire)) {
        arena.end(arena.release(me, handle, entry));
    }
    Ok(())
}
