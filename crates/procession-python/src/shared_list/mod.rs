//! Bindings of the shared list. `procession.SharedList` adds what is not one step of the engine.
//!
//! Items are encoded before the engine is called, and decoded afterwards: no Python code runs in between.

mod bounds;

use crate::collection::{collect, handle_from, make_room, repeat, set_attributes, state_of, State};
use crate::common::raise;
use crate::label::Called;
use crate::shared_dict::codec::{add_encoded, decode_value, encode_value, encode_value_to};
use bounds::Bounds;
use procession_core::shared::{Items, KnownPages, SharedList as Engine, Version};
use pyo3::exceptions::{PyIndexError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySlice, PyString, PyTuple};
use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

const NAME: &str = "list";
/// Items of more bytes than this are copied with the interpreter's lock released.
const MUCH: usize = 64 << 10;

thread_local! {
    /// How many changes of lists this thread has made.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// A list that all processes of the family share. Empty until `_create` or `__setstate__` is called.
#[pyclass(frozen, subclass, weakref, sequence, module = "procession._procession")]
pub struct SharedList(OnceLock<Engine>);

impl SharedList {
    fn engine(&self) -> PyResult<&Engine> {
        let missing = || PyRuntimeError::new_err("SharedList.__init__() was not called");
        self.0.get().ok_or_else(missing)
    }

    fn set(&self, engine: Engine) -> PyResult<()> {
        let exists = |_| PyRuntimeError::new_err("the list exists already");
        self.0.set(engine).map_err(exists)
    }

    /// Put items in the place of others. False if `choose` names none.
    fn splice<V: AsRef<[u8]> + Sync>(
        &self,
        py: Python<'_>,
        items: &[V],
        choose: impl Fn(Version, u64) -> Option<Range<u64>> + Send + Sync,
    ) -> PyResult<bool> {
        let engine = self.engine()?;
        let done = repeat(py, || engine.try_splice(items, &choose))?;
        CHANGES.set(CHANGES.get() + u64::from(done));
        Ok(done)
    }

    /// As [`splice`](Self::splice), of one item, or of none and one less. If it is short, this takes less time than another
    /// thread needs to get the interpreter's lock.
    fn splice_one(
        &self,
        py: Python<'_>,
        items: &[Vec<u8>],
        choose: impl Fn(Version, u64) -> Option<Range<u64>> + Send + Sync,
    ) -> PyResult<bool> {
        if items.first().is_none_or(|item| item.len() <= MUCH) {
            if let Some(done) = self.engine()?.try_splice(items, &choose).map_err(raise)? {
                CHANGES.set(CHANGES.get() + u64::from(done));
                return Ok(done);
            }
            py.check_signals()?;
        }
        self.splice(py, items, choose)
    }

    /// The items that a range has, at one moment.
    fn items(&self, py: Python<'_>, choose: impl Fn(u64) -> Range<u64> + Send + Sync) -> PyResult<Items> {
        let engine = self.engine()?;
        let known = Mutex::new(KnownPages::default());
        repeat(py, || {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            engine.try_items(&mut known, &choose)
        })
    }

    /// Put the items of an iterable in the place of a slice's, in one step.
    fn set_slice(&self, slice: &Bound<'_, PySlice>, values: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, bounds) = (slice.py(), Bounds::of(slice)?);
        if !values.hasattr("__iter__")? && !values.hasattr("__getitem__")? {
            let error = if bounds.step == 1 {
                "can only assign an iterable"
            } else {
                "must assign iterable to extended slice"
            };
            return Err(PyTypeError::new_err(error));
        }
        let encoded = Encoded::of(values)?;
        let new = encoded.items()?;
        if bounds.step == 1 {
            let choose = |_, len| {
                let (first, _, count) = bounds.in_list(len);
                Some(first..first + count)
            };
            return self.splice(py, &new, choose).map(drop);
        }
        loop {
            let items = self.items(py, |len| bounds.run(len))?;
            let (_, step, count) = bounds.in_list(items.len_of_list());
            if count != new.len() as u64 {
                return Err(PyValueError::new_err(format!(
                    "attempt to assign sequence of size {} to extended slice of size {count}",
                    new.len()
                )));
            }
            let mut all = collect(items.iter())?;
            let places = (0..all.len()).step_by(step.unsigned_abs() as usize);
            for (place, item) in places.zip(&new) {
                let place = if step < 0 { all.len() - 1 - place } else { place };
                all[place] = item;
            }
            if self.splice(py, &all, |now, len| (now == items.version()).then(|| bounds.run(len)))? {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// Remove the items of a slice, in one step.
    fn remove_slice(&self, slice: &Bound<'_, PySlice>) -> PyResult<()> {
        let (py, bounds) = (slice.py(), Bounds::of(slice)?);
        if bounds.step == 1 {
            return self
                .splice::<Vec<u8>>(py, &[], |_, len| Some(bounds.run(len)))
                .map(drop);
        }
        loop {
            let items = self.items(py, |len| bounds.run(len))?;
            let step = bounds.step.unsigned_abs();
            let mut kept = collect(items.iter())?;
            if bounds.step < 0 {
                kept.reverse();
            }
            let mut place = 0;
            kept.retain(|_| {
                place += 1;
                (place - 1) % step != 0
            });
            if bounds.step < 0 {
                kept.reverse();
            }
            if self.splice(py, &kept, |now, len| (now == items.version()).then(|| bounds.run(len)))? {
                return Ok(());
            }
            py.check_signals()?;
        }
    }
}

/// An index of the type that Python's lists take.
fn index_from(index: &Bound<'_, PyAny>) -> PyResult<i64> {
    index.extract::<isize>().map(|index| index as i64).map_err(|error| {
        let py = index.py();
        let kind = index
            .get_type()
            .name()
            .map_or_else(|_| "object".to_owned(), |name| name.to_string());
        if error.is_instance_of::<PyOverflowError>(py) {
            PyIndexError::new_err(format!("cannot fit '{kind}' into an index-sized integer"))
        } else if error.is_instance_of::<PyTypeError>(py) && index.hasattr("__index__").is_ok_and(|has| !has) {
            PyTypeError::new_err(format!("list indices must be integers or slices, not {kind}"))
        } else {
            error
        }
    })
}

/// Where an index lies in a list of this length.
fn place_in(index: i64, len: u64) -> Option<u64> {
    let place = if index < 0 {
        index.checked_add_unsigned(len)?
    } else {
        index
    };
    u64::try_from(place).ok().filter(|&place| place < len)
}

#[pymethods]
impl SharedList {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// Create the list.
    #[pyo3(signature = (name=None))]
    fn _create(&self, py: Python<'_>, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
        let called = Called::here(py, name);
        self.set(Engine::labelled(called.label()).map_err(raise)?)
    }

    fn _name(&self) -> PyResult<Option<String>> {
        Ok(self.engine()?.name())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(self.engine()?.len().map_err(raise)? as usize)
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if let Ok(slice) = index.cast::<PySlice>() {
            let bounds = Bounds::of(slice)?;
            let items = self.items(py, |len| bounds.run(len))?;
            let (_, step, _) = bounds.in_list(items.len_of_list());
            let step = step.unsigned_abs() as usize;
            let found = PyList::empty(py);
            if bounds.step < 0 {
                for item in items.iter().rev().step_by(step) {
                    found.append(decode_value(py, item)?)?;
                }
            } else {
                for item in items.iter().step_by(step) {
                    found.append(decode_value(py, item)?)?;
                }
            }
            return Ok(found.into_any());
        }
        let found = self.engine()?.get(index_from(index)?).map_err(raise)?;
        let missing = || PyIndexError::new_err("list index out of range");
        decode_value(py, found.ok_or_else(missing)?.as_slice())
    }

    fn __setitem__(&self, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(slice) = index.cast::<PySlice>() {
            return self.set_slice(slice, value);
        }
        let (index, item) = (index_from(index)?, encode_value(value)?);
        let choose = |_, len| place_in(index, len).map(|at| at..at + 1);
        let done = self.splice_one(value.py(), &[item], choose)?;
        let missing = || PyIndexError::new_err("list assignment index out of range");
        done.then_some(()).ok_or_else(missing)
    }

    fn __delitem__(&self, index: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Ok(slice) = index.cast::<PySlice>() {
            return self.remove_slice(slice);
        }
        let at = index_from(index)?;
        let done = self.splice_one(index.py(), &[], |_, len| place_in(at, len).map(|at| at..at + 1))?;
        let missing = || PyIndexError::new_err("list assignment index out of range");
        done.then_some(()).ok_or_else(missing)
    }

    /// Add value behind the last item.
    #[pyo3(signature = (value, /))]
    fn append(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let item = encode_value(value)?;
        self.splice_one(value.py(), &[item], |_, len| Some(len..len)).map(drop)
    }

    /// Insert value before the item at index.
    #[pyo3(signature = (index, value, /))]
    fn insert(&self, index: isize, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (index, item) = (index as i64, encode_value(value)?);
        let place = |len: u64| {
            let from_start = if index < 0 {
                index.saturating_add_unsigned(len).max(0)
            } else {
                index
            };
            (from_start as u64).min(len)
        };
        let choose = |_, len| Some(place(len)..place(len));
        self.splice_one(value.py(), &[item], choose).map(drop)
    }

    /// Add all values of an iterable behind the last item, at one moment.
    #[pyo3(signature = (iterable, /))]
    fn extend(&self, iterable: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = Encoded::of(iterable)?;
        self.splice(iterable.py(), &encoded.items()?, |_, len| Some(len..len))
            .map(drop)
    }

    /// Remove the item at index, by default the last one, and return its value. Raise `IndexError` if there is none.
    #[pyo3(signature = (index=-1, /))]
    fn pop<'py>(slf: &Bound<'py, Self>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let (py, this, index) = (slf.py(), slf.get(), index as i64);
        loop {
            let Some((seen, value)) = this.engine()?.look(index).map_err(raise)? else {
                let is_empty = this.__len__()? == 0;
                let error = if is_empty {
                    "pop from empty list"
                } else {
                    "pop index out of range"
                };
                return Err(PyIndexError::new_err(error));
            };
            // An item that cannot be unpickled stays in the list.
            let item = decode_value(py, value.as_slice())?;
            let choose = |now, len| place_in(index, len).filter(|_| now == seen).map(|at| at..at + 1);
            if this.splice_one(py, &[], choose)? {
                return Ok(item);
            }
            py.check_signals()?;
        }
    }

    /// Remove all items.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.splice::<Vec<u8>>(py, &[], |_, len| Some(0..len)).map(drop)
    }

    /// End all use of the list, at one moment: later calls raise `Sealed`. May be repeated.
    fn _seal(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        repeat(py, || Ok(engine.try_seal()?.then_some(())))
    }

    /// Return the items of a sealed list.
    fn _sealed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let engine = self.engine()?;
        let known = Mutex::new(KnownPages::default());
        let items = repeat(py, || {
            engine.try_sealed_items(&mut known.lock().unwrap_or_else(PoisonError::into_inner))
        })?;
        let list = PyList::empty(py);
        for item in items.iter() {
            list.append(decode_value(py, item)?)?;
        }
        Ok(list)
    }

    /// Return how many changes of lists this thread has made.
    #[staticmethod]
    fn _changes_here() -> u64 {
        CHANGES.get()
    }

    /// Return all items as they are at one moment, and which content that is.
    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<(u64, Bound<'py, PyList>)> {
        let items = self.items(py, |len| 0..len)?;
        let list = PyList::empty(py);
        for item in items.iter() {
            list.append(decode_value(py, item)?)?;
        }
        Ok((items.version().to_bits(), list))
    }

    /// Return the item at an index, and which content it was found in. None if there is no such item.
    fn _look<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Option<(u64, Bound<'py, PyAny>)>> {
        let found = self.engine()?.look(index_from(index)?).map_err(raise)?;
        let Some((seen, item)) = found else { return Ok(None) };
        Ok(Some((seen.to_bits(), decode_value(index.py(), item.as_slice())?)))
    }

    /// Put an item in the place of the one at an index, if the content is still what `_look` found. Return whether it was.
    fn _replace(&self, seen: u64, index: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (index, item) = (index_from(index)?, encode_value(value)?);
        let is_same = |now: Version| now.to_bits() == seen;
        let choose = |now, len| place_in(index, len).filter(|_| is_same(now)).map(|at| at..at + 1);
        self.splice_one(value.py(), &[item], choose)
    }

    /// Remove the item at a place, if the content is still what was seen. Return whether it was.
    fn _take_out(&self, py: Python<'_>, seen: u64, place: u64) -> PyResult<bool> {
        let is_same = |now: Version, len| now.to_bits() == seen && place < len;
        self.splice_one(py, &[], |now, len| is_same(now, len).then_some(place..place + 1))
    }

    /// Put the items in another order, or repeat them, if the content is still what was seen. Return whether it was.
    fn _arrange(&self, py: Python<'_>, seen: u64, order: &Bound<'_, PyList>) -> PyResult<bool> {
        let items = self.items(py, |len| 0..len)?;
        if items.version().to_bits() != seen {
            return Ok(false);
        }
        let all = collect(items.iter())?;
        let missing = || PyIndexError::new_err("list index out of range");
        let mut new = Vec::new();
        make_room(&mut new, order.len())?;
        for place in order.iter() {
            let place: usize = place.extract()?;
            make_room(&mut new, 1)?;
            new.push(all.get(place).copied().ok_or_else(missing)?);
        }
        self.splice(py, &new, |now, len| (now == items.version()).then_some(0..len))
    }

    /// Add `by` to the item at an index where that needs no Python code. Return the new value, or None if it does, or if
    /// there is no such item.
    fn _add<'py>(&self, index: &Bound<'py, PyAny>, by: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = by.py();
        let (index, by) = (index_from(index)?, encode_value(by)?);
        loop {
            let Some((seen, value)) = self.engine()?.look(index).map_err(raise)? else {
                return Ok(None);
            };
            let Some(sum) = add_encoded(value.as_slice(), &by) else {
                return Ok(None);
            };
            let choose = |now, len| place_in(index, len).filter(|_| now == seen).map(|at| at..at + 1);
            let new = [sum];
            if self.splice_one(py, &new, choose)? {
                return decode_value(py, &new[0]).map(Some);
            }
            py.check_signals()?;
        }
    }

    fn __getstate__<'py>(slf: &Bound<'py, Self>) -> PyResult<State<'py>> {
        state_of(slf.as_any(), slf.get().engine()?.handle())
    }

    fn __setstate__(slf: &Bound<'_, Self>, state: State<'_>) -> PyResult<()> {
        let handle = handle_from(&state, NAME)?;
        slf.get().set(Engine::attach(handle).map_err(raise)?)?;
        set_attributes(slf.as_any(), state)
    }
}

/// The items of an iterable, encoded one behind the other.
#[derive(Default)]
struct Encoded {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoded {
    fn of(iterable: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut all = Self::default();
        for item in iterable.try_iter()? {
            encode_value_to(&item?, &mut all.bytes)?;
            make_room(&mut all.ends, 1)?;
            all.ends.push(all.bytes.len());
        }
        Ok(all)
    }

    fn items(&self) -> PyResult<Vec<&[u8]>> {
        let mut start = 0;
        collect(self.ends.iter().map(|&end| {
            let item = &self.bytes[start..end];
            start = end;
            item
        }))
    }
}
