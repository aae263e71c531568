//! The types `GuardedValue` and `GuardedArray`, with C functions in their slots: the wrapper that `PyO3` puts around a
//! method costs more than an access does. The file is long because all slots share the few functions at its top, which
//! turn raw pointers into references.

use super::item::{Item, Size};
use super::{by_attributes, Guarded, Items};
use crate::common::name;
use crate::fast::{self, slowly};
use pyo3::exceptions::{PyAttributeError, PyMemoryError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
use std::ptr;

type Object = *mut ffi::PyObject;

/// The slot's result for a call that did not fail.
fn done(result: PyResult<Object>) -> Object {
    result.unwrap_or_else(|error| slowly(|_| Err(error)))
}

/// The same for slots that return a number.
fn status(result: PyResult<()>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(error) => {
            Python::attach(|py| error.restore(py));
            -1
        }
    }
}

/// Access through the attributes; the result of `access` is returned.
#[cold]
fn ask(
    object: Object,
    access: impl for<'py> FnOnce(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Object> {
    Python::attach(|py| {
        // SAFETY: the interpreter calls a slot with an object of its type, and holds a reference to it.
        let object = unsafe { Bound::from_borrowed_ptr(py, object) };
        by_attributes(&object, access).map(Bound::into_ptr)
    })
}

/// An argument of the slot.
fn argument(py: Python<'_>, object: Object) -> Bound<'_, PyAny> {
    // SAFETY: the interpreter holds references to the arguments of a call.
    unsafe { Bound::from_borrowed_ptr(py, object) }
}

/// The items of an object that may be accessed directly.
///
/// # Safety
/// `object` must be a `Guarded`, alive for `'a`; the calling thread must be attached to the interpreter.
#[inline]
unsafe fn items<'a>(object: Object) -> Option<&'a Items> {
    // SAFETY: promised by the caller.
    unsafe { fast::value::<Guarded>(object) }.items()
}

unsafe extern "C" fn get_value(object: Object, _: *mut c_void) -> Object {
    // SAFETY: the descriptor has checked the object's type, and the interpreter calls attached.
    done(match unsafe { items(object) } {
        // SAFETY: as above.
        Some(items) => items
            .locked(|| items.load(0))
            .map(|bits| unsafe { items.item.object_of(bits) }),
        None => ask(object, |bare| bare.getattr("value")),
    })
}

unsafe extern "C" fn set_value(object: Object, new: Object, _: *mut c_void) -> c_int {
    if new.is_null() {
        return status(Err(not_deleted(object)));
    }
    // SAFETY: the descriptor has checked the object's type, and the interpreter calls attached.
    let direct = unsafe { items(object).and_then(|items| Some((items, items.item.item_of(new)?))) };
    status(match direct {
        Some((items, bits)) => items.locked(|| items.store(0, bits)),
        None => ask(object, |bare| {
            let py = bare.py();
            bare.setattr("value", argument(py, new))?;
            Ok(py.None().into_bound(py))
        })
        .map(release),
    })
}

/// Drop a new reference.
fn release(object: Object) {
    // SAFETY: the reference is the caller's; a slot is called attached.
    unsafe { ffi::Py_DECREF(object) }
}

#[cold]
fn not_deleted(object: Object) -> PyErr {
    Python::attach(|py| {
        let kind = class_name(&argument(py, object));
        PyAttributeError::new_err(format!("property 'value' of '{kind}' object has no deleter"))
    })
}

/// The name of an object's class, for errors.
fn class_name(object: &Bound<'_, PyAny>) -> String {
    let name = object.get_type().name();
    name.map_or_else(|_| String::new(), |name| name.to_string())
}

/// The attributes that accesses use. Each lies in the object's `__dict__`, as others do; a descriptor notices when one is
/// replaced. A slot for all attributes would make `object.__setattr__` refuse the object.
const USED: [&CStr; 3] = [c"_obj", c"acquire", c"release"];

/// The attribute of `USED` that a descriptor is for.
fn used(py: Python<'_>, at: *mut c_void) -> Bound<'_, PyString> {
    let names = [name!(py, "_obj"), name!(py, "acquire"), name!(py, "release")];
    names[at as usize].clone()
}

unsafe extern "C" fn get_used(object: Object, at: *mut c_void) -> Object {
    slowly(|py| {
        let (object, name) = (argument(py, object), used(py, at));
        // Without a subclass there is no `__dict__`.
        let Some(attributes) = object.getattr_opt(name!(py, "__dict__"))? else {
            return Err(no_attribute(&object, &name));
        };
        match attributes.cast_into::<PyDict>()?.get_item(&name)? {
            Some(value) => Ok(value.into_ptr()),
            None => Err(no_attribute(&object, &name)),
        }
    })
}

unsafe extern "C" fn set_used(object: Object, new: Object, at: *mut c_void) -> c_int {
    // SAFETY: the descriptor has checked the object's type, and the interpreter calls attached.
    unsafe { fast::value::<Guarded>(object) }.replace();
    status(Python::attach(|py| {
        let (object, name) = (argument(py, object), used(py, at));
        let attributes = object.getattr(name!(py, "__dict__"))?.cast_into::<PyDict>()?;
        if !new.is_null() {
            return attributes.set_item(name, argument(py, new));
        }
        if attributes.contains(&name)? {
            return attributes.del_item(name);
        }
        Err(no_attribute(&object, &name))
    }))
}

fn no_attribute(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyErr {
    let kind = class_name(object);
    PyAttributeError::new_err(format!("'{kind}' object has no attribute '{name}'"))
}

unsafe extern "C" fn add_to_value(object: Object, args: *mut Object, count: ffi::Py_ssize_t) -> Object {
    if count != 1 {
        return done(Err(wrong_count("1 argument", count)));
    }
    // SAFETY: the call has one argument.
    let number = unsafe { *args };
    // SAFETY: the method's descriptor has checked the object's type, and the interpreter calls attached.
    if let Some(sum) = unsafe { items(object).and_then(|items| add(items, 0, number)) } {
        return done(sum);
    }
    done(ask(object, |bare| {
        let old = bare.getattr("value")?;
        bare.setattr("value", old.add(argument(bare.py(), number))?)?;
        Ok(old)
    }))
}

unsafe extern "C" fn add_to_item(object: Object, args: *mut Object, count: ffi::Py_ssize_t) -> Object {
    if count != 2 {
        return done(Err(wrong_count("2 arguments", count)));
    }
    // SAFETY: the call has two arguments.
    let (key, number) = unsafe { (*args, *args.add(1)) };
    // SAFETY: the method's descriptor has checked the object's type, and the interpreter calls attached.
    let sum = unsafe { items(object).and_then(|items| add(items, index(items, key)?, number)) };
    if let Some(sum) = sum {
        return done(sum);
    }
    done(ask(object, |bare| {
        let key = argument(bare.py(), key);
        let old = bare.get_item(&key)?;
        bare.set_item(&key, old.add(argument(bare.py(), number))?)?;
        Ok(old)
    }))
}

#[cold]
fn wrong_count(expected: &str, count: ffi::Py_ssize_t) -> PyErr {
    PyTypeError::new_err(format!("add() takes exactly {expected} ({count} given)"))
}

/// Add directly, and return the item's value before.
///
/// # Safety
/// As for `Item::item_of`; the index is below the length.
unsafe fn add(items: &Items, index: usize, number: Object) -> Option<PyResult<Object>> {
    // SAFETY: promised by the caller.
    let addend = unsafe { items.item.addend(number)? };
    let old = items.locked(|| {
        let old = items.load(index);
        items.store(index, items.item.add(old, addend));
        old
    });
    // SAFETY: promised by the caller.
    Some(old.map(|old| unsafe { items.item.object_of(old) }))
}

/// The index of an item, if the key is a plain integer in range.
///
/// # Safety
/// `key` must be an object; the calling thread must be attached to the interpreter.
#[inline]
unsafe fn index(items: &Items, key: Object) -> Option<usize> {
    // SAFETY: promised by the caller.
    let at = unsafe {
        if ffi::PyLong_CheckExact(key) == 0 {
            return None;
        }
        ffi::PyLong_AsSsize_t(key)
    };
    // SAFETY: as above.
    if at == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        // SAFETY: as above. Asked for the item, ctypes raises its own error.
        unsafe { ffi::PyErr_Clear() };
        return None;
    }
    in_range(items, if at < 0 { at + items.length as isize } else { at })
}

#[inline]
fn in_range(items: &Items, at: isize) -> Option<usize> {
    usize::try_from(at).ok().filter(|&at| at < items.length)
}

unsafe extern "C" fn length(object: Object) -> ffi::Py_ssize_t {
    // SAFETY: the slot is that of a `Guarded`, and the interpreter calls attached.
    if let Some(items) = unsafe { items(object) } {
        return items.length as ffi::Py_ssize_t;
    }
    Python::attach(|py| {
        let found = argument(py, object).getattr("_obj").and_then(|bare| bare.len());
        match found {
            Ok(length) => length as ffi::Py_ssize_t,
            Err(error) => {
                error.restore(py);
                -1
            }
        }
    })
}

unsafe extern "C" fn subscript(object: Object, key: Object) -> Object {
    // SAFETY: the slot is that of a `Guarded`, and the interpreter calls attached.
    unsafe {
        if let Some(items) = items(object) {
            if let Some(index) = index(items, key) {
                return get(items, index);
            }
            if ffi::PySlice_Check(key) != 0 {
                return done(read_slice(items, key));
            }
        }
    }
    done(ask(object, |bare| bare.get_item(argument(bare.py(), key))))
}

/// # Safety
/// The index is below the length; the calling thread must be attached to the interpreter.
#[inline]
unsafe fn get(items: &Items, index: usize) -> Object {
    let bits = items.locked(|| items.load(index));
    // SAFETY: promised by the caller.
    done(bits.map(|bits| unsafe { items.item.object_of(bits) }))
}

/// `object[at]`, of a sequence. The interpreter has added the length to a negative index.
unsafe extern "C" fn item(object: Object, at: ffi::Py_ssize_t) -> Object {
    // SAFETY: the slot is that of a `Guarded`, and the interpreter calls attached.
    unsafe {
        if let Some((items, index)) = items(object).and_then(|items| Some((items, in_range(items, at)?))) {
            return get(items, index);
        }
    }
    done(ask(object, |bare| bare.get_item(at)))
}

unsafe extern "C" fn set_subscript(object: Object, key: Object, new: Object) -> c_int {
    if new.is_null() {
        // What a class without `__delitem__` raises.
        return status(Err(PyAttributeError::new_err("__delitem__")));
    }
    // SAFETY: the slot is that of a `Guarded`, and the interpreter calls attached.
    unsafe {
        if let Some(items) = items(object) {
            let direct = index(items, key).and_then(|index| Some((index, items.item.item_of(new)?)));
            if let Some((index, bits)) = direct {
                return status(items.locked(|| items.store(index, bits)));
            }
            if let Some(written) = write_slice(items, key, new) {
                return status(written);
            }
        }
    }
    let set = ask(object, |bare| {
        let py = bare.py();
        bare.set_item(argument(py, key), argument(py, new))?;
        Ok(py.None().into_bound(py))
    });
    status(set.map(release))
}

/// The items of a slice: `count` of them from `start` on, each `step` from the one before.
struct Range {
    start: isize,
    step: isize,
    count: usize,
}

impl Range {
    /// The range of a slice, in range of the items.
    ///
    /// # Safety
    /// `key` must be a slice; the calling thread must be attached to the interpreter.
    unsafe fn of(items: &Items, key: Object) -> PyResult<Self> {
        let (mut start, mut end, mut step) = (0, 0, 0);
        // SAFETY: promised by the caller; the pointers are to locals.
        let count = unsafe {
            if ffi::PySlice_Unpack(key, &raw mut start, &raw mut end, &raw mut step) < 0 {
                return Err(Python::attach(PyErr::fetch));
            }
            ffi::PySlice_AdjustIndices(items.length as isize, &raw mut start, &raw mut end, step)
        };
        Ok(Self {
            start,
            step,
            count: count as usize,
        })
    }

    /// The positions of the items; each is below the length.
    fn positions(&self) -> impl Iterator<Item = usize> + use<'_> {
        // The last step may leave the range of an isize: its sum is not used.
        (0..self.count).scan(self.start, |at, _| {
            let here = *at as usize;
            *at = at.wrapping_add(self.step);
            Some(here)
        })
    }
}

/// Copy the items of a slice out of the memory, then make objects of them.
///
/// # Safety
/// `key` must be a slice; the calling thread must be attached to the interpreter.
unsafe fn read_slice(items: &Items, key: Object) -> PyResult<Object> {
    // SAFETY: promised by the caller.
    let range = unsafe { Range::of(items, key)? };
    let size = items.item.size();
    let mut copy: Vec<u64> = Vec::new();
    let words = (range.count * size).div_ceil(size_of::<u64>());
    copy.try_reserve_exact(words)
        .map_err(|_| PyMemoryError::new_err("no memory for a copy of the slice"))?;
    copy.resize(words, 0);
    let to = copy.as_mut_ptr().cast::<u8>();
    items.locked(|| {
        if range.step == 1 {
            if range.count > 0 {
                // SAFETY: so many items lie in the memory from there on, and `copy` has room for them.
                unsafe { ptr::copy_nonoverlapping(items.at(range.start as usize), to, range.count * size) };
            }
            return;
        }
        for (at, position) in range.positions().enumerate() {
            // SAFETY: `copy` has room for so many items, and is aligned for each type of them.
            unsafe { items.item.store(to.add(at * size), items.load(position)) };
        }
    })?;
    // SAFETY: `copy` has so many items; promised by the caller.
    Ok(unsafe { objects(items.item, to, range.count) })
}

/// The object of a slice with these items: a new reference, or null with an error set.
///
/// # Safety
/// `from` must be the address of `count` items; the calling thread must be attached to the interpreter.
unsafe fn objects(item: Item, from: *mut u8, count: usize) -> Object {
    let length = count as ffi::Py_ssize_t;
    // SAFETY: promised by the caller. The list is filled before any other code sees it.
    unsafe {
        match item {
            Item::Char => return ffi::PyBytes_FromStringAndSize(from.cast(), length),
            Item::Wide => return ffi::PyUnicode_FromWideChar(from.cast(), length),
            _ => {}
        }
        let list = ffi::PyList_New(length);
        if list.is_null() {
            return list;
        }
        // The compiler makes a loop of its own for the most frequent types.
        let object = |item: Item, at: usize| item.object_of(item.load(from.add(at * item.size())));
        let filled = match item {
            Item::Signed(Size::Four) => fill(list, count, |at| object(Item::Signed(Size::Four), at)),
            Item::Signed(Size::Eight) => fill(list, count, |at| object(Item::Signed(Size::Eight), at)),
            Item::Double => fill(list, count, |at| object(Item::Double, at)),
            item => fill(list, count, |at| object(item, at)),
        };
        if filled {
            return list;
        }
        ffi::Py_DECREF(list);
        ptr::null_mut()
    }
}

/// Fill a new list; `false`, with an error set, if `object` cannot make an object.
///
/// # Safety
/// `list` must be a new list of `count` items; the calling thread must be attached to the interpreter.
#[inline]
unsafe fn fill(list: Object, count: usize, object: impl Fn(usize) -> Object) -> bool {
    (0..count).all(|at| {
        let object = object(at);
        if !object.is_null() {
            // SAFETY: promised by the caller; the list takes the reference.
            unsafe { ffi::PyList_SET_ITEM(list, at as ffi::Py_ssize_t, object) };
        }
        !object.is_null()
    })
}

/// Write the objects of a list or tuple to a slice; `None` if ctypes is to do it.
///
/// # Safety
/// `key` and `new` must be objects; the calling thread must be attached to the interpreter.
unsafe fn write_slice(items: &Items, key: Object, new: Object) -> Option<PyResult<()>> {
    // SAFETY: promised by the caller.
    let range = unsafe {
        if ffi::PySlice_Check(key) == 0 || ffi::PyList_CheckExact(new) == 0 && ffi::PyTuple_CheckExact(new) == 0 {
            return None;
        }
        match Range::of(items, key) {
            Ok(range) => range,
            Err(error) => return Some(Err(error)),
        }
    };
    let mut copy = Vec::new();
    copy.try_reserve_exact(range.count).ok()?;
    // SAFETY: promised by the caller. Another thread may change the list: each item is a new reference.
    unsafe {
        if ffi::PySequence_Size(new) != range.count as isize {
            return None;
        }
        for at in 0..range.count {
            let object = ffi::PySequence_GetItem(new, at as isize);
            if object.is_null() {
                ffi::PyErr_Clear();
                return None;
            }
            let bits = items.item.item_of(object);
            ffi::Py_DECREF(object);
            copy.push(bits?);
        }
    }
    Some(items.locked(|| {
        for (position, bits) in range.positions().zip(&copy) {
            items.store(position, *bits);
        }
    }))
}

unsafe extern "C" fn set_item(object: Object, at: ffi::Py_ssize_t, new: Object) -> c_int {
    // SAFETY: attached; the key is a new reference.
    unsafe {
        let key = ffi::PyLong_FromSsize_t(at);
        if key.is_null() {
            return -1;
        }
        let status = set_subscript(object, key, new);
        ffi::Py_DECREF(key);
        status
    }
}

const VALUE: &CStr = c"The value.";
const ADD_TO_VALUE: &CStr = c"add($self, n, /)\n--\n\nDo `value += n` in one step, under the lock; return the value before.\n\nAtomic for all other accesses and for holders of the lock. Integers wrap around, as ctypes does. Raises\nTypeError if the sum does not fit the type.";
const ADD_TO_ITEM: &CStr = c"add($self, i, n, /)\n--\n\nDo `self[i] += n` in one step, under the lock; return the item before.\n\nAtomic for all other accesses and for holders of the lock. Integers wrap around, as ctypes does. Raises\nIndexError without such an item, TypeError if the sum does not fit the type.";

fn slot(slot: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc: function }
}

fn method(function: ffi::PyCFunctionFast, doc: &'static CStr) -> *mut c_void {
    let none = ffi::PyMethodDef::zeroed();
    let add = ffi::PyMethodDef {
        ml_name: c"add".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: function,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    };
    Box::leak(Box::new([add, none])).as_mut_ptr().cast()
}

fn make<'py>(
    py: Python<'py>,
    full_name: &'static CStr,
    mut getsets: Vec<ffi::PyGetSetDef>,
    mut slots: Vec<ffi::PyType_Slot>,
) -> PyResult<Bound<'py, PyAny>> {
    getsets.extend(USED.iter().enumerate().map(|(at, name)| ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get_used),
        set: Some(set_used),
        doc: ptr::null(),
        closure: at as *mut c_void,
    }));
    getsets.push(ffi::PyGetSetDef::default());
    slots.push(slot(ffi::Py_tp_getset, getsets.leak().as_mut_ptr().cast()));
    slots.push(slot(0, ptr::null_mut()));
    let bases = PyTuple::new(py, [py.get_type::<Guarded>()])?;
    let mut spec = ffi::PyType_Spec {
        name: full_name.as_ptr().cast::<c_char>(),
        // That of its base.
        basicsize: 0,
        itemsize: 0,
        flags: (ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE) as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; the slots' functions have the signatures of their slots, and what the slots refer to lasts for
    // ever. The type copies the rest.
    unsafe {
        let made = ffi::PyType_FromSpecWithBases(&raw mut spec, bases.as_ptr());
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Add the types to the module.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let value = ffi::PyGetSetDef {
        name: c"value".as_ptr(),
        get: Some(get_value),
        set: Some(set_value),
        doc: VALUE.as_ptr(),
        closure: ptr::null_mut(),
    };
    let value = make(
        py,
        c"procession._procession.GuardedValue",
        vec![value],
        vec![slot(ffi::Py_tp_methods, method(add_to_value, ADD_TO_VALUE))],
    )?;
    module.add("GuardedValue", value)?;
    let array = make(
        py,
        c"procession._procession.GuardedArray",
        Vec::new(),
        vec![
            slot(ffi::Py_mp_length, length as *mut c_void),
            slot(ffi::Py_sq_length, length as *mut c_void),
            slot(ffi::Py_mp_subscript, subscript as *mut c_void),
            slot(ffi::Py_sq_item, item as *mut c_void),
            slot(ffi::Py_mp_ass_subscript, set_subscript as *mut c_void),
            slot(ffi::Py_sq_ass_item, set_item as *mut c_void),
            slot(ffi::Py_tp_methods, method(add_to_item, ADD_TO_ITEM)),
        ],
    )?;
    // One slot serves both; without it, classes say that items cannot be deleted.
    array.delattr("__delitem__")?;
    module.add("GuardedArray", array)
}
