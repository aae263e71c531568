//! The engine of procession: shared memory, waiting, queues and processes.
//!
//! It knows neither Python nor serde: a payload is bytes. The architecture page of the repository says how the modules
//! fit together.

#![warn(clippy::print_stdout)]

#[cfg(not(target_os = "linux"))]
compile_error!("procession supports Linux only, for now");

pub mod arena;
pub mod channel;
mod deadline;
mod error;
mod family;
mod hooks;
pub mod ids;
pub mod inspect;
pub mod liveness;
pub mod pool;
pub mod process;
mod reclaim;
pub mod shared;
pub mod sync;
pub mod sys;
pub mod trace;
mod wiring;

pub use deadline::Deadline;
pub use error::{CreationSite, Death, Error, Result, WaitError};
pub use family::{family, Family};
pub use reclaim::sweep_deferred;
