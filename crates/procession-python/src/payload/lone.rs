//! A message that is one string, bytes-like or array: its memory behind a few bytes that say what it is, without a
//! pickle. So it is copied once into the message, and once out of it.
//!
//! The first byte of such a body is a [`Kind`]; no pickle begins with any of these bytes.

use super::array;
use super::huge;
use super::received::Buffer;
use super::small;
use super::view::View;
use procession_core::channel::Incoming;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyByteArray, PyBytes, PyString};
use std::os::raw::c_int;

/// The largest head. The memory of a large array begins behind one of this size, so that it is aligned.
pub(super) const HEAD: usize = 64;
/// Bytes before strings of two or four bytes per character, so that these are aligned.
const WIDE: usize = 4;

/// The first byte of a body that is no pickle.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Bytes = 1,
    ByteArray = 2,
    /// Strings, by the number of bytes per character.
    OneByte = 3,
    TwoBytes = 4,
    FourBytes = 5,
    Array = 6,
    /// A small object of several parts.
    Small = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Bytes,
        Self::ByteArray,
        Self::OneByte,
        Self::TwoBytes,
        Self::FourBytes,
        Self::Array,
        Self::Small,
    ];

    /// The kind of a body; `None` for a pickle.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let first = *body.first()?;
        Self::ALL.into_iter().find(|&kind| kind as u8 == first)
    }
}

/// A message of one object.
pub(super) struct Lone<'py> {
    head: [u8; HEAD],
    len: usize,
    memory: Memory<'py>,
}

enum Memory<'py> {
    Bytes(Bound<'py, PyBytes>),
    Str(Bound<'py, PyString>),
    View(View),
}

impl<'py> Lone<'py> {
    /// The message of an exact string or bytes-like; `None` for any other object.
    pub(super) fn of(obj: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let (kind, len, memory) = if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
            (Kind::Bytes, 1, Memory::Bytes(bytes.clone()))
        } else if let Ok(text) = obj.cast_exact::<PyString>() {
            let (kind, len) = match data_of(text)? {
                PyStringData::Ucs1(_) => (Kind::OneByte, 1),
                PyStringData::Ucs2(_) => (Kind::TwoBytes, WIDE),
                PyStringData::Ucs4(_) => (Kind::FourBytes, WIDE),
            };
            (kind, len, Memory::Str(text.clone()))
        } else if obj.is_exact_instance_of::<PyByteArray>() {
            (Kind::ByteArray, 1, Memory::View(View::of(obj)?))
        } else {
            return Ok(None);
        };
        let mut head = [0; HEAD];
        head[0] = kind as u8;
        Ok(Some(Self { head, len, memory }))
    }

    /// The message of an array, from the head that describes it.
    pub(super) fn of_array(head: [u8; HEAD], len: usize, view: View) -> Self {
        Self {
            head,
            len,
            memory: Memory::View(view),
        }
    }

    /// The two pieces of the body.
    pub(super) fn pieces(&self) -> PyResult<(&[u8], &[u8])> {
        let memory = match &self.memory {
            Memory::Bytes(bytes) => bytes.as_bytes(),
            Memory::Str(text) => bytes_of(data_of(text)?),
            Memory::View(view) => view.as_slice(),
        };
        Ok((&self.head[..self.len], memory))
    }
}

/// The characters of a string, as it stores them.
pub(super) fn data_of<'a>(text: &'a Bound<'_, PyString>) -> PyResult<PyStringData<'a>> {
    // SAFETY: the documented condition is that C compilers lay out bit-fields as they do on the targets of the package.
    unsafe { text.data() }
}

fn bytes_of(data: PyStringData<'_>) -> &[u8] {
    let (start, len) = match data {
        PyStringData::Ucs1(data) => return data,
        PyStringData::Ucs2(data) => (data.as_ptr().cast(), size_of_val(data)),
        PyStringData::Ucs4(data) => (data.as_ptr().cast(), size_of_val(data)),
    };
    // SAFETY: the same memory as that of `data`, of which any byte is valid.
    unsafe { std::slice::from_raw_parts(start, len) }
}

/// The object of a body that is no pickle. The body may be damaged: then this is an error, or another sound object.
pub(super) fn load(py: Python<'_>, kind: Kind, incoming: Incoming) -> PyResult<Bound<'_, PyAny>> {
    if kind == Kind::Array {
        return load_array(py, incoming);
    }
    of_body(py, kind, incoming.body())
}

/// As [`load`], from a body that is all of the message.
pub(super) fn of_body<'py>(py: Python<'py>, kind: Kind, body: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match kind {
        Kind::Bytes => huge::bytes(py, &body[1..]),
        Kind::ByteArray => huge::byte_array(py, &body[1..]),
        Kind::OneByte => string(py, 1, &body[1..]),
        Kind::TwoBytes => string(py, 2, body.get(WIDE..).unwrap_or_default()),
        Kind::FourBytes => string(py, 4, body.get(WIDE..).unwrap_or_default()),
        Kind::Array => {
            let (head, rest) = array::Head::split(body)?;
            head.rebuild(PyByteArray::new(py, rest).as_any())
        }
        Kind::Small => small::read(py, body),
    }
}

fn load_array(py: Python<'_>, mut incoming: Incoming) -> PyResult<Bound<'_, PyAny>> {
    let (head, rest) = array::Head::split(incoming.body())?;
    let behind = incoming.body().len() - rest.len();
    if head.keeps_block() {
        if let Some((block, start)) = incoming.take_block() {
            return head.rebuild(Buffer::new(py, block, start + behind)?.as_any());
        }
    }
    head.rebuild(PyByteArray::new(py, &incoming.body()[behind..]).as_any())
}

/// A string of this many bytes per character.
pub(super) fn string<'py>(py: Python<'py>, width: usize, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if bytes.len() % width != 0 || bytes.as_ptr().align_offset(width) != 0 {
        return Err(PyRuntimeError::new_err(
            "cannot receive: damaged message (the length of a string is not a multiple of its character size)",
        ));
    }
    let len = (bytes.len() / width) as ffi::Py_ssize_t;
    // SAFETY: `bytes` has `len` characters of this width, aligned to it; the result is a new string or an error. CPython
    // looks for the largest character, and stores the string as that one needs.
    let text = unsafe {
        let made = ffi::PyUnicode_FromKindAndData(width as c_int, bytes.as_ptr().cast(), len);
        Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked::<PyString>()
    };
    // CPython does not look whether there are numbers that are no characters. Nothing else has seen the string yet.
    match data_of(&text)? {
        PyStringData::Ucs4(characters) if characters.iter().any(|&character| character > u32::from(char::MAX)) => {
            Err(PyRuntimeError::new_err("a message with a number that is no character"))
        }
        _ => Ok(text.into_any()),
    }
}
