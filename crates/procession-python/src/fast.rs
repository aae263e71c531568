//! `acquire`, `release` and the `with` statement as plain C methods: the wrapper that `PyO3` puts around a method costs
//! more than a lock does.
//!
//! Only what can neither fail nor wait happens here; everything else takes the ordinary path.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::PyClass;
use std::ffi::CStr;

/// A class of objects that are acquired and released.
pub trait FastPath: PyClass<Frozen = True> + Sync {
    /// The docstring of `acquire`, preceded by its signature.
    const ACQUIRE: &'static CStr;
    /// The same for `release`.
    const RELEASE: &'static CStr;
    /// Take it if that needs no wait and there is nothing to report.
    fn try_take(&self) -> bool;
    /// Take it by the ordinary path. `timeout` is in seconds.
    fn take(&self, py: Python<'_>, block: bool, timeout: Option<f64>) -> PyResult<bool>;
    /// As `try_take`, for a `with` statement, whose end releases it.
    #[inline]
    fn try_enter(&self) -> bool {
        self.try_take()
    }
    /// As `take`, for a `with` statement.
    fn enter(&self, py: Python<'_>) -> PyResult<bool> {
        self.take(py, true, None)
    }
    /// Release it. `false` if that is an error.
    fn give(&self) -> bool;
    /// The error, if `give` returned `false`.
    fn release_error(&self) -> PyErr;
}

const WITH: &CStr = c"__enter__($self, /)\n--\n\nAcquire it.";
const END: &CStr = c"__exit__($self, exc_type=None, exc_value=None, traceback=None, /)\n--\n\nRelease it.";

/// Add the methods to the class.
pub fn install<T: FastPath>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<T>();
    let methods = [
        (
            c"acquire",
            ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: acquire::<T>,
            },
            ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            T::ACQUIRE,
        ),
        (
            c"release",
            ffi::PyMethodDefPointer {
                PyCFunction: release::<T>,
            },
            ffi::METH_NOARGS,
            T::RELEASE,
        ),
        (
            c"__enter__",
            ffi::PyMethodDefPointer {
                PyCFunction: enter::<T>,
            },
            ffi::METH_NOARGS,
            WITH,
        ),
        (
            c"__exit__",
            ffi::PyMethodDefPointer {
                PyCFunctionFast: exit::<T>,
            },
            ffi::METH_FASTCALL,
            END,
        ),
    ];
    for (name, function, flags, doc) in methods {
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: function,
            ml_flags: flags,
            ml_doc: doc.as_ptr(),
        }));
        // SAFETY: `class` is a type object, and the definition lasts for ever.
        let method = unsafe {
            let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
            Bound::from_owned_ptr_or_err(py, method)?
        };
        class.setattr(name.to_string_lossy().as_ref(), method)?;
    }
    Ok(())
}

/// The Rust value of an object.
///
/// # Safety
/// `object` must be a `T`, alive for `'a`; the calling thread must be attached to the interpreter.
#[inline]
pub unsafe fn value<'a, T: PyClass<Frozen = True> + Sync>(object: *mut ffi::PyObject) -> &'a T {
    // SAFETY: promised by the caller. The value of a frozen class is never borrowed mutably.
    unsafe {
        let object = Borrowed::from_ptr(Python::assume_attached(), object);
        let object: Borrowed<'a, '_, T> = object.cast_unchecked();
        &*std::ptr::from_ref(object.get())
    }
}

/// A new reference to True.
fn true_object() -> *mut ffi::PyObject {
    // SAFETY: True lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_True()) }
}

/// A new reference to None.
fn none_object() -> *mut ffi::PyObject {
    // SAFETY: None lives for ever.
    unsafe { ffi::Py_NewRef(ffi::Py_None()) }
}

/// The ordinary path: with `PyO3` informed that the thread is attached, and errors raised.
#[cold]
pub fn slowly(call: impl for<'py> FnOnce(Python<'py>) -> PyResult<*mut ffi::PyObject>) -> *mut ffi::PyObject {
    Python::attach(|py| {
        call(py).unwrap_or_else(|error| {
            error.restore(py);
            std::ptr::null_mut()
        })
    })
}

fn take_slowly<T: FastPath>(value: &T, block: bool, timeout: Option<f64>) -> *mut ffi::PyObject {
    slowly(|py| {
        let taken = value.take(py, block, timeout)?;
        Ok(taken.into_pyobject(py)?.to_owned().into_ptr().cast())
    })
}

unsafe extern "C" fn acquire<T: FastPath>(
    object: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the method's descriptor has checked the class of `object`; the interpreter calls attached.
    let value: &T = unsafe { value(object) };
    if count == 0 && names.is_null() {
        return if value.try_take() {
            true_object()
        } else {
            take_slowly(value, true, None)
        };
    }
    slowly(|py| {
        // SAFETY: the arguments are those of this call.
        let (block, timeout) = unsafe { arguments(py, args, count, names)? };
        Ok(take_slowly(value, block, timeout))
    })
}

/// Parse `block=True, timeout=None` from a fast call's arguments.
///
/// # Safety
/// `args` must hold `count` objects and one for each of `names`, which is null or a tuple of strings.
unsafe fn arguments(
    py: Python<'_>,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> PyResult<(bool, Option<f64>)> {
    // SAFETY: promised by the caller.
    let names: Vec<String> = match unsafe { Bound::from_borrowed_ptr_or_opt(py, names) } {
        Some(names) => names.extract()?,
        None => Vec::new(),
    };
    let count = count as usize;
    if count > 2 {
        return Err(PyTypeError::new_err(format!(
            "acquire() takes at most 2 arguments ({count} given)"
        )));
    }
    let mut found = [None, None];
    for at in 0..count + names.len() {
        let place = match at.checked_sub(count).map(|name| names[name].as_str()) {
            None => at,
            Some("block") => 0,
            Some("timeout") => 1,
            Some(other) => {
                return Err(PyTypeError::new_err(format!(
                    "acquire() got an unexpected keyword argument '{other}'"
                )))
            }
        };
        // SAFETY: `at` is within the range that the caller promised.
        let argument = unsafe { Bound::from_borrowed_ptr(py, *args.add(at)) };
        if found[place].replace(argument).is_some() {
            return Err(PyTypeError::new_err("acquire() got multiple values for one argument"));
        }
    }
    let [block, timeout] = found;
    // `block` must be an integer before Python 3.12; from 3.12 on any object's truth value counts.
    #[cfg(Py_3_12)]
    let block = block.map_or(Ok(true), |block| block.is_truthy())?;
    #[cfg(not(Py_3_12))]
    let block = block.map_or(Ok(1), |block| block.extract::<i32>())? != 0;
    let timeout = timeout.map_or(Ok(None), |timeout| timeout.extract())?;
    Ok((block, timeout))
}

unsafe extern "C" fn enter<T: FastPath>(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the method's descriptor has checked the class of `object`; the interpreter calls attached.
    let value: &T = unsafe { value(object) };
    if !value.try_enter() {
        return enter_slowly(value);
    }
    // CPython 3.14 runs signal handlers when this has returned, before the block begins. If a handler raised there, the
    // object would stay taken.
    // SAFETY: the interpreter calls attached.
    #[cfg(all(Py_3_14, not(Py_3_15)))]
    if unsafe { ffi::PyErr_CheckSignals() } < 0 {
        value.give();
        return std::ptr::null_mut();
    }
    true_object()
}

/// Take it at the beginning of a `with` statement, after a wait. A signal may have come just as the wait ended. Its
/// handler runs here: the interpreter looks for signals only after the first call of the body, which may block. If the
/// handler raises, the body does not begin, so give the object back.
#[cold]
fn enter_slowly<T: FastPath>(value: &T) -> *mut ffi::PyObject {
    slowly(|py| {
        value.enter(py)?;
        py.check_signals().inspect_err(|_| {
            value.give();
        })?;
        Ok(true_object())
    })
}

unsafe extern "C" fn release<T: FastPath>(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the method's descriptor has checked the class of `object`; the interpreter calls attached.
    let value: &T = unsafe { value(object) };
    if value.give() {
        none_object()
    } else {
        slowly(|_| Err(value.release_error()))
    }
}

unsafe extern "C" fn exit<T: FastPath>(
    object: *mut ffi::PyObject,
    _args: *mut *mut ffi::PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: as for `release`, which has the same requirements.
    unsafe { release::<T>(object, std::ptr::null_mut()) }
}
