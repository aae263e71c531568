//! `reduction.ForkingPickler` as the program has it now: the reducers registered with it, or the class that replaced it.

use super::tools;
use crate::common::{name, Cached};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The present state of `reduction.ForkingPickler`.
pub(super) struct ForkingPickler<'py> {
    /// The registered reducers.
    pub(super) reducers: Bound<'py, PyDict>,
    /// A class by which a program has replaced it.
    pub(super) custom: Option<Bound<'py, PyAny>>,
}

impl ForkingPickler<'_> {
    pub(super) fn has_reducer(&self, class: &Bound<'_, PyType>) -> PyResult<bool> {
        let py = class.py();
        let registered = tools(py)?.registered.bind(py);
        Ok(self.custom.is_some() || self.reducers.contains(class)? || registered.contains(class)?)
    }
}

/// The registered reducers alone.
pub(super) fn registered_only(py: Python<'_>) -> PyResult<ForkingPickler<'_>> {
    Ok(ForkingPickler {
        custom: None,
        ..forking_pickler(py)?
    })
}

pub(super) fn forking_pickler(py: Python<'_>) -> PyResult<ForkingPickler<'_>> {
    let original = original(py)?;
    original.register_sockets(py)?;
    let now = original.module.bind(py).getattr(name!(py, "ForkingPickler"))?;
    Ok(ForkingPickler {
        reducers: original.reducers.bind(py).clone(),
        custom: (!now.is(&original.class)).then_some(now),
    })
}

/// The class as the package defines it.
pub(super) struct Original {
    module: Py<PyModule>,
    class: Py<PyAny>,
    reducers: Py<PyDict>,
    /// The reducer of sockets is registered.
    has_sockets: AtomicBool,
}

impl Original {
    /// Register the reducer of sockets, if the program has loaded their module: otherwise it has no sockets.
    fn register_sockets(&self, py: Python<'_>) -> PyResult<()> {
        if self.has_sockets.load(Relaxed) {
            return Ok(());
        }
        // SAFETY: attached, and the name is a string. Imports nothing; null without an error if it is not loaded.
        let loaded = unsafe { ffi::PyImport_GetModule(name!(py, "socket").as_ptr()) };
        // SAFETY: null, or a new reference.
        if unsafe { Bound::from_owned_ptr_or_opt(py, loaded) }.is_some() {
            let done = self.module.bind(py).call_method0(name!(py, "_register_sockets"))?;
            self.has_sockets.store(done.is_truthy()?, Relaxed);
        }
        Ok(())
    }
}

/// The first call loads the module. It is made by the first object that is sent, of any type: later the interpreter may
/// be about to end, or not find modules any longer.
pub(super) fn original(py: Python<'_>) -> PyResult<&'static Original> {
    static ORIGINAL: Cached<Original> = Cached::new();
    ORIGINAL.get_or_make(|| {
        let module = py.import("procession.reduction")?;
        let class = module.getattr("_ForkingPickler")?;
        let reducers = class.getattr("_extra_reducers")?.cast_into()?.unbind();
        PyResult::Ok(Original {
            module: module.unbind(),
            class: class.unbind(),
            reducers,
            has_sockets: AtomicBool::new(false),
        })
    })
}
