//! Objects that pickle cannot carry, or only by a name that a receiver lacks. The rule is in the package's module
//! `_pickling.by_value`; this file asks it only when it must.

use crate::common::name;
use crate::imports::import_whole;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyModule, PyString, PyType};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Mutex;

/// What is known of `__main__`; `None` until a pickle named it. No Python code runs under the lock, and no thread waits
/// for it: a thread that finds it taken, in a forked child perhaps for ever, examines `__main__` anew.
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Counts the reasons to examine `__main__` again.
static EPOCH: AtomicU32 = AtomicU32::new(0);

struct Watch {
    found: Found,
    epoch: u32,
}

/// What `_pickling.receivers.watch` returns. It is valid while `__main__` has `len` variables and no name in `bound` is
/// bound to another function or class.
#[derive(FromPyObject)]
struct Found {
    main: Py<PyDict>,
    len: usize,
    /// The names that the program may rebind, with the function or class that each stood for, if any.
    bound: Vec<(Py<PyString>, Option<Py<PyAny>>)>,
    /// The names of functions and classes that receivers may lack, as bytes in a pickle.
    doubtful: Vec<Py<PyBytes>>,
}

fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    import_whole(name!(py, "procession._pickling.by_value"))
}

/// Whether a pickle, given in pieces, names something of `__main__` that a receiver lacks.
pub fn lacks(py: Python<'_>, pieces: &[Bound<'_, PyBytes>]) -> PyResult<bool> {
    // The main module is `__main__`, or `__mp_main__` where it was imported.
    if !contain(pieces, &PyBytes::new(py, b"_main__"))? {
        return Ok(false);
    }
    let named = WATCH.try_lock().ok().and_then(|watch| {
        watch
            .as_ref()
            .filter(|watch| watch.holds(py))
            .map(|watch| watch.named(py, pieces))
    });
    let named = if let Some(named) = named {
        named
    } else {
        let epoch = EPOCH.load(Relaxed);
        let found: Found = module(py)?.call_method0(name!(py, "watch"))?.extract()?;
        let new = Watch { found, epoch };
        let named = new.named(py, pieces);
        let old = WATCH.try_lock().map(|mut watch| watch.replace(new));
        drop(old); // after the lock is released
        named
    };
    Ok(!named.is_empty() && module(py)?.call_method1(name!(py, "lacks"), (named,))?.extract()?)
}

/// Whether one of the pieces contains `part`: a name is never in two of them.
fn contain(pieces: &[Bound<'_, PyBytes>], part: &Bound<'_, PyBytes>) -> PyResult<bool> {
    for piece in pieces {
        if piece.contains(part)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Watch {
    fn holds(&self, py: Python<'_>) -> bool {
        let Found { main, len, bound, .. } = &self.found;
        let main = main.bind(py);
        let is_same = |(name, known): &(Py<PyString>, Option<Py<PyAny>>)| match main.get_item(name.bind(py)) {
            Ok(Some(value)) => {
                known.as_ref().is_some_and(|known| value.is(known))
                    || !(value.is_instance_of::<PyFunction>() || value.is_instance_of::<PyType>())
            }
            _ => true,
        };
        EPOCH.load(Relaxed) == self.epoch && main.len() == *len && bound.iter().all(is_same)
    }

    /// The doubtful names that occur in a pickle.
    fn named(&self, py: Python<'_>, pieces: &[Bound<'_, PyBytes>]) -> Vec<Py<PyBytes>> {
        let is_named = |name: &&Py<PyBytes>| contain(pieces, name.bind(py)).unwrap_or(true);
        self.found
            .doubtful
            .iter()
            .filter(is_named)
            .map(|name| name.clone_ref(py))
            .collect()
    }
}

/// Make the next pickle that names `__main__` examine it again, because there will be another kind of receiver.
#[pyfunction]
pub fn refresh_main() {
    EPOCH.fetch_add(1, Relaxed);
}

/// Pickle by the rule of `_pickling.by_value`. Also returns whether the pickle holds something by value.
pub fn dump<'py>(
    obj: &Bound<'py, PyAny>,
    collector: Option<&Bound<'py, PyAny>>,
    protocol: i32,
) -> PyResult<(Bound<'py, PyBytes>, bool)> {
    let py = obj.py();
    module(py)?
        .call_method1(name!(py, "dump"), (obj, collector, protocol))?
        .extract()
}

/// Pickle, by the rule of `_pickling.by_value`, what pickle refused.
pub fn dump_refused<'py>(
    obj: &Bound<'py, PyAny>,
    collector: Option<&Bound<'py, PyAny>>,
    error: &PyErr,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    let arguments = (obj, collector, error.value(py));
    Ok(module(py)?
        .call_method1(name!(py, "dump_refused"), arguments)?
        .cast_into()?)
}
