//! The option to leave out the names of fields.

use super::format::COMPACT;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Deref, DerefMut};

/// A value that is sent without the names of its structs' fields: as `Queue<Compact<T>>` instead of `Queue<T>`, for
/// example.
///
/// Messages become smaller, and a struct of many fields faster to unpack. In exchange, nothing in the value may depend
/// on names. What does is an error, never a changed value: instead of its names, a struct has four bytes that are made
/// of them.
///
/// - A field that `skip_serializing_if` leaves out is an error at the sender.
/// - An error at the receiver is: a struct that is flattened, that has a field with an `alias`, or that is in an enum
///   which is untagged, internally tagged or adjacently tagged (`tag` and `content`).
/// - So is a struct that the receiver expects with other fields, with the same fields in another order, or with other
///   names of them: one with `skip_serializing` or `skip_deserializing` (but not both, which is `skip`), or with a
///   `rename` for one direction only.
///
/// As in all of serde's formats, a *tuple* struct has no names, and skipped fields of it are not noticed.
///
/// ```
/// use procession::{Compact, Queue};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Sample {
///     time: u64,
///     value: f64,
/// }
///
/// let queue = Queue::new()?;
/// queue.put(&Compact(Sample { time: 7, value: 0.5 }))?;
/// let Compact(sample) = queue.get()?;
/// assert_eq!((sample.time, sample.value), (7, 0.5));
/// # Ok::<(), procession::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compact<T>(pub T);

impl<T> Deref for Compact<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Compact<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Serialize> Serialize for Compact<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_newtype_struct(COMPACT, &self.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Compact<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(Self)
    }
}
