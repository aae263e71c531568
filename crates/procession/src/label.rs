//! The label of an object: the name that the program gives it, and the line that makes it.

use procession_core::arena::Label;
use std::panic::Location;

/// The label of an object with this name that the caller's caller makes.
#[track_caller]
pub(crate) fn label(name: Option<&str>) -> Label<'_> {
    let here = Location::caller();
    Label {
        name,
        made: Some((here.file(), here.line())),
    }
}
