//! Python objects as messages of the engine: pickles, out-of-band buffers, and handles of shared objects inside.
//!
//! The choice of the pickler costs more than the queue does. So a lone string, bytes-like or array of numbers needs none
//! (`lone`). Other objects of exact built-in types are pickled by plain
//! `_pickle.dumps`; all others by a C pickler with the reducers that are registered with `reduction.ForkingPickler`;
//! and what pickle cannot carry, by cloudpickle.

pub mod array;
pub mod attachments;
mod huge;
mod lone;
mod plain;
pub mod received;
mod view;

pub use attachments::attach_handle;
pub use received::loads;

use crate::by_value;
use crate::common::{name, raise, Cached};
use attachments::{Attachments, PicklingScope};
use lone::Lone;
use procession_core::channel::{Message, Outgoing};
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyType};
use view::{Collector, Piece, Pieces, View};

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
    py: Python<'py>,
    body: Body<'py>,
    buffers: Vec<View>,
    attachments: Attachments,
    /// Whether it holds copies of what is otherwise found by name, because pickle could not carry it.
    by_value: bool,
}

/// The body of a message.
enum Body<'py> {
    Pickle(Bound<'py, PyBytes>),
    /// A pickle in pieces.
    Pieces(Vec<Piece>),
    Lone(Lone<'py>),
}

impl Pickled<'_> {
    /// The object as a message for `pack`, which copies what it keeps.
    pub fn with<T>(&self, pack: impl FnOnce(Outgoing<'_>) -> procession_core::Result<T>) -> PyResult<T> {
        let buffers: Vec<&[u8]> = self.buffers.iter().map(View::as_slice).collect();
        let pieces: Vec<&[u8]>;
        let memory;
        let (body, more) = match &self.body {
            Body::Pickle(body) => (body.as_bytes(), &[][..]),
            Body::Pieces(written) => {
                pieces = written.iter().map(|piece| piece.as_slice(self.py)).collect();
                (&[][..], &pieces[..])
            }
            Body::Lone(lone) => {
                let (head, behind) = lone.pieces()?;
                memory = [behind];
                (head, &memory[..])
            }
        };
        pack(Outgoing {
            body,
            more,
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
    py.get_type::<Pieces>();
    py.get_type::<view::Held>();
    py.get_type::<received::Buffer>();
}

/// Pickle an object. If part of it cannot be pickled, the error names that part.
pub fn dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Pickled<'py>> {
    let py = obj.py();
    let tools = tools(py)?;
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
    if let Some(plain) = plain::examine(obj) {
        return Ok(alone(if plain.bytes < PASSED_ON {
            Body::Pickle(tools.dumps.bind(py).call1((obj, 5))?.cast_into()?)
        } else {
            dump_in_pieces(tools, obj, 5, None, None)?
        }));
    }
    if array::is_array(obj) && !has_reducer(&obj.get_type())? {
        if let Some(lone) = array::lone(obj)? {
            return Ok(alone(Body::Lone(lone)));
        }
    }
    let collector = Bound::new(py, Collector::default())?;
    let scope = PicklingScope::begin();
    let (body, by_value) = pickle(tools, &forking_pickler(py)?, obj, Some(&collector), 5)?;
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

/// Pickle an object as `reduction.ForkingPickler.dumps` does: everything is in the pickle.
#[pyfunction]
pub fn pickle_in_band<'py>(obj: &Bound<'py, PyAny>, protocol: i32) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let tools = tools(py)?;
    if plain::examine(obj).is_some() {
        return Ok(tools.dumps.bind(py).call1((obj, protocol))?.cast_into()?);
    }
    let forking = ForkingPickler {
        custom: None,
        ..forking_pickler(py)?
    };
    pickle(tools, &forking, obj, None, protocol)?.0.join(py)
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

impl<'py> Body<'py> {
    /// All of the body.
    fn join(self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let pieces: Vec<&[u8]> = match &self {
            Self::Pickle(body) => return Ok(body.clone()),
            Self::Pieces(pieces) => pieces.iter().map(|piece| piece.as_slice(py)).collect(),
            Self::Lone(lone) => <[_; 2]>::from(lone.pieces()?).to_vec(),
        };
        let len = pieces.iter().map(|piece| piece.len()).sum();
        PyBytes::new_with(py, len, |mut bytes| {
            for piece in pieces {
                let (first, rest) = bytes.split_at_mut(piece.len());
                first.copy_from_slice(piece);
                bytes = rest;
            }
            Ok(())
        })
    }

    /// The parts of a pickle that the pickler wrote itself, and perhaps some that it passed on: of protocol 4 and 5, it
    /// begins all that is not short with one of two opcodes.
    fn written(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        const PROTO: u8 = 0x80;
        const FRAME: u8 = 0x95;
        match self {
            Self::Pickle(body) => vec![body.clone()],
            Self::Pieces(pieces) => pieces
                .iter()
                .filter_map(Piece::as_bytes)
                .filter(|piece| piece.as_bytes(py).len() < PASSED_ON || [PROTO, FRAME].contains(&piece.as_bytes(py)[0]))
                .map(|piece| piece.bind(py).clone())
                .collect(),
            Self::Lone(_) => Vec::new(),
        }
    }
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
