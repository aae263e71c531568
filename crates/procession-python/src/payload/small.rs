//! A small object of exact built-in types, written as a few bytes that a message header holds: a pickler and an unpickler
//! cost several times as much as the queue does.
//!
//! What arrives is what a pickle would bring. A pickle keeps it when two parts of an object are the same object, so an
//! object with such parts is pickled, as is everything larger, deeper, or of other types. Nothing here runs code of the
//! program, whose finalizers could change what is being written.

use super::huge;
use super::lone::{data_of, string};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use std::os::raw::c_int;

/// As many bytes as a message header holds.
const MOST: usize = 104;

/// The first byte of each value.
mod tag {
    pub(super) const NONE: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT8: u8 = 3;
    pub(super) const INT64: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    /// The length, and one byte for each character.
    pub(super) const STR: u8 = 6;
    /// The length, and the bytes.
    pub(super) const BYTES: u8 = 7;
    /// The number of items, and the items.
    pub(super) const TUPLE: u8 = 8;
    pub(super) const LIST: u8 = 9;
    /// The number of items, and each key with its value.
    pub(super) const DICT: u8 = 10;
}

/// The depth of containers, and the number of strings, bytes and containers, from which on an object is pickled.
const DEPTH: u32 = 4;
const PARTS: usize = 16;

/// A written object.
pub(super) struct Small {
    bytes: [u8; MOST],
    len: usize,
}

impl Small {
    /// The object behind a byte that says what the body is; `None` if the object is to be pickled.
    #[inline]
    pub(super) fn of(first: u8, obj: &Bound<'_, PyAny>) -> Option<Self> {
        let mut writer = Writer {
            bytes: [0; MOST],
            len: 0,
            parts: [std::ptr::null_mut(); PARTS],
            count: 0,
        };
        writer.push(&[first])?;
        writer.write(obj, DEPTH)?;
        Some(Self {
            bytes: writer.bytes,
            len: writer.len,
        })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

struct Writer {
    bytes: [u8; MOST],
    len: usize,
    /// The addresses of the parts of which a pickle would keep that they are the same object.
    parts: [*mut ffi::PyObject; PARTS],
    count: usize,
}

/// What a pickler does depends only on the type, for these types; all steps return `None` if the object is to be pickled.
impl Writer {
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// Begin a part that must not come twice.
    fn begin(&mut self, part: &Bound<'_, PyAny>, tag: u8, len: usize) -> Option<()> {
        let part = part.as_ptr();
        let (before, free) = self.parts.split_at_mut(self.count);
        if before.contains(&part) {
            return None;
        }
        *free.first_mut()? = part;
        self.count += 1;
        self.push(&[tag, u8::try_from(len).ok()?])
    }

    fn write(&mut self, obj: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
        if let Ok(text) = obj.cast_exact::<PyString>() {
            let Ok(PyStringData::Ucs1(characters)) = data_of(text) else {
                return None;
            };
            self.begin(obj, tag::STR, characters.len())?;
            return self.push(characters);
        }
        if let Ok(number) = obj.cast_exact::<PyInt>() {
            let number = value_of(number)?;
            if let Ok(number) = i8::try_from(number) {
                return self.push(&[tag::INT8, number as u8]);
            }
            self.push(&[tag::INT64])?;
            return self.push(&number.to_le_bytes());
        }
        if let Ok(number) = obj.cast_exact::<PyFloat>() {
            self.push(&[tag::FLOAT])?;
            return self.push(&number.value().to_le_bytes());
        }
        if obj.is_none() {
            return self.push(&[tag::NONE]);
        }
        if let Ok(flag) = obj.cast_exact::<PyBool>() {
            return self.push(&[if flag.is_true() { tag::TRUE } else { tag::FALSE }]);
        }
        if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
            self.begin(obj, tag::BYTES, bytes.as_bytes().len())?;
            return self.push(bytes.as_bytes());
        }
        self.write_container(obj, depth.checked_sub(1)?)
    }

    fn write_container(&mut self, obj: &Bound<'_, PyAny>, depth: u32) -> Option<()> {
        if let Ok(tuple) = obj.cast_exact::<PyTuple>() {
            self.begin(obj, tag::TUPLE, tuple.len())?;
            tuple.iter_borrowed().try_for_each(|item| self.write(&item, depth))
        } else if let Ok(list) = obj.cast_exact::<PyList>() {
            with_critical_section(list, || {
                self.begin(obj, tag::LIST, list.len())?;
                list.iter().try_for_each(|item| self.write(&item, depth))
            })
        } else if let Ok(dict) = obj.cast_exact::<PyDict>() {
            with_critical_section(dict, || {
                self.begin(obj, tag::DICT, dict.len())?;
                dict.iter().try_for_each(|(key, value)| {
                    self.write(&key, depth)?;
                    self.write(&value, depth)
                })
            })
        } else {
            None
        }
    }
}

/// The number, if it has at most 64 bits. The conversions of `PyO3` raise an exception for others, whose allocation may run
/// finalizers.
fn value_of(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: an exact `int`, and a valid place for the flag; no exception is raised for an `int`.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// The object behind the first byte of a body. The body may be damaged: then this is an error, or another sound object.
pub(super) fn read<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // Nesting needs bytes, so that this bounds the depth, too.
    let rest = body.get(1..).filter(|_| body.len() <= MOST).ok_or_else(damaged)?;
    let mut reader = Reader { rest };
    let obj = reader.value(py)?;
    if reader.rest.is_empty() {
        Ok(obj)
    } else {
        Err(damaged())
    }
}

#[cold]
fn damaged() -> PyErr {
    PyRuntimeError::new_err("cannot receive: damaged message (a small object)")
}

fn check(py: Python<'_>, failed: c_int) -> PyResult<()> {
    if failed == 0 {
        Ok(())
    } else {
        Err(PyErr::fetch(py))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> PyResult<u8> {
        let (&first, rest) = self.rest.split_first().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(first)
    }

    fn word(&mut self) -> PyResult<[u8; 8]> {
        let (word, rest) = self.rest.split_first_chunk().ok_or_else(damaged)?;
        self.rest = rest;
        Ok(*word)
    }

    /// A length, and as many bytes.
    fn bytes(&mut self) -> PyResult<&'a [u8]> {
        let len = usize::from(self.byte()?);
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(damaged)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A number of items, and the items. A container is made only when it can be filled at once: while other objects are
    /// made, the collector may run, and show the program a container with empty places.
    fn items<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let len = usize::from(self.byte()?);
        let mut items = Vec::new();
        // Each item takes a byte or more.
        if len > self.rest.len() {
            return Err(damaged());
        }
        items
            .try_reserve_exact(len)
            .map_err(|_| PyMemoryError::new_err("no memory for a received object"))?;
        for _ in 0..len {
            items.push(self.value(py)?);
        }
        Ok(items)
    }

    fn value<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // The constructors of `PyO3` panic if there is no memory.
        // SAFETY: each call makes an object of a valid number, or raises.
        let made = |obj| unsafe { Bound::from_owned_ptr_or_err(py, obj) };
        match self.byte()? {
            tag::NONE => Ok(py.None().into_bound(py)),
            tag::FALSE => Ok(PyBool::new(py, false).to_owned().into_any()),
            tag::TRUE => Ok(PyBool::new(py, true).to_owned().into_any()),
            // SAFETY: as above.
            tag::INT8 => made(unsafe { ffi::PyLong_FromLong((self.byte()? as i8).into()) }),
            // SAFETY: as above.
            tag::INT64 => made(unsafe { ffi::PyLong_FromLongLong(i64::from_le_bytes(self.word()?)) }),
            // SAFETY: as above.
            tag::FLOAT => made(unsafe { ffi::PyFloat_FromDouble(f64::from_le_bytes(self.word()?)) }),
            tag::STR => string(py, 1, self.bytes()?),
            tag::BYTES => huge::bytes(py, self.bytes()?),
            tag::TUPLE => {
                let items = self.items(py)?;
                // SAFETY: as above.
                let tuple = made(unsafe { ffi::PyTuple_New(items.len() as ffi::Py_ssize_t) })?;
                for (at, item) in (0..).zip(items) {
                    // SAFETY: a tuple, and an object of which the call takes the reference. It refuses what cannot be.
                    check(py, unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), at, item.into_ptr()) })?;
                }
                Ok(tuple)
            }
            tag::LIST => {
                let items = self.items(py)?;
                // SAFETY: as above.
                let list = made(unsafe { ffi::PyList_New(items.len() as ffi::Py_ssize_t) })?;
                for (at, item) in (0..).zip(items) {
                    // SAFETY: a list, and an object of which the call takes the reference. It refuses what cannot be.
                    check(py, unsafe { ffi::PyList_SetItem(list.as_ptr(), at, item.into_ptr()) })?;
                }
                Ok(list)
            }
            tag::DICT => {
                // SAFETY: as above.
                let dict = made(unsafe { ffi::PyDict_New() })?.cast_into::<PyDict>()?;
                for _ in 0..self.byte()? {
                    // A damaged key may be a list, which is an error of its own.
                    dict.set_item(self.value(py)?, self.value(py)?)?;
                }
                Ok(dict.into_any())
            }
            _ => Err(damaged()),
        }
    }
}
