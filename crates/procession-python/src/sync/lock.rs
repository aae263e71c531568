//! Bindings of `Lock` and `RLock`.

use super::{not_the_owner, released_too_often};
use crate::common::recovers;
use crate::label::Called;
use procession_core::ids::Owner;
use procession_core::liveness;
use procession_core::sync::{self, Options};
use pyo3::prelude::*;
use pyo3::types::PyString;

macro_rules! lock_class {
    ($(#[$doc:meta])* $class:ident, $count:expr) => {
        impl $class {
            /// Another reference to the engine's lock.
            pub fn engine(&self) -> PyResult<sync::$class> {
                self.0.get().cloned()
            }
        }

        shared_class! {
            $(#[$doc])*
            $class {
                /// Create the lock. `recover`: "error", or "silent" to not report the death of a holder.
                #[pyo3(signature = (recover=None, name=None))]
                fn _create(
                    &self,
                    py: Python<'_>,
                    recover: Option<&str>,
                    name: Option<&Bound<'_, PyString>>,
                ) -> PyResult<()> {
                    let silent = recovers(recover, &["error", "silent"])? == Some(1);
                    let called = Called::here(py, name);
                    let label = called.label();
                    self.0.set(sync::$class::with(Options { silent, label }))
                }

                /// Return True if any process holds the lock.
                fn locked(&self) -> PyResult<bool> {
                    Ok(self.0.get()?.owner().is_some())
                }

                fn _is_mine(&self) -> PyResult<bool> {
                    Ok(self.0.get()?.is_mine())
                }

                fn _get_value(&self) -> PyResult<u32> {
                    Ok(u32::from(self.0.get()?.owner().is_none()))
                }

                fn _count(&self) -> PyResult<u32> {
                    let held_here = matches!(self.holder()?, 1 | 2);
                    Ok(if held_here { $count(self.0.get()?) } else { 0 })
                }

                /// See [`holder`].
                #[pyo3(name = "_holder")]
                fn holder(&self) -> PyResult<u8> {
                    let lock = self.0.get()?;
                    Ok(holder(lock.owner(), lock.is_mine()))
                }
            }
        }
    };
}

lock_class!(
    /// A lock; any thread of any process may release it.
    Lock,
    once
);
lock_class!(
    /// A lock that its holder, a thread of a process, may take again. Only the holder may release it.
    RLock,
    sync::RLock::count
);

fast_path!(
    Lock,
    try_free,
    acquire,
    try_enter,
    enter,
    c"release($self, /)\n--\n\nRelease the lock. ValueError if it is not held.",
    sync::Lock::release,
    released_too_often
);
fast_path!(
    RLock,
    try_free,
    c"release($self, /)\n--\n\nRelease it once. AssertionError if the calling thread does not hold it.",
    sync::RLock::release,
    not_the_owner
);

/// The recursion count of a `Lock` that is held.
fn once(_: &sync::Lock) -> u32 {
    1
}

/// The holder of a lock as `repr` shows it: 0 none, 1 this thread, 2 another thread of this process, 3 another process.
fn holder(owner: Option<Owner>, mine: bool) -> u8 {
    match owner {
        None => 0,
        Some(_) if mine => 1,
        Some(owner) if liveness::me().is_ok_and(|me| me == owner) => 2,
        Some(_) => 3,
    }
}
