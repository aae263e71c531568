//! Numbers of one type: a sequence of them is written as one tag and their bytes, which makes a `Vec<u8>` or a
//! `Vec<f64>` as cheap as a copy.

#[allow(clippy::wildcard_imports)] // the tags
use super::format::*;
use serde::ser::{Error, Impossible, Serialize, Serializer};
use std::any::type_name;
use std::fmt;

/// A number of a type with at most 64 bits.
#[derive(Clone, Copy)]
pub(super) struct Scalar {
    /// The tag of its type.
    pub tag: u8,
    /// Its bytes, in little-endian order. Those behind its type's width have no meaning.
    pub bytes: [u8; 8],
}

impl Scalar {
    /// The number of this type; `bytes` are as many as its width.
    #[inline]
    pub(super) fn read(tag: u8, bytes: &[u8]) -> Self {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Self { tag, bytes: all }
    }
}

/// How many bytes a number takes that is part of a run; `None`: there are no runs of this type.
#[inline]
pub(super) const fn width(tag: u8) -> Option<usize> {
    match tag {
        U8 | I8 => Some(1),
        U16 | I16 => Some(2),
        U32 | I32 | F32 => Some(4),
        U64 | I64 | F64 => Some(8),
        _ => None,
    }
}

/// The number that the value is. Other types are known by their names at compile time, and not serialized: that may
/// have effects. Another spelling of a number type's name would cost speed only.
#[inline]
pub(super) fn scalar<T: ?Sized + Serialize>(value: &T) -> Option<Scalar> {
    let name = type_name::<T>();
    let name = name.strip_prefix('&').unwrap_or(name);
    if !matches!(
        name,
        "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" | "f32" | "f64"
    ) {
        return None;
    }
    value.serialize(OnlyScalar).ok()
}

struct OnlyScalar;

/// The value is no such number.
#[derive(Debug)]
struct OtherType;

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number")
    }
}

impl std::error::Error for OtherType {}

impl Error for OtherType {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Never = Impossible<Scalar, OtherType>;

macro_rules! numbers {
    ($($method:ident($type:ty) $tag:ident,)*) => {
        $(#[inline]
        fn $method(self, value: $type) -> Result<Scalar, OtherType> {
            Ok(Scalar::read($tag, &value.to_le_bytes()))
        })*
    };
}

macro_rules! others {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$result, OtherType> {
            Err(OtherType)
        })*
    };
}

impl Serializer for OnlyScalar {
    type Ok = Scalar;
    type Error = OtherType;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    numbers! {
        serialize_u8(u8) U8, serialize_u16(u16) U16, serialize_u32(u32) U32, serialize_u64(u64) U64,
        serialize_i8(i8) I8, serialize_i16(i16) I16, serialize_i32(i32) I32, serialize_i64(i64) I64,
        serialize_f32(f32) F32, serialize_f64(f64) F64,
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<Scalar, OtherType> {
        Err(OtherType)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<Scalar, OtherType> {
        Err(OtherType)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Scalar, OtherType> {
        Err(OtherType)
    }

    fn collect_str<T: ?Sized + fmt::Display>(self, _: &T) -> Result<Scalar, OtherType> {
        Err(OtherType)
    }

    others! {
        serialize_bool(bool) -> Scalar;
        serialize_i128(i128) -> Scalar;
        serialize_u128(u128) -> Scalar;
        serialize_char(char) -> Scalar;
        serialize_str(&str) -> Scalar;
        serialize_bytes(&[u8]) -> Scalar;
        serialize_none() -> Scalar;
        serialize_unit() -> Scalar;
        serialize_unit_struct(&'static str) -> Scalar;
        serialize_unit_variant(&'static str, u32, &'static str) -> Scalar;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }
}
