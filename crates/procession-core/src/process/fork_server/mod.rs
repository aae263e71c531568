//! The fork_server: a small single-threaded process that forks new ones on request. The README beside this file has its
//! state machine.
//!
//! The fork_server's own program and the fork itself are left to a face; this module has the two ends of the conversation.

mod channel;
mod client;
mod server;
mod spare;
mod wire;

pub use channel::{attach, channel, forget, pid, start};
pub use client::{request, Pending};
pub use server::{Event, Request, Server};
pub use spare::SpareSlot;
