//! The bytes of a serialized value. They describe themselves: every value begins with a tag, and the fields of a
//! struct and the variants of an enum have their names with them. So a field that is left out, a flattened struct and
//! an enum without a tag arrive as they were sent, and `Some(None)` is not `None`.
//!
//! - A tag below 128 is that number. Other numbers have as many bytes as they need, in little-endian order.
//! - A sequence of numbers of one type has the type's tag once, and all items in as many bytes as the type has.
//! - Lengths and counts are numbers of 7 bits a byte, lowest first; a set top bit tells that another byte follows.
//! - A text, a name and bytes are their length and their bytes.
//! - Every value takes at least one byte. So a count that is greater than the number of bytes left is corrupt, and no
//!   memory is reserved for it.
//!
//! Sender and receiver are the same executable, so there is no version.

use std::fmt;

/// The greatest number that is a tag itself.
pub(super) const SMALL: u8 = 0x7f;

macro_rules! tags {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal),* $(,)?) => {
        $($(#[doc = $doc])* pub(super) const $name: u8 = $number;)*
    };
}

tags! {
    U8 = 0x80, U16 = 0x81, U32 = 0x82, U64 = 0x83, U128 = 0x84,
    /// Negative numbers.
    I8 = 0x85, I16 = 0x86, I32 = 0x87, I64 = 0x88, I128 = 0x89,
    F32 = 0x8a, F64 = 0x8b, FALSE = 0x8c, TRUE = 0x8d, CHAR = 0x8e, STR = 0x8f, BYTES = 0x90,
    UNIT = 0x91, NONE = 0x92,
    /// A value follows.
    SOME = 0x93,
    /// The number of items, and the items.
    SEQ = 0x94,
    /// Items up to [`END`].
    OPEN_SEQ = 0x95,
    /// The number of entries, and each entry's key and value.
    MAP = 0x96,
    /// Entries up to [`END`].
    OPEN_MAP = 0x97,
    /// The number of fields, and each field's name and value.
    STRUCT = 0x98,
    /// A struct in a [`Compact`](super::Compact): the number of fields, four bytes that are made of their
    /// [names](super::names), and their values.
    POSITIONAL = 0x99,
    /// The name of a variant without data.
    UNIT_VARIANT = 0x9a,
    /// The name of a variant, and its data as one value.
    VARIANT = 0x9b,
    END = 0x9c,
    /// Added to the tag of a number type: a run, which is the number of items, all of this type, and their bytes
    /// without tags. There are runs of the types with at most 64 bits.
    RUN = 0x20,
}

/// The name of the newtype struct that [`Compact`](super::Compact) is for the serializer.
pub(super) const COMPACT: &str = "$procession::Compact";

/// Why a value cannot be serialized, or bytes cannot be deserialized.
#[derive(Debug)]
pub(crate) struct CodecError(Box<str>);

impl CodecError {
    pub(super) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

impl serde::ser::Error for CodecError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(text)
    }
}

impl serde::de::Error for CodecError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(text)
    }
}
