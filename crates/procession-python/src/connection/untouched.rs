//! Whether a program has replaced methods of the classes that the fast paths stand for.

use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString, PyType};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::OnceLock;

/// The methods of the class `Connection` that the fast paths do without.
pub(super) const OF_CONNECTION: [&str; 8] = [
    "_check_readable",
    "_check_writable",
    "_poll",
    "_recv",
    "_recv_bytes",
    "_recv_rest",
    "_send",
    "_send_bytes",
];
const OF_PICKLER: [&str; 2] = ["dumps", "loads"];

/// A class and what it had when it was made.
struct Sealed {
    class: Py<PyType>,
    /// Names, and what the class itself has by them.
    own: Vec<(Py<PyString>, Option<Py<PyAny>>)>,
    /// The version of the class that was last found to have all of them; 0 = none. `CPython` gives a class a new version
    /// when an attribute of the class, or of a base, changes.
    version: AtomicU32,
}

static CONNECTION: OnceLock<Sealed> = OnceLock::new();
static PICKLER: OnceLock<Sealed> = OnceLock::new();

impl Sealed {
    fn of(class: &Bound<'_, PyType>, names: &[&str]) -> PyResult<Self> {
        let py = class.py();
        let names = names.iter().map(|name| PyString::intern(py, name));
        let own = names.map(|name| Ok((name.clone().unbind(), own(class, &name)?.map(Bound::unbind))));
        Ok(Self {
            class: class.clone().unbind(),
            own: own.collect::<PyResult<_>>()?,
            version: AtomicU32::new(0),
        })
    }

    fn is_untouched(&self, py: Python<'_>) -> PyResult<bool> {
        let version = version_of(self.class.bind(py));
        if version != 0 && self.version.load(Relaxed) == version {
            return Ok(true);
        }
        self.compare(py, version)
    }

    #[cold]
    fn compare(&self, py: Python<'_>, version: u32) -> PyResult<bool> {
        let class = self.class.bind(py);
        for (name, original) in &self.own {
            let now = own(class, name.bind(py))?;
            let is_same = match (&now, original) {
                (Some(now), Some(original)) => now.is(original),
                (None, None) => true,
                _ => false,
            };
            if !is_same {
                return Ok(false);
            }
        }
        self.version.store(version, Relaxed);
        Ok(true)
    }
}

/// What the class has by a name, not counting its bases.
fn own<'py>(class: &Bound<'py, PyType>, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let members = class.getattr("__dict__")?.cast_into::<PyMapping>()?;
    Ok(if members.contains(name)? {
        Some(members.get_item(name)?)
    } else {
        None
    })
}

/// The version of a class; 0 if it has none at present.
fn version_of(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: the field of a type that is alive. CPython writes it with the interpreter's lock held, or atomically.
    unsafe { AtomicU32::from_ptr(&raw mut (*class.as_type_ptr()).tp_version_tag) }.load(Relaxed)
}

/// Note the classes as the package made them. Later calls do nothing.
#[pyfunction]
pub fn seal_connection(connection: &Bound<'_, PyType>, pickler: &Bound<'_, PyType>) -> PyResult<()> {
    let _ = CONNECTION.set(Sealed::of(connection, &OF_CONNECTION)?);
    let _ = PICKLER.set(Sealed::of(pickler, &OF_PICKLER)?);
    Ok(())
}

/// Whether the object is exactly a `Connection`, whose methods are the package's own.
pub(super) fn is_untouched<T>(object: &Bound<'_, T>) -> PyResult<bool> {
    match CONNECTION.get() {
        Some(sealed) if object.as_any().get_type_ptr().cast() == sealed.class.as_ptr() => {
            sealed.is_untouched(object.py())
        }
        _ => Ok(false),
    }
}

/// Whether `ForkingPickler` pickles as the package does.
pub(super) fn is_pickler_untouched(py: Python<'_>) -> PyResult<bool> {
    PICKLER.get().map_or(Ok(false), |sealed| sealed.is_untouched(py))
}
