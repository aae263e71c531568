//! Starting processes and learning how they end.
//!
//! There are three ways to make a child: [`fork`], [`spawn`] of a program, and a [`fork_server`] that forks on request.
//! What the child does is left to the faces; its instructions usually wait in a [`Mailbox`](crate::channel::Mailbox).
//! The process table knows which processes live.

mod child;
mod exit;
mod fork;
pub mod fork_server;
mod record;
mod result_slot;
mod spawn;
mod watch;

pub use crate::sys::{limits::is_secure, threads::is_alone};
pub use child::Child;
pub use exit::{note_at_exit, Exit};
pub use fork::{fork, Forked};
pub use result_slot::ResultSlot;
pub use spawn::spawn;
pub use watch::watch_parent;
