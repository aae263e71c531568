//! The parts of a value's bytes: tags, numbers, lengths, texts. What they mean to serde is left to `de`.

#[allow(clippy::wildcard_imports)] // the tags
use super::super::format::*;
use super::super::scalar::width;
use std::str;

type Result<T> = std::result::Result<T, CodecError>;

/// Takes values from the beginning of a buffer.
#[derive(Debug)]
pub(in crate::codec) struct Reader<'de> {
    rest: &'de [u8],
}

#[cold]
pub(super) fn short() -> CodecError {
    CodecError::new("its bytes end too early")
}

#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str> {
    str::from_utf8(bytes).map_err(CodecError::new)
}

impl<'de> Reader<'de> {
    pub(in crate::codec) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes behind what was read.
    pub(in crate::codec) fn rest(&self) -> &'de [u8] {
        self.rest
    }

    #[inline]
    pub(super) fn peek(&self) -> Result<u8> {
        self.rest.first().copied().ok_or_else(short)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8> {
        let (&first, rest) = self.rest.split_first().ok_or_else(short)?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Result<&'de [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (&bytes, rest) = self.rest.split_first_chunk().ok_or_else(short)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length or count. What it counts takes at least one byte each.
    #[inline]
    pub(super) fn length(&mut self) -> Result<usize> {
        let first = self.byte()?;
        let length = if first <= SMALL {
            first.into()
        } else {
            self.long(first)?
        };
        if length > self.rest.len() {
            return Err(short());
        }
        Ok(length)
    }

    pub(super) fn long(&mut self, first: u8) -> Result<usize> {
        let mut length = usize::from(first & SMALL);
        for shift in (7..usize::BITS).step_by(7) {
            let byte = self.byte()?;
            let part = usize::from(byte & SMALL);
            length |= part << shift;
            if byte <= SMALL {
                // Bits that a shift loses are no length of anything in memory.
                return if part << shift >> shift == part {
                    Ok(length)
                } else {
                    Err(short())
                };
            }
        }
        Err(short())
    }

    #[inline]
    pub(super) fn text(&mut self) -> Result<&'de str> {
        let length = self.length()?;
        text(self.take(length)?)
    }

    /// A number that fits into a `u64`, if that is what comes next.
    #[inline]
    pub(super) fn unsigned(&mut self) -> Result<Option<u64>> {
        match self.peek()? {
            small @ ..=SMALL => {
                self.byte()?;
                Ok(Some(small.into()))
            }
            U8..=U64 => self.wide().map(Some),
            _ => Ok(None),
        }
    }

    pub(super) fn wide(&mut self) -> Result<u64> {
        Ok(match self.byte()? {
            U8 => self.byte()?.into(),
            U16 => u16::from_le_bytes(self.array()?).into(),
            U32 => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        })
    }

    /// A count, and as many items of `width` bytes.
    #[inline]
    pub(super) fn raw(&mut self, width: usize) -> Result<&'de [u8]> {
        let count = self.length()?;
        self.take(count.saturating_mul(width))
    }

    /// Pass over one value. Without recursion: how deep values are nested is the sender's choice.
    pub(super) fn skip(&mut self) -> Result<()> {
        // For each thing that is being passed over: the values that are left of it, or `None` up to the end mark, and
        // whether a name precedes each.
        let mut open: Vec<(Option<usize>, bool)> = vec![(Some(1), false)];
        while let Some((left, named)) = open.last_mut() {
            match left {
                Some(0) => {
                    open.pop();
                    continue;
                }
                Some(left) => *left -= 1,
                None if self.peek()? == END => {
                    self.byte()?;
                    open.pop();
                    continue;
                }
                None => {}
            }
            if *named {
                self.text()?;
            }
            match self.byte()? {
                0..=SMALL | FALSE | TRUE | UNIT | NONE => {}
                U8 | I8 => drop(self.take(1)?),
                U16 | I16 => drop(self.take(2)?),
                U32 | I32 | F32 | CHAR => drop(self.take(4)?),
                U64 | I64 | F64 => drop(self.take(8)?),
                U128 | I128 => drop(self.take(16)?),
                STR | BYTES | UNIT_VARIANT => drop(self.raw(1)?),
                SOME => open.push((Some(1), false)),
                VARIANT => {
                    self.text()?;
                    open.push((Some(1), false));
                }
                SEQ => open.push((Some(self.length()?), false)),
                POSITIONAL => {
                    let count = self.length()?;
                    self.take(4)?;
                    open.push((Some(count), false));
                }
                // Twice a number of bytes that are there.
                MAP => open.push((Some(self.length()?.saturating_mul(2)), false)),
                STRUCT => open.push((Some(self.length()?), true)),
                OPEN_SEQ | OPEN_MAP => open.push((None, false)),
                other => match run(other) {
                    Some((_, width)) => drop(self.raw(width)?),
                    None => return Err(no_tag(other)),
                },
            }
        }
        Ok(())
    }
}

/// The type of a run's items and their width, if the tag is a run's.
#[inline]
pub(super) fn run(tag: u8) -> Option<(u8, usize)> {
    if tag & RUN == 0 {
        return None;
    }
    Some((tag & !RUN, width(tag & !RUN)?))
}

#[cold]
pub(super) fn no_tag(tag: u8) -> CodecError {
    CodecError::new(format_args!("{tag:#x} is no type of value"))
}
