//! Futures, on any runtime. They need no executor of this crate's: what they wait for wakes their task (`waking`).

mod join;
mod locked;
mod occurred;
mod recv;
mod results;
mod sent;

pub use join::Join;
pub use locked::{Lockable, Locked};
pub use occurred::Occurred;
pub use recv::Recv;
pub use results::{Applied, Mapped};
pub use sent::Sent;
