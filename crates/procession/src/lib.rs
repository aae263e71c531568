//! Processes for Rust programs, shaped on [`std::thread`]: what a thread does there, a process does here, in an address space of its own.
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
//! A child of the start methods [`Spawn`](StartMethod::Spawn) and [`Forkserver`](StartMethod::Forkserver) is the same executable, run once
//! more. Before its `main`, a constructor that this crate puts into the program looks for one environment variable; if it is there, it
//! removes it, fetches the function's place in the executable and its arguments, calls it and exits. So `main` needs no attribute and the
//! function no macro, and a program that starts no process pays one look-up of an environment variable. An order is taken only from the process's own
//! parent; a program that runs with more rights than its caller (set-user-id) takes none, and starts processes by [`Fork`](StartMethod::Fork) only.
//!
//! What this asks for: the function is a plain `fn` (or a closure that captures nothing) of the executable itself, not of a shared library;
//! arguments and result implement serde's traits; constructors of the program that run after this crate's have not run when the
//! function does, and neither has `main`: what it sets up (a static, a logger other than [`log_to_stderr`]'s) the function must set up for itself,
//! except with [`Fork`](StartMethod::Fork).

//! # Why safe code cannot break it
//!
//! Other processes write to the memory that a program of this crate shares. What makes that sound:
//!
//! 1. Shared bytes are reached through the guard of their lock alone, and one handle leads to both: whatever serde makes of the bytes of a message, two arrays
//!    either share items and lock, or neither. A handle is checked for family, generation and kind before it is used.
//! 2. Shared values are plain data ([`bytemuck::Pod`]): any bytes are a valid value, there is no padding, no reference and no `bool`.
//! 3. Whoever has a guard holds the lock, in the process that took it: a wait of a [`Condvar`] takes the lock again also when it fails, a guard
//!    that a child of [`Fork`](StartMethod::Fork) inherits would give access to what its parent holds, so such a fork is refused.
//! 4. A lock is taken from its holder only when none of that process's threads runs any more. A panic of a holder is told as its death is.
//! 5. Everything else that is shared is read as atomics, or copied and then checked; a `&[u8]` exists only of a block that this process owns alone.
//!    Lengths are read once.
//! 6. Functions are called by their place in the executable, which both processes run, and together with the code that unpacks their arguments; a mark
//!    made of the executable's layout and build id is compared before.
//!
//! So what does not fit does not compile:
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

#![warn(clippy::print_stdout)]

mod array;
mod children;
mod entry;
mod error;
mod image;
mod join;
mod logging;
mod order;
mod panic;
mod patience;
mod pipe;
mod pool;
mod pool_results;
mod pool_worker;
mod process;
mod queue;
mod run;
mod spawn;
mod start;
pub mod sync;
pub mod travel;
mod wire;

pub use array::{Array, ArrayGuard};
pub use error::{Error, JoinError, Result};
pub use join::JoinHandle;
pub use logging::{log_to_file, log_to_stderr};
#[doc(hidden)]
pub use order::peruse;
pub use pipe::{pipe, Pipe};
pub use pool::{Pool, PoolStats, WorkerStats};
pub use pool_results::{AsyncResult, Imap, MapResult};
pub use process::{cpu_count, current, parent, Process};
pub use procession_core::sync::Death;
pub use queue::Queue;
pub use spawn::{spawn, Builder};
pub use start::{set_start_method, start_method, StartMethod};
pub use sync::{Barrier, Condvar, Event, Lock, LockError, LockResult, Mutex, Poisoned, Semaphore, Value};
