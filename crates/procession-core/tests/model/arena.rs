//! A model of the arena: objects in ordinary memory.

use crate::futex::{zeroed, AtomicU64};
use crate::Result;
use std::ops::Deref;
use std::sync::Arc;

pub use crate::ids::{Handle, Kind};
pub use procession_core::arena::Label;

/// # Safety
/// None is needed here: no memory is shared with another process.
pub unsafe trait Object: Sync + Sized + 'static {
    const KIND: Kind;
    const NAME: &'static str;
    fn destroy(&self) {}
}

pub use crate::cells;

/// A model has no idle memory.
pub fn trim_idle() {}

/// No model cleans up by handle.
#[allow(clippy::unnecessary_wraps)]
pub fn look_up<T>(_handle: Handle) -> Result<Option<&'static T>> {
    Ok(None)
}

/// Objects end with their last clone.
pub fn link(_entry: &AtomicU64, _to: Handle) -> Result<bool> {
    Ok(true)
}

pub fn unlink(_entry: &AtomicU64) -> Result<()> {
    Ok(())
}

#[derive(Debug)]
pub struct Ref<T>(Arc<T>);

impl<T: Object> Ref<T> {
    #[allow(clippy::unnecessary_wraps)]
    pub fn create() -> Result<Self> {
        Ok(Self(zeroed()))
    }

    pub fn labelled(_label: Label<'_>) -> Result<Self> {
        Self::create()
    }

    #[allow(clippy::unused_self)]
    pub fn name(&self) -> Option<String> {
        None
    }

    pub fn attach(_handle: Handle) -> Result<Self> {
        unimplemented!("models share objects by cloning")
    }

    #[allow(clippy::unused_self)]
    pub fn handle(&self) -> Handle {
        Handle::from_bits(1 << 32 | 1).expect("a number like a handle's")
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
