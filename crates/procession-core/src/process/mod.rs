//! Starting processes and learning how they end.
//!
//! There are three ways to a child: [`fork`], [`spawn`] of a program, and a [`zygote`] that forks on request. What the
//! child does is left to the faces; its instructions usually wait in a [`Parcel`](crate::channel::Parcel). Which
//! processes live is left to the roll.

mod child;
mod exit;
mod fork;
mod outcome;
mod record;
mod spawn;
mod watch;
pub mod zygote;

pub use crate::sys::{limits::is_secure, threads::is_alone};
pub use child::Child;
pub use exit::{note_at_exit, Exit};
pub use fork::{fork, Forked};
pub use outcome::Outcome;
pub use spawn::spawn;
pub use watch::watch_parent;
