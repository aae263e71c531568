//! The only raw system calls of the engine that are more than one line of rustix.

pub(crate) mod memory;
pub mod scm;
pub mod signal;
pub mod spawn;
