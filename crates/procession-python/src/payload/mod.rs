//! Python objects as messages of the engine: pickles, out-of-band buffers, and handles of shared objects inside.
//!
//! The choice of the pickler costs more than the queue does. So a lone string, bytes-like or array of numbers needs none
//! (`lone`), nor does a tuple of a few numbers and short strings (`small`). Other objects of exact built-in types are
//! pickled by plain `_pickle.dumps`; all others by a C pickler with the reducers that are registered with
//! `reduction.ForkingPickler`; and what pickle cannot carry, by cloudpickle.

pub mod array;
pub mod attachments;
mod forking_pickler;
mod huge;
mod lone;
mod pickled;
mod plain;
pub mod received;
mod small;
mod view;

pub use attachments::attach_handle;
pub use pickled::Pickled;
pub use received::loads;

use crate::by_value;
use crate::common::{name, Cached};
use attachments::{Attachments, PicklingScope};
use forking_pickler::{forking_pickler, original, registered_only, ForkingPickler};
use lone::{Kind, Lone};
use pickled::Body;
use procession_core::channel::Incoming;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyType};
use small::Small;
use view::{Collector, Piece, Pieces};

/// What the C pickler passes to its file as it is: strings and bytes-likes of this many bytes and more. It also writes
/// frames of about this size.
const PASSED_ON: usize = 64 * 1024;

/// The functions and classes used for every message.
struct Tools {
    dumps: Py<PyAny>,
    loads: Py<PyAny>,
    pickler: Py<PyAny>,
    pickling_error: Py<PyType>,
    file: Py<PyAny>,
    registered: Py<PyDict>,
}

/// The C module of pickle.
///
/// While it is made, it imports `copyreg`. A signal handler that runs in that module's code would find the C module, and
/// crash by pickling a class with it (seen with `CPython` 3.13). So `copyreg` comes first.
pub(crate) fn c_pickle(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("copyreg")?;
    py.import("_pickle")
}

fn tools(py: Python<'_>) -> PyResult<&'static Tools> {
    static TOOLS: Cached<Tools> = Cached::new();
    TOOLS.get_or_make(|| {
        let pickle = c_pickle(py)?;
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

/// The first byte of a message that is bytes and not an object. No pickle begins with it, and no lone object.
pub const RAW: u8 = 0;

/// A message as `Connection.recv_bytes` returns it: bytes, or a whole pickle of the object.
pub fn into_bytes(py: Python<'_>, incoming: Incoming) -> PyResult<Bound<'_, PyBytes>> {
    let body = incoming.body();
    if body.first() == Some(&RAW) {
        return Ok(huge::bytes(py, &body[1..])?.cast_into()?);
    }
    if incoming.is_lone_body() && Kind::of(body).is_none() {
        return Ok(PyBytes::new(py, body));
    }
    dumps_whole(&loads(py, incoming)?)
}

/// A message as `Connection.recv` returns it: an object, also if its pickle was sent as bytes.
pub fn into_object(py: Python<'_>, incoming: Incoming) -> PyResult<Bound<'_, PyAny>> {
    if incoming.body().first() == Some(&RAW) {
        return load_pickle(into_bytes(py, incoming)?.as_any());
    }
    loads(py, incoming)
}

/// The object of a whole pickle, in bytes or a buffer.
pub fn load_pickle<'py>(pickle: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = pickle.py();
    tools(py)?.loads.bind(py).call1((pickle,))
}

/// Create the classes that the module does not export. Otherwise they are created at first use, under a lock of
/// `PyO3`'s.
pub fn install(py: Python<'_>) {
    py.get_type::<Collector>();
    py.get_type::<Pieces>();
    py.get_type::<view::Held>();
    py.get_type::<received::Buffer>();
}

/// Pickle an object. If part of it cannot be pickled, the error names that part.
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    dumps_by(forking_pickler, obj)
}

/// As [`dumps`], without regard to a class by which a program has replaced `ForkingPickler`: connections use the one
/// that they were made with.
pub fn dumps_registered<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    dumps_by(registered_only, obj)
}

/// The pickle of an object, with all its buffers in it, unless the object is a large one that needs no reducer: then
/// what [`dumps_registered`] returns. `limit` is in bytes, about.
pub fn dumps_whole_or_large<'py>(obj: &Bound<'py, PyAny>, limit: usize) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let tools = tools(py)?;
    let whole = |body, attachments| Pickled {
        py,
        body,
        buffers: Vec::new(),
        attachments,
        by_value: false,
    };
    let protocol = default_protocol(py)?;
    if let Some(plain) = plain::examine(obj) {
        if plain.bytes >= limit {
            return dumps_registered(obj);
        }
        let pickle = tools.dumps.bind(py).call1((obj, protocol))?;
        return Ok(whole(Body::Pickle(pickle.cast_into()?), Attachments::default()));
    }
    let registered = registered_only(py)?;
    if array::is_array(obj) && !registered.has_reducer(&obj.get_type())? {
        if let Some(lone) = array::lone(obj)? {
            let lone = whole(Body::Lone(lone), Attachments::default());
            if lone.size()? >= limit {
                return Ok(lone);
            }
        }
    }
    let scope = PicklingScope::begin();
    let (body, _) = pickle(tools, &registered, obj, None, protocol.extract()?)?;
    Ok(whole(body, scope.end()))
}

/// The pickle of an object for any receiver: everything is in it.
pub fn dumps_whole<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let protocol = default_protocol(py)?;
    // A reducer, finalizer or signal handler may send it in the middle of another `dumps`: nothing of it goes along there.
    let _scope = PicklingScope::begin();
    pickle_in_band(obj, protocol.extract()?)
}

/// As [`dumps_whole`], without a copy of long strings and bytes-likes.
pub fn dumps_whole_in_pieces<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let tools = tools(py)?;
    let protocol = default_protocol(py)?;
    let body = match plain::examine(obj) {
        Some(plain) if plain.bytes < PASSED_ON => {
            Body::Pickle(tools.dumps.bind(py).call1((obj, protocol))?.cast_into()?)
        }
        Some(_) => dump_in_pieces(tools, obj, protocol.extract()?, None, None)?,
        None => {
            let _scope = PicklingScope::begin(); // as in `dumps_whole`
            pickle(tools, &registered_only(py)?, obj, None, protocol.extract()?)?.0
        }
    };
    Ok(Pickled {
        py,
        body,
        buffers: Vec::new(),
        attachments: Attachments::default(),
        by_value: false,
    })
}

/// As the program has set it. Loading `pickle` is slow, and a child that sends nothing over a connection needs only its C
/// module.
fn default_protocol(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static PICKLE: Cached<Py<PyModule>> = Cached::new();
    PICKLE
        .get_or_make(|| py.import("pickle").map(Bound::unbind))?
        .bind(py)
        .getattr(name!(py, "DEFAULT_PROTOCOL"))
}

/// Pickle by what `forking` returns, unless no pickler could treat the object otherwise.
fn dumps_by<'py>(
    forking: impl FnOnce(Python<'py>) -> PyResult<ForkingPickler<'py>>,
    obj: &Bound<'py, PyAny>,
) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let tools = tools(py)?;
    original(py)?;
    let alone = |body| Pickled {
        py,
        body,
        buffers: Vec::new(),
        attachments: Attachments::default(),
        by_value: false,
    };
    if let Some(lone) = Lone::of(obj)? {
        return Ok(alone(Body::Lone(lone)));
    }
    if let Some(small) = Small::of(Kind::Small as u8, obj) {
        return Ok(alone(Body::Small(small)));
    }
    if let Some(plain) = plain::examine(obj) {
        return Ok(alone(if plain.bytes < PASSED_ON {
            Body::Pickle(tools.dumps.bind(py).call1((obj, 5))?.cast_into()?)
        } else {
            dump_in_pieces(tools, obj, 5, None, None)?
        }));
    }
    let forking = forking(py)?;
    if array::is_array(obj) && !forking.has_reducer(&obj.get_type())? {
        if let Some(lone) = array::lone(obj)? {
            return Ok(alone(Body::Lone(lone)));
        }
    }
    let collector = Bound::new(py, Collector::default())?;
    let scope = PicklingScope::begin();
    let (body, by_value) = pickle(tools, &forking, obj, Some(&collector), 5)?;
    Ok(Pickled {
        py,
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
        py,
        body,
        buffers: Vec::new(),
        attachments: scope.end(),
        by_value,
    })
}

/// Pickle an object with everything in the pickle. `None` if it refers to shared objects.
pub fn dumps_alone<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let py = obj.py();
    let tools = tools(py)?;
    if plain::examine(obj).is_some() {
        return Ok(Some(tools.dumps.bind(py).call1((obj, 5))?.cast_into()?));
    }
    let pickled = dumps_in_band(obj)?;
    let is_alone = pickled.attachments.handles.is_empty();
    is_alone.then(|| pickled.body.join(py)).transpose()
}

/// Pickle an object so that equal ones have equal pickles, as far as that can be. `None` if it refers to shared objects.
pub fn dumps_key<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    static PICKLE_KEY: Cached<Py<PyAny>> = Cached::new();
    let py = obj.py();
    let scope = PicklingScope::begin();
    let pickle_key = PICKLE_KEY.import(py, "procession._pickling.keys", "pickle_key")?;
    let body = pickle_key.call1((obj,))?.cast_into::<PyBytes>()?;
    let is_alone = scope.end().handles.is_empty();
    // Classes and functions are named, never sent by value: which of them a receiver lacks differs between processes.
    Ok(is_alone.then_some(body))
}

/// Pickle an object as `reduction.ForkingPickler.dumps` does: everything is in the pickle.
#[pyfunction]
pub fn pickle_in_band<'py>(obj: &Bound<'py, PyAny>, protocol: i32) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let tools = tools(py)?;
    if plain::examine(obj).is_some() {
        return Ok(tools.dumps.bind(py).call1((obj, protocol))?.cast_into()?);
    }
    pickle(tools, &registered_only(py)?, obj, None, protocol)?.0.join(py)
}

/// Pickle an object. Also returns whether the pickle holds something by value.
fn pickle<'py>(
    tools: &Tools,
    forking: &ForkingPickler<'py>,
    obj: &Bound<'py, PyAny>,
    collector: Option<&Bound<'py, Collector>>,
    protocol: i32,
) -> PyResult<(Body<'py>, bool)> {
    let py = obj.py();
    let any = collector.map(Bound::as_any);
    let frozen = || forking.custom.is_none() && collector.is_some_and(|collector| collector.get().is_frozen());
    let mut result = dump(tools, forking, obj, collector, protocol, false);
    if result.is_ok() && frozen() {
        start_anew(collector);
        result = dump(tools, forking, obj, collector, protocol, true);
    }
    match result {
        Ok(body) if forking.custom.is_some() || !by_value::lacks(py, &body.written(py))? => Ok((body, false)),
        Ok(_) => {
            start_anew(collector);
            let (body, by_value) = by_value::dump(obj, any, protocol)?;
            Ok((Body::Pickle(body), by_value))
        }
        Err(error) if is_refusal(py, tools, &error) => {
            start_anew(collector);
            Ok((Body::Pickle(by_value::dump_refused(obj, any, &error)?), true))
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
) -> PyResult<Body<'py>> {
    let py = obj.py();
    if let Some(custom) = &forking.custom {
        let file = tools.file.bind(py).call0()?;
        custom
            .call1((&file, protocol))?
            .call_method1(name!(py, "dump"), (obj,))?;
        return Ok(Body::Pickle(file.call_method0(name!(py, "getvalue"))?.cast_into()?));
    }
    let registered = tools.registered.bind(py);
    let table = registered.copy()?;
    if let Some(arrays) = array::class(py).filter(|_| collector.is_some()) {
        if !registered.contains(arrays)? {
            table.set_item(arrays, array::reducer(py)?)?;
        }
    }
    if thaw {
        let reducers = py.import(name!(py, "procession.reduction"))?;
        let reducers = reducers.call_method0(name!(py, "_array_reducers"))?;
        table.update(reducers.cast()?)?;
    }
    table.update(forking.reducers.as_mapping())?;
    dump_in_pieces(tools, obj, protocol, collector, Some(&table))
}

/// Pickle, without a copy of what the pickler passes on as it is.
fn dump_in_pieces<'py>(
    tools: &Tools,
    obj: &Bound<'py, PyAny>,
    protocol: i32,
    collector: Option<&Bound<'py, Collector>>,
    table: Option<&Bound<'py, PyDict>>,
) -> PyResult<Body<'py>> {
    let py = obj.py();
    let file = Bound::new(py, Pieces::default())?;
    let pickler = tools.pickler.bind(py).call1((&file, protocol, true, collector))?;
    if let Some(table) = table {
        pickler.setattr(name!(py, "dispatch_table"), table)?;
    }
    pickler.call_method1(name!(py, "dump"), (obj,))?;
    let mut pieces = file.get().take();
    Ok(match pieces.pop() {
        Some(Piece::Bytes(body)) if pieces.is_empty() => Body::Pickle(body.into_bound(py)),
        last => {
            pieces.extend(last);
            Body::Pieces(pieces)
        }
    })
}

/// Whether the program has registered a way to pickle objects of this type.
pub fn has_reducer(class: &Bound<'_, PyType>) -> PyResult<bool> {
    forking_pickler(class.py())?.has_reducer(class)
}
