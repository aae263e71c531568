//! Bytes as words: the form in which nodes hold them.

use crate::{Error, Result};
use std::ops::Deref;

/// Room for so many elements in private memory. Fails if there is none, instead of ending the process.
pub(crate) fn room<T>(len: usize) -> Result<Vec<T>> {
    let mut all = Vec::new();
    make_room(&mut all, len)?;
    Ok(all)
}

/// Room for so many more elements.
pub(crate) fn make_room<T>(all: &mut Vec<T>, more: usize) -> Result<()> {
    all.try_reserve(more)
        .map_err(|_| no_room((more * size_of::<T>()) as u64))
}

/// Private memory has run out.
pub(crate) fn no_room(wanted: u64) -> Error {
    Error::Exhausted {
        what: "memory of this process",
        wanted,
    }
}

/// Words that lie here, or on the heap if they are many.
#[derive(Clone, Debug)]
pub(crate) struct Words<const INLINE: usize = 8> {
    len: usize,
    inline: [u64; INLINE],
    more: Vec<u64>,
}

impl<const INLINE: usize> Words<INLINE> {
    pub(crate) fn zeros(len: usize) -> Self {
        Self {
            len,
            inline: [0; INLINE],
            more: if len > INLINE { vec![0; len] } else { Vec::new() },
        }
    }

    /// As [`zeros`](Self::zeros), of many words. Fails if there is no memory for them.
    pub(crate) fn try_zeros(len: usize) -> Result<Self> {
        let mut words = Self::zeros(0);
        if len > INLINE {
            words.more = room(len)?;
            words.more.resize(len, 0);
        }
        words.len = len;
        Ok(words)
    }

    /// Bytes, padded with zeros.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut words = Self::zeros(bytes.len().div_ceil(8));
        pack(bytes, words.as_mut());
        words
    }

    pub(crate) fn as_mut(&mut self) -> &mut [u64] {
        if self.len > INLINE {
            &mut self.more
        } else {
            &mut self.inline[..self.len]
        }
    }
}

impl<const INLINE: usize> Deref for Words<INLINE> {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        if self.len > INLINE {
            &self.more
        } else {
            &self.inline[..self.len]
        }
    }
}

/// Write bytes as words, the last padded with zeros.
pub(crate) fn pack(bytes: &[u8], to: &mut [u64]) {
    let mut chunks = bytes.chunks_exact(8);
    let mut to = to.iter_mut();
    for (chunk, word) in chunks.by_ref().zip(to.by_ref()) {
        *word = u64::from_ne_bytes(chunk.try_into().unwrap_or_default());
    }
    if let Some(word) = to.next() {
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        *word = u64::from_ne_bytes(last);
    }
}

/// Bytes that were stored as words.
#[derive(Clone, Debug)]
pub struct ValueBytes {
    words: Words,
    len: usize,
}

impl ValueBytes {
    pub(crate) fn new(words: Words, len: usize) -> Self {
        Self {
            len: len.min(words.len() * 8),
            words,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        bytes_of(&self.words, self.len)
    }
}

/// The first `len` bytes of words that are in the order of bytes.
pub(crate) fn bytes_of(words: &[u64], len: usize) -> &[u8] {
    // SAFETY: any 8 bytes are a word; `len` is within the words.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), len.min(words.len() * 8)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_survive_being_words(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let words = Words::<8>::of(&bytes);
            prop_assert_eq!(words.len(), bytes.len().div_ceil(8));
            let back = ValueBytes::new(words, bytes.len());
            prop_assert_eq!(back.as_slice(), &bytes[..]);
        }
    }
}
