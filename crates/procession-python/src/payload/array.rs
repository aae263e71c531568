//! Arrays of numpy without numpy's `__reduce_ex__`, which costs more than a message does: exact `ndarray`s of numbers
//! that are contiguous are described by a *head* of a few bytes. All others are left to numpy.
//!
//! The head: kind, number of the type, flags, number of dimensions, four bytes of nothing, then the shape.

use super::lone::{Kind, Lone, HEAD};
use super::view::{Held, View};
use crate::common::{name, Cached};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyString, PyTuple, PyType};

/// Arrays of at least this many bytes keep the message's memory at the receiver. The bytes of a smaller one are copied
/// out, which takes no longer.
const OWN_BLOCK: usize = 4 * 1024;

/// The types that a head can name, native and with the other byte order. Part of the format: their places are fixed.
const TYPES: [&str; 16] = [
    "b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "f16", "c8", "c16", "c32",
];
/// Added to the number of a type for the other byte order.
const SWAPPED: u8 = 0x80;
/// Flag: the order of Fortran.
const FORTRAN: u8 = 1;
/// Flag: the memory begins at [`HEAD`] in the message's block, which the receiver's array keeps.
const ALIGNED: u8 = 2;
/// Bytes of a head before the shape.
const BEFORE: usize = 8;
/// The most dimensions that a head has room for.
const MOST: usize = (HEAD - BEFORE) / 8;

/// numpy's class of arrays, and its types of numbers.
struct Numpy {
    array: Py<PyType>,
    /// The types with their numbers; without those that this numpy lacks.
    types: Vec<(u8, Py<PyAny>)>,
}

/// numpy, if it is loaded.
fn numpy(py: Python<'_>) -> Option<&'static Numpy> {
    loaded(py, |module| {
        let modules = py.import(name!(py, "sys"))?.getattr(name!(py, "modules"))?;
        modules.cast::<PyDict>()?.get_item(module)
    })
    .ok()
    .flatten()
}

/// numpy, which `find` finds in this process if it is not known yet.
fn loaded<'py>(
    py: Python<'py>,
    find: impl FnOnce(&Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> PyResult<Option<&'static Numpy>> {
    static NUMPY: Cached<Numpy> = Cached::new();
    if let Some(known) = NUMPY.get() {
        return Ok(Some(known));
    }
    let Some(module) = find(name!(py, "numpy"))? else {
        return Ok(None);
    };
    NUMPY.get_or_make(|| Numpy::of(&module)).map(Some)
}

impl Numpy {
    fn of(module: &Bound<'_, PyAny>) -> PyResult<Self> {
        let dtype = module.getattr("dtype")?;
        let (own, other) = if cfg!(target_endian = "little") {
            ('<', '>')
        } else {
            ('>', '<')
        };
        let mut types = Vec::new();
        for (number, name) in (0..).zip(TYPES) {
            for (order, flag) in [(own, 0), (other, SWAPPED)] {
                if let Ok(found) = dtype.call1((format!("{order}{name}"),)) {
                    types.push((number | flag, found.unbind()));
                }
            }
        }
        Ok(Self {
            array: module.getattr("ndarray")?.cast_into()?.unbind(),
            types,
        })
    }

    /// The number of a type.
    fn number_of(&self, dtype: &Bound<'_, PyAny>) -> PyResult<Option<u8>> {
        if let Some((number, _)) = self.types.iter().find(|(_, known)| known.is(dtype)) {
            return Ok(Some(*number));
        }
        // A different type object, a dtype with metadata or fields, or one that is not numeric.
        let py = dtype.py();
        if !dtype.getattr(name!(py, "metadata"))?.is_none() || !dtype.getattr(name!(py, "fields"))?.is_none() {
            return Ok(None);
        }
        let text = dtype.getattr(name!(py, "str"))?.cast_into::<PyString>()?;
        let text = text.to_str()?;
        let Some(number) = text
            .get(1..)
            .and_then(|name| TYPES.iter().position(|known| *known == name))
        else {
            return Ok(None);
        };
        let swapped = text.starts_with(if cfg!(target_endian = "little") { '>' } else { '<' });
        Ok(Some(number as u8 | if swapped { SWAPPED } else { 0 }))
    }
}

/// Whether an object is exactly an `ndarray`.
pub(super) fn is_array(obj: &Bound<'_, PyAny>) -> bool {
    numpy(obj.py()).is_some_and(|numpy| obj.get_type().is(&numpy.array))
}

/// The class of arrays, if numpy is loaded.
pub(super) fn class(py: Python<'_>) -> Option<&Bound<'_, PyType>> {
    numpy(py).map(|numpy| numpy.array.bind(py))
}

/// An array that a head can describe.
struct Described {
    head: [u8; HEAD],
    /// Bytes of the head that are in use.
    len: usize,
    view: View,
}

/// Describe an exact `ndarray`; `None` if that is left to numpy.
fn describe(array: &Bound<'_, PyAny>) -> PyResult<Option<Described>> {
    let py = array.py();
    let Some(numpy) = numpy(py) else { return Ok(None) };
    // Without a buffer (dates), or not contiguous: numpy knows what to do.
    let Ok(view) = View::of(array) else { return Ok(None) };
    let buffer = view.buffer();
    let shape = buffer.shape();
    if buffer.len_bytes() == 0 || shape.len() > MOST {
        return Ok(None);
    }
    let Some(number) = numpy.number_of(&array.getattr(name!(py, "dtype"))?)? else {
        return Ok(None);
    };
    let mut head = [0; HEAD];
    head[0] = Kind::Array as u8;
    head[1] = number;
    head[2] = if buffer.is_c_contiguous() { 0 } else { FORTRAN };
    head[3] = shape.len() as u8;
    for (place, &extent) in head[BEFORE..].chunks_exact_mut(8).zip(shape) {
        place.copy_from_slice(&(extent as u64).to_ne_bytes());
    }
    let len = BEFORE + 8 * shape.len();
    Ok(Some(Described { head, len, view }))
}

/// The message of one exact `ndarray`; `None` if that is left to numpy.
pub(super) fn lone<'py>(array: &Bound<'py, PyAny>) -> PyResult<Option<Lone<'py>>> {
    Ok(describe(array)?.map(
        |Described {
             mut head,
             mut len,
             view,
         }| {
            if view.as_slice().len() >= OWN_BLOCK {
                head[2] |= ALIGNED;
                len = HEAD;
            }
            Lone::of_array(head, len, view)
        },
    ))
}

/// The reducer of arrays within other objects.
#[pyfunction]
pub fn _reduce_array<'py>(array: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let described = describe(array)?;
    let small = |described: &Described| described.view.as_slice().len() < OWN_BLOCK;
    let (rebuild, pickle_buffer) = rebuilding(py)?;
    match described {
        Some(described) if small(&described) => {
            let (head, memory) = (&described.head[..described.len], described.view.as_slice());
            let body = PyBytes::new_with(py, head.len() + memory.len(), |bytes| {
                let (first, rest) = bytes.split_at_mut(head.len());
                first.copy_from_slice(head);
                rest.copy_from_slice(memory);
                Ok(())
            })?;
            Ok((rebuild, (body,)).into_pyobject(py)?.into_any())
        }
        Some(Described { head, len, view }) => {
            let head = PyBytes::new(py, &head[..len]);
            let buffer = pickle_buffer.bind(py).call1((Held::new(py, view)?,))?;
            Ok((rebuild, (head, buffer)).into_pyobject(py)?.into_any())
        }
        None => array.call_method1(name!(py, "__reduce_ex__"), (5,)),
    }
}

/// Make an array from its description, and from the object that has its memory; without one, the memory follows the
/// description.
#[pyfunction]
#[pyo3(signature = (head, memory=None))]
pub fn _rebuild_array<'py>(
    head: &Bound<'py, PyBytes>,
    memory: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = head.py();
    let (head, rest) = Head::split(head.as_bytes())?;
    match memory {
        Some(memory) => head.rebuild(memory),
        None => head.rebuild(PyByteArray::new(py, rest).as_any()),
    }
}

/// `_reduce_array`, for the table of a pickler.
pub(super) fn reducer(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static REDUCER: Cached<Py<PyAny>> = Cached::new();
    REDUCER.import(py, "procession._procession", "_reduce_array")
}

/// `_rebuild_array`, as pickle finds it, and the class `PickleBuffer`.
fn rebuilding(py: Python<'_>) -> PyResult<&'static (Py<PyAny>, Py<PyAny>)> {
    static REBUILDING: Cached<(Py<PyAny>, Py<PyAny>)> = Cached::new();
    REBUILDING.get_or_make(|| {
        let rebuild = py.import("procession._procession")?.getattr("_rebuild_array")?;
        let buffer = super::c_pickle(py)?.getattr("PickleBuffer")?;
        Ok((rebuild.unbind(), buffer.unbind()))
    })
}

/// A head that was received. Nothing in it is trusted.
pub(super) struct Head {
    number: u8,
    flags: u8,
    shape: Vec<u64>,
}

impl Head {
    /// The head at the beginning of a body, and the array's memory behind it.
    pub(super) fn split(body: &[u8]) -> PyResult<(Self, &[u8])> {
        let damaged = || PyRuntimeError::new_err("cannot receive: damaged message (bad header of an array)");
        let &[_, number, flags, dimensions, ..] = body else {
            return Err(damaged());
        };
        let end = BEFORE + 8 * dimensions as usize;
        let shape = body.get(BEFORE..end).ok_or_else(damaged)?;
        let start = if flags & ALIGNED == 0 { end } else { HEAD };
        let rest = body.get(start..).ok_or_else(damaged)?;
        let extent = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        let shape = shape.chunks_exact(8).map(extent).collect();
        Ok((Self { number, flags, shape }, rest))
    }

    /// Whether the array keeps the message's block.
    pub(super) fn keeps_block(&self) -> bool {
        self.flags & ALIGNED != 0
    }

    /// The array with this memory. numpy refuses memory that is too small for it.
    pub(super) fn rebuild<'py>(&self, memory: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = memory.py();
        let numpy = loaded(py, |name| py.import(name).map(|module| Some(module.into_any())))?;
        let dtype = numpy.and_then(|numpy| numpy.types.iter().find(|(number, _)| *number == self.number));
        let (Some(numpy), Some((_, dtype))) = (numpy, dtype) else {
            return Err(PyValueError::new_err(
                "an array of a type that this numpy does not have",
            ));
        };
        let shape = PyTuple::new(py, &self.shape)?;
        if self.flags & FORTRAN == 0 {
            return numpy.array.bind(py).call1((shape, dtype, memory));
        }
        numpy
            .array
            .bind(py)
            .call1((shape, dtype, memory, 0, py.None(), name!(py, "F")))
    }
}
