//! Imports beside a fork. The child has no copy of the thread that is importing: the module stays half made, and its lock held.
//!
//! A fork of this package waits for imports first. In the child of any fork, modules that stayed half made are imported anew. There is no waiting
//! in a hook of `fork`: an import that ends meanwhile may register hooks, of which the one before the fork would not run.

use crate::common::{name, Cached};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::time::{Duration, Instant};

/// How long a fork waits for imports. One that takes longer may itself wait for the thread that forks; the child then imports anew.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks: the import system tells no one when an import ends.
const PAUSE: Duration = Duration::from_millis(1);

/// What the import system keeps.
struct System {
    /// Weak references to the locks of modules, by name.
    locks: Py<PyDict>,
    /// The lock (since 3.12 a list of them) for which a thread waits, by its number. A dictionary, or like one.
    waits: Py<PyAny>,
    modules: Py<PyDict>,
    get_ident: Py<PyAny>,
}

static SYSTEM: Cached<System> = Cached::new();

/// Find the import system. Where it has another form, forks go on as without this module.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let find = || {
        let machinery = py.import("_frozen_importlib")?;
        PyResult::Ok(System {
            locks: machinery.getattr("_module_locks")?.cast_into()?.unbind(),
            waits: machinery.getattr("_blocking_on")?.unbind(),
            modules: py.import("sys")?.getattr("modules")?.cast_into()?.unbind(),
            get_ident: py.import("_thread")?.getattr("get_ident")?.unbind(),
        })
    };
    if SYSTEM.get_or_make(find).is_err() {
        return Ok(());
    }
    let hooks = PyDict::new(py);
    hooks.set_item("after_in_child", wrap_pyfunction!(forget_imports, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&hooks))?;
    Ok(())
}

/// A module's name, its lock, and the thread that holds it.
type Locked<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<u64>);

/// A module's lock that a thread holds.
struct Held<'py> {
    name: Bound<'py, PyAny>,
    lock: Bound<'py, PyAny>,
    owner: u64,
}

impl System {
    fn me(&self, py: Python<'_>) -> PyResult<u64> {
        self.get_ident.call0(py)?.extract(py)
    }

    /// All locks that exist.
    fn locks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Locked<'py>>> {
        let mut found = Vec::new();
        for (name, reference) in self.locks.bind(py).copy()? {
            let lock = reference.call0()?;
            if !lock.is_none() {
                let owner = lock.getattr(name!(py, "owner"))?.extract()?;
                found.push((name, lock, owner));
            }
        }
        Ok(found)
    }

    /// Those that other threads hold.
    fn held<'py>(&self, py: Python<'py>) -> PyResult<Vec<Held<'py>>> {
        let me = self.me(py)?;
        let locks = self.locks(py)?.into_iter();
        Ok(locks
            .filter_map(|(name, lock, owner)| {
                Some(Held {
                    name,
                    lock,
                    owner: owner?,
                })
            })
            .filter(|held| held.owner != me)
            .collect())
    }

    /// Whether a thread waits, over others or not, for a module that thread `me` imports.
    fn waits_for(&self, py: Python<'_>, me: u64, mut thread: u64) -> PyResult<bool> {
        // As many steps as there may be threads in a sensible chain.
        for _ in 0..64 {
            let mut lock = self.waits.bind(py).call_method1(name!(py, "get"), (thread,))?;
            if lock.is_none() {
                return Ok(false);
            }
            if let Ok(locks) = lock.cast::<PyList>() {
                let Some(last) = locks.iter().last() else {
                    return Ok(false);
                };
                lock = last;
            }
            match lock.getattr(name!(py, "owner"))?.extract()? {
                Some(owner) if owner == me => return Ok(true),
                Some(owner) => thread = owner,
                None => return Ok(false),
            }
        }
        Ok(false)
    }
}

/// Wait for other threads' imports, to be called before a fork.
#[pyfunction]
pub fn wait_for_imports(py: Python<'_>) -> PyResult<()> {
    let Some(system) = SYSTEM.get() else { return Ok(()) };
    let in_vain = name!(py, "_procession_waited");
    let begin = Instant::now();
    loop {
        let me = system.me(py)?;
        let mut held = system.held(py)?;
        held.retain(|held| {
            let hopeless = held.lock.hasattr(in_vain).unwrap_or(true);
            !hopeless && !system.waits_for(py, me, held.owner).unwrap_or(true)
        });
        if held.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            // Later forks need not wait for the same.
            return held.iter().try_for_each(|held| held.lock.setattr(in_vain, true));
        }
        py.detach(|| std::thread::sleep(PAUSE));
        py.check_signals()?;
    }
}

/// In the child: modules that another thread was importing are imported anew by whoever needs them, and no lock is inherited held.
#[pyfunction]
fn forget_imports(py: Python<'_>) -> PyResult<()> {
    let Some(system) = SYSTEM.get() else { return Ok(()) };
    let (locks, modules) = (system.locks.bind(py), system.modules.bind(py));
    for Held { name, .. } in system.held(py)? {
        let Some(module) = modules.get_item(&name)? else {
            continue;
        };
        let initializing = module
            .getattr(name!(py, "__spec__"))
            .and_then(|spec| spec.getattr(name!(py, "_initializing"))?.is_truthy());
        if initializing.unwrap_or(false) {
            modules.del_item(&name)?;
        }
    }
    // Also those that no thread holds: one may have been about to take it, and holds the lock within.
    let me = system.me(py)?;
    for (name, _, owner) in system.locks(py)? {
        if owner != Some(me) {
            locks.del_item(name)?;
        }
    }
    Ok(())
}
