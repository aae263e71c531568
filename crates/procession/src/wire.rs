//! How shared objects are serialized, as the family's identity and a handle, and how values become messages.

use crate::error::Ours;
use crate::{codec, Result};
use procession_core::channel::{Brokered, BrokeredFd, Incoming, Message, Outgoing};
use procession_core::ids::Handle;
use procession_core::{family, Error};
use serde::de::DeserializeOwned;
use serde::{de, ser, Deserialize, Deserializer, Serialize, Serializer};

/// A value as a message of the engine.
pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Message> {
    let mut encoded = codec::collect(Vec::new(), value)?;
    let brokered = encoded.fds.into_iter().map(BrokeredFd::create);
    // The message's own references keep the brokered descriptors alive after these are dropped.
    let brokered = brokered.collect::<Result<Vec<_>, _>>().ours()?;
    encoded.handles.extend(brokered.iter().map(Brokered::handle));
    let out = Outgoing {
        body: &encoded.bytes,
        buffers: &[],
        handles: &encoded.handles,
        ..Outgoing::default()
    };
    Message::pack(out).ours()
}

/// The value that a message carried.
pub(crate) fn unpack<T: DeserializeOwned>(incoming: &Incoming) -> Result<T> {
    let handles = incoming.handles().iter();
    let fds = handles.filter_map(|&handle| BrokeredFd::claim(handle).transpose());
    codec::unpack(incoming.body(), fds.collect::<Result<_, _>>().ours()?)
}

/// A value as it arrives where it is sent, made in this process.
pub(crate) fn copy<T: Serialize, U: DeserializeOwned>(value: &T) -> Result<U> {
    let encoded = codec::collect(Vec::new(), value)?;
    codec::unpack(&encoded.bytes, encoded.fds)
}

/// An object in the arena that is identified by its handle.
pub(crate) trait SharedObject: Sized {
    const NAME: &'static str;
    fn handle(&self) -> Handle;
    fn attach(handle: Handle) -> procession_core::Result<Self>;
}

pub(crate) fn serialize<T: SharedObject, S: Serializer>(shared: &T, to: S) -> Result<S::Ok, S::Error> {
    let family = family().map_err(|error| ser::Error::custom(codec::refuse(crate::Error::engine(error))))?;
    let handle = shared.handle();
    codec::handle(handle);
    // In halves: serde's enums without a tag know no greater numbers.
    let id = family.id();
    ((id >> 64) as u64, id as u64, handle.to_bits()).serialize(to)
}

pub(crate) fn deserialize<'de, T: SharedObject, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    let (high, low, bits) = <(u64, u64, u64)>::deserialize(from)?;
    let id = u128::from(high) << 64 | u128::from(low);
    let attach = || {
        let ours = id == family()?.id();
        let handle = Handle::from_bits(bits).filter(|_| ours);
        T::attach(handle.ok_or(Error::Foreign(T::NAME))?)
    };
    attach().map_err(|error| de::Error::custom(codec::refuse(crate::Error::engine(error))))
}

/// Implements `SharedObject` for an engine type by its own methods.
macro_rules! shared {
    ($type:ty, $name:literal) => {
        impl crate::wire::SharedObject for $type {
            const NAME: &'static str = $name;
            fn handle(&self) -> procession_core::ids::Handle {
                self.handle()
            }
            fn attach(handle: procession_core::ids::Handle) -> procession_core::Result<Self> {
                Self::attach(handle)
            }
        }
    };
}
pub(crate) use shared;

/// Implements `Serialize` and `Deserialize` for a wrapper around one shared engine object in its field `inner`, or one
/// that a function makes of the object.
macro_rules! serde_by_handle {
    ($wrapper:ident, $engine:ty, $name:literal) => {
        crate::wire::serde_by_handle!($wrapper, $engine, $name, |inner| Self { inner });
    };
    ($wrapper:ident, $engine:ty, $name:literal, $make:expr) => {
        crate::wire::shared!($engine, $name);

        impl serde::Serialize for $wrapper {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                crate::wire::serialize(&self.inner, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $wrapper {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                crate::wire::deserialize(from).map($make)
            }
        }
    };
}
pub(crate) use serde_by_handle;
