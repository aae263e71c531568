//! Values to bytes, as serde hands them over. `parts` has what compound values consist of.

#[allow(clippy::wildcard_imports)] // the tags
use super::format::*;
use super::names::Names;
use super::scalar::Scalar;
use serde::ser::{self, Serialize};

mod parts;

use parts::{Items, Parts};

type Result<T = ()> = std::result::Result<T, CodecError>;

/// Appends values to a buffer.
#[derive(Debug)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// Whether structs are written without the names of their fields.
    positional: bool,
}

impl Writer {
    pub(super) fn new(mut out: Vec<u8>) -> Self {
        // One allocation for a small message.
        out.reserve(128);
        Self { out, positional: false }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    #[inline]
    fn tagged<const N: usize>(&mut self, tag: u8, bytes: [u8; N]) {
        self.out.push(tag);
        self.out.extend_from_slice(&bytes);
    }

    #[inline]
    fn unsigned(&mut self, number: u64) {
        if number <= u64::from(SMALL) {
            self.out.push(number as u8);
        } else if let Ok(number) = u8::try_from(number) {
            self.tagged(U8, [number]);
        } else if let Ok(number) = u16::try_from(number) {
            self.tagged(U16, number.to_le_bytes());
        } else if let Ok(number) = u32::try_from(number) {
            self.tagged(U32, number.to_le_bytes());
        } else {
            self.tagged(U64, number.to_le_bytes());
        }
    }

    #[inline]
    fn signed(&mut self, number: i64) {
        if let Ok(number) = u64::try_from(number) {
            self.unsigned(number);
        } else if let Ok(number) = i8::try_from(number) {
            self.tagged(I8, number.to_le_bytes());
        } else if let Ok(number) = i16::try_from(number) {
            self.tagged(I16, number.to_le_bytes());
        } else if let Ok(number) = i32::try_from(number) {
            self.tagged(I32, number.to_le_bytes());
        } else {
            self.tagged(I64, number.to_le_bytes());
        }
    }

    #[inline]
    fn length(&mut self, mut length: usize) {
        while length > usize::from(SMALL) {
            self.out.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.out.push(length as u8);
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// Begin something with this many parts.
    #[inline]
    fn begin(&mut self, tag: u8, announced: usize) -> Parts<'_> {
        self.out.push(tag);
        self.length(announced);
        Parts {
            writer: self,
            announced: Some(announced),
            written: 0,
            names: None,
        }
    }

    #[inline]
    fn begin_struct(&mut self, fields: usize) -> Parts<'_> {
        if !self.positional {
            return self.begin(STRUCT, fields);
        }
        let mut parts = self.begin(POSITIONAL, fields);
        parts.names = Some((Names::default(), parts.writer.out.len()));
        parts.writer.out.extend_from_slice(&[0; 4]);
        parts
    }

    #[inline]
    fn items(&mut self, announced: Option<usize>) -> Items<'_> {
        Items {
            start: self.out.len(),
            parts: Parts {
                writer: self,
                announced,
                written: 0,
                names: None,
            },
            run: None,
        }
    }

    /// Write a number by itself.
    fn number(&mut self, Scalar { tag, bytes }: Scalar) {
        let [a, b, c, d, ..] = bytes;
        match tag {
            U8 => self.unsigned(a.into()),
            U16 => self.unsigned(u16::from_le_bytes([a, b]).into()),
            U32 => self.unsigned(u32::from_le_bytes([a, b, c, d]).into()),
            U64 => self.unsigned(u64::from_le_bytes(bytes)),
            I8 => self.signed(i8::from_le_bytes([a]).into()),
            I16 => self.signed(i16::from_le_bytes([a, b]).into()),
            I32 => self.signed(i32::from_le_bytes([a, b, c, d]).into()),
            I64 => self.signed(i64::from_le_bytes(bytes)),
            F32 => self.tagged(tag, [a, b, c, d]),
            _ => self.tagged(tag, bytes),
        }
    }
}

impl<'a> ser::Serializer for &'a mut Writer {
    type Ok = ();
    type Error = CodecError;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Items<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result {
        self.out.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i64(self, value: i64) -> Result {
        self.signed(value);
        Ok(())
    }

    // What fits is written like a smaller type's: serde's enums without a tag know no others.
    fn serialize_i128(self, value: i128) -> Result {
        match (i64::try_from(value), u128::try_from(value)) {
            (Ok(small), _) => self.signed(small),
            (_, Ok(positive)) => self.serialize_u128(positive)?,
            _ => self.tagged(I128, value.to_le_bytes()),
        }
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u64(self, value: u64) -> Result {
        self.unsigned(value);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result {
        match u64::try_from(value) {
            Ok(small) => self.unsigned(small),
            Err(_) => self.tagged(U128, value.to_le_bytes()),
        }
        Ok(())
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result {
        self.tagged(F32, value.to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result {
        self.tagged(F64, value.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result {
        self.tagged(CHAR, u32::from(value).to_le_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result {
        self.out.push(STR);
        self.bytes(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result {
        self.out.push(BYTES);
        self.bytes(value);
        Ok(())
    }

    fn serialize_none(self) -> Result {
        self.out.push(NONE);
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result {
        self.out.push(SOME);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result {
        self.out.push(UNIT);
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, _index: u32, variant: &'static str) -> Result {
        self.out.push(UNIT_VARIANT);
        self.bytes(variant.as_bytes());
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> Result {
        if name != COMPACT {
            return value.serialize(self);
        }
        let before = std::mem::replace(&mut self.positional, true);
        let result = value.serialize(&mut *self);
        self.positional = before;
        result
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        self.out.push(VARIANT);
        self.bytes(variant.as_bytes());
        value.serialize(self)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Items<'a>> {
        Ok(self.items(length))
    }

    #[inline]
    fn collect_seq<I: IntoIterator<Item: Serialize>>(self, items: I) -> Result {
        let mut iter = items.into_iter();
        let announced = match iter.size_hint() {
            (least, Some(most)) if least == most => Some(least),
            _ => None,
        };
        let mut items = self.items(announced);
        if let Some(first) = iter.next() {
            items.item(&first)?;
            if let Some(other) = items.more(&mut iter) {
                items.item(&other)?;
            }
            iter.try_for_each(|item| items.item(&item))?;
        }
        items.close()
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Items<'a>> {
        Ok(self.items(Some(length)))
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, length: usize) -> Result<Items<'a>> {
        Ok(self.items(Some(length)))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Items<'a>> {
        self.out.push(VARIANT);
        self.bytes(variant.as_bytes());
        Ok(self.items(Some(length)))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'a>> {
        Ok(if let Some(length) = length {
            self.begin(MAP, length)
        } else {
            self.out.push(OPEN_MAP);
            Parts {
                writer: self,
                announced: None,
                written: 0,
                names: None,
            }
        })
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, length: usize) -> Result<Parts<'a>> {
        Ok(self.begin_struct(length))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Parts<'a>> {
        self.out.push(VARIANT);
        self.bytes(variant.as_bytes());
        Ok(self.begin_struct(length))
    }
}
