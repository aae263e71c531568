//! The creation site of a lock: a line of a program, kept beside the lock to be named in the report of its holder's
//! death.

use super::primitive::{AtomicU32, Ordering};
use crate::CreationSite;

/// Words for the path: few enough that a lock's whole state fits the smallest cell.
const WORDS: usize = 9;

/// The end of a path, and a line. Written once, before any other process sees the object; zero-filled: not known.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct StoredCreationSite {
    line: AtomicU32,
    text: [AtomicU32; WORDS],
}

impl StoredCreationSite {
    pub(super) fn set(&self, file: &str, line: u32) {
        let mut from = file.len().saturating_sub(WORDS * 4);
        while !file.is_char_boundary(from) {
            from += 1;
        }
        for (word, part) in self.text.iter().zip(file.as_bytes()[from..].chunks(4)) {
            let mut bytes = [0; 4];
            bytes[..part.len()].copy_from_slice(part);
            word.store(u32::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.line.store(line, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<CreationSite> {
        let line = self.line.load(Ordering::Relaxed);
        let mut bytes = Vec::with_capacity(WORDS * 4);
        for word in &self.text {
            bytes.extend(word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let full = bytes.last() != Some(&0);
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        let tail = String::from_utf8_lossy(&bytes);
        // A path that fills the words was probably longer: what is kept begins in the middle of a name.
        let file = match tail.split_once('/').filter(|_| full) {
            Some((_, rest)) => format!(".../{rest}"),
            None => tail.into_owned(),
        };
        (line != 0).then_some(CreationSite { file, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(file: &str) -> String {
        let made = StoredCreationSite::default();
        made.set(file, 7);
        made.get().unwrap().to_string()
    }

    #[test]
    fn a_short_path_is_kept_and_a_long_one_ends_the_same() {
        assert_eq!(StoredCreationSite::default().get(), None);
        assert_eq!(kept("a/b.py"), "a/b.py:7");
        let long = "/home/somebody/projects/of-all-kinds/package/workers.py";
        assert_eq!(kept(long), ".../of-all-kinds/package/workers.py:7");
        assert!(kept(&"\u{e9}".repeat(30)).starts_with('\u{e9}'));
    }
}
