//! Imports in other threads during a fork. The child has no copy of the importing thread: the module stays half
//! initialized, and its lock held.
//!
//! A fork of this package waits for imports first. After any fork, the child discards half-initialized modules, so that
//! they are imported again. A hook before the fork cannot wait: an import that ends meanwhile may register hooks, and
//! its hook for before the fork would not run.
//!
//! Imports in the main thread, which a signal handler may interrupt: the handler would find the module half initialized.
//! So what the package imports at first use, and a handler may need, is imported in another thread.

use crate::common::{name, Cached};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyModule, PyString};
use std::time::{Duration, Instant};

/// How long a fork, or an interrupt, waits for imports. A longer import may itself wait for the waiting thread. The child
/// then imports again.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The time between two checks: the import system does not notify when an import ends.
const PAUSE: Duration = Duration::from_millis(1);

/// Seconds after which a thread that waits for an import looks whether it is in a child of fork.
const SLICE: f64 = 0.05;

/// The state of the import system.
struct System {
    /// Weak references to the module locks, by module name.
    locks: Py<PyDict>,
    /// The lock that a thread waits for, by the thread's identifier; since 3.12 a list of locks. A dictionary or a
    /// similar mapping.
    waits: Py<PyAny>,
    modules: Py<PyDict>,
    get_ident: Py<PyAny>,
}

static SYSTEM: Cached<System> = Cached::new();

/// Find the import system and register the hook. If its internals differ from these, forks proceed without this module.
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
struct HeldImports<'py> {
    name: Bound<'py, PyAny>,
    lock: Bound<'py, PyAny>,
    owner: u64,
}

impl System {
    fn me(&self, py: Python<'_>) -> PyResult<u64> {
        self.get_ident.call0(py)?.extract(py)
    }

    /// All existing locks.
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

    /// The locks that other threads hold.
    fn held<'py>(&self, py: Python<'py>) -> PyResult<Vec<HeldImports<'py>>> {
        let me = self.me(py)?;
        let locks = self.locks(py)?.into_iter();
        Ok(locks
            .filter_map(|(name, lock, owner)| {
                Some(HeldImports {
                    name,
                    lock,
                    owner: owner?,
                })
            })
            .filter(|held| held.owner != me)
            .collect())
    }

    /// Whether a thread waits, directly or through others, for a module that thread `me` imports.
    fn waits_for(&self, py: Python<'_>, me: u64, mut thread: u64) -> PyResult<bool> {
        // A bound on the length of the chain: a sensible one has fewer threads.
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

/// Wait for the imports of other threads. Call it before a fork.
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
        if begin.elapsed() > TIMEOUT {
            // Later forks do not wait for the same imports.
            return held.iter().try_for_each(|held| held.lock.setattr(in_vain, true));
        }
        py.detach(|| std::thread::sleep(PAUSE));
        py.check_signals()?;
    }
}

fn is_half_initialized(module: &Bound<'_, PyAny>) -> bool {
    let py = module.py();
    let initializing = module
        .getattr(name!(py, "__spec__"))
        .and_then(|spec| spec.getattr(name!(py, "_initializing"))?.is_truthy());
    initializing.unwrap_or(false)
}

/// Import a module such that no signal handler finds it half initialized. Handlers run in the main thread: there the
/// module is imported by another thread, and a handler that needs it waits for this thread.
///
/// A handler that interrupts an import imports as usual: the other thread might wait for the one that it interrupts.
#[pyfunction]
pub fn import_whole<'py>(name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyModule>> {
    let py = name.py();
    let import = || py.import(name);
    let Some(system) = SYSTEM.get().filter(|_| is_main_thread()) else {
        return import();
    };
    let found = system.modules.bind(py).get_item(name)?;
    // SAFETY: no preconditions. While the interpreter ends, no other thread can attach to it.
    let is_ending = unsafe { pyo3::ffi::Py_IsInitialized() } == 0;
    if is_ending || found.is_some_and(|module| !is_half_initialized(&module)) || is_importing(py)? {
        return import();
    }
    let process = std::process::id();
    let ending = py.import("_thread")?.call_method0("allocate_lock")?;
    ending.call_method0("acquire")?;
    let (wanted, ends) = (name.clone().unbind(), ending.clone().unbind());
    let work = move || {
        Python::attach(|py| {
            // The thread that waits raises the error: it imports again.
            drop(py.import(wanted.bind(py)));
            if let Err(error) = ends.call_method0(py, "release") {
                error.write_unraisable(py, None);
            }
        });
    };
    let Ok(importing) = std::thread::Builder::new().spawn(work) else {
        return import();
    };
    let mut interrupt: Option<(PyErr, Instant)> = None;
    loop {
        match ending.call_method1("acquire", (true, SLICE)) {
            Ok(acquired) if acquired.is_truthy()? => break,
            Ok(_) => {}
            // A handler has raised. If this thread went on before the import has ended, the program might end meanwhile,
            // and CPython forgets that it was interrupted when any thread runs code that is text, as some modules do.
            Err(error) => drop(interrupt.get_or_insert((error, Instant::now()))),
        }
        if std::process::id() != process {
            // A signal handler has forked, and this is the child: it has no such thread.
            return interrupt.map_or_else(|| import_whole(name), |(error, _)| Err(error));
        }
        // If it has ended without a word it has panicked.
        if importing.is_finished() || interrupt.as_ref().is_some_and(|(_, since)| since.elapsed() > TIMEOUT) {
            break;
        }
    }
    interrupt.map_or_else(import, |(error, _)| Err(error))
}

/// Whether this thread is importing, so that it may hold locks for which other imports wait.
fn is_importing(py: Python<'_>) -> PyResult<bool> {
    let Ok(mut frame) = py.import("sys")?.call_method0("_getframe") else {
        return Ok(false); // called by C code, without a frame
    };
    while !frame.is_none() {
        let code = frame.getattr(name!(py, "f_code"))?;
        if code.is_none() {
            return Ok(false); // the same, on CPython 3.15
        }
        let file: Bound<'_, PyString> = code.getattr(name!(py, "co_filename"))?.cast_into()?;
        if file == "<frozen importlib._bootstrap>" {
            return Ok(true);
        }
        frame = frame.getattr(name!(py, "f_back"))?;
    }
    Ok(false)
}

/// Whether this is the thread in which Python runs signal handlers.
fn is_main_thread() -> bool {
    // SAFETY: these have no preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

/// In the child, discard the modules that another thread was importing, so that they are imported again on demand, and
/// all inherited locks.
#[pyfunction]
fn forget_imports(py: Python<'_>) -> PyResult<()> {
    let Some(system) = SYSTEM.get() else { return Ok(()) };
    let (locks, modules) = (system.locks.bind(py), system.modules.bind(py));
    for HeldImports { name, .. } in system.held(py)? {
        let Some(module) = modules.get_item(&name)? else {
            continue;
        };
        if is_half_initialized(&module) {
            modules.del_item(&name)?;
        }
    }
    // Locks without a holder are discarded too: a thread that was about to take one may hold the internal lock.
    let me = system.me(py)?;
    for (name, _, owner) in system.locks(py)? {
        if owner != Some(me) {
            locks.del_item(name)?;
        }
    }
    Ok(())
}
