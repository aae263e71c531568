//! The fork server: a small single-threaded process that forks new ones on request. The README beside this file has its
//! state machine.
//!
//! The fork server's program and the fork itself are left to a face; this module has both ends of the protocol.

mod channel;
mod client;
mod server;
mod spare;
mod wire;

pub use channel::{attach, channel, forget, pid, start};
pub use client::{request, Pending};
pub use server::{Request, Server, ServerCommand};
pub use spare::SpareSlot;
