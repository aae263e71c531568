//! The parts of sequences, maps and structs, as serde hands them over one by one.

#[allow(clippy::wildcard_imports)] // the tags
use super::super::format::*;
use super::super::names::Names;
use super::super::scalar::{scalar, width, Scalar};
use serde::ser::{self, Serialize};

use super::Writer;

type Result<T = ()> = std::result::Result<T, CodecError>;

/// The entries of a map, or the fields of a struct.
pub(in crate::codec) struct Parts<'a> {
    pub(super) writer: &'a mut Writer,
    pub(super) announced: Option<usize>,
    pub(super) written: usize,
    /// Of a compact struct: the names of its fields so far, and the place of the four bytes made of them.
    pub(super) names: Option<(Names, usize)>,
}

impl Parts<'_> {
    #[inline]
    pub(super) fn close(self) -> Result {
        if let Some((names, at)) = self.names {
            self.writer.out[at..at + 4].copy_from_slice(&names.to_bytes());
        }
        match self.announced {
            None => self.writer.out.push(END),
            Some(announced) if announced == self.written => {}
            Some(announced) => {
                let written = self.written;
                let text = format!("its implementation of Serialize announces {announced} parts and writes {written}");
                return Err(CodecError::new(text));
            }
        }
        Ok(())
    }

    #[inline]
    pub(super) fn field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result {
        self.written += 1;
        match &mut self.names {
            Some((names, _)) => names.add(key),
            None => self.writer.bytes(key.as_bytes()),
        }
        value.serialize(&mut *self.writer)
    }

    /// In a compact message the receiver knows a field by its place alone.
    pub(super) fn skip(&self, key: &'static str) -> Result {
        if self.names.is_some() {
            let text = format!("the field `{key}` is left out, which a Compact cannot express");
            return Err(CodecError::new(text));
        }
        Ok(())
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = CodecError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result {
        self.written += 1;
        key.serialize(&mut *self.writer)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result {
        value.serialize(&mut *self.writer)
    }

    fn end(self) -> Result {
        self.close()
    }
}

macro_rules! structs {
    ($trait:ident) => {
        impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result {
                self.field(key, value)
            }

            fn skip_field(&mut self, key: &'static str) -> Result {
                self.skip(key)
            }

            #[inline]
            fn end(self) -> Result {
                self.close()
            }
        }
    };
}
structs!(SerializeStruct);
structs!(SerializeStructVariant);

/// The items of a sequence. The first one decides whether they are a run, so the header is written with it.
pub(in crate::codec) struct Items<'a> {
    pub(super) parts: Parts<'a>,
    /// Where the sequence begins.
    pub(super) start: usize,
    /// The type of the items so far, if they are written as a run.
    pub(super) run: Option<u8>,
}

/// How many items of a run are written at a time: an iterator may announce what it does not have.
const BLOCK: usize = 4096;

impl Items<'_> {
    #[inline]
    pub(super) fn item<T: ?Sized + Serialize>(&mut self, value: &T) -> Result {
        let number = scalar(value);
        if self.parts.written == 0 {
            self.header(number.map(|number| number.tag));
        }
        self.parts.written += 1;
        if let Some(tag) = self.run {
            match number {
                Some(number) if number.tag == tag => {
                    let width = width(number.tag).expect("a type of which there are runs");
                    self.parts.writer.out.extend_from_slice(&number.bytes[..width]);
                    return Ok(());
                }
                _ => self.unroll(),
            }
        }
        value.serialize(&mut *self.parts.writer)
    }

    /// Write further items of a run, up to one that is none: this one is returned.
    #[inline]
    pub(super) fn more<I: Iterator<Item: Serialize>>(&mut self, items: &mut I) -> Option<I::Item> {
        let tag = self.run?;
        let out = &mut self.parts.writer.out;
        loop {
            let item = items.next()?;
            let Some(number) = scalar(&item).filter(|number| number.tag == tag) else {
                return Some(item);
            };
            let width = width(number.tag).expect("a type of which there are runs");
            let from = out.len();
            let block = (items.size_hint().0.saturating_add(1)).min(BLOCK);
            out.resize(from + block * width, 0);
            out[from..from + width].copy_from_slice(&number.bytes[..width]);
            let mut filled = 1;
            let mut other = None;
            for (place, item) in out[from + width..].chunks_exact_mut(width).zip(&mut *items) {
                match scalar(&item) {
                    Some(next) if next.tag == number.tag => place.copy_from_slice(&next.bytes[..width]),
                    _ => {
                        other = Some(item);
                        break;
                    }
                }
                filled += 1;
            }
            out.truncate(from + filled * width);
            self.parts.written += filled;
            if other.is_some() {
                return other;
            }
        }
    }

    /// Begin a run of numbers of the type `tag`, or a sequence of any values.
    #[inline]
    pub(super) fn header(&mut self, tag: Option<u8>) {
        self.run = None;
        let writer = &mut *self.parts.writer;
        match (self.parts.announced, tag) {
            (Some(announced), Some(tag)) => {
                writer.out.push(tag | RUN);
                writer.length(announced);
                self.run = Some(tag);
            }
            (Some(announced), None) => {
                writer.out.push(SEQ);
                writer.length(announced);
            }
            (None, _) => writer.out.push(OPEN_SEQ),
        }
    }

    /// Write the items before the last one again, as values: the last one is of another type.
    #[cold]
    pub(super) fn unroll(&mut self) {
        let Some((tag, width)) = self.run.and_then(|tag| Some((tag, width(tag)?))) else {
            return;
        };
        let before = self.parts.written - 1;
        let first = self.parts.writer.out.len() - before * width;
        // A tuple often begins with a number: no allocation for that.
        let one = Scalar::read(tag, &self.parts.writer.out[first..first + width]);
        let others = if before > 1 {
            self.parts.writer.out.split_off(first + width)
        } else {
            Vec::new()
        };
        self.parts.writer.out.truncate(self.start);
        self.header(None);
        self.parts.writer.number(one);
        for bytes in others.chunks_exact(width) {
            self.parts.writer.number(Scalar::read(tag, bytes));
        }
    }

    #[inline]
    pub(super) fn close(mut self) -> Result {
        if self.parts.written == 0 {
            self.header(None);
        }
        self.parts.close()
    }
}

macro_rules! sequences {
    ($trait:ident, $method:ident) => {
        impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = CodecError;

            #[inline]
            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result {
                self.item(value)
            }

            #[inline]
            fn end(self) -> Result {
                self.close()
            }
        }
    };
}
sequences!(SerializeSeq, serialize_element);
sequences!(SerializeTuple, serialize_element);
sequences!(SerializeTupleStruct, serialize_field);
sequences!(SerializeTupleVariant, serialize_field);
