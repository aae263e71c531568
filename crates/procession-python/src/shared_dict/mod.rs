//! Bindings of the shared dictionary. `procession.SharedDict` adds what is not one step of the engine.
//!
//! Keys and values are encoded before the engine is called, and decoded afterwards: no Python code runs in between.

pub mod codec;

use crate::collection::{handle_from, repeat, set_attributes, state_of, State};
use crate::common::raise;
use crate::label::Called;
use codec::{add_encoded, decode_key, decode_value, encode_key, encode_value};
use procession_core::shared::{
    Change, Done, Key, SharedDict as Engine, Snapshot, ValueBytes, LONGEST_FORM, LONGEST_KEY,
};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use std::borrow::Cow;
use std::num::NonZeroU64;
use std::sync::OnceLock;

const NAME: &str = "dictionary";

/// The bytes of a value that a caller has looked at; `None` if there was no value.
type Seen = Option<Vec<u8>>;

/// A dictionary that all processes of the family share. Empty until `_create` or `__setstate__` is called.
#[pyclass(frozen, subclass, weakref, mapping, module = "procession._procession")]
pub struct SharedDict(OnceLock<Engine>);

impl SharedDict {
    fn engine(&self) -> PyResult<&Engine> {
        let missing = || PyRuntimeError::new_err("SharedDict.__init__() was not called");
        self.0.get().ok_or_else(missing)
    }

    fn set(&self, engine: Engine) -> PyResult<()> {
        let exists = |_| PyRuntimeError::new_err("the dictionary exists already");
        self.0.set(engine).map_err(exists)
    }

    /// A key that may be set. Raises `ValueError` if it is too long.
    fn key(&self, key: &Bound<'_, PyAny>) -> PyResult<(&Engine, Key)> {
        let too_long = || PyValueError::new_err("the key is too long: at most 1 MiB, and 4,095 numbers in tuples");
        self.known_key(key)?.ok_or_else(too_long)
    }

    /// A key that is looked up. `None` if it is too long, so that it cannot be there.
    fn known_key(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<(&Engine, Key)>> {
        let engine = self.engine()?;
        let encoded = encode_key(key)?;
        if encoded.bytes.len() > LONGEST_KEY || encoded.form.len() > LONGEST_FORM {
            return Ok(None);
        }
        let key = engine.key(&encoded.bytes, &encoded.form).map_err(raise)?;
        Ok(Some((engine, key)))
    }

    fn look_up(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<ValueBytes>> {
        match self.known_key(key)? {
            Some((engine, name)) => engine.get(&name).map_err(raise),
            None => Ok(None),
        }
    }

    fn find<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.look_up(key)?;
        found.map(|bytes| decode_value(key.py(), bytes.as_slice())).transpose()
    }

    /// Remove a key, and return the bytes of its value.
    fn take(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
        let Some((engine, name)) = self.known_key(key)? else {
            return Ok(None);
        };
        let mut found = None;
        engine
            .change(&name, |now| {
                found = now.map(<[u8]>::to_vec);
                Change::Remove
            })
            .map_err(raise)?;
        Ok(found)
    }
}

#[pymethods]
impl SharedDict {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self(OnceLock::new())
    }

    /// Create the dictionary, with this many entries at most.
    #[pyo3(signature = (maxsize=None, name=None))]
    fn _create(&self, py: Python<'_>, maxsize: Option<NonZeroU64>, name: Option<&Bound<'_, PyString>>) -> PyResult<()> {
        let called = Called::here(py, name);
        let most = maxsize.map_or(0, NonZeroU64::get);
        self.set(Engine::labelled(most, called.label()).map_err(raise)?)
    }

    fn _name(&self) -> PyResult<Option<String>> {
        Ok(self.engine()?.name())
    }

    /// How many entries the dictionary has at most. None if it has no bound.
    #[getter]
    fn maxsize(&self) -> PyResult<Option<NonZeroU64>> {
        Ok(NonZeroU64::new(self.engine()?.most()))
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.find(key)?
            .ok_or_else(|| PyKeyError::new_err((key.clone().unbind(),)))
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (engine, name) = self.key(key)?;
        let value = encode_value(value)?;
        engine.set(&name, &value).map(drop).map_err(raise)
    }

    fn __delitem__(&self, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let done = match self.known_key(key)? {
            Some((engine, name)) => engine.remove(&name).map_err(raise)?,
            None => Done::Kept,
        };
        match done {
            Done::Removed => Ok(()),
            _ => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }

    fn __contains__(&self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        match self.known_key(key)? {
            Some((engine, name)) => engine.contains(&name).map_err(raise),
            None => Ok(false),
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let engine = self.engine()?;
        repeat(py, || engine.try_len())
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.__len__(py)? != 0)
    }

    /// Return the value of key, or default.
    #[pyo3(signature = (key, default=None, /))]
    fn get<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.find(key)?.or_else(|| default.cloned()))
    }

    /// Return the value of key. If there is none, insert default first.
    #[pyo3(signature = (key, default=None, /))]
    fn setdefault<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(found) = self.find(key)? {
            return Ok(found);
        }
        let py = key.py();
        let (engine, name) = self.key(key)?;
        let fresh = match default {
            Some(default) => encode_value(default)?,
            None => encode_value(&py.None().into_bound(py))?,
        };
        let mut found = None;
        engine
            .change(&name, |now| {
                found = now.map(<[u8]>::to_vec);
                match now {
                    Some(_) => Change::Keep,
                    None => Change::Put(Cow::Borrowed(&fresh)),
                }
            })
            .map_err(raise)?;
        decode_value(py, found.as_ref().unwrap_or(&fresh))
    }

    /// Remove key and return its value. If there is none, return default, or raise `KeyError` without a default.
    #[pyo3(signature = (key, /, *default))]
    fn pop<'py>(&self, key: &Bound<'py, PyAny>, default: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        if default.len() > 1 {
            let error = format!("pop expected at most 2 arguments, got {}", default.len() + 1);
            return Err(pyo3::exceptions::PyTypeError::new_err(error));
        }
        match self.take(key)? {
            Some(bytes) => decode_value(key.py(), &bytes),
            None if default.is_empty() => Err(PyKeyError::new_err((key.clone().unbind(),))),
            None => default.get_item(0),
        }
    }

    /// Remove all entries, at one moment.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        repeat(py, || Ok(engine.try_clear()?.then_some(())))
    }

    /// Return all entries as they were at one moment, the oldest first: a list of keys and a list of values.
    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let engine = self.engine()?;
        decode_all(py, &repeat(py, || engine.try_snapshot())?)
    }

    /// End all use of the dictionary, at one moment: later calls raise `Sealed`. May be repeated.
    fn _seal(&self, py: Python<'_>) -> PyResult<()> {
        let engine = self.engine()?;
        repeat(py, || Ok(engine.try_seal()?.then_some(())))
    }

    /// Return the entries of a sealed dictionary, as `_snapshot` does.
    fn _sealed<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
        let engine = self.engine()?;
        decode_all(py, &py.detach(|| engine.sealed_snapshot()).map_err(raise)?)
    }

    /// Return all keys as they were at one moment, the oldest first.
    fn _keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let engine = self.engine()?;
        let snapshot = repeat(py, || engine.try_snapshot())?;
        let keys = PyList::empty(py);
        for item in snapshot.items() {
            let [key, form, _] = snapshot.parts(item);
            keys.append(decode_key(py, key, form)?)?;
        }
        Ok(keys)
    }

    /// Add `by` to the value of key where that needs no Python code. Return the new value, or None if it does.
    fn _add<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        by: &Bound<'py, PyAny>,
        initial: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (engine, name) = self.key(key)?;
        let (by, initial) = (encode_value(by)?, encode_value(initial)?);
        let mut sum = None;
        engine
            .change(&name, |now| {
                sum = add_encoded(now.unwrap_or(&initial), &by);
                match &sum {
                    Some(sum) => Change::Put(Cow::Owned(sum.clone())),
                    None => Change::Keep,
                }
            })
            .map_err(raise)?;
        sum.map(|sum| decode_value(key.py(), &sum)).transpose()
    }

    /// Return what `_replace` needs to know of the value of key, and the value. Both are None if there is none.
    fn _look<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<(Seen, Option<Bound<'py, PyAny>>)> {
        let found = self.look_up(key)?;
        let value = found.as_ref().map(|bytes| decode_value(key.py(), bytes.as_slice()));
        Ok((found.map(|bytes| bytes.as_slice().to_vec()), value.transpose()?))
    }

    /// Give key a value, or remove it (no arguments), if its value is what `_look` found. Return whether it was.
    #[pyo3(signature = (key, seen, /, *value))]
    fn _replace(&self, key: &Bound<'_, PyAny>, seen: Seen, value: &Bound<'_, PyTuple>) -> PyResult<bool> {
        let (engine, name) = self.key(key)?;
        let new = match value.len() {
            0 => None,
            _ => Some(encode_value(&value.get_item(0)?)?),
        };
        let mut is_same = false;
        engine
            .change(&name, |now| {
                is_same = now == seen.as_deref();
                match &new {
                    _ if !is_same => Change::Keep,
                    Some(new) => Change::Put(Cow::Borrowed(new)),
                    None => Change::Remove,
                }
            })
            .map_err(raise)?;
        Ok(is_same)
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

/// The keys and the values of a snapshot.
fn decode_all<'py>(py: Python<'py>, snapshot: &Snapshot) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>)> {
    let (keys, values) = (PyList::empty(py), PyList::empty(py));
    for item in snapshot.items() {
        let [key, form, value] = snapshot.parts(item);
        keys.append(decode_key(py, key, form)?)?;
        values.append(decode_value(py, value)?)?;
    }
    Ok((keys, values))
}
