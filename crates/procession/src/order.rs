//! What a child is sent: its identity and the function to call. The arguments follow in the same parcel.

use crate::image::Image;
use crate::{logging, travel, Error, Process, Result, StartMethod};
use procession_core::arena::{Handle, Ref};
use procession_core::channel::{Incoming, Parcel};
use procession_core::process::Outcome;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::any::type_name;
use std::os::fd::OwnedFd;

/// The head of the parcel.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub me: Process,
    pub parent: Process,
    /// Where the child leaves the result.
    pub outcome: u64,
    pub start_method: StartMethod,
    pub log: Option<logging::Setting>,
    /// [`Image::mark`](crate::image::Image::mark) of the parent: the places below are valid in this image only.
    pub image: u64,
    /// Place of the [`Call`].
    pub call: u64,
    /// Place of the function.
    pub function: u64,
}

/// An order that has been read but not acted on.
pub(crate) struct Received {
    pub order: Order,
    pub outcome: Ref<Outcome>,
    /// Addresses of the [`Call`] and of the function; `None` if the executable is not the parent's.
    pub target: Option<(usize, usize)>,
    pub parcel: Incoming,
    /// Offset of the arguments in the parcel's body.
    pub start: usize,
}

/// Take the parcel `token`, which holds an order.
pub(crate) fn receive(token: u64) -> Result<Received> {
    let parcel = Parcel::take(token)?;
    let (order, arguments): (Order, _) =
        postcard::take_from_bytes(parcel.body()).map_err(|source| Error::Decode { kind: "order", source })?;
    let start = parcel.body().len() - arguments.len();
    let handle = Handle::from_bits(order.outcome).ok_or(procession_core::Error::Corrupt("order"))?;
    let outcome = Ref::attach(handle)?;
    let image = Image::this();
    let places = image.address(order.call).zip(image.address(order.function));
    let target = places.filter(|_| image.mark == order.image);
    Ok(Received {
        order,
        outcome,
        target,
        parcel,
        start,
    })
}

/// Read the order in a parcel as a child does, without acting on it. For the fuzzers.
pub fn peruse(token: u64) -> Result<()> {
    receive(token).map(drop)
}

/// The arguments of a call, as received.
pub(crate) struct Arguments {
    pub parcel: Incoming,
    /// Offset of the arguments in the parcel's body.
    pub start: usize,
    pub fds: Vec<OwnedFd>,
}

/// Unpacks the arguments, calls the function at an address and packs its result. There is one instance for each
/// function type; the child finds it by its place in the executable. `Err` is a failure to pack or unpack.
pub(crate) type Call = fn(function: usize, arguments: Arguments) -> Result<travel::Cargo>;

/// The first byte of an outcome.
pub(crate) const RETURNED: u8 = 0;
pub(crate) const PANICKED: u8 = 1;
pub(crate) const LOST: u8 = 2;

/// The [`Call`] for functions of this type.
pub(crate) fn call<A: DeserializeOwned, R: Serialize>(function: usize, arguments: Arguments) -> Result<travel::Cargo> {
    // SAFETY: the function at this address has this type: the parent took the address from a function of this type,
    // together with this very instance of `call`, and the mark shows that both are at the same places in this
    // executable.
    let function: fn(A) -> R = unsafe { std::mem::transmute(function as *const ()) };
    let Arguments { parcel, start, fds } = arguments;
    let args = travel::unpack(&parcel.body()[start..], fds)?;
    drop(parcel);
    returned(&function(args))
}

/// The function's return value, packed as an outcome.
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
