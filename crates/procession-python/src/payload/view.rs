//! Memory of Python objects that a message is made of, held until it is copied into shared memory.

use super::array;
use crate::common::{lock, name};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use std::os::raw::c_int;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Mutex;

/// Buffers of at least this many bytes are sent outside the pickle.
pub(super) const OUT_OF_BAND: usize = 16 * 1024;

/// The bytes of an object with the buffer protocol, contiguous in the order of C or of Fortran.
pub(super) struct View(PyUntypedBuffer);

impl View {
    /// `BufferError` if it is not contiguous.
    pub(super) fn of(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(obj)?;
        if buffer.is_c_contiguous() || buffer.is_fortran_contiguous() {
            Ok(Self(buffer))
        } else {
            Err(PyBufferError::new_err("a buffer that is not contiguous"))
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        let len = self.0.len_bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: the buffer is contiguous, as `of` checked, and held by `self`. Another thread may change the bytes
        // while they are copied, as it may during any copy of a buffer that Python makes.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), len) }
    }

    /// Whether it shows a numpy array.
    fn is_array(&self, py: Python<'_>) -> PyResult<bool> {
        match self.0.obj(py) {
            Some(obj) if obj.is_exact_instance_of::<PyMemoryView>() => {
                Ok(array::is_array(&obj.getattr(name!(py, "obj"))?))
            }
            obj => Ok(obj.is_some_and(array::is_array)),
        }
    }

    pub(super) fn buffer(&self) -> &PyUntypedBuffer {
        &self.0
    }
}

/// A view as an object that shows its bytes, for a `PickleBuffer`. It says that they may be written to, because the
/// receiver's copy may be; what pickles them only reads.
#[pyclass(frozen, module = "procession._procession")]
pub(super) struct Held(View);

impl Held {
    pub(super) fn new(py: Python<'_>, view: View) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self(view))
    }
}

#[pymethods]
impl Held {
    // `PyO3` requires `unsafe` here. It is sound: the view keeps the object, and the object keeps the bytes.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let bytes = slf.get().0.as_slice();
        // SAFETY: `view` is valid by the buffer protocol; the bytes live as long as `slf`, to which the view takes a
        // reference. Only the pickler and `Collector` get such a view, and they do not write.
        let failed = unsafe {
            let start = bytes.as_ptr().cast_mut().cast();
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, bytes.len() as ffi::Py_ssize_t, 0, flags)
        };
        if failed != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        Ok(())
    }
}

/// A pickler's `buffer_callback`: collects the large buffers.
#[pyclass(frozen, module = "procession._procession")]
#[derive(Default)]
pub(super) struct Collector {
    buffers: Mutex<Vec<View>>,
    /// Whether a read-only array was among them. The receiver gets its own copy, which is writable with any other
    /// pickler and so must be here.
    frozen: AtomicBool,
}

impl Collector {
    pub(super) fn take(&self) -> Vec<View> {
        std::mem::take(&mut *lock(&self.buffers))
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }
}

#[pymethods]
impl Collector {
    /// Return True if the buffer must be in the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let view = match View::of(buffer) {
            // It has no dimensions, or is not contiguous, which the pickler reports itself.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => match buffer.call_method0(name!(py, "raw")) {
                Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
                raw => View::of(&raw?)?,
            },
            view => view?,
        };
        if view.0.readonly() && view.is_array(py)? {
            self.frozen.store(true, Relaxed);
        }
        let is_held = || view.0.obj(py).is_some_and(PyAnyMethods::is_instance_of::<Held>);
        if view.0.len_bytes() < OUT_OF_BAND && !is_held() {
            return Ok(true);
        }
        lock(&self.buffers).push(view);
        Ok(false)
    }
}

/// What a pickler wrote.
pub(super) enum Piece {
    Bytes(Py<PyBytes>),
    View(View),
}

impl Piece {
    pub(super) fn as_slice(&self, py: Python<'_>) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(py),
            Self::View(view) => view.as_slice(),
        }
    }

    pub(super) fn as_bytes(&self) -> Option<&Py<PyBytes>> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::View(_) => None,
        }
    }
}

/// The file that a pickler writes to: keeps what it is given. The C pickler passes strings and bytes-likes of 64 KiB
/// and more as they are, so these are copied only once, into the message.
#[pyclass(frozen, module = "procession._procession")]
#[derive(Default)]
pub(super) struct Pieces {
    written: Mutex<Vec<Piece>>,
}

impl Pieces {
    pub(super) fn take(&self) -> Vec<Piece> {
        std::mem::take(&mut *lock(&self.written))
    }
}

#[pymethods]
impl Pieces {
    fn write(&self, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        let piece = if let Ok(bytes) = piece.cast_exact::<PyBytes>() {
            Piece::Bytes(bytes.clone().unbind())
        } else if let Ok(array) = piece.cast_exact::<PyByteArray>() {
            // A copy: the pickler goes on to run Python code, which may change the array or its size.
            Piece::Bytes(PyBytes::new(piece.py(), &array.to_vec()).unbind())
        } else {
            Piece::View(View::of(piece)?)
        };
        lock(&self.written).push(piece);
        Ok(())
    }
}
