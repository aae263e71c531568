//! Why an end of a channel could not send or receive.

use crate::Error;

/// Why a value was not sent.
///
/// ```
/// use procession::{channel, SendError};
///
/// let (to, from) = channel::<u8>()?;
/// drop(from);
/// assert!(matches!(to.send(&1), Err(SendError::Disconnected)));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The channel is full. Of [`try_send`](crate::Sender::try_send).
    #[error("the channel is full")]
    Full,
    /// The channel was full until the timeout. Of [`send_timeout`](crate::Sender::send_timeout).
    #[error("timed out: the channel is full")]
    Timeout,
    /// All receivers are gone: dropped, or dead with their processes.
    #[error("the channel has no receiver any more")]
    Disconnected,
    /// The value could not be serialized, or the engine or the operating system reported an error.
    #[error(transparent)]
    Failed(Error),
}

/// Why no value was received.
///
/// ```
/// use procession::{channel, RecvError};
///
/// let (to, from) = channel::<u8>()?;
/// assert!(matches!(from.try_recv(), Err(RecvError::Empty)));
/// to.send(&1)?;
/// drop(to);
/// assert_eq!(from.recv()?, 1);
/// assert!(matches!(from.recv(), Err(RecvError::Disconnected)));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The channel is empty. Of [`try_recv`](crate::Receiver::try_recv).
    #[error("the channel is empty")]
    Empty,
    /// The channel was empty until the timeout. Of [`recv_timeout`](crate::Receiver::recv_timeout).
    #[error("timed out: the channel is empty")]
    Timeout,
    /// The channel is empty, and all senders are gone: dropped, or dead with their processes.
    #[error("the channel is empty and has no sender any more")]
    Disconnected,
    /// The value could not be deserialized, or the engine or the operating system reported an error.
    #[error(transparent)]
    Failed(Error),
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full | SendError::Timeout => Self::TimedOut,
            SendError::Disconnected => Self::Disconnected,
            SendError::Failed(error) => error,
        }
    }
}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Empty | RecvError::Timeout => Self::TimedOut,
            RecvError::Disconnected => Self::Disconnected,
            RecvError::Failed(error) => error,
        }
    }
}
