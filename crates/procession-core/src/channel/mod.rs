//! Messages and what carries them: queue, parcel, pipe; and descriptors that go along with them.
//!
//! A message is bytes, out-of-band buffers and handles; their meaning is left to the faces.

mod deposit;
mod last_words;
mod message;
mod parcel;
mod patience;
mod pipe;
mod queue;
mod ready;
mod segment;
mod tend;
#[cfg(test)]
mod tests;
mod walk;
mod watchers;

pub use deposit::Deposit;
pub use last_words::wait_until_noticed;
pub use message::{Envelope, Incoming, Message, Outgoing};
pub use parcel::Parcel;
pub use pipe::Pipe;
pub use queue::Queue;
pub use ready::Readiness;
pub(crate) use segment::settle;
