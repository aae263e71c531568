//! The values of a channel as iterators.

use super::{Receiver, RecvError};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::fmt;

/// The values of a channel, until it is empty and disconnected: see [`Receiver::iter`](crate::Receiver::iter).
///
/// ```
/// let (to, from) = procession::channel()?;
/// to.send(&1)?;
/// to.send(&2)?;
/// drop(to);
/// let numbers: Vec<i32> = from.iter().collect::<Result<_, _>>()?;
/// assert_eq!(numbers, [1, 2]);
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "nothing is received before it is iterated"]
pub struct Iter<'a, T>(pub(super) &'a Receiver<T>);

/// The values that are in a channel: see [`Receiver::try_iter`](crate::Receiver::try_iter).
#[must_use = "nothing is received before it is iterated"]
pub struct TryIter<'a, T>(pub(super) &'a Receiver<T>);

/// As [`Iter`], and owns the receiver.
///
/// ```
/// let (to, from) = procession::channel()?;
/// to.send(&"a word".to_owned())?;
/// drop(to);
/// for word in from {
///     assert_eq!(word?, "a word");
/// }
/// # Ok::<(), procession::Error>(())
/// ```
#[must_use = "nothing is received before it is iterated"]
pub struct IntoIter<T>(Receiver<T>);

macro_rules! shown {
    ($($iterator:ty)*) => {
        $(impl<T> fmt::Debug for $iterator {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let name = stringify!($iterator).split('<').next().unwrap_or_default();
                f.debug_tuple(name).field(&self.0).finish()
            }
        })*
    };
}
shown!(Iter<'_, T> TryIter<'_, T> IntoIter<T>);

fn item<T>(received: Result<T, RecvError>) -> Option<Result<T>> {
    match received {
        Ok(value) => Some(Ok(value)),
        Err(RecvError::Empty | RecvError::Timeout | RecvError::Disconnected) => None,
        Err(failed) => Some(Err(Error::from(failed))),
    }
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T>;
    fn next(&mut self) -> Option<Result<T>> {
        item(self.0.recv())
    }
}

impl<T: DeserializeOwned> Iterator for TryIter<'_, T> {
    type Item = Result<T>;
    fn next(&mut self) -> Option<Result<T>> {
        item(self.0.try_recv())
    }
}

impl<T: DeserializeOwned> Iterator for IntoIter<T> {
    type Item = Result<T>;
    fn next(&mut self) -> Option<Result<T>> {
        item(self.0.recv())
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Receiver<T> {
    type Item = Result<T>;
    type IntoIter = Iter<'a, T>;
    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T: DeserializeOwned> IntoIterator for Receiver<T> {
    type Item = Result<T>;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self)
    }
}
