//! What the shared dictionary and the shared list have in common.

use crate::common::{name, raise};
use crate::payload;
use procession_core::ids::Handle;
use procession_core::{family, Error};
use pyo3::prelude::*;

/// What travels: the family, the handle, and the attributes of an instance of a subclass.
pub type State<'py> = (u128, u64, Option<Bound<'py, PyAny>>);

/// Make room for so many more elements. Raises `MemoryError` if private memory has run out.
pub fn make_room<T>(all: &mut Vec<T>, more: usize) -> PyResult<()> {
    let room = all.try_reserve(more);
    room.map_err(|_| {
        raise(Error::Exhausted {
            what: "memory of this process",
            wanted: (more * size_of::<T>()) as u64,
        })
    })
}

/// Collect elements. Raises `MemoryError` if private memory has run out.
pub fn collect<T>(elements: impl Iterator<Item = T>) -> PyResult<Vec<T>> {
    let mut all = Vec::new();
    make_room(&mut all, elements.size_hint().0)?;
    for element in elements {
        make_room(&mut all, 1)?;
        all.push(element);
    }
    Ok(all)
}

/// Make attempts until one succeeds, with the interpreter's lock released. Python's signal handlers run in between; if one
/// raises, this ends with its exception.
pub fn repeat<T: Send>(py: Python<'_>, attempt: impl Fn() -> Result<Option<T>, Error> + Send + Sync) -> PyResult<T> {
    loop {
        if let Some(done) = py.detach(&attempt).map_err(raise)? {
            return Ok(done);
        }
        py.check_signals()?;
    }
}

/// The state of an object that is pickled, which refers to what the handle refers to.
pub fn state_of<'py>(object: &Bound<'py, PyAny>, handle: Handle) -> PyResult<State<'py>> {
    payload::attach_handle(handle);
    let own = object.getattr_opt(name!(object.py(), "__dict__"))?;
    let own = own.filter(|own| own.is_truthy().unwrap_or(true));
    Ok((family().map_err(raise)?.id(), handle.to_bits(), own))
}

/// The handle of a state, of an object that errors call `what`.
pub fn handle_from(state: &State<'_>, what: &'static str) -> PyResult<Handle> {
    if state.0 != family().map_err(raise)?.id() {
        return Err(raise(Error::Foreign(what)));
    }
    Handle::from_bits(state.1).ok_or_else(|| raise(Error::Stale(what)))
}

/// Give an object the attributes of the one that was pickled.
pub fn set_attributes(object: &Bound<'_, PyAny>, state: State<'_>) -> PyResult<()> {
    if let Some(own) = state.2 {
        let py = object.py();
        object
            .getattr(name!(py, "__dict__"))?
            .call_method1(name!(py, "update"), (own,))?;
    }
    Ok(())
}
