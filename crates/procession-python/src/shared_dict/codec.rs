//! Keys and values of a dictionary, and items of a list, as bytes.
//!
//! A key's bytes are equal exactly if Python finds the keys equal: `1`, `1.0` and `True` have the same. Its *form* has a
//! byte for each number in it, which says of which type it was; a form of zeros is left out. A key of another type than
//! those listed here is its pickle. Values keep their type.

use crate::collection::make_room;
use crate::common::{name, Cached};
use crate::payload;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyFrozenSet, PyInt, PyString, PyTuple};

/// The first byte of an encoded object.
mod tag {
    pub const NONE: u8 = 0;
    pub const INT: u8 = 1;
    pub const FLOAT: u8 = 2;
    pub const STR: u8 = 3;
    pub const BYTES: u8 = 4;
    pub const TUPLE: u8 = 5;
    pub const PICKLE: u8 = 6;
    pub const TRUE: u8 = 7;
    pub const FALSE: u8 = 8;
    pub const FROZENSET: u8 = 9;
}

/// The form of a number that is equal to an integer.
mod form {
    pub const INT: u8 = 0;
    pub const BOOL: u8 = 1;
    pub const FLOAT: u8 = 2;
    pub const MINUS_ZERO: u8 = 3;
}

/// How deep tuples may be nested in a key; deeper ones are pickled.
const DEPTH: usize = 16;

/// A key's bytes and form.
#[derive(Default)]
pub struct KeyBytes {
    pub bytes: Vec<u8>,
    pub form: Vec<u8>,
    /// How many numbers of the form of an integer come after those in `form`.
    integers: usize,
}

/// Encode a key. Raises `TypeError` if it is not hashable.
pub fn encode_key(key: &Bound<'_, PyAny>) -> PyResult<KeyBytes> {
    let mut encoded = KeyBytes {
        bytes: Vec::with_capacity(32),
        ..KeyBytes::default()
    };
    if !encoded.add(key, 0)? {
        key.hash()?;
        encoded.form.clear();
        encoded.bytes.clear();
        encoded.bytes.push(tag::PICKLE);
        encoded
            .bytes
            .extend_from_slice(alone(payload::dumps_key(key)?, "a key")?.as_bytes());
    }
    Ok(encoded)
}

impl KeyBytes {
    /// Add an object. False if it is of a type that is pickled.
    fn add(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> PyResult<bool> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            self.bytes.push(tag::STR);
            add_text(&mut self.bytes, text)?;
        } else if let Ok(number) = object.cast_exact::<PyInt>() {
            self.add_form(form::INT);
            add_int(&mut self.bytes, number)?;
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            self.bytes.push(tag::BYTES);
            add_bytes(&mut self.bytes, bytes.as_bytes())?;
        } else if let Ok(flag) = object.cast_exact::<PyBool>() {
            self.add_form(form::BOOL);
            add_small(&mut self.bytes, i64::from(flag.is_true()));
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            self.add_float(number)?;
        } else if object.is_none() {
            self.bytes.push(tag::NONE);
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            if depth >= DEPTH {
                return Ok(false);
            }
            self.bytes.push(tag::TUPLE);
            for item in tuple.iter_borrowed() {
                let at = self.bytes.len();
                self.bytes.extend_from_slice(&[0; 4]);
                if !self.add(&item, depth + 1)? {
                    return Ok(false);
                }
                let len = (self.bytes.len() - at - 4) as u32;
                self.bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
            }
        } else if let Ok(set) = object.cast_exact::<PyFrozenSet>() {
            return self.add_set(set, depth);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Add the items of a set in the order of their bytes: its own order depends on how it was made.
    fn add_set(&mut self, set: &Bound<'_, PyFrozenSet>, depth: usize) -> PyResult<bool> {
        if depth >= DEPTH {
            return Ok(false);
        }
        let mut items = Vec::with_capacity(set.len());
        for item in set.iter() {
            let mut encoded = Self::default();
            if !encoded.add(&item, depth + 1)? {
                return Ok(false);
            }
            items.push(encoded);
        }
        items.sort_by(|one, other| one.bytes.cmp(&other.bytes));
        self.bytes.push(tag::FROZENSET);
        for item in items {
            self.bytes.extend_from_slice(&(item.bytes.len() as u32).to_le_bytes());
            self.bytes.extend_from_slice(&item.bytes);
            item.form.into_iter().for_each(|form| self.add_form(form));
            self.integers += item.integers;
        }
        Ok(true)
    }

    fn add_form(&mut self, form: u8) {
        if form == form::INT {
            self.integers += 1;
        } else {
            self.form.resize(self.form.len() + self.integers, form::INT);
            self.integers = 0;
            self.form.push(form);
        }
    }

    fn add_float(&mut self, number: &Bound<'_, PyFloat>) -> PyResult<()> {
        let value = number.value();
        if value.fract() != 0.0 || !value.is_finite() {
            let value = if value.is_nan() { f64::NAN } else { value };
            self.bytes.push(tag::FLOAT);
            self.bytes.extend_from_slice(&value.to_le_bytes());
            return Ok(());
        }
        let is_minus_zero = value == 0.0 && value.is_sign_negative();
        self.add_form(if is_minus_zero { form::MINUS_ZERO } else { form::FLOAT });
        if value.abs() < (1u64 << 62) as f64 {
            add_small(&mut self.bytes, value as i64);
            return Ok(());
        }
        let whole = number.call_method0(name!(number.py(), "__int__"))?;
        add_int(&mut self.bytes, whole.cast()?)
    }
}

fn add_text(to: &mut Vec<u8>, text: &Bound<'_, PyString>) -> PyResult<()> {
    if let Ok(plain) = text.to_str() {
        return add_bytes(to, plain.as_bytes());
    }
    // Lone surrogates.
    let py = text.py();
    let arguments = (name!(py, "utf-8"), name!(py, "surrogatepass"));
    let bytes = text.call_method1(name!(py, "encode"), arguments)?;
    add_bytes(to, bytes.cast::<PyBytes>()?.as_bytes())
}

/// Add bytes, however many. Raises `MemoryError` if there is no room for them.
fn add_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> PyResult<()> {
    make_room(to, bytes.len())?;
    to.extend_from_slice(bytes);
    Ok(())
}

fn add_small(to: &mut Vec<u8>, value: i64) {
    to.push(tag::INT);
    let bytes = value.to_le_bytes();
    let redundant = if value < 0 {
        (!value).leading_zeros()
    } else {
        value.leading_zeros()
    };
    // One bit is the sign's.
    let len = (64 - redundant) as usize / 8 + 1;
    to.extend_from_slice(&bytes[..len]);
}

fn add_int(to: &mut Vec<u8>, number: &Bound<'_, PyInt>) -> PyResult<()> {
    if let Some(value) = small_of(number)? {
        add_small(to, value);
        return Ok(());
    }
    let py = number.py();
    let bits: usize = number.call_method0(name!(py, "bit_length"))?.extract()?;
    // As many bytes as `add_small` would use.
    let arguments = (bits / 8 + 1, name!(py, "little"));
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item(name!(py, "signed"), true)?;
    let bytes = number.call_method(name!(py, "to_bytes"), arguments, Some(&keywords))?;
    let bytes = bytes.cast::<PyBytes>()?.as_bytes();
    // Of a negative power of two the last byte may be redundant.
    let keep = match bytes {
        [.., below, 0xff] if below & 0x80 != 0 => bytes.len() - 1,
        _ => bytes.len(),
    };
    to.push(tag::INT);
    add_bytes(to, &bytes[..keep])
}

/// An integer's value, if 64 bits hold it.
fn small_of(number: &Bound<'_, PyInt>) -> PyResult<Option<i64>> {
    let mut overflow = 0;
    // SAFETY: the object is an int, and the interpreter's lock is held.
    let value = unsafe { pyo3::ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    if value == -1 && overflow == 0 && PyErr::occurred(number.py()) {
        return Err(PyErr::fetch(number.py()));
    }
    Ok((overflow == 0).then_some(value))
}

/// An encoded integer's value, if 64 bits hold it.
fn small_from(bytes: &[u8]) -> Option<i64> {
    let last = *bytes.last()?;
    (bytes.len() <= 8).then(|| {
        let mut all = [if last & 0x80 == 0 { 0 } else { 0xff }; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(all)
    })
}

fn damaged() -> PyErr {
    PyRuntimeError::new_err("damaged data: a key or value of a shared collection")
}

fn int_from<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Some(value) = small_from(bytes) {
        return Ok(value.into_pyobject(py)?.into_any());
    }
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item(name!(py, "signed"), true)?;
    let arguments = (PyBytes::new(py, bytes), name!(py, "little"));
    py.get_type::<PyInt>()
        .call_method(name!(py, "from_bytes"), arguments, Some(&keywords))
}

fn text_from<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(PyString::new(py, text).into_any());
    }
    let arguments = (name!(py, "utf-8"), name!(py, "surrogatepass"));
    PyBytes::new(py, bytes).call_method1(name!(py, "decode"), arguments)
}

fn float_from<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let bytes = bytes.try_into().map_err(|_| damaged())?;
    Ok(PyFloat::new(py, f64::from_le_bytes(bytes)).into_any())
}

/// Decode a key.
pub fn decode_key<'py>(py: Python<'py>, bytes: &[u8], form: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    key_from(py, bytes, &mut form.iter().copied(), 0)
}

fn key_from<'py>(
    py: Python<'py>,
    bytes: &[u8],
    forms: &mut impl Iterator<Item = u8>,
    depth: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let (&tag, mut rest) = bytes.split_first().ok_or_else(damaged)?;
    Ok(match tag {
        tag::NONE => py.None().into_bound(py),
        tag::STR => text_from(py, rest)?,
        tag::BYTES => PyBytes::new(py, rest).into_any(),
        tag::FLOAT => float_from(py, rest)?,
        tag::PICKLE => loads(py, rest)?,
        tag::INT => match forms.next().unwrap_or(form::INT) {
            form::BOOL => PyBool::new(py, rest != [0]).to_owned().into_any(),
            form::FLOAT => int_from(py, rest)?.call_method0(name!(py, "__float__"))?,
            form::MINUS_ZERO => PyFloat::new(py, -0.0).into_any(),
            _ => int_from(py, rest)?,
        },
        tag::TUPLE | tag::FROZENSET if depth < DEPTH => {
            let mut items = Vec::new();
            while !rest.is_empty() {
                let (len, behind) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
                let len = u32::from_le_bytes(*len) as usize;
                let (item, behind) = behind.split_at_checked(len).ok_or_else(damaged)?;
                items.push(key_from(py, item, forms, depth + 1)?);
                rest = behind;
            }
            if tag == tag::TUPLE {
                PyTuple::new(py, items)?.into_any()
            } else {
                PyFrozenSet::new(py, items)?.into_any()
            }
        }
        _ => return Err(damaged()),
    })
}

/// Encode a value.
pub fn encode_value(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut to = Vec::new();
    encode_value_to(value, &mut to)?;
    Ok(to)
}

/// Encode a value behind the bytes that are there.
pub fn encode_value_to(value: &Bound<'_, PyAny>, to: &mut Vec<u8>) -> PyResult<()> {
    make_room(to, 16)?;
    if let Ok(number) = value.cast_exact::<PyInt>() {
        add_int(to, number)?;
    } else if let Ok(text) = value.cast_exact::<PyString>() {
        to.push(tag::STR);
        add_text(to, text)?;
    } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        to.push(tag::BYTES);
        add_bytes(to, bytes.as_bytes())?;
    } else if let Ok(number) = value.cast_exact::<PyFloat>() {
        to.push(tag::FLOAT);
        to.extend_from_slice(&number.value().to_le_bytes());
    } else if let Ok(flag) = value.cast_exact::<PyBool>() {
        to.push(if flag.is_true() { tag::TRUE } else { tag::FALSE });
    } else if value.is_none() {
        to.push(tag::NONE);
    } else {
        let body = alone(payload::dumps_alone(value)?, "a value")?;
        to.push(tag::PICKLE);
        add_bytes(to, body.as_bytes())?;
    }
    Ok(())
}

/// Decode a value.
pub fn decode_value<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let (&tag, rest) = bytes.split_first().ok_or_else(damaged)?;
    match tag {
        tag::INT => int_from(py, rest),
        tag::STR => text_from(py, rest),
        tag::BYTES => Ok(PyBytes::new(py, rest).into_any()),
        tag::FLOAT => float_from(py, rest),
        tag::TRUE => Ok(PyBool::new(py, true).to_owned().into_any()),
        tag::FALSE => Ok(PyBool::new(py, false).to_owned().into_any()),
        tag::NONE => Ok(py.None().into_bound(py)),
        tag::PICKLE => loads(py, rest),
        _ => Err(damaged()),
    }
}

/// Add a number to an encoded number, where that needs no Python code: of two integers, if 64 bits hold the result, or
/// of two floats.
pub fn add_encoded(value: &[u8], by: &[u8]) -> Option<Vec<u8>> {
    let (&value_tag, value) = value.split_first()?;
    let (&by_tag, by) = by.split_first()?;
    let mut to = Vec::with_capacity(16);
    match (value_tag, by_tag) {
        (tag::INT, tag::INT) => add_small(&mut to, small_from(value)?.checked_add(small_from(by)?)?),
        (tag::FLOAT, tag::FLOAT) => {
            let sum = f64::from_le_bytes(value.try_into().ok()?) + f64::from_le_bytes(by.try_into().ok()?);
            to.push(tag::FLOAT);
            to.extend_from_slice(&sum.to_le_bytes());
        }
        _ => return None,
    }
    Some(to)
}

fn loads<'py>(py: Python<'py>, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: Cached<Py<PyAny>> = Cached::new();
    LOADS
        .get_or_make(|| payload::c_pickle(py)?.getattr("loads").map(Bound::unbind))?
        .bind(py)
        .call1((PyBytes::new(py, body),))
}

/// A pickle. Raises `TypeError` if it would refer to shared objects.
fn alone<'py>(pickle: Option<Bound<'py, PyBytes>>, what: &str) -> PyResult<Bound<'py, PyBytes>> {
    pickle.ok_or_else(|| {
        PyTypeError::new_err(format!(
            "{what} of a shared collection cannot refer to shared objects such as locks and queues"
        ))
    })
}
