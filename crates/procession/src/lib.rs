//! Processes for Rust programs, shaped on [`std::thread`]. What a thread does there, a process does here, in its own
//! address space.
//!
//! ```
//! fn double(n: u64) -> u64 {
//!     n * 2
//! }
//!
//! fn main() -> procession::Result<()> {
//!     let child = procession::spawn(double, 21)?;
//!     println!("{} says {}", child.name().to_owned(), child.join()?);
//!     Ok(())
//! }
//! ```
//!
//! # How a child finds its function
//!
//! A child of the start methods [`Spawn`](StartMethod::Spawn) and [`Forkserver`](StartMethod::Forkserver) is the same
//! executable, run again. Before its `main`, a constructor that this crate links into the program looks for one
//! environment variable. If it is set, the constructor removes it, fetches the function's place in the executable and
//! the arguments, calls the function and exits. So `main` needs no attribute and the function no macro. A program that
//! starts no process pays for one look-up of an environment variable. A request is accepted only from the process's own
//! parent. A program that runs with more rights than its caller (set-user-id) accepts none, and starts processes by
//! [`Fork`](StartMethod::Fork) only.
//!
//! Requirements:
//!
//! - The function is a plain `fn`, or a closure that captures nothing, of the executable itself and not of a shared
//!   library.
//! - Its arguments and its result implement serde's traits. They are copied. An `Arc<std::sync::Mutex<_>>`, for which
//!   serde's feature `rc` implements them, is copied as well: the child changes its own copy. [`Mutex`] and [`Array`]
//!   are shared.
//! - `main` has not run when the function is called. Whatever it sets up (a static, a logger other than
//!   [`log_to_stderr`]'s), the function must set up for itself, except with [`Fork`](StartMethod::Fork). The program's
//!   constructors have run; they must start neither processes nor threads (see [`StartMethod`]).
//! - On musl, [`std::env::args`] is empty in such a child: that C library tells Rust the arguments when it calls `main`.

//! # Features
//!
//! `async` (off by default, no further dependencies): futures on any runtime. [`Receiver`] has `recv_async`, [`Sender`]
//! `send_async`, [`Event`] `wait_async`, and [`Mutex`], [`Array`] and [`Lock`] have `lock_async`; [`JoinHandle`],
//! [`AsyncResult`] and [`MapResult`] can be awaited, as in `child.await`.
//!
//! `derive` (off by default; adds the crate procession-derive): `#[derive(Plain)]` for structs that lie in shared memory.
//!
//! `tracing` (off by default; adds the crate tracing-core): [`forward_logs`] hands events of children to the parent's
//! subscriber.
//!
//! # Why safe code cannot break it
//!
//! Other processes write to the memory that a program shares through this crate. These rules make that sound:
//!
//! 1. Shared bytes that change are reached only through the guard of their lock, and one handle leads to both. Whatever
//!    serde makes of the bytes of a message, two arrays share either both items and lock, or neither. A handle's family,
//!    generation and kind are checked before it is used. Bytes say what they are for: those of a [`Shared`], which are
//!    never changed once another process can know them, are taken for nothing else, and neither are atomics, or the
//!    value of an [`RwLock`], whose locks are named in front of it.
//! 2. Shared values are plain data ([`Plain`]): any bytes are a valid value. There is no padding, no reference
//!    and no `bool`.
//! 3. Code that can use a guard holds its lock, in the process that took it. A wait of a [`Condvar`] takes the lock
//!    again even when it fails. A guard that a child of [`Fork`](StartMethod::Fork) inherits would give access to what
//!    its parent holds, so such a fork is refused.
//! 4. A lock is taken from a dead holder only when none of that process's threads runs any more. A panic of a holder is
//!    reported like its death.
//! 5. Everything else that is shared is read as atomics, or copied and then checked. A `&[u8]` exists only of a block
//!    that this process owns alone, or that no process changes. Lengths are read once.
//! 6. A function is called by its place in the executable, which both processes run, and together with the code that
//!    unpacks its arguments. A mark made from the executable's layout and build ID is compared first.
//!
//! Code that breaks these rules does not compile:
//!
//! ```compile_fail,E0277
//! procession::Mutex::new(true)?; // another process could write a 2
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0277
//! procession::Array::new(&["a reference into this process's memory"])?;
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0277
//! procession::Mutex::new((1_u8, 1_u32))?; // padding
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0505
//! let mutex = procession::Mutex::new(1)?;
//! let guard = mutex.lock()?;
//! drop(mutex); // while it is locked
//! # drop(guard);
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0277
//! let flag = procession::sync::atomic::Atomic::<std::sync::atomic::AtomicBool>::new(true)?; // as for `Mutex<bool>`
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0505
//! let lock = procession::RwLock::new(1)?;
//! let guard = lock.read()?;
//! drop(lock); // while it is read
//! # drop(guard);
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0502
//! let (mutex, changed) = (procession::Mutex::new(1)?, procession::Condvar::new()?);
//! let mut guard = mutex.lock()?;
//! let value: &i32 = &guard;
//! changed.wait(&mut guard)?; // others change the value meanwhile
//! println!("{value}");
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0277
//! let array = procession::Array::new(&[1])?;
//! let guard = array.lock()?;
//! std::thread::scope(|threads| {
//!     threads.spawn(move || drop(guard)); // as that of `std::sync`, it stays in its thread
//! });
//! # Ok::<(), procession::Error>(())
//! ```
//! ```compile_fail,E0308
//! let known = 2;
//! procession::spawn(move |n: i32| n * known, 1)?; // a closure that captures something is in this process alone
//! # Ok::<(), procession::Error>(())
//! ```

#![warn(clippy::print_stdout, missing_docs)]

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod array;
mod channel;
mod children;
pub mod codec;
mod deadlocks;
mod death;
mod entry;
mod error;
mod forward;
#[cfg(feature = "async")]
mod futures;
mod image;
mod join;
mod label;
mod logging;
mod panic;
mod pipe;
mod plain;
mod pool;
mod portable;
mod process;
mod queue;
mod request;
mod run;
mod scope;
mod select;
mod shared;
mod spawn;
mod start;
mod surroundings;
pub mod sync;
mod uninterrupted;
mod waking;
mod wire;

pub use array::{Array, ArrayGuard};
pub use channel::{bounded, channel, IntoIter, Iter, Receiver, RecvError, SendError, Sender, TryIter};
pub use codec::Compact;
pub use deadlocks::{deadlocks, Deadlocks};
pub use death::Death;
pub use error::{EngineError, Error, JoinError, Result};
pub use forward::forward_logs;
#[cfg(feature = "async")]
pub use futures::{Applied, Join, Lockable, Locked, Mapped, Occurred, Recv, Sent};
pub use join::{wait_all, wait_any, wait_any_timeout, JoinHandle};
pub use logging::{log_to_file, log_to_stderr};
pub use pipe::{pipe, Pipe};
pub use plain::Plain;
pub use pool::{AsyncResult, Imap, MapResult, Pool, PoolStats, WorkerStats};
pub use portable::Portable;
pub use process::{cpu_count, current, parent, Process};
#[cfg(feature = "derive")]
pub use procession_derive::Plain;
pub use queue::Queue;
/// For what the derive macro makes.
#[cfg(feature = "derive")]
#[doc(hidden)]
pub mod __private {
    pub use bytemuck::{Pod, Zeroable};
}

#[doc(hidden)]
pub use request::inspect;
pub use scope::{scope, Lend, Scope, ScopedJoinHandle};
pub use select::Select;
pub use shared::{Bytes, Shared, SharedMap};
pub use spawn::{spawn, Builder};
pub use start::{set_start_method, start_method, StartMethod};
pub use sync::{Barrier, Condvar, Event, Lock, LockError, LockResult, Mutex, Once, Poisoned, RwLock, Semaphore, Value};
