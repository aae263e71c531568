//! A shared library that contains the crate. Tests load it into programs that contain it, too.

/// Whether a function of this library can be started as a process.
#[no_mangle]
pub extern "C" fn procession_library_starts() -> bool {
    let child = procession::spawn(|()| 1, ());
    match child {
        Ok(_) => true,
        Err(procession::Error::Elsewhere(_)) => false,
        Err(error) => panic!("{error}"),
    }
}
