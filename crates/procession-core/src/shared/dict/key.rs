//! Keys as the engine compares them: by their bytes.

use super::super::bytes::Words;

/// Longest key, in bytes.
pub const LONGEST_KEY: usize = (1 << 20) - 1;
/// Longest form of a key, in bytes.
pub const LONGEST_FORM: usize = (1 << 12) - 1;

/// A key: the bytes by which it is compared, and its form, which the entry keeps but which is not compared. The form
/// is what a face needs to return the key as it was given.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) hash: u64,
    pub(super) len: usize,
    pub(super) words: Words,
    pub(super) form_len: usize,
    pub(super) form: Vec<u64>,
}

impl Key {
    pub(super) fn new(seed: u64, bytes: &[u8], form: &[u8]) -> Option<Self> {
        (bytes.len() <= LONGEST_KEY && form.len() <= LONGEST_FORM).then(|| Self {
            hash: hash(seed, bytes),
            len: bytes.len(),
            words: Words::of(bytes),
            form_len: form.len(),
            form: if form.is_empty() {
                Vec::new()
            } else {
                Words::<8>::of(form).to_vec()
            },
        })
    }
}

/// The hash of a key's bytes: the same in all processes.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    use rapidhash::v3::{rapidhash_v3_seeded, RapidSecrets};
    rapidhash_v3_seeded(bytes, &RapidSecrets::seed(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_each_byte_count() {
        assert_ne!(hash(1, b"key"), hash(2, b"key"));
        assert_ne!(hash(1, b"key"), hash(1, b"kez"));
        assert_eq!(hash(7, b"key"), hash(7, b"key"));
    }
}
