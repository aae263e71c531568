//! The contents of an arena at one moment, and arenas made from such contents.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::ptr::null_mut;

pub const PAGE: u64 = 4096;
const WORDS: usize = PAGE as usize / 8;

/// Words that changed: number counted from the arena's beginning, new value.
pub type Words = Vec<(u64, u64)>;

type Page = [u64; WORDS];

/// All pages of an arena that are not zero, and a mapping of the arena with which to compare them later.
pub struct Image {
    pages: BTreeMap<u64, Box<Page>>,
    live: *const Page,
    length: u64,
}

impl Image {
    /// The present contents of the arena.
    pub fn of(arena: &File) -> Self {
        let length = arena.metadata().expect("the arena's size").len();
        // SAFETY: a new mapping of a file that is sealed against shrinking.
        let live = unsafe {
            libc::mmap(
                null_mut(),
                length as usize,
                libc::PROT_READ,
                libc::MAP_SHARED,
                arena.as_raw_fd(),
                0,
            )
        };
        assert_ne!(live, libc::MAP_FAILED, "mmap: {}", Error::last_os_error());
        let mut image = Self {
            pages: BTreeMap::new(),
            live: live.cast(),
            length,
        };
        let fd = arena.as_raw_fd();
        let mut at = 0;
        // SAFETY: seeks in a file of ours; each page in use is visited once.
        while let start @ 0.. = unsafe { libc::lseek(fd, at, libc::SEEK_DATA) } {
            // SAFETY: as above.
            at = unsafe { libc::lseek(fd, start, libc::SEEK_HOLE) };
            image.update(start as u64 / PAGE..(at as u64).div_ceil(PAGE));
        }
        image
    }

    /// Compare these pages with their present contents, and take over what differs.
    pub fn update(&mut self, numbers: impl IntoIterator<Item = u64>) -> Words {
        let mut changed = Words::new();
        for number in numbers {
            assert!(number < self.length / PAGE);
            // SAFETY: it lies in the mapping, and every process that writes there is stopped.
            let now = unsafe { self.live.add(number as usize).read_volatile() };
            let page = self.pages.get(&number).map_or(&[0; WORDS], |page| &**page);
            let differing = (0..WORDS).filter(|&word| now[word] != page[word]);
            changed.extend(differing.map(|word| (number * WORDS as u64 + word as u64, now[word])));
        }
        self.apply(&changed);
        changed
    }

    /// Compare all pages that are known not to be zero.
    pub fn update_all(&mut self) -> Words {
        let known: Vec<u64> = self.pages.keys().copied().collect();
        self.update(known)
    }

    /// Apply changes, which brings the image to a later moment.
    pub fn apply(&mut self, words: &Words) {
        for &(word, value) in words {
            let page = self.pages.entry(word / WORDS as u64).or_insert(Box::new([0; WORDS]));
            page[word as usize % WORDS] = value;
        }
    }

    /// Whether both have the same contents.
    pub fn is_like(&self, other: &Self) -> bool {
        let used = |image: &Self| -> Vec<u64> {
            let nonzero = |page: &Page| page.iter().any(|&word| word != 0);
            image
                .pages
                .iter()
                .filter(|(_, page)| nonzero(page))
                .map(|(&number, _)| number)
                .collect()
        };
        let numbers = used(self);
        numbers == used(other) && numbers.iter().all(|number| self.pages[number] == other.pages[number])
    }

    /// A copy that can be changed by itself; it is no longer compared with the arena.
    pub fn copy(&self) -> Self {
        Self {
            pages: self.pages.clone(),
            live: null_mut(),
            length: 0,
        }
    }

    /// An arena with these contents.
    pub fn arena(&self, length: u64) -> File {
        // SAFETY: makes a descriptor, which only the file owns.
        let file = unsafe {
            let fd = libc::memfd_create(c"procession".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
            assert!(fd >= 0, "memfd_create: {}", Error::last_os_error());
            File::from_raw_fd(fd)
        };
        file.set_len(length).expect("room for an arena");
        for (number, page) in &self.pages {
            // SAFETY: words are plain bytes.
            let bytes = unsafe { std::slice::from_raw_parts(page.as_ptr().cast(), PAGE as usize) };
            file.write_all_at(bytes, number * PAGE).expect("room for an arena");
        }
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: seals a file of ours.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
        file
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.live.is_null() {
            // SAFETY: our own mapping, to which there is no other reference.
            unsafe { libc::munmap(self.live.cast_mut().cast(), self.length as usize) };
        }
    }
}
