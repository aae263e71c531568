//! Threads that `CPython` ends while the interpreter finalizes.
//!
//! Before 3.14, `CPython` ends a thread that asks for the interpreter's lock during finalization by `pthread_exit`,
//! wherever the thread is: in a wait of this module, or in Python code that it calls (a reducer, a finalizer, a signal
//! handler). glibc then unwinds the thread's stack by force, and a Rust frame must not be unwound like this. From 3.14
//! on, such a thread sleeps for ever with its stack intact. Here it does the same.
//!
//! The unwinder calls each frame's personality routine before it touches the frame. All Rust frames of this module have
//! the same routine, and refer to it by one word in the module's writable data. [`install`] makes that word point to
//! [`personality`]. A normal run costs nothing, and frames of other modules are not affected. musl's `pthread_exit`
//! does not unwind.

use std::ffi::{c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A personality routine of the Itanium C++ ABI. Takes version, actions, exception class, exception and context;
/// returns what the unwinder must do.
type Personality = unsafe extern "C" fn(c_int, c_int, u64, *mut c_void, *mut c_void) -> c_int;

/// The action bit of an unwind that cannot be caught.
const FORCED: c_int = 8;

/// The personality routine of Rust's standard library.
static RUST: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

extern "C" {
    /// The word by which the unwind tables of all Rust frames refer to their routine. Each object file with such frames
    /// has it, hidden and writable, and the linker keeps one.
    #[link_name = "DW.ref.rust_eh_personality"]
    static ROUTINE: AtomicPtr<c_void>;

    #[cfg(not(Py_3_13))]
    #[link_name = "_Py_IsFinalizing"]
    fn is_finalizing() -> c_int;
    #[cfg(Py_3_13)]
    #[link_name = "Py_IsFinalizing"]
    fn is_finalizing() -> c_int;
}

/// Make threads with frames of this module sleep where `CPython` would end them.
pub fn install() {
    // SAFETY: only this function writes the word. The unwinders of other threads read the old address or the new one.
    let word = unsafe { &ROUTINE };
    let routine = word.load(Ordering::Relaxed);
    let ours = personality as *mut c_void;
    if routine != ours {
        // SYNC: `RUST` is stored before `personality` is published, so that `personality` finds the old routine.
        RUST.store(routine, Ordering::Release);
        word.store(ours, Ordering::Release);
    }
}

/// The personality routine of this module's Rust frames.
unsafe extern "C" fn personality(
    version: c_int,
    actions: c_int,
    class: u64,
    exception: *mut c_void,
    context: *mut c_void,
) -> c_int {
    // SAFETY: reads an atomic of the interpreter, valid even after the interpreter has ended.
    if actions & FORCED != 0 && unsafe { is_finalizing() } != 0 {
        loop {
            // SAFETY: a call without arguments. The stack below stays intact, and so does all that refers to it.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: `install` stored a personality routine before it published this one; the arguments are the unwinder's.
    unsafe {
        let rust: Personality = transmute(RUST.load(Ordering::Acquire));
        rust(version, actions, class, exception, context)
    }
}
