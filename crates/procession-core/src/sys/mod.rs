//! The only raw system calls of the engine that are more than one line of rustix.

pub(crate) mod atfork;
pub(crate) mod futex;
pub(crate) mod limits;
pub(crate) mod memory;
pub mod notice;
pub(crate) mod pidfd;
pub mod proc;
pub mod scm;
pub mod signal;
pub mod spawn;
