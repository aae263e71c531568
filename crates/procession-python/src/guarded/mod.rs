//! `Value` and `Array` with their lock: an access takes the lock, reads or writes the memory and releases the lock, all
//! in one call. The lock is never held while Python code runs.
//!
//! This happens only where the access cannot differ from what ctypes and the lock's methods would do: for numbers and
//! characters in memory of the family, under a `Lock` or `RLock` whose methods are the extension's own, and for
//! arguments that convert without running Python code. Everything else goes through the ctypes object, between the
//! object's `acquire` and `release`, which also gives the errors of ctypes.

mod item;
mod slots;

use crate::shared::SharedBytes;
use crate::sync::{self, Lock, RLock};
use item::Item;
use procession_core::shared::SharedBytes as Bytes;
use procession_core::sync as engine;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

pub use slots::install;

/// The base of objects whose accesses take a lock.
#[pyclass(frozen, subclass, module = "procession._procession")]
pub struct Guarded {
    items: OnceLock<Items>,
    /// The object's `_obj`, `acquire` or `release` was replaced since.
    replaced: AtomicBool,
}

/// Items in shared memory, and their lock.
struct Items {
    bytes: Bytes,
    item: Item,
    length: usize,
    lock: AnyLock,
}

/// The lock of the items, of one of the two classes.
enum AnyLock {
    Lock(engine::Lock),
    RLock(engine::RLock),
}

#[pymethods]
impl Guarded {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            items: OnceLock::new(),
            replaced: AtomicBool::new(false),
        }
    }

    /// Access `length` items of the type code in this memory directly, under this `Lock` or `RLock`. The caller has
    /// checked that `_obj` is a plain ctypes object of the same memory and type, and that `acquire` and `release` are
    /// the lock's own.
    fn _bind(&self, memory: &SharedBytes, code: char, length: usize, lock: &Bound<'_, PyAny>) -> PyResult<()> {
        let item = Item::of(code).ok_or_else(|| PyValueError::new_err("this type code has no direct access"))?;
        let bytes = memory.engine().clone();
        if length == 0 {
            return Ok(()); // `value` reads the first item
        }
        let size = length.checked_mul(item.size());
        if size.is_none_or(|size| size > bytes.len()) {
            return Err(PyValueError::new_err("the items lie outside the memory"));
        }
        let lock = if let Ok(lock) = lock.cast::<RLock>() {
            AnyLock::RLock(lock.get().engine()?)
        } else if let Ok(lock) = lock.cast::<Lock>() {
            AnyLock::Lock(lock.get().engine()?)
        } else {
            return Err(PyTypeError::new_err("the lock is neither a Lock nor an RLock"));
        };
        // A second call finds `replaced` set, because `__init__` sets the attributes first.
        let _ = self.items.set(Items {
            bytes,
            item,
            length,
            lock,
        });
        Ok(())
    }
}

impl Guarded {
    /// The items, if they may be accessed directly.
    #[inline]
    fn items(&self) -> Option<&Items> {
        self.items.get().filter(|_| !self.replaced.load(Ordering::Relaxed))
    }

    /// From now on, all accesses go through the attributes.
    fn replace(&self) {
        if self.items.get().is_some() {
            self.replaced.store(true, Ordering::Relaxed);
        }
    }
}

impl Items {
    /// The address of an item below `length`.
    #[inline]
    fn at(&self, index: usize) -> *mut u8 {
        debug_assert!(index < self.length);
        // SAFETY: the index is below the length, and `_bind` has checked that so many items lie in the memory.
        unsafe { self.bytes.as_ptr().add(index * self.item.size()) }
    }

    #[inline]
    fn load(&self, index: usize) -> u64 {
        // SAFETY: the address is of an item in memory that exists as long as `bytes`, aligned for it: the memory is
        // aligned to 16.
        unsafe { self.item.load(self.at(index)) }
    }

    #[inline]
    fn store(&self, index: usize, bits: u64) {
        // SAFETY: as for `load`.
        unsafe { self.item.store(self.at(index), bits) }
    }

    /// Access the memory under the lock; `access` runs no Python code and does not panic. If this process dies here, the
    /// lock's next holder gets `OwnerDied`.
    #[inline]
    fn locked<T>(&self, access: impl Fn() -> T) -> PyResult<T> {
        match &self.lock {
            AnyLock::RLock(lock) => {
                if let Some(result) = lock.try_hold(&access) {
                    return Ok(result);
                }
            }
            AnyLock::Lock(lock) => {
                if lock.try_enter().unwrap_or(false) {
                    return released(lock, access());
                }
            }
        }
        self.locked_slowly(access)
    }

    #[cold]
    fn locked_slowly<T>(&self, access: impl Fn() -> T) -> PyResult<T> {
        Python::attach(|py| match &self.lock {
            AnyLock::RLock(lock) => {
                sync::acquire(py, true, None, |deadline| lock.acquire(deadline))?;
                let result = access();
                lock.release();
                Ok(result)
            }
            AnyLock::Lock(lock) => {
                sync::acquire(py, true, None, |deadline| lock.enter(deadline))?;
                released(lock, access())
            }
        })
    }
}

/// Release the lock, if no other thread has done so meanwhile.
#[inline]
fn released<T>(lock: &engine::Lock, result: T) -> PyResult<T> {
    if lock.release() {
        Ok(result)
    } else {
        Err(sync::released_too_often())
    }
}

/// Access the ctypes object between `acquire` and `release`, by the object's attributes.
#[cold]
fn by_attributes<'py, T>(
    object: &Bound<'py, PyAny>,
    access: impl FnOnce(Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<T> {
    object.call_method0("acquire")?;
    let result = object.getattr("_obj").and_then(access);
    let Err(error) = object.call_method0("release") else {
        return result;
    };
    if let Err(first) = result {
        let py = object.py();
        error.value(py).setattr("__context__", first.into_value(py))?;
    }
    Err(error)
}
