//! What a child is told: who it is, and what it calls. The arguments follow it in the same parcel.

use crate::{logging, travel, Process, Result, StartMethod};
use procession_core::channel::Incoming;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::any::type_name;
use std::os::fd::OwnedFd;

/// The head of the parcel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub me: Process,
    pub parent: Process,
    /// Where the result goes.
    pub outcome: u64,
    pub start_method: StartMethod,
    pub log: Option<logging::Setting>,
    /// [`Image::mark`](crate::image::Image::mark) of the parent: the places below hold in this image only.
    pub image: u64,
    /// Place of the [`Call`].
    pub call: u64,
    /// Place of the function.
    pub function: u64,
}

/// The arguments of a call, on their way in.
pub(crate) struct Arguments {
    pub parcel: Incoming,
    /// Where they begin in its body.
    pub start: usize,
    pub fds: Vec<OwnedFd>,
}

/// Unpacks arguments, calls the function at an address and packs what it returns: made for each kind of function, and known to the
/// child by its place in the executable. `Err` is what could not be packed or unpacked.
pub(crate) type Call = fn(function: usize, arguments: Arguments) -> Result<travel::Cargo>;

/// The first byte of an outcome.
pub(crate) const RETURNED: u8 = 0;
pub(crate) const PANICKED: u8 = 1;
pub(crate) const LOST: u8 = 2;

/// The [`Call`] for functions of this type.
pub(crate) fn call<A: DeserializeOwned, R: Serialize>(function: usize, arguments: Arguments) -> Result<travel::Cargo> {
    // SAFETY: the address is that of a function of this type: the parent took it from one, together with this very instance of `call`,
    // and the mark says that both are at the same places here.
    let function: fn(A) -> R = unsafe { std::mem::transmute(function as *const ()) };
    let Arguments { parcel, start, fds } = arguments;
    let args = travel::unpack(&parcel.body()[start..], fds)?;
    drop(parcel);
    returned(&function(args))
}

/// What a function returned, as an outcome.
pub(crate) fn returned<R: Serialize>(result: &R) -> Result<travel::Cargo> {
    let cargo = travel::collect(vec![RETURNED], result)?;
    if cargo.fds.is_empty() {
        return Ok(cargo);
    }
    Err(crate::Error::Encode {
        kind: type_name::<R>(),
        source: postcard::Error::WontImplement, // a result travels through memory, which carries no descriptors
    })
}
