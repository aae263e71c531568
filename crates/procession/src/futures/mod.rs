//! Futures, on any runtime. They need no executor of this crate's: what they wait for wakes their task (`waking`).

mod join;
mod recv;
mod results;

pub use join::Join;
pub use recv::Recv;
pub use results::{Applied, Mapped};
