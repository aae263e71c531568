//! What is sent along with a serialized value: handles of shared objects, and descriptors.
//!
//! A shared type's `Serialize` writes its handle's number and calls [`handle`]. The code that packs the message adds
//! these handles to it. They keep the object alive until the receiver has its own reference, which `Deserialize` takes.

use crate::{Error, Result};
use procession_core::ids::Handle;
use serde::{de::DeserializeOwned, Serialize};
use std::any::type_name;
use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A serialized value.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The value.
    pub bytes: Vec<u8>,
    /// The shared objects that it refers to.
    pub handles: Vec<Handle>,
    /// Duplicates of the descriptors that it refers to.
    pub fds: Vec<OwnedFd>,
}

thread_local! {
    /// Values being packed in this thread, innermost last.
    static PACKING: RefCell<Vec<Encoded>> = const { RefCell::new(Vec::new()) };
    /// Descriptors received with the values being unpacked in this thread, innermost last.
    static UNPACKING: RefCell<Vec<Vec<Option<OwnedFd>>>> = const { RefCell::new(Vec::new()) };
    /// Why the last shared object was refused: postcard does not carry the texts of errors.
    static REFUSAL: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Serialize `value`, append the bytes to `prefix`, and collect what is sent along.
pub fn collect<T: Serialize + ?Sized>(prefix: Vec<u8>, value: &T) -> Result<Encoded> {
    let scope = Scope::enter(&PACKING, Encoded::default());
    REFUSAL.take();
    let bytes = postcard::to_extend(value, prefix).map_err(|source| {
        let kind = type_name::<T>();
        REFUSAL.take().unwrap_or(Error::Encode { kind, source })
    })?;
    Ok(Encoded { bytes, ..scope.leave() })
}

/// Add a reference to a shared object to the message being packed. Call it while serializing the object. Returns false
/// if no message is being packed.
pub fn handle(handle: Handle) -> bool {
    PACKING.with_borrow_mut(|all| match all.last_mut() {
        Some(encoded) => {
            encoded.handles.push(handle);
            true
        }
        None => false,
    })
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
pub fn unpack<T: DeserializeOwned>(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<T> {
    let scope = Scope::enter(&UNPACKING, fds.into_iter().map(Some).collect());
    REFUSAL.take();
    let value = postcard::from_bytes(bytes).map_err(|source| {
        let kind = type_name::<T>();
        REFUSAL.take().unwrap_or(Error::Decode { kind, source })
    });
    scope.leave(); // closes the descriptors that were not taken
    value
}

/// Take the descriptor with this number, once only. Call it while deserializing its owner.
pub fn take_fd(number: u32) -> Option<OwnedFd> {
    UNPACKING.with_borrow_mut(|all| all.last_mut()?.get_mut(number as usize)?.take())
}

/// The text for serde's `custom` when a shared object cannot be packed or unpacked. [`collect`] or [`unpack`] then
/// returns this error.
pub(crate) fn refuse(error: impl Into<Error>) -> String {
    let error = error.into();
    let text = error.to_string();
    REFUSAL.replace(Some(error));
    text
}

type Stack<T> = std::thread::LocalKey<RefCell<Vec<T>>>;

/// An entry on top of a stack; dropped even when serializing panics.
struct Scope<T: 'static>(&'static Stack<T>);

impl<T> Scope<T> {
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

impl<T> Drop for Scope<T> {
    fn drop(&mut self) {
        let entry = self.0.with_borrow_mut(Vec::pop);
        drop(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::os::fd::AsFd;

    /// Sends a descriptor and a handle along, as a shared type would.
    struct Both(OwnedFd);

    impl Serialize for Both {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            assert!(handle(Handle::from_bits(77).expect("not zero")));
            let number = fd(self.0.as_fd())
                .expect("it can be duplicated")
                .expect("a message is being packed");
            number.serialize(to)
        }
    }

    impl<'de> Deserialize<'de> for Both {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let number = u32::deserialize(from)?;
            take_fd(number)
                .map(Self)
                .ok_or_else(|| serde::de::Error::custom("no such descriptor"))
        }
    }

    #[test]
    fn handles_and_descriptors_go_along() {
        let (reader, writer) = std::io::pipe().unwrap();
        let encoded = collect(vec![9], &(1u8, Both(writer.into()), "text")).unwrap();
        assert_eq!(encoded.bytes[..2], [9, 1]);
        assert_eq!(encoded.handles, [Handle::from_bits(77).unwrap()]);
        assert_eq!(encoded.fds.len(), 1);
        let (one, both, text): (u8, Both, String) = unpack(&encoded.bytes[1..], encoded.fds).unwrap();
        assert_eq!((one, text.as_str()), (1, "text"));
        drop(both);
        assert_eq!(
            std::io::read_to_string(reader).unwrap(),
            "",
            "the end of the file: no other copy is open"
        );
    }

    #[test]
    fn nothing_is_attached_without_a_message() {
        assert!(!handle(Handle::from_bits(1).unwrap()));
        assert_eq!(fd(std::io::stdin().as_fd()).unwrap(), None);
        assert!(take_fd(0).is_none());
        assert!(matches!(
            unpack::<String>(&[200], Vec::new()),
            Err(Error::Decode { .. })
        ));
    }
}
