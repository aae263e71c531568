//! The parts of sequences, maps, structs and variants, as serde asks for them.

#[allow(clippy::wildcard_imports)] // the tags
use super::super::format::*;
use super::super::scalar::Scalar;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use std::str;

use super::reader::{text, Reader};

type Result<T> = std::result::Result<T, CodecError>;

/// The items of a sequence, or the entries of a map. `None`: up to the end mark.
pub(super) struct Rest<'a, 'de> {
    pub(super) reader: &'a mut Reader<'de>,
    pub(super) count: Option<usize>,
}

impl Rest<'_, '_> {
    /// Whether there is another part; counts it.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<bool> {
        match &mut self.count {
            Some(0) => Ok(false),
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
            None => Ok(self.reader.peek()? != END),
        }
    }

    #[inline]
    pub(super) fn finish(self) -> Result<()> {
        match self.count {
            Some(0) => Ok(()),
            None if self.reader.peek()? == END => self.reader.byte().map(drop),
            _ => Err(CodecError::new("it has more items than expected")),
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Rest<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.count
    }
}

impl<'de> MapAccess<'de> for &mut Rest<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.count
    }
}

/// The fields of a struct: their keys are names without a tag.
pub(super) struct Fields<'a, 'de> {
    pub(super) parts: Rest<'a, 'de>,
    /// The names that probably come next. What equals one of them is known to be a text.
    pub(super) expected: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for &mut Fields<'_, 'de> {
    type Error = CodecError;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        if !self.parts.advance()? {
            return Ok(None);
        }
        let reader = &mut *self.parts.reader;
        let length = reader.length()?;
        let bytes = reader.take(length)?;
        let name = match self.expected.next() {
            Some(name) if name.as_bytes() == bytes => name,
            _ => text(bytes)?,
        };
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.parts.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        self.parts.count
    }
}

/// The items of a run. `BYTES`: the type is u8, which is worth a loop of its own.
pub(super) struct Run<'de, const BYTES: bool> {
    /// Their type.
    pub(super) tag: u8,
    /// How many bytes each takes.
    pub(super) width: usize,
    /// A multiple of the width.
    pub(super) rest: &'de [u8],
}

impl<'de, const BYTES: bool> Run<'de, BYTES> {
    #[inline]
    pub(super) fn visit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value> {
        let value = visitor.visit_seq(&mut self)?;
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(CodecError::new("it has more items than expected"))
        }
    }
}

impl<'de, const BYTES: bool> SeqAccess<'de> for &mut Run<'de, BYTES> {
    type Error = CodecError;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        let (tag, width) = if BYTES { (U8, 1) } else { (self.tag, self.width) };
        let Some((bytes, rest)) = self.rest.split_at_checked(width) else {
            return Ok(None);
        };
        self.rest = rest;
        seed.deserialize(Number { tag, bytes }).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len() / self.width)
    }
}

/// An item of a run.
pub(super) struct Number<'de> {
    pub(super) tag: u8,
    pub(super) bytes: &'de [u8],
}

macro_rules! typed {
    ($($method:ident $tag:ident $type:ident $visit:ident;)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.bytes.try_into() {
                Ok(bytes) if self.tag == $tag => visitor.$visit($type::from_le_bytes(bytes)),
                _ => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> de::Deserializer<'de> for Number<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        let Scalar { tag, bytes } = Scalar::read(self.tag, self.bytes);
        let [a, b, c, d, ..] = bytes;
        // As numbers arrive by themselves: without a sign if that is possible.
        let signed = match tag {
            F32 => return visitor.visit_f32(f32::from_le_bytes([a, b, c, d])),
            F64 => return visitor.visit_f64(f64::from_le_bytes(bytes)),
            I8 => i8::from_le_bytes([a]).into(),
            I16 => i16::from_le_bytes([a, b]).into(),
            I32 => i32::from_le_bytes([a, b, c, d]).into(),
            I64 => i64::from_le_bytes(bytes),
            _ => return visitor.visit_u64(u64::from_le_bytes(bytes)),
        };
        match u64::try_from(signed) {
            Ok(number) => visitor.visit_u64(number),
            Err(_) => visitor.visit_i64(signed),
        }
    }

    typed! {
        deserialize_u8 U8 u8 visit_u8;
        deserialize_u16 U16 u16 visit_u16;
        deserialize_u32 U32 u32 visit_u32;
        deserialize_u64 U64 u64 visit_u64;
        deserialize_i8 I8 i8 visit_i8;
        deserialize_i16 I16 i16 visit_i16;
        deserialize_i32 I32 i32 visit_i32;
        deserialize_i64 I64 i64 visit_i64;
        deserialize_f32 F32 f32 visit_f32;
        deserialize_f64 F64 f64 visit_f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i128 u128 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// A variant with data, where any type is expected: a map with one entry.
pub(super) struct OneEntry<'a, 'de> {
    pub(super) key: Option<&'de str>,
    pub(super) reader: &'a mut Reader<'de>,
}

impl<'de> MapAccess<'de> for OneEntry<'_, 'de> {
    type Error = CodecError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let key = self.key.take();
        key.map(|key| seed.deserialize(BorrowedStrDeserializer::new(key)))
            .transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(1)
    }
}

/// A variant with data.
pub(super) struct Variant<'a, 'de> {
    pub(super) name: &'de str,
    pub(super) reader: &'a mut Reader<'de>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = CodecError;
    type Variant = &'a mut Reader<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant)> {
        let name: BorrowedStrDeserializer<'de, CodecError> = BorrowedStrDeserializer::new(self.name);
        Ok((seed.deserialize(name)?, self.reader))
    }
}

impl<'de> VariantAccess<'de> for &mut Reader<'de> {
    type Error = CodecError;

    /// As for enums with a variant for what they do not know (`#[serde(other)]`), the data is passed over.
    fn unit_variant(self) -> Result<()> {
        de::Deserialize::deserialize(self).map(|IgnoredAny| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_tuple(self, length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        de::Deserializer::deserialize_struct(self, "variant", fields, visitor)
    }
}
