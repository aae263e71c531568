//! The executable in memory: the place of a function in it, and whether another process runs the same one.
//!
//! Address-space randomisation loads the image at another address in each process; offsets within it stay the same.

use std::ops::Range;
use std::sync::OnceLock;

/// The executable of this process (not its shared libraries).
#[derive(Debug)]
pub(crate) struct Image {
    base: usize,
    code: Vec<Range<usize>>,
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

    fn has_code(&self, address: usize) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    fn read() -> Self {
        let mut image = Self {
            base: 0,
            code: Vec::new(),
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
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            image.code.push(start..start + length);
        }
        if header.p_type == libc::PT_NOTE {
            // SAFETY: notes of the executable lie in a loaded, readable segment for the life of the process.
            mark.add(unsafe { std::slice::from_raw_parts(start as *const u8, length) });
        }
    }
    image.mark = mark.0;
    1
}

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
        assert_eq!(image.place(libc::getpid as *const () as usize), None);
        assert_eq!(image.address(u64::MAX), None);
        assert_eq!(Image::read().mark, image.mark);
    }
}
