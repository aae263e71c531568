//! A corrupt arena: bytes of the input are written over it while it is in use.

use crate::choices::Choices;
use crate::objects::Objects;
use procession_core::family;
use std::os::fd::AsRawFd;

/// The most steps of one round; an input may be longer.
const STEPS: usize = 200;

/// Run one process that uses an arena while it is being corrupted.
pub fn arena(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut objects = Objects::build();
    let mut extents = Extents::of_arena();
    for _ in 0..STEPS {
        if choices.are_over() {
            break;
        }
        if choices.below(2) == 0 {
            extents.damage(&mut choices);
        } else {
            let _ = objects.use_once(&mut choices);
        }
    }
    objects.use_all(&mut choices);
}

/// The parts of the arena that hold data, mapped a second time.
struct Extents(Vec<&'static mut [u64]>);

impl Extents {
    fn of_arena() -> Self {
        let fd = family().unwrap().arena_fd().unwrap().as_raw_fd();
        let mut parts = Vec::new();
        let mut at = 0;
        loop {
            // SAFETY: plain system calls on a descriptor that stays open; an error (no more data) is -1.
            let (start, end) = unsafe {
                let start = libc::lseek(fd, at, libc::SEEK_DATA);
                (start, libc::lseek(fd, start.max(0), libc::SEEK_HOLE))
            };
            if start < 0 {
                return Self(parts);
            }
            let length = (end - start) as usize;
            // SAFETY: a new mapping of that part of the file, never unmapped. Other processes change it too: what is
            // read here is only written back.
            unsafe {
                let flags = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let base = libc::mmap(std::ptr::null_mut(), length, flags.0, flags.1, fd, start);
                assert!(base != libc::MAP_FAILED);
                parts.push(std::slice::from_raw_parts_mut(base.cast(), length / 8));
            }
            at = end;
        }
    }

    /// Choose the next word to be read or overwritten.
    fn pick(&mut self, choices: &mut Choices) -> &mut u64 {
        let part = choices.below(self.0.len() as u64) as usize;
        let part = &mut self.0[part];
        // Half of all damage goes near the beginning, where more is in use, and much of that into the first words of
        // objects.
        let (reach, step) = match choices.below(4) {
            0 => (256, 1),
            1 => (2048, 8),
            _ => (part.len() as u64, 1),
        };
        let at = choices.below(reach.min(part.len() as u64 / step)) * step;
        &mut part[at as usize]
    }

    fn damage(&mut self, choices: &mut Choices) {
        let kind = choices.below(10);
        let other = if kind == 4 { *self.pick(choices) } else { 0 };
        let word = self.pick(choices);
        *word = match kind {
            0 => 0,
            1 => u64::MAX,
            2 | 3 => choices.word(),
            4 => other,
            5 => word.wrapping_add(1),
            6 => word.wrapping_add(choices.below(256) << (8 * choices.below(8))),
            7 => *word & 0xffff_ffff | choices.below(1 << 32) << 32,
            8 => choices.below(256),
            _ => *word ^ 1 << choices.below(64),
        };
    }
}
