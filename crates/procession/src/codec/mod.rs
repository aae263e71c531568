//! Serialized values (the format is in `format.rs`), and what is sent along with them: handles of shared objects, and
//! descriptors.
//!
//! A shared type's `Serialize` writes its handle's number and calls [`handle`]. The code that packs the message adds
//! these handles to it. They keep the object alive until the receiver has its own reference, which `Deserialize` takes.

mod compact;
mod de;
mod format;
mod names;
mod scalar;
mod ser;
#[cfg(test)]
mod tests;

pub use compact::Compact;

use crate::{Error, Result};
use de::Reader;
pub(crate) use format::CodecError;
use procession_core::ids::Handle;
use ser::Writer;
use serde::{de::DeserializeOwned, Serialize};
use std::any::type_name;
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A serialized value.
#[doc(hidden)]
#[derive(Debug, Default)]
pub struct Encoded {
    /// The value.
    pub bytes: Vec<u8>,
    /// The shared objects that it refers to.
    pub handles: Vec<Handle>,
    /// Duplicates of the descriptors that it refers to.
    pub fds: Vec<OwnedFd>,
    /// Whether it has an end of a channel, which counts as one only in what carries references.
    pub(crate) has_end: bool,
}

thread_local! {
    /// Values being packed in this thread, innermost last.
    static PACKING: RefCell<Vec<Encoded>> = const { RefCell::new(Vec::new()) };
    /// Descriptors received with the values being unpacked in this thread, innermost last.
    static UNPACKING: RefCell<Vec<Vec<OwnedFd>>> = const { RefCell::new(Vec::new()) };
    /// Why the last shared object was refused: serde carries the texts of errors only.
    static REFUSAL: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Serialize `value`, append the bytes to `prefix`, and collect what is sent along.
#[doc(hidden)]
pub fn collect<T: Serialize + ?Sized>(prefix: Vec<u8>, value: &T) -> Result<Encoded> {
    let scope = StackEntry::enter(&PACKING, Encoded::default());
    REFUSAL.take();
    let bytes = append(prefix, value).map_err(|error| REFUSAL.take().unwrap_or_else(|| encode::<T>(&error)))?;
    Ok(Encoded { bytes, ..scope.leave() })
}

/// Serialize a value that sends nothing along.
pub(crate) fn append<T: Serialize + ?Sized>(prefix: Vec<u8>, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut writer = Writer::new(prefix);
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

/// Deserialize a value from the beginning of `bytes`. Returns the bytes behind it, too.
pub(crate) fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let mut reader = Reader::new(bytes);
    let value = T::deserialize(&mut reader)?;
    Ok((value, reader.rest()))
}

fn encode<T: ?Sized>(error: &CodecError) -> Error {
    Error::Encode {
        kind: type_name::<T>(),
        reason: error.to_string(),
    }
}

fn decode<T>(reason: String) -> Error {
    Error::Decode {
        kind: type_name::<T>(),
        reason,
    }
}

/// Add a reference to a shared object to the message being packed. Call it while serializing the object. Returns false
/// if no message is being packed.
#[doc(hidden)]
pub fn handle(handle: Handle) -> bool {
    PACKING.with_borrow_mut(|all| match all.last_mut() {
        Some(encoded) => {
            encoded.handles.push(handle);
            true
        }
        None => false,
    })
}

/// Note that the message being packed has an end of a channel. Returns false if no message is being packed.
pub(crate) fn note_end() -> bool {
    PACKING.with_borrow_mut(|all| all.last_mut().map(|encoded| encoded.has_end = true).is_some())
}

/// Add a duplicate of a descriptor to the message being packed, and return its number there. Call it while serializing
/// its owner. Returns `None` if no message is being packed.
pub fn fd(fd: BorrowedFd<'_>) -> std::io::Result<Option<u32>> {
    let copy = fd.try_clone_to_owned()?;
    Ok(PACKING.with_borrow_mut(|all| {
        let encoded = all.last_mut()?;
        encoded.fds.push(copy);
        Some(encoded.fds.len() as u32 - 1)
    }))
}

/// Deserialize a value; `fds` are the descriptors received with it. The owner of the message's references must outlive
/// the call.
#[doc(hidden)]
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<T> {
    let scope = StackEntry::enter(&UNPACKING, fds);
    REFUSAL.take();
    let value = match take(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(decode::<T>("there are more bytes than expected".into())),
        Err(error) => Err(REFUSAL.take().unwrap_or_else(|| decode::<T>(error.to_string()))),
    };
    scope.leave(); // closes the message's descriptors, of which the value has duplicates
    value
}

/// A duplicate of the message's descriptor with this number; `None` if there is none. Call it while deserializing its
/// owner, which serde may try several times, once for each variant of an enum without a tag.
///
/// ```
/// use procession::codec;
/// use serde::{Deserialize, Deserializer, Serialize, Serializer};
/// use std::os::fd::{AsFd, OwnedFd};
///
/// /// A file that travels as an argument.
/// struct File(OwnedFd);
///
/// impl Serialize for File {
///     fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
///         let number = codec::fd(self.0.as_fd()).map_err(serde::ser::Error::custom)?;
///         number.ok_or_else(|| serde::ser::Error::custom("a file is sent as an argument"))?.serialize(to)
///     }
/// }
/// impl<'de> Deserialize<'de> for File {
///     fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
///         let fd = codec::take_fd(u32::deserialize(from)?).map_err(serde::de::Error::custom)?;
///         fd.map(File).ok_or_else(|| serde::de::Error::custom("the message has no such file"))
///     }
/// }
/// fn size(file: File) -> u64 {
///     std::fs::File::from(file.0).metadata().unwrap().len()
/// }
/// let file = std::fs::File::open("/proc/self/exe").unwrap();
/// assert!(procession::spawn(size, File(file.into()))?.join()? > 0);
/// # Ok::<(), procession::Error>(())
/// ```
pub fn take_fd(number: u32) -> std::io::Result<Option<OwnedFd>> {
    UNPACKING.with_borrow(|all| {
        let fd = all.last().and_then(|fds| fds.get(number as usize));
        fd.map(OwnedFd::try_clone).transpose()
    })
}

/// The text for serde's `custom` when a shared object cannot be packed or unpacked. [`collect`] or [`unpack`] then
/// returns this error.
pub(crate) fn refuse(error: Error) -> String {
    let text = error.to_string();
    REFUSAL.replace(Some(error));
    text
}

type Stack<T> = std::thread::LocalKey<RefCell<Vec<T>>>;

/// An entry on top of a stack; dropped even when serializing panics.
struct StackEntry<T: 'static>(&'static Stack<T>);

impl<T> StackEntry<T> {
    fn enter(stack: &'static Stack<T>, entry: T) -> Self {
        stack.with_borrow_mut(|all| all.push(entry));
        Self(stack)
    }

    fn leave(self) -> T {
        let entry = self.0.with_borrow_mut(Vec::pop);
        std::mem::forget(self);
        entry.expect("entered before")
    }
}

impl<T> Drop for StackEntry<T> {
    fn drop(&mut self) {
        let entry = self.0.with_borrow_mut(Vec::pop);
        drop(entry);
    }
}
