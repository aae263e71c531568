//! Threads that `CPython` ends while the interpreter finalizes.
//!
//! Before 3.14 a thread that asks for the interpreter's lock at that time is ended by `pthread_exit`, wherever it is: in a wait of ours, or in
//! Python code that a call of ours runs (a reducer, a finalizer, a signal handler). glibc unwinds the thread's stack by force, and a Rust
//! frame must not be unwound so. From 3.14 on such a thread sleeps for ever with its stack whole. Here it does the same.
//!
//! The unwinder asks each frame's personality routine before it touches the frame. All Rust frames of this module have the same routine, and
//! name it by one word in the module's writable data. That word is made to point to [`personality`]. A normal run costs nothing, and frames
//! of other modules are not affected. musl's `pthread_exit` does not unwind.

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A personality routine of the Itanium C++ ABI: version, actions, exception class, exception, context; what the unwinder is to do.
type Personality = unsafe extern "C" fn(c_int, c_int, u64, *mut c_void, *mut c_void) -> c_int;

/// The action bit of an unwind that cannot be caught.
const FORCED: c_int = 8;

/// The encoding of pointers in the unwind tables: relative to their own place, 32 bits with a sign.
const RELATIVE: u8 = 0x1b;
/// The same, of a word that holds the address.
const INDIRECT: u8 = 0x9b;

/// The routine of Rust's standard library.
static RUST: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

extern "C" {
    #[cfg(not(Py_3_13))]
    #[link_name = "_Py_IsFinalizing"]
    fn is_finalizing() -> c_int;
    #[cfg(Py_3_13)]
    #[link_name = "Py_IsFinalizing"]
    fn is_finalizing() -> c_int;
}

/// Let threads with frames of this module sleep where `CPython` would end them. `false`: the unwind tables have an unknown form.
pub fn install() -> bool {
    if !RUST.load(Ordering::Acquire).is_null() {
        return true; // by an earlier interpreter of this process
    }
    let Some(word) = find_word() else { return false };
    // SAFETY: `find_word` found it in this module's writable data: an aligned word that holds the address of a personality routine. The
    // unwinder of another thread may read it meanwhile, and gets the old address or the new one.
    let word = unsafe { AtomicPtr::from_ptr(word) };
    // SYNC: `personality` finds the old routine.
    RUST.store(word.load(Ordering::Relaxed), Ordering::Release);
    word.store(personality as *mut c_void, Ordering::Release);
    true
}

/// The personality routine of this module's Rust frames.
unsafe extern "C" fn personality(
    version: c_int,
    actions: c_int,
    class: u64,
    exception: *mut c_void,
    context: *mut c_void,
) -> c_int {
    // SAFETY: reads an atomic of the interpreter, which may have ended.
    if actions & FORCED != 0 && unsafe { is_finalizing() } != 0 {
        loop {
            // SAFETY: no arguments. The stack below stays as it is, and so does all that refers to it.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: `install` stored a personality routine before it made this one known; the arguments are the unwinder's.
    unsafe {
        let rust: Personality = transmute(RUST.load(Ordering::Acquire));
        rust(version, actions, class, exception, context)
    }
}

/// A function that has something to do when it is unwound, and so a personality routine.
#[inline(never)]
fn landmark(call: fn()) {
    struct Unwound;
    impl Drop for Unwound {
        fn drop(&mut self) {
            black_box(());
        }
    }
    let _unwound = Unwound;
    call();
}

/// Where this module is.
struct Module {
    /// An address in its code.
    code: usize,
    /// Its unwind tables' index.
    index: usize,
    /// Its data that stays writable.
    data: (usize, usize),
}

/// The word that holds the address of the Rust frames' personality routine.
fn find_word() -> Option<*mut *mut c_void> {
    let landmark = black_box(landmark as fn(fn())) as usize;
    let mut module = Module {
        code: landmark,
        index: 0,
        data: (0, 0),
    };
    // SAFETY: `visit` is called with a description of each module, and `module`, before this returns.
    if unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(&mut module).cast()) } == 0 || module.index == 0 {
        return None;
    }
    // SAFETY: the loader mapped the index of the unwind tables here, and they follow the form that their first bytes tell.
    let word = unsafe {
        let index = module.index as *const u8;
        // Version 1, and how the address of the tables is written.
        if index.read() != 1 || index.add(1).read() != RELATIVE {
            return None;
        }
        find_routine(relative(index.add(4)), landmark)?
    };
    let (start, end) = module.data;
    let inside = (word as usize) >= start && (word as usize) + size_of::<usize>() <= end && word.is_aligned();
    inside.then_some(word)
}

/// Notes the module whose code holds the landmark: 1, which ends the search.
unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, module: *mut c_void) -> c_int {
    // SAFETY: the loader describes one module with its headers; `module` is `find_word`'s.
    let (base, headers, module) = unsafe {
        let info = &*info;
        let headers = std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum as usize);
        (info.dlpi_addr as usize, headers, &mut *module.cast::<Module>())
    };
    let place = |header: &libc::Elf64_Phdr| {
        let start = base + header.p_vaddr as usize;
        (start, start + header.p_memsz as usize)
    };
    let holds = |header: &libc::Elf64_Phdr, address: usize| (place(header).0..place(header).1).contains(&address);
    let loaded = |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD;
    if !headers.iter().filter(loaded).any(|header| holds(header, module.code)) {
        return 0;
    }
    for header in headers {
        match header.p_type {
            libc::PT_GNU_EH_FRAME => module.index = place(header).0,
            // The last writable part; what the loader makes read-only lies in front, or in a part of its own.
            libc::PT_LOAD if header.p_flags & libc::PF_W != 0 => module.data = place(header),
            _ => {}
        }
    }
    if let Some(sealed) = headers.iter().find(|header| header.p_type == libc::PT_GNU_RELRO) {
        module.data.0 = module.data.0.max(place(sealed).1.min(module.data.1));
    }
    1
}

/// The word that names the routine of the function at `code`, from the tables of call frame information.
///
/// # Safety
/// `record` must be the first record of a module's `.eh_frame`.
unsafe fn find_routine(mut record: *const u8, code: usize) -> Option<*mut *mut c_void> {
    // SAFETY: by the caller's word; each record begins with its length, and the last one's is zero.
    unsafe {
        loop {
            let length = record.cast::<u32>().read_unaligned();
            if length == 0 || length == u32::MAX {
                return None; // the end, or records of more than 4 GB
            }
            let body = record.add(4);
            // Zero in a record that others share, otherwise how far back that one is.
            let back = body.cast::<u32>().read_unaligned();
            if back != 0 {
                let start = relative(body.add(4)) as usize;
                let size = body.add(8).cast::<u32>().read_unaligned() as usize;
                if (start..start + size).contains(&code) {
                    return routine_of(body.sub(back as usize));
                }
            }
            record = body.add(length as usize);
        }
    }
}

/// The word that names the routine, from a record that functions share.
///
/// # Safety
/// `record` must be such a record.
unsafe fn routine_of(record: *const u8) -> Option<*mut *mut c_void> {
    // SAFETY: by the caller's word. After length, zero and version come a string that tells what follows, two alignments, a register
    // (numbers below 128 are a byte), the length of the rest, and the rest in the string's order: how the routine is written, the routine, ...
    unsafe {
        const EXPECTED: &[u8] = b"zPLR\0";
        let string = record.add(9);
        if std::slice::from_raw_parts(string, EXPECTED.len()) != EXPECTED {
            return None;
        }
        let numbers = string.add(EXPECTED.len());
        if (0..4).any(|at| numbers.add(at).read() & 0x80 != 0) {
            return None;
        }
        // The routine's place is written at 5, how the functions' places are at 10.
        let known = numbers.add(4).read() == INDIRECT && numbers.add(10).read() == RELATIVE;
        known.then(|| relative(numbers.add(5)).cast_mut().cast())
    }
}

/// The address that a relative pointer refers to.
///
/// # Safety
/// `place` must hold one.
unsafe fn relative(place: *const u8) -> *const u8 {
    // SAFETY: by the caller's word.
    unsafe { place.offset(place.cast::<i32>().read_unaligned() as isize) }
}
