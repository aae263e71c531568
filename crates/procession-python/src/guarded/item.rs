//! The items of a `Value` or `Array`: numbers and characters, as ctypes stores and converts them.

use pyo3::ffi;
use std::ffi::{c_int, c_long, c_longlong, c_short};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};

/// What an item is. In between, it is the lowest bits of 64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    Signed(Size),
    Unsigned(Size),
    Float,
    Double,
    Bool,
    /// A byte, as `bytes`.
    Char,
    /// A character, as `str`.
    Wide,
}

/// The size of an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    One,
    Two,
    Four,
    Eight,
}

impl Size {
    const fn of<T>() -> Self {
        match size_of::<T>() {
            1 => Self::One,
            2 => Self::Two,
            4 => Self::Four,
            _ => Self::Eight,
        }
    }
}

impl Item {
    /// The items of a type code of ctypes, if they have direct access.
    pub fn of(code: char) -> Option<Self> {
        Some(match code {
            'b' => Self::Signed(Size::One),
            'B' => Self::Unsigned(Size::One),
            'h' => Self::Signed(Size::of::<c_short>()),
            'H' => Self::Unsigned(Size::of::<c_short>()),
            'i' => Self::Signed(Size::of::<c_int>()),
            'I' => Self::Unsigned(Size::of::<c_int>()),
            'l' => Self::Signed(Size::of::<c_long>()),
            'L' => Self::Unsigned(Size::of::<c_long>()),
            'q' => Self::Signed(Size::of::<c_longlong>()),
            'Q' => Self::Unsigned(Size::of::<c_longlong>()),
            'f' => Self::Float,
            'd' => Self::Double,
            '?' => Self::Bool,
            'c' => Self::Char,
            'u' => Self::Wide,
            _ => return None,
        })
    }

    #[inline]
    fn width(self) -> Size {
        match self {
            Self::Signed(size) | Self::Unsigned(size) => size,
            Self::Float | Self::Wide => Size::Four,
            Self::Double => Size::Eight,
            Self::Bool | Self::Char => Size::One,
        }
    }

    /// Its bytes.
    #[inline]
    pub fn size(self) -> usize {
        match self.width() {
            Size::One => 1,
            Size::Two => 2,
            Size::Four => 4,
            Size::Eight => 8,
        }
    }

    /// Read an item. Whatever the bytes are, they are an item.
    ///
    /// # Safety
    /// `at` must be the address of an item, aligned to its size.
    #[inline]
    pub unsafe fn load(self, at: *mut u8) -> u64 {
        // SAFETY: promised by the caller. Atomic, because a program may write the same item through the bare object.
        unsafe {
            match self.width() {
                Size::One => u64::from(AtomicU8::from_ptr(at).load(Relaxed)),
                Size::Two => u64::from(AtomicU16::from_ptr(at.cast()).load(Relaxed)),
                Size::Four => u64::from(AtomicU32::from_ptr(at.cast()).load(Relaxed)),
                Size::Eight => AtomicU64::from_ptr(at.cast()).load(Relaxed),
            }
        }
    }

    /// Write an item.
    ///
    /// # Safety
    /// As for `load`.
    #[inline]
    pub unsafe fn store(self, at: *mut u8, bits: u64) {
        // SAFETY: as for `load`.
        unsafe {
            match self.width() {
                Size::One => AtomicU8::from_ptr(at).store(bits as u8, Relaxed),
                Size::Two => AtomicU16::from_ptr(at.cast()).store(bits as u16, Relaxed),
                Size::Four => AtomicU32::from_ptr(at.cast()).store(bits as u32, Relaxed),
                Size::Eight => AtomicU64::from_ptr(at.cast()).store(bits, Relaxed),
            }
        }
    }

    /// The Python object of an item: a new reference, or null with an error set.
    ///
    /// # Safety
    /// The calling thread must be attached to the interpreter.
    #[inline]
    pub unsafe fn object_of(self, bits: u64) -> *mut ffi::PyObject {
        // SAFETY: promised by the caller; the pointers are to locals.
        unsafe {
            match self {
                Self::Signed(Size::One) => ffi::PyLong_FromLong((bits as i8).into()),
                Self::Signed(Size::Two) => ffi::PyLong_FromLong((bits as i16).into()),
                Self::Signed(Size::Four) => ffi::PyLong_FromLong((bits as i32).into()),
                Self::Signed(Size::Eight) => ffi::PyLong_FromLongLong(bits as i64),
                Self::Unsigned(_) => ffi::PyLong_FromUnsignedLongLong(bits),
                Self::Float => ffi::PyFloat_FromDouble(f32::from_bits(bits as u32).into()),
                Self::Double => ffi::PyFloat_FromDouble(f64::from_bits(bits)),
                Self::Bool => ffi::PyBool_FromLong((bits != 0).into()),
                Self::Char => ffi::PyBytes_FromStringAndSize([bits as u8].as_ptr().cast(), 1),
                // An error if it is no character.
                Self::Wide => ffi::PyUnicode_FromWideChar([bits as u32].as_ptr().cast(), 1),
            }
        }
    }

    /// The item that ctypes would store for a Python object. `None` without an error set: ask ctypes, because the
    /// conversion would run Python code or fail.
    ///
    /// # Safety
    /// `object` must be an object; the calling thread must be attached to the interpreter.
    #[inline]
    pub unsafe fn item_of(self, object: *mut ffi::PyObject) -> Option<u64> {
        // SAFETY: promised by the caller; each call follows a check of the object's type.
        unsafe {
            match self {
                Self::Signed(_) | Self::Unsigned(_) => {
                    (ffi::PyLong_Check(object) != 0).then(|| ffi::PyLong_AsUnsignedLongLongMask(object))
                }
                Self::Float => number(object).map(|number| (number as f32).to_bits().into()),
                Self::Double => number(object).map(f64::to_bits),
                Self::Bool => [ffi::Py_False(), ffi::Py_True()]
                    .iter()
                    .position(|&known| known == object)
                    .map(|bit| bit as u64),
                Self::Char => {
                    let one = ffi::PyBytes_Check(object) != 0 && ffi::PyBytes_Size(object) == 1;
                    one.then(|| u64::from(*ffi::PyBytes_AsString(object).cast::<u8>()))
                }
                Self::Wide => {
                    let one = ffi::PyUnicode_Check(object) != 0 && ffi::PyUnicode_GetLength(object) == 1;
                    one.then(|| ffi::PyUnicode_ReadChar(object, 0).into())
                }
            }
        }
    }

    /// `old + object`, as ctypes would store the sum; `None` as for [`item_of`](Self::item_of).
    ///
    /// # Safety
    /// As for `item_of`.
    #[inline]
    pub unsafe fn addend(self, object: *mut ffi::PyObject) -> Option<Addend> {
        // SAFETY: promised by the caller.
        unsafe {
            match self {
                Self::Signed(_) | Self::Unsigned(_) => self.item_of(object).map(Addend::Integer),
                Self::Float | Self::Double => number(object).map(Addend::Number),
                _ => None,
            }
        }
    }

    /// The sum. Integers wrap around when they are stored.
    #[inline]
    pub fn add(self, old: u64, addend: Addend) -> u64 {
        match addend {
            Addend::Integer(bits) => old.wrapping_add(bits),
            Addend::Number(number) if self == Self::Float => {
                let sum = f64::from(f32::from_bits(old as u32)) + number;
                (sum as f32).to_bits().into()
            }
            Addend::Number(number) => (f64::from_bits(old) + number).to_bits(),
        }
    }
}

/// What is added to an item.
#[derive(Clone, Copy)]
pub enum Addend {
    Integer(u64),
    Number(f64),
}

/// The value of a float or an integer; `None` for other objects, and for integers that are too large.
///
/// # Safety
/// As for `Item::item_of`.
#[inline]
unsafe fn number(object: *mut ffi::PyObject) -> Option<f64> {
    // SAFETY: promised by the caller; each call follows a check of the object's type.
    unsafe {
        if ffi::PyFloat_Check(object) != 0 {
            return Some(ffi::PyFloat_AsDouble(object));
        }
        if ffi::PyLong_CheckExact(object) == 0 {
            return None;
        }
        let value = ffi::PyLong_AsDouble(object);
        if !ffi::PyErr_Occurred().is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        Some(value)
    }
}
