//! Bytes to values, as serde asks for them. `reader` takes the bytes apart, `access` has the parts of compound values.

#[allow(clippy::wildcard_imports)] // the tags
use super::format::*;
use super::names::Names;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, Visitor};
use std::str;

mod access;
mod reader;

use access::{Fields, OneEntry, Rest, Run, Variant};
pub(super) use reader::Reader;
use reader::{no_tag, run};

type Result<T> = std::result::Result<T, CodecError>;

macro_rules! numbers {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self.unsigned()? {
                Some(number) => visitor.visit_u64(number),
                None => self.bare(visitor),
            }
        })*
    };
}

macro_rules! bare {
    ($($method:ident($($argument:ty),*))*) => {
        $(fn $method<V: Visitor<'de>>(self, $(_: $argument,)* visitor: V) -> Result<V::Value> {
            self.bare(visitor)
        })*
    };
}

impl<'de> Reader<'de> {
    /// What comes next, where it need not be wrapped into `Some`.
    fn bare<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value> {
        while self.peek()? == SOME {
            self.byte()?;
        }
        de::Deserializer::deserialize_any(self, visitor)
    }

    fn parts(&mut self, count: Option<usize>) -> Rest<'_, 'de> {
        Rest { reader: self, count }
    }

    fn items<V: Visitor<'de>>(&mut self, count: Option<usize>, visitor: V) -> Result<V::Value> {
        let mut parts = self.parts(count);
        let value = visitor.visit_seq(&mut parts)?;
        parts.finish()?;
        Ok(value)
    }

    fn entries<V: Visitor<'de>>(&mut self, count: Option<usize>, visitor: V) -> Result<V::Value> {
        let mut parts = self.parts(count);
        let value = visitor.visit_map(&mut parts)?;
        parts.finish()?;
        Ok(value)
    }

    /// The fields of a struct; `expected` are their names as the receiver knows them.
    #[inline]
    fn fields<V: Visitor<'de>>(&mut self, expected: &'static [&'static str], visitor: V) -> Result<V::Value> {
        let count = self.length()?;
        let mut fields = Fields {
            parts: self.parts(Some(count)),
            expected: expected.iter(),
        };
        let value = visitor.visit_map(&mut fields)?;
        fields.parts.finish()?;
        Ok(value)
    }

    /// The items of a run of numbers of the type `tag`, each of `width` bytes.
    #[inline]
    fn run<V: Visitor<'de>>(&mut self, tag: u8, width: usize, visitor: V) -> Result<V::Value> {
        let rest = self.raw(width)?;
        if tag == U8 {
            Run::<true> { tag, width, rest }.visit(visitor)
        } else {
            Run::<false> { tag, width, rest }.visit(visitor)
        }
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = CodecError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if let Some(number) = self.unsigned()? {
            return visitor.visit_u64(number);
        }
        match self.byte()? {
            U128 => visitor.visit_u128(u128::from_le_bytes(self.array()?)),
            I8 => visitor.visit_i64(i8::from_le_bytes(self.array()?).into()),
            I16 => visitor.visit_i64(i16::from_le_bytes(self.array()?).into()),
            I32 => visitor.visit_i64(i32::from_le_bytes(self.array()?).into()),
            I64 => visitor.visit_i64(i64::from_le_bytes(self.array()?)),
            I128 => visitor.visit_i128(i128::from_le_bytes(self.array()?)),
            F32 => visitor.visit_f32(f32::from_le_bytes(self.array()?)),
            F64 => visitor.visit_f64(f64::from_le_bytes(self.array()?)),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            CHAR => {
                let number = u32::from_le_bytes(self.array()?);
                let char = char::from_u32(number);
                visitor.visit_char(char.ok_or_else(|| CodecError::new(format_args!("{number:#x} is no character")))?)
            }
            STR | UNIT_VARIANT => visitor.visit_borrowed_str(self.text()?),
            BYTES => {
                let length = self.length()?;
                visitor.visit_borrowed_bytes(self.take(length)?)
            }
            UNIT => visitor.visit_unit(),
            NONE => visitor.visit_none(),
            SOME => visitor.visit_some(self),
            SEQ => {
                let count = self.length()?;
                self.items(Some(count), visitor)
            }
            OPEN_SEQ => self.items(None, visitor),
            MAP => {
                let count = self.length()?;
                self.entries(Some(count), visitor)
            }
            OPEN_MAP => self.entries(None, visitor),
            STRUCT => self.fields(&[], visitor),
            POSITIONAL => Err(CodecError::new(
                "a Compact carries no flattened struct, and no enum that is untagged or internally tagged",
            )),
            VARIANT => {
                let variant = self.text()?;
                visitor.visit_map(OneEntry {
                    key: Some(variant),
                    reader: self,
                })
            }
            other => match run(other) {
                Some((tag, width)) => self.run(tag, width, visitor),
                None => Err(no_tag(other)),
            },
        }
    }

    numbers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
    }

    bare! {
        deserialize_bool() deserialize_char() deserialize_unit() deserialize_unit_struct(&'static str)
        deserialize_map()
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? == F32 {
            self.byte()?;
            return visitor.visit_f32(f32::from_le_bytes(self.array()?));
        }
        self.bare(visitor)
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? == F64 {
            self.byte()?;
            return visitor.visit_f64(f64::from_le_bytes(self.array()?));
        }
        self.bare(visitor)
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? == STR {
            self.byte()?;
            return visitor.visit_borrowed_str(self.text()?);
        }
        self.bare(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        if self.peek()? == U8 | RUN {
            self.byte()?;
            return visitor.visit_borrowed_bytes(self.raw(1)?);
        }
        self.bare(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.peek()? {
            NONE | UNIT => {
                self.byte()?;
                visitor.visit_none()
            }
            SOME => {
                self.byte()?;
                visitor.visit_some(self)
            }
            _ => visitor.visit_some(self),
        }
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self.peek()? {
            SEQ => {
                self.byte()?;
                let count = self.length()?;
                self.items(Some(count), visitor)
            }
            BYTES => {
                self.byte()?;
                self.run(U8, 1, visitor)
            }
            tag => {
                if let Some((tag, width)) = run(tag) {
                    self.byte()?;
                    return self.run(tag, width, visitor);
                }
                self.bare(visitor)
            }
        }
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.peek()? {
            STRUCT => {
                self.byte()?;
                self.fields(fields, visitor)
            }
            POSITIONAL => {
                self.byte()?;
                let count = self.length()?;
                if count != fields.len() {
                    let text = format!("a compact {name} has {count} fields instead of {}", fields.len());
                    return Err(CodecError::new(text));
                }
                if self.array()? != Names::of(fields).to_bytes() {
                    let text = format!(
                        "a compact {name} has other fields than its receiver expects: are some of them skipped, or \
                         named otherwise, on one side only?"
                    );
                    return Err(CodecError::new(text));
                }
                self.items(Some(count), visitor)
            }
            SOME => {
                self.byte()?;
                self.deserialize_struct(name, fields, visitor)
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self.byte()? {
            UNIT_VARIANT | STR => {
                let variant: BorrowedStrDeserializer<'de, CodecError> = BorrowedStrDeserializer::new(self.text()?);
                visitor.visit_enum(variant)
            }
            VARIANT => visitor.visit_enum(Variant {
                name: self.text()?,
                reader: self,
            }),
            SOME => self.deserialize_enum(name, variants, visitor),
            // An enum that a map stands for, as in self-describing texts.
            MAP if self.length()? == 1 => visitor.visit_enum(Variant {
                name: <&str as de::Deserialize>::deserialize(&mut *self)?,
                reader: self,
            }),
            _ => Err(CodecError::new(format_args!("it is no variant of {name}"))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.skip()?;
        visitor.visit_unit()
    }
}
