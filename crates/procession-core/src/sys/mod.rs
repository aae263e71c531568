//! The only raw system calls of the engine that are more than one line of rustix.

pub mod scm;
pub mod signal;
pub mod spawn;
