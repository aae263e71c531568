//! The option to leave out the names of fields.

use super::format::COMPACT;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::{Deref, DerefMut};

/// A value that is sent without the names of its structs' fields: as `Queue<Compact<T>>` instead of `Queue<T>`, for
/// example.
///
/// Messages become smaller, and a struct of many fields faster to unpack. In exchange, nothing in the value may depend
/// on names:
///
/// - a field that `skip_serializing_if` leaves out is an error at the sender;
/// - a struct that is flattened, that has a field with an `alias`, or that is in an enum which is untagged, internally
///   tagged or adjacently tagged (`tag` and `content`), is an error at the receiver, and so is a struct with another
///   number of fields there;
/// - fields arrive in the order in which they were sent. So `skip_serializing` and `skip_deserializing`, unless one
///   field has both, must not be in such a value: one struct with both, at different fields, arrives changed.
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
