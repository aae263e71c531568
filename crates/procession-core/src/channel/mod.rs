//! Messages and what carries them: queue, mailbox, pipe; and the descriptors sent with them.
//!
//! A message is bytes, out-of-band buffers and handles; their meaning is left to the faces.

mod backoff;
mod claim;
mod fd_broker;
mod flush_before_exit;
mod handover;
mod lane;
mod layout;
mod mailbox;
mod message;
mod pipe;
mod poll_descriptor;
mod pollers;
mod queue;
mod recover;
pub(crate) mod seen;
mod segment;
mod slot;
#[cfg(test)]
mod tests;
mod walk;

pub use fd_broker::{Brokered, BrokeredFd};
pub use flush_before_exit::wait_until_noticed;
pub use lane::{AnnouncedFrame, Lane, Named, Posted};
pub use layout::Queue;
pub use mailbox::Mailbox;
pub use message::{Incoming, Message, MessageHeader, Outgoing};
pub use pipe::Pipe;
pub use poll_descriptor::Readiness;
pub(crate) use recover::recover_segment;
