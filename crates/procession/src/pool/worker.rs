//! The loop of a pool's worker. It finds a task's function by its place in the executable, as a spawned child does.

use super::workers::Start;
use crate::error::Ours;
use crate::image::Image;
use crate::panic::watched;
use crate::{wire, Error, JoinError, Portable, Result};
use procession_core::channel::{Incoming, Message, Outgoing};
use procession_core::ids::Handle;
use procession_core::pool::{Task, Verdict, Worker};
use procession_core::WaitError;
use serde::{de::DeserializeOwned, Serialize};
use std::any::type_name;
use std::io::Write;
use std::time::{Duration, Instant};

/// Unpacks items, calls the function at an address with each, packs the results, and returns with them the time that an
/// item took. There is one instance for each function type.
type Call = fn(function: usize, items: &Incoming) -> Result<(Message, Duration)>;

fn call<A: DeserializeOwned, R: Serialize>(function: usize, items: &Incoming) -> Result<(Message, Duration)> {
    // SAFETY: the function at this address has this type: the parent took the address from a function of this type,
    // together with this very instance of `call`, and the mark shows that both are at the same places in this
    // executable.
    let function: fn(A) -> R = unsafe { std::mem::transmute(function as *const ()) };
    let items: Vec<A> = wire::unpack(items)?;
    let (count, begin) = (items.len() as u32, Instant::now());
    let results: Vec<R> = items.into_iter().map(function).collect();
    let per_item = begin.elapsed() / count.max(1);
    Ok((wire::pack(&results)?, per_item))
}

/// As [`call`], but a panic fails its own item only: packs a result, or the panic, for each.
fn call_each<A: DeserializeOwned, R: Serialize>(function: usize, items: &Incoming) -> Result<(Message, Duration)> {
    // SAFETY: as in `call`.
    let function: fn(A) -> R = unsafe { std::mem::transmute(function as *const ()) };
    let items: Vec<A> = wire::unpack(items)?;
    let (count, begin) = (items.len() as u32, Instant::now());
    let one = |item| watched(|| function(item)).map_err(failure);
    let results: Vec<Result<R, Failure>> = items.into_iter().map(one).collect();
    let per_item = begin.elapsed() / count.max(1);
    Ok((wire::pack(&results)?, per_item))
}

/// Whether a panic fails all items of its task, or only its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    All,
    Own,
}

/// The message that tells workers which function a job calls.
pub(crate) fn function<A: DeserializeOwned, R: Serialize>(f: fn(A) -> R, fails: Fails) -> Result<Message> {
    let image = Image::this();
    let place = |address: usize, name| image.place(address).ok_or(Error::Elsewhere(name));
    let call = match fails {
        Fails::All => call::<A, R> as Call,
        Fails::Own => call_each::<A, R> as Call,
    };
    let call = place(call as usize, "this function's type")?;
    let function = place(f as usize, type_name::<fn(A) -> R>())?;
    wire::pack(&(image.mark, call, function))
}

/// Decode a job's function from the message of [`function`].
fn find(worker: &Worker, task: &Task) -> Result<(Call, usize)> {
    let body = worker.function(task).ours()?;
    let (mark, call, function): (u64, u64, u64) = crate::codec::unpack(&body, Vec::new())?;
    let image = Image::this();
    match (image.address(call), image.address(function)) {
        (Some(call), Some(function)) if mark == image.mark => {
            // SAFETY: a place within the executable that the parent took from a `Call`, in the same executable, as the
            // mark shows.
            Ok((
                unsafe { std::mem::transmute::<*const (), Call>(call as *const ()) },
                function,
            ))
        }
        _ => Err(Error::Elsewhere("the task's function")),
    }
}

/// What a worker that is to call a function first is sent: what [`work`] is, the image's mark, the function's place, and
/// its argument.
type Prepared<C> = (u64, u32, u64, u64, C);

/// Starts workers that call `init` with `context` first.
pub(super) fn prepared<C>(init: fn(C), context: C) -> Result<Start>
where
    C: Portable + Send + Sync + 'static,
{
    let image = Image::this();
    let place = image
        .place(init as usize)
        .ok_or(Error::Elsewhere(type_name::<fn(C)>()))?;
    Ok(Box::new(move |builder, pool, worker_index| {
        let args = (pool, worker_index, image.mark, place, &context);
        builder.start(prepare_and_work::<C>, args, |args| wire::copy(&args))
    }))
}

fn prepare_and_work<C: Portable>((pool, worker_index, mark, place, context): Prepared<C>) {
    let image = Image::this();
    let address = image.address(place).filter(|_| mark == image.mark);
    let Some(address) = address else { return };
    // SAFETY: a place within the executable that the parent took from a function of this type, together with this very
    // instance of `prepare_and_work`, in the same executable, as the mark shows.
    let init: fn(C) = unsafe { std::mem::transmute(address as *const ()) };
    init(context);
    work((pool, worker_index));
}

/// The main function of a pool's worker process.
pub(crate) fn work((handle, worker_index): (u64, u32)) {
    let worker = Handle::from_bits(handle).map(|handle| Worker::attach(handle, worker_index));
    // Otherwise the pool is gone, and no process is left to report to.
    let Some(Ok(worker)) = worker else { return };
    worker.ready();
    loop {
        let (task, items) = match worker.next() {
            Ok(Some(next)) => next,
            Err(WaitError::Interrupted) => continue,
            Ok(None) | Err(_) => return,
        };
        let (verdict, message) = perform(&worker, &task, &items);
        drop(items);
        // A task's output is written before its result is sent.
        let _ = std::io::stdout().flush();
        if !worker.finish(task, verdict, message).unwrap_or(false) {
            return;
        }
    }
}

/// What the parent is sent for a task or item that failed: its panic, or the reason why there is no result.
pub(super) type Failure = Result<(String, String, Option<String>), String>;

fn failure(error: JoinError) -> Failure {
    match error {
        JoinError::Panicked {
            message,
            location,
            backtrace,
        } => Ok((message, location, backtrace)),
        other => Err(other.to_string()),
    }
}

fn perform(worker: &Worker, task: &Task, items: &Incoming) -> (Verdict, Message) {
    let failure: Failure = match watched(|| {
        let (call, function) = find(worker, task)?;
        worker.begin_item();
        call(function, items)
    }) {
        Ok(Ok((message, per_item))) => {
            worker.measured(task, per_item);
            return (Verdict::Done, message);
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => failure(error),
    };
    let message = wire::pack(&failure).or_else(|_| Message::pack(Outgoing::default()));
    // Without memory for even an empty message, this process and its task are lost; the parent reports the death.
    (Verdict::Raised, message.unwrap_or_else(|_| std::process::abort()))
}
