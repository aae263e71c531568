//! Reference-counted objects in the arena.

use super::Handle;
use crate::Result;
use std::marker::PhantomData;
use std::ops::Deref;

/// What an object is. The number is stored in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Lock = 1,
    RLock = 2,
    Semaphore = 3,
    Condition = 4,
    Event = 5,
    Barrier = 6,
    Queue = 7,
    Shared = 8,
    Child = 9,
    Job = 10,
    Pool = 11,
    Cell = 12,
}

/// The shared state of an object: only atomics (and bytes guarded by them), no pointers.
///
/// # Safety
/// All-zero bytes must be a valid value, every field must tolerate any value another process may write,
/// the size must not exceed 32 KiB, the alignment 64.
pub unsafe trait Object: Sync + Sized + 'static {
    /// What it is.
    const KIND: Kind;
    /// What errors call it.
    const NAME: &'static str;
    /// Give back what the object refers to; runs once, when the last reference is gone and nobody can see it any more.
    fn destroy(&self) {}
}

/// A counted reference to an object. Clone retains, drop releases.
pub struct Ref<T: Object> {
    handle: Handle,
    ptr: *const T,
    marker: PhantomData<T>,
}

impl<T: Object> Ref<T> {
    /// A new, zero-filled object.
    pub fn create() -> Result<Self> {
        todo!()
    }

    /// A reference from a handle: checks family range, generation and kind; takes a reference.
    pub fn attach(handle: Handle) -> Result<Self> {
        let _ = handle;
        todo!()
    }

    /// The handle to send.
    pub fn handle(&self) -> Handle {
        self.handle
    }
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    fn deref(&self) -> &T {
        let _ = (self.ptr, self.marker);
        todo!()
    }
}

impl<T: Object> Clone for Ref<T> {
    fn clone(&self) -> Self {
        todo!()
    }
}

// SAFETY: an object is shared between processes anyway: `Object` requires `Sync`, and references are counted in the arena.
unsafe impl<T: Object> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Object> Sync for Ref<T> {}

impl<T: Object> std::fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ref<{}>({:#x})", T::NAME, self.handle.to_bits())
    }
}
