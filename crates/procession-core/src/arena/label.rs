//! The label of an object: the name that the program gave it, and the line that made it. It lies at the end of the
//! object's cell, which is larger for it; the cell's note says which parts there are. Written once, before any other
//! process sees the object.

use crate::CreationSite;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Words for a path: few enough that the state of a lock or semaphore and its creation site fit the smallest cell.
const SITE_WORDS: usize = 9;
/// Words for a name: as many bytes as a process's name has.
const NAME_WORDS: usize = 16;
/// The bytes of a label with both parts.
pub(super) const MOST: usize = size_of::<StoredName>() + size_of::<StoredCreationSite>();

/// What an object is called where people read of it. The default is no label.
#[derive(Clone, Copy, Debug, Default)]
pub struct Label<'a> {
    /// Its name. Of a longer one, the first 64 bytes are kept. An empty one is none.
    pub name: Option<&'a str>,
    /// The file and line that made it.
    pub made: Option<(&'a str, u32)>,
}

impl Label<'_> {
    pub(super) fn parts(self) -> LabelParts {
        let named = self.name.is_some_and(|name| !name.is_empty());
        let (name, site) = (u8::from(named), u8::from(self.made.is_some()));
        LabelParts((name * LabelParts::NAME) | (site * LabelParts::SITE))
    }
}

/// The parts of a label that an object has: two bits of its cell's note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LabelParts(u8);

impl LabelParts {
    const NAME: u8 = 1;
    const SITE: u8 = 2;

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & (Self::NAME | Self::SITE))
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    fn bytes_of(self, part: u8, size: usize) -> usize {
        if self.0 & part == 0 {
            0
        } else {
            size
        }
    }

    /// Bytes of both.
    pub(super) fn bytes(self) -> usize {
        self.bytes_of(Self::NAME, size_of::<StoredName>()) + self.bytes_of(Self::SITE, size_of::<StoredCreationSite>())
    }

    /// Where the creation site lies in a cell of this size, if there is one: at the end.
    pub(crate) fn site(self, size: usize) -> Option<usize> {
        let there = self.0 & Self::SITE != 0;
        there.then(|| size.checked_sub(size_of::<StoredCreationSite>()))?
    }

    /// Where the name lies in a cell of this size, if there is one: at the beginning of the label.
    pub(crate) fn name(self, size: usize) -> Option<usize> {
        let there = self.0 & Self::NAME != 0;
        there.then(|| size.checked_sub(self.bytes()))?
    }
}

/// Text, with zeros behind it.
#[repr(C)]
#[derive(Debug)]
struct Text<const WORDS: usize>([AtomicU32; WORDS]);

impl<const WORDS: usize> Default for Text<WORDS> {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; WORDS])
    }
}

impl<const WORDS: usize> Text<WORDS> {
    fn set(&self, text: &[u8]) {
        let mut parts = text.chunks(4);
        for word in &self.0 {
            let mut bytes = [0; 4];
            if let Some(part) = parts.next() {
                bytes[..part.len()].copy_from_slice(part);
            }
            word.store(u32::from_ne_bytes(bytes), Relaxed);
        }
    }

    /// The bytes, of which zeros at the end are none.
    fn get(&self) -> Vec<u8> {
        let words = self.0.iter().map(|word| word.load(Relaxed).to_ne_bytes());
        let mut bytes: Vec<u8> = words.flatten().collect();
        bytes.truncate(bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        bytes
    }
}

/// A name. Zero-filled: none.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct StoredName(Text<NAME_WORDS>);

impl StoredName {
    pub(super) fn set(&self, name: &str) {
        let mut end = name.len().min(NAME_WORDS * 4);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        self.0.set(&name.as_bytes()[..end]);
    }

    pub(crate) fn get(&self) -> Option<String> {
        let name = String::from_utf8_lossy(&self.0.get()).into_owned();
        (!name.is_empty()).then_some(name)
    }
}

/// The end of a path, and a line. Zero-filled: not known.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct StoredCreationSite {
    line: AtomicU32,
    text: Text<SITE_WORDS>,
}

impl StoredCreationSite {
    pub(crate) fn set(&self, file: &str, line: u32) {
        let mut from = file.len().saturating_sub(SITE_WORDS * 4);
        while !file.is_char_boundary(from) {
            from += 1;
        }
        self.text.set(&file.as_bytes()[from..]);
        self.line.store(line, Relaxed);
    }

    pub(crate) fn get(&self) -> Option<CreationSite> {
        let line = self.line.load(Relaxed);
        let bytes = self.text.get();
        let tail = String::from_utf8_lossy(&bytes);
        // A path that fills the words was probably longer: what is kept begins in the middle of a name.
        let file = match tail.split_once('/').filter(|_| bytes.len() == SITE_WORDS * 4) {
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

    #[test]
    fn a_name_is_kept_up_to_its_bound() {
        let kept = |name: &str| {
            let stored = StoredName::default();
            stored.set(name);
            stored.get()
        };
        assert_eq!(kept(""), None);
        assert_eq!(kept("db").as_deref(), Some("db"));
        assert_eq!(kept(&"n".repeat(65)), Some("n".repeat(64)));
        assert_eq!(
            kept(&format!("a{}", "\u{e9}".repeat(40))),
            Some(format!("a{}", "\u{e9}".repeat(31)))
        );
    }

    #[test]
    fn the_parts_of_a_label_lie_apart_within_the_cell() {
        for (name, made) in [
            (None, None),
            (Some("a"), None),
            (None, Some(("b", 1))),
            (Some("a"), Some(("b", 1))),
        ] {
            let parts = Label { name, made }.parts();
            assert_eq!(LabelParts::from_bits(parts.bits()), parts);
            assert_eq!(
                (parts.name(192).is_some(), parts.site(192).is_some()),
                (name.is_some(), made.is_some())
            );
            let ends = [parts.name(192).map(|at| at + 64), parts.site(192)]
                .into_iter()
                .flatten();
            assert!(ends
                .max()
                .is_none_or(|end| end == 192 || end == 192 - 40 && made.is_some()));
        }
        assert_eq!(LabelParts::from_bits(u8::MAX).name(64), None);
    }
}
