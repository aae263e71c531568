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
