//! The Python extension module `procession._procession`.
#![warn(clippy::print_stdout)]
use pyo3::prelude::*;

mod birth;
mod by_value;
mod collection;
mod common;
mod connection;
mod descriptor;
mod fast;
#[cfg(not(Py_3_14))]
mod finalizing;
mod fork_server;
mod guarded;
mod imports;
mod label;
mod lines;
mod payload;
mod pool;
mod process;
mod queue;
mod shared;
mod shared_dict;
mod shared_list;
mod sight;
mod sync;

// Why this is sound without the GIL: all classes are frozen. What changes in them is an atomic, a cell that is set
// once, or behind a mutex. While a mutex is held, no Python code runs, and no reference is dropped that could run some.
// The state of a call belongs to its thread. Borrowed references are only to objects that no other code can replace.
#[pymodule(gil_used = false)]
mod _procession {
    #[pymodule_export]
    use super::birth::{fork, Birth, InterruptHeld};
    #[pymodule_export]
    use super::by_value::refresh_main;
    #[pymodule_export]
    use super::connection::{seal_connection, Connection, ObjectStream};
    #[pymodule_export]
    use super::descriptor::{read_descriptor, read_message, write_descriptor};
    #[pymodule_export]
    use super::fork_server::{
        attach_fork_server, fork_server_channel, fork_server_pid, fork_server_request, fork_server_start,
        fork_server_stop, ForkRequest, ForkServer, SpareSlot,
    };
    #[pymodule_export]
    use super::guarded::Guarded;
    #[pymodule_export]
    use super::imports::{import_whole, wait_for_imports};
    #[pymodule_export]
    use super::lines::Lines;
    #[pymodule_export]
    use super::payload::array::{_rebuild_array, _reduce_array};
    #[pymodule_export]
    use super::payload::attachments::{broker_fd, claim_fd};
    #[pymodule_export]
    use super::payload::pickle_in_band;
    #[pymodule_export]
    use super::payload::received::load_body;
    #[pymodule_export]
    use super::pool::core::PoolCore;
    #[pymodule_export]
    use super::pool::feeding::Feeding;
    #[pymodule_export]
    use super::pool::job::PoolJob;
    #[pymodule_export]
    use super::pool::stream::PoolStream;
    #[pymodule_export]
    use super::pool::worker::PoolWorker;
    #[pymodule_export]
    use super::process::{
        adopt, arena_fd, attach, check_room, counters, expect_mail, family_id, members, note_exit, set_name,
        spawn_exec, take_mail, take_mail_bytes, usable_cpus, watch_parent, Child, DeathWatch, Mailbox,
    };
    #[pymodule_export]
    use super::queue::{wait_until_noticed, Queue};
    #[pymodule_export]
    use super::shared::{attach_shared, SharedBytes};
    #[pymodule_export]
    use super::shared_dict::SharedDict;
    #[pymodule_export]
    use super::shared_list::SharedList;
    #[pymodule_export]
    use super::sight::{command, deadlocks, snapshot_json};
    #[pymodule_export]
    use super::sync::{Barrier, Condition, Event, Lock, RLock, Semaphore};

    #[pymodule_init]
    fn init(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        #[cfg(not(Py_3_14))]
        super::finalizing::install();
        super::imports::install(module.py())?;
        super::payload::install(module.py());
        super::connection::install(module.py());
        super::sync::install(module.py())?;
        super::guarded::install(module)?;
        pyo3::types::PyModuleMethods::add(module, "__version__", env!("CARGO_PKG_VERSION"))
    }
}
