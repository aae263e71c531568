//! The executable in memory: the place of a function in it, and whether another process runs the same one.
//!
//! Address-space randomisation loads the image at another address in each process; offsets within it stay the same.

use std::ffi::{c_char, c_int};
use std::ops::Range;
use std::sync::OnceLock;

/// The executable of this process (not its shared libraries).
#[derive(Debug)]
pub(crate) struct Image {
    base: usize,
    code: Vec<Range<usize>>,
    /// All that is loaded of it.
    loaded: Vec<Range<usize>>,
    /// The functions that run before `main`.
    constructors: Range<usize>,
    /// A hash that tells executables apart, made from the program headers and the notes, which include the build ID.
    pub mark: u64,
}

impl Image {
    pub(crate) fn this() -> &'static Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(Self::read)
    }

    /// The place of a function: its offset in the image. `None` if it is not part of the executable.
    pub(crate) fn place(&self, address: usize) -> Option<u64> {
        self.has_code(address).then(|| address.wrapping_sub(self.base) as u64)
    }

    /// The address of the code at a place.
    pub(crate) fn address(&self, place: u64) -> Option<usize> {
        let address = self.base.wrapping_add(place as usize);
        self.has_code(address).then_some(address)
    }

    /// The place of something else than code; `None` if it is not part of the executable.
    pub(crate) fn place_of_data(&self, address: usize) -> Option<u64> {
        let inside = self.loaded.iter().any(|range| range.contains(&address));
        inside.then(|| address.wrapping_sub(self.base) as u64)
    }

    /// The constructors that run behind the one whose entry in the executable's list is at this address. None if the
    /// list is unknown, as that of a static executable without position-independent code is.
    ///
    /// # Safety
    /// `entry` is the address of a live entry of the list, which the C library is running through.
    pub(crate) unsafe fn constructors_behind(&self, entry: usize) -> Vec<Constructor> {
        if !self.constructors.contains(&entry) {
            return Vec::new();
        }
        let next = entry + size_of::<usize>();
        let count = (self.constructors.end - next) / size_of::<usize>();
        // SAFETY: the dynamic section says that the list goes on to `end`; it is loaded, and no longer changes.
        let behind = unsafe { std::slice::from_raw_parts(next as *const usize, count) };
        let functions = behind.iter().filter(|&&address| self.has_code(address));
        // SAFETY: the entries are constructors; the C library passes them these arguments.
        functions
            .map(|&address| unsafe { std::mem::transmute::<usize, Constructor>(address) })
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn base(&self) -> usize {
        self.base
    }

    fn has_code(&self, address: usize) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    fn read() -> Self {
        let mut image = Self {
            base: 0,
            code: Vec::new(),
            loaded: Vec::new(),
            constructors: 0..0,
            mark: 0,
        };
        // SAFETY: the callback gets the pointer given here and is not called after `dl_iterate_phdr` returns.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut image).cast()) };
        image
    }
}

/// Called for the first object only, which is the executable: returning 1 ends the iteration.
unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _size: usize, image: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `dl_iterate_phdr` passes a valid description, and the pointer that `read` gave it.
    let (info, image) = unsafe { (&*info, &mut *image.cast::<Image>()) };
    image.base = info.dlpi_addr as usize;
    // SAFETY: the description says how many headers there are.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let mut mark = Mark(0xcbf2_9ce4_8422_2325);
    for header in headers {
        let start = image.base.wrapping_add(header.p_vaddr as usize);
        let length = header.p_memsz as usize;
        for number in [
            header.p_type.into(),
            header.p_flags.into(),
            header.p_vaddr,
            header.p_memsz,
        ] {
            let number: u64 = number;
            mark.add(&number.to_ne_bytes());
        }
        if header.p_type == libc::PT_LOAD {
            image.loaded.push(start..start + length);
            if header.p_flags & libc::PF_X != 0 {
                image.code.push(start..start + length);
            }
        }
        if header.p_type == libc::PT_DYNAMIC {
            // SAFETY: the dynamic section is loaded, and its entries are pairs of words.
            let entries =
                unsafe { std::slice::from_raw_parts(start as *const [usize; 2], length / size_of::<[usize; 2]>()) };
            image.constructors = constructors(image.base, entries);
        }
        if header.p_type == libc::PT_NOTE {
            // SAFETY: notes of the executable lie in a loaded, readable segment for the life of the process.
            mark.add(unsafe { std::slice::from_raw_parts(start as *const u8, length) });
        }
    }
    image.mark = mark.0;
    1
}

/// The list of constructors that a dynamic section names. Relative to the executable's base, even where the dynamic
/// linker has written addresses over other entries.
fn constructors(base: usize, entries: &[[usize; 2]]) -> Range<usize> {
    const END: usize = 0;
    const INIT_ARRAY: usize = 25;
    const INIT_ARRAY_SIZE: usize = 27;
    let value = |tag| {
        let mut entries = entries.iter().take_while(|entry| entry[0] != END);
        entries.find_map(|&[this, value]| (this == tag).then_some(value))
    };
    match (value(INIT_ARRAY), value(INIT_ARRAY_SIZE)) {
        (Some(start), Some(size)) => {
            let start = base.wrapping_add(start);
            start..start + size
        }
        _ => 0..0,
    }
}

/// What the C library calls before `main`. Those of glibc get these arguments, those of musl none.
pub(crate) type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// FNV-1a.
struct Mark(u64);

impl Mark {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn own_functions_have_a_place_and_those_of_libraries_have_none() {
        let image = Image::this();
        let own = own_functions_have_a_place_and_those_of_libraries_have_none as *const () as usize;
        let place = image.place(own).expect("it is part of the executable");
        assert_eq!(image.address(place), Some(own));
        if cfg!(not(target_feature = "crt-static")) {
            assert_eq!(image.place(libc::getpid as *const () as usize), None);
        }
        assert_eq!(image.address(u64::MAX), None);
        assert_eq!(Image::read().mark, image.mark);
    }
}
