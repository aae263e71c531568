//! Python objects as messages of the engine: pickles, out-of-band buffers, and handles of shared objects inside.
//!
//! The choice of the pickler costs more than the queue does. So objects of exact built-in types are pickled by plain
//! `_pickle.dumps`; all others by a C pickler with the reducers that are registered with `reduction.ForkingPickler`;
//! and what pickle cannot carry, by cloudpickle.

pub mod attachments;
mod received;

pub use attachments::attach_handle;
pub use received::loads;

use crate::by_value;
use crate::common::{name, raise, Cached};
use attachments::{Attachments, PicklingScope};
use procession_core::channel::{Message, Outgoing};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyAttributeError, PyBufferError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple, PyType};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Mutex;

/// Buffers of at least this many bytes are sent outside the pickle.
const OUT_OF_BAND: usize = 16 * 1024;
/// The depth, and the total number of objects, at which the search for objects of exact built-in types gives up.
const PLAIN_DEPTH: u32 = 4;
const PLAIN_OBJECTS: u32 = 256;

/// The functions and classes used for every message.
struct Tools {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    pickler: Py<PyAny>,
    pickling_error: Py<PyType>,
    file: Py<PyAny>,
    registered: Py<PyDict>,
}

fn tools(py: Python<'_>) -> PyResult<&'static Tools> {
    static TOOLS: Cached<Tools> = Cached::new();
    TOOLS.get_or_make(|| {
        let pickle = py.import("_pickle")?;
        Ok(Tools {
            dumps: pickle.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            pickler: pickle.getattr("Pickler")?.unbind(),
            pickling_error: pickle.getattr("PicklingError")?.cast_into()?.unbind(),
            file: py.import("_io")?.getattr("BytesIO")?.unbind(),
            registered: py.import("copyreg")?.getattr("dispatch_table")?.cast_into()?.unbind(),
        })
    })
}

/// A pickled object.
pub struct Pickled<'py> {
    body: Bound<'py, PyBytes>,
    buffers: Vec<PyBuffer<u8>>,
    attachments: Attachments,
    /// Whether it holds copies of what is otherwise found by name, because pickle could not carry it.
    by_value: bool,
}

impl Pickled<'_> {
    /// The object as a message for `pack`, which copies what it keeps.
    pub fn with<T>(&self, pack: impl FnOnce(Outgoing<'_>) -> procession_core::Result<T>) -> PyResult<T> {
        let buffers: Vec<&[u8]> = self
            .buffers
            .iter()
            // SAFETY: the buffers are contiguous (`PickleBuffer.raw`) and held by `self.buffers`. Another thread may
            // change them while they are copied, as it may during any copy of a buffer that Python makes.
            .map(|buffer| unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) })
            .collect();
        pack(Outgoing {
            body: self.body.as_bytes(),
            buffers: &buffers,
            handles: &self.attachments.handles,
        })
        .map_err(raise)
    }

    /// Whether the functions in it are found by name, and so are the same whenever they are pickled.
    pub fn is_by_name(&self) -> bool {
        !self.by_value
    }

    /// The object as a message.
    pub fn pack(&self) -> PyResult<Message> {
        self.with(Message::pack)
    }
}

/// Create the classes that the module does not export. Otherwise they are created at first use, under a lock of
/// `PyO3`'s.
pub fn install(py: Python<'_>) {
    py.get_type::<Collector>();
    py.get_type::<received::Buffer>();
}

/// Pickle an object. If part of it cannot be pickled, the error names that part.
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let tools = tools(py)?;
    if is_plain(obj, PLAIN_DEPTH, &mut PLAIN_OBJECTS.clone()) {
        let body = tools.dumps.bind(py).call1((obj, 5))?.cast_into()?;
        return Ok(Pickled {
            body,
            buffers: Vec::new(),
            attachments: Attachments::default(),
            by_value: false,
        });
    }
    let collector = Bound::new(py, Collector::default())?;
    let scope = PicklingScope::begin();
    let (body, by_value) = pickle(tools, &forking_pickler(py)?, obj, Some(&collector), 5)?;
    Ok(Pickled {
        body,
        buffers: collector.get().take(),
        attachments: scope.end(),
        by_value,
    })
}

/// Pickle an object with all its buffers in the pickle.
pub fn dumps_in_band<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let scope = PicklingScope::begin();
    // With protocol 5, arrays with their buffers in the pickle would arrive read-only.
    let (body, by_value) = pickle(tools(py)?, &forking_pickler(py)?, obj, None, 4)?;
    Ok(Pickled {
        body,
        buffers: Vec::new(),
        attachments: scope.end(),
        by_value,
    })
}

/// Pickle an object as `reduction.ForkingPickler.dumps` does: everything is in the pickle.
#[pyfunction]
pub fn pickle_in_band<'py>(obj: &Bound<'py, PyAny>, protocol: i32) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let tools = tools(py)?;
    if is_plain(obj, PLAIN_DEPTH, &mut PLAIN_OBJECTS.clone()) {
        return Ok(tools.dumps.bind(py).call1((obj, protocol))?.cast_into()?);
    }
    let forking = ForkingPickler {
        custom: None,
        ..forking_pickler(py)?
    };
    Ok(pickle(tools, &forking, obj, None, protocol)?.0)
}

/// Pickle an object. Also returns whether the pickle holds something by value.
fn pickle<'py>(
    tools: &Tools,
    forking: &ForkingPickler<'py>,
    obj: &Bound<'py, PyAny>,
    collector: Option<&Bound<'py, Collector>>,
    protocol: i32,
) -> PyResult<(Bound<'py, PyBytes>, bool)> {
    let any = collector.map(Bound::as_any);
    let frozen = || forking.custom.is_none() && collector.is_some_and(|collector| collector.get().frozen.load(Relaxed));
    let mut result = dump(tools, forking, obj, collector, protocol, false);
    if result.is_ok() && frozen() {
        start_anew(collector);
        result = dump(tools, forking, obj, collector, protocol, true);
    }
    match result {
        Ok(body) if forking.custom.is_some() || !by_value::lacks(&body)? => Ok((body, false)),
        Ok(_) => {
            start_anew(collector);
            by_value::dump(obj, any, protocol)
        }
        Err(error) if is_refusal(obj.py(), tools, &error) => {
            start_anew(collector);
            Ok((by_value::dump_refused(obj, any, &error)?, true))
        }
        Err(error) => Err(error),
    }
}

/// Discard what the last attempt collected.
fn start_anew(collector: Option<&Bound<'_, Collector>>) {
    if let Some(collector) = collector {
        drop(collector.get().take());
    }
    PicklingScope::discard();
}

fn is_refusal(py: Python<'_>, tools: &Tools, error: &PyErr) -> bool {
    error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance(py, tools.pickling_error.bind(py))
}

/// Pickle with the registered reducers. `thaw`: pickle read-only arrays such that they arrive writable.
fn dump<'py>(
    tools: &Tools,
    forking: &ForkingPickler<'py>,
    obj: &Bound<'py, PyAny>,
    collector: Option<&Bound<'py, Collector>>,
    protocol: i32,
    thaw: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let file = tools.file.bind(py).call0()?;
    if let Some(custom) = &forking.custom {
        custom
            .call1((&file, protocol))?
            .call_method1(name!(py, "dump"), (obj,))?;
    } else {
        let table = tools.registered.bind(py).copy()?;
        if thaw {
            let reducers = py.import(name!(py, "procession.reduction"))?;
            let reducers = reducers.call_method0(name!(py, "_array_reducers"))?;
            table.update(reducers.cast()?)?;
        }
        table.update(forking.reducers.as_mapping())?;
        let pickler = tools.pickler.bind(py).call1((&file, protocol, true, collector))?;
        pickler.setattr(name!(py, "dispatch_table"), table)?;
        pickler.call_method1(name!(py, "dump"), (obj,))?;
    }
    Ok(file.call_method0(name!(py, "getvalue"))?.cast_into()?)
}

/// Whether the program has registered a way to pickle objects of this type.
pub fn has_reducer(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let forking = forking_pickler(py)?;
    let registered = tools(py)?.registered.bind(py);
    Ok(forking.custom.is_some() || forking.reducers.contains(class)? || registered.contains(class)?)
}

/// The present state of `reduction.ForkingPickler`.
struct ForkingPickler<'py> {
    /// The registered reducers.
    reducers: Bound<'py, PyDict>,
    /// A class by which a program has replaced it.
    custom: Option<Bound<'py, PyAny>>,
}

fn forking_pickler(py: Python<'_>) -> PyResult<ForkingPickler<'_>> {
    static OURS: Cached<(Py<PyAny>, Py<PyAny>, Py<PyDict>)> = Cached::new();
    let (module, ours, reducers) = OURS.get_or_make(|| {
        let module = py.import("procession.reduction")?;
        let class = module.getattr("_ForkingPickler")?;
        let reducers = class.getattr("_extra_reducers")?.cast_into()?.unbind();
        PyResult::Ok((module.into_any().unbind(), class.unbind(), reducers))
    })?;
    let now = module.bind(py).getattr(name!(py, "ForkingPickler"))?;
    Ok(ForkingPickler {
        reducers: reducers.bind(py).clone(),
        custom: (!now.is(ours)).then_some(now),
    })
}

/// Whether an object and all its contents are of exact built-in types, for which no reducer can be registered.
fn is_plain(obj: &Bound<'_, PyAny>, depth: u32, left: &mut u32) -> bool {
    if *left == 0 {
        return false;
    }
    *left -= 1;
    if obj.is_none()
        || obj.is_exact_instance_of::<PyInt>()
        || obj.is_exact_instance_of::<PyString>()
        || obj.is_exact_instance_of::<PyFloat>()
        || obj.is_exact_instance_of::<PyBytes>()
        || obj.is_exact_instance_of::<PyBool>()
    {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let mut plain = |item: &Bound<'_, PyAny>| is_plain(item, depth - 1, left);
    if let Ok(tuple) = obj.cast_exact::<PyTuple>() {
        tuple.iter_borrowed().all(|item| plain(&item))
    } else if let Ok(list) = obj.cast_exact::<PyList>() {
        list.iter().all(|item| plain(&item))
    } else if let Ok(dict) = obj.cast_exact::<PyDict>() {
        dict.len() <= PLAIN_OBJECTS as usize && dict.keys().iter().chain(dict.values().iter()).all(|item| plain(&item))
    } else if let Ok(set) = obj.cast_exact::<PySet>() {
        // Another thread may change the set meanwhile, which ends the iteration with an error; the pickler then reports
        // it.
        let items = set.as_any().try_iter();
        items.is_ok_and(|mut items| items.all(|item| item.is_ok_and(|item| plain(&item))))
    } else if let Ok(set) = obj.cast_exact::<PyFrozenSet>() {
        set.len() <= PLAIN_OBJECTS as usize && set.iter().all(|item| plain(&item))
    } else {
        false
    }
}

/// The pickler's `buffer_callback`: collects the large buffers.
#[pyclass(frozen, module = "procession._procession")]
#[derive(Default)]
struct Collector {
    buffers: Mutex<Vec<PyBuffer<u8>>>,
    /// Whether a read-only array was among them. The receiver gets its own copy, which is writable with any other
    /// pickler and so must be here.
    frozen: AtomicBool,
}

impl Collector {
    fn take(&self) -> Vec<PyBuffer<u8>> {
        self.buffers
            .lock()
            .map(|mut buffers| std::mem::take(&mut *buffers))
            .unwrap_or_default()
    }
}

#[pymethods]
impl Collector {
    /// Return True if the buffer must be in the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let raw = match buffer.call_method0(name!(py, "raw")) {
            // Not contiguous: the pickler reports that itself.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
            raw => raw?,
        };
        let view = PyBuffer::<u8>::get(&raw)?;
        if view.readonly() && is_array(&raw)? {
            self.frozen.store(true, Relaxed);
        }
        if view.len_bytes() < OUT_OF_BAND {
            return Ok(true);
        }
        if let Ok(mut buffers) = self.buffers.lock() {
            buffers.push(view);
        }
        Ok(false)
    }
}

/// Whether a view is of a numpy array.
fn is_array(view: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = view.py();
    let class = view.getattr(name!(py, "obj"))?.get_type();
    Ok(class.module()?.to_str()? == "numpy" && class.name()?.to_str()? == "ndarray")
}
