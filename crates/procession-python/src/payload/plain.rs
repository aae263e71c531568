//! The search for objects that any pickler treats alike: exact built-in types, for which no reducer can be registered.

use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

/// The depth, and the total number of objects, at which the search gives up.
const DEPTH: u32 = 4;
const OBJECTS: u32 = 256;

/// What is known of an object and all its contents.
pub(super) struct Plain {
    /// Bytes of its strings and bytes-likes, about. Each counts as often as it is found.
    pub(super) bytes: usize,
}

/// Whether an object and all its contents are of exact built-in types.
pub(super) fn examine(obj: &Bound<'_, PyAny>) -> Option<Plain> {
    let mut search = Search {
        left: OBJECTS,
        bytes: 0,
    };
    search.is_plain(obj, DEPTH).then_some(Plain { bytes: search.bytes })
}

struct Search {
    left: u32,
    bytes: usize,
}

impl Search {
    fn is_plain(&mut self, obj: &Bound<'_, PyAny>, depth: u32) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if obj.is_none()
            || obj.is_exact_instance_of::<PyInt>()
            || obj.is_exact_instance_of::<PyFloat>()
            || obj.is_exact_instance_of::<PyBool>()
        {
            return true;
        }
        if let Some(bytes) = len_of(obj) {
            self.bytes += bytes;
            return true;
        }
        if depth == 0 {
            return false;
        }
        let mut plain = |item: &Bound<'_, PyAny>| self.is_plain(item, depth - 1);
        if let Ok(tuple) = obj.cast_exact::<PyTuple>() {
            tuple.iter_borrowed().all(|item| plain(&item))
        } else if let Ok(list) = obj.cast_exact::<PyList>() {
            list.iter().all(|item| plain(&item))
        } else if let Ok(dict) = obj.cast_exact::<PyDict>() {
            dict.len() <= OBJECTS as usize && dict.keys().iter().chain(dict.values().iter()).all(|item| plain(&item))
        } else if let Ok(set) = obj.cast_exact::<PySet>() {
            // Another thread may change the set meanwhile, which ends the iteration with an error; the pickler then
            // reports it.
            let items = set.as_any().try_iter();
            items.is_ok_and(|mut items| items.all(|item| item.is_ok_and(|item| plain(&item))))
        } else if let Ok(set) = obj.cast_exact::<PyFrozenSet>() {
            set.len() <= OBJECTS as usize && set.iter().all(|item| plain(&item))
        } else {
            false
        }
    }
}

/// The length of an exact string or bytes-like: characters or bytes.
fn len_of(obj: &Bound<'_, PyAny>) -> Option<usize> {
    if let Ok(text) = obj.cast_exact::<PyString>() {
        text.code_point_len().ok()
    } else if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
        Some(bytes.as_bytes().len())
    } else {
        Some(obj.cast_exact::<PyByteArray>().ok()?.len())
    }
}
