//! What a child is sent: its identity and the function to call. The arguments follow in the same mailbox.

use crate::error::Ours;
use crate::image::Image;
use crate::surroundings::Surroundings;
use crate::{codec, forward, logging, Error, Process, Result, StartMethod};
use procession_core::arena::Ref;
use procession_core::channel::{Incoming, Mailbox, Message, Outgoing};
use procession_core::ids::Handle;
use procession_core::process::ResultSlot;
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use std::any::type_name;
use std::os::fd::OwnedFd;

/// The first part of the mailbox's body.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SpawnRequest {
    pub me: Process,
    pub parent: Process,
    /// The handle of the slot in which the child leaves its result.
    pub result_slot: u64,
    pub start_method: StartMethod,
    /// Whether the backtrace of a panic is wanted, whatever the environment says.
    pub backtrace: bool,
    /// The parent's surroundings, for a child that does not inherit them.
    pub surroundings: Option<Surroundings>,
    pub log: Option<logging::Setting>,
    pub forward: Option<forward::Link>,
    /// [`Image::mark`](crate::image::Image::mark) of the parent: the places below are valid in this image only.
    pub image: u64,
    /// Place of the [`Call`].
    pub call: u64,
    /// Place of the function.
    pub function: u64,
}

/// A request that has been read but not acted on.
pub(crate) struct Received {
    pub request: SpawnRequest,
    pub result_slot: Ref<ResultSlot>,
    /// Addresses of the [`Call`] and of the function; `None` if the executable is not the parent's.
    pub target: Option<(usize, usize)>,
    pub mailbox: Incoming,
    /// Offset of the arguments in the mailbox's body.
    pub start: usize,
}

/// Take the mailbox `token`, which holds a request.
pub(crate) fn receive(token: u64) -> Result<Received> {
    let mailbox = Mailbox::take(token).ours()?;
    let (request, arguments): (SpawnRequest, _) = codec::take(mailbox.body()).map_err(|error| Error::Decode {
        kind: "request",
        reason: error.to_string(),
    })?;
    let start = mailbox.body().len() - arguments.len();
    let handle = Handle::from_bits(request.result_slot)
        .ok_or(procession_core::Error::Corrupt("request"))
        .ours()?;
    let result_slot = Ref::attach(handle).ours()?;
    let image = Image::this();
    let places = image.address(request.call).zip(image.address(request.function));
    let target = places.filter(|_| image.mark == request.image);
    Ok(Received {
        request,
        result_slot,
        target,
        mailbox,
        start,
    })
}

/// Read the request in a mailbox as a child does, without acting on it. For the fuzzers.
pub fn inspect(token: u64) -> Result<()> {
    receive(token).map(drop)
}

/// The arguments of a call, as received.
pub(crate) struct Arguments {
    pub mailbox: Incoming,
    /// Offset of the arguments in the mailbox's body.
    pub start: usize,
    pub fds: Vec<OwnedFd>,
}

/// Unpacks the arguments, calls the function at an address and packs its result. There is one instance for each
/// function type; the child finds it by its place in the executable. `Err` is a failure to pack or unpack.
pub(crate) type Call = fn(function: usize, arguments: Arguments) -> Result<Message>;

/// The first byte of a result message.
pub(crate) const RETURNED: u8 = 0;
pub(crate) const PANICKED: u8 = 1;
pub(crate) const LOST: u8 = 2;

/// The [`Call`] for functions of this type.
pub(crate) fn call<A: DeserializeOwned, R: Serialize>(function: usize, arguments: Arguments) -> Result<Message> {
    // SAFETY: the function at this address has this type: the parent took the address from a function of this type,
    // together with this very instance of `call`, and the mark shows that both are at the same places in this
    // executable.
    let function: fn(A) -> R = unsafe { std::mem::transmute(function as *const ()) };
    let Arguments { mailbox, start, fds } = arguments;
    let args = codec::unpack(&mailbox.body()[start..], fds)?;
    drop(mailbox);
    returned(&function(args))
}

/// The function's return value as a result message. The message has references of its own to the shared objects in the
/// value, which may be the last that owns them.
pub(crate) fn returned<R: Serialize>(result: &R) -> Result<Message> {
    let encoded = codec::collect(vec![RETURNED], result)?;
    if !encoded.fds.is_empty() {
        return Err(crate::Error::Encode {
            kind: type_name::<R>(),
            reason: "a result is sent through memory, which carries no descriptors".into(),
        });
    }
    Message::pack(Outgoing {
        body: &encoded.bytes,
        handles: &encoded.handles,
        ..Outgoing::default()
    })
    .ours()
}
