//! Bindings of the process room: this process's family, children, parcels and the zygote. No policy: who is started how is Python's.
//!
//! ```text
//! # the family
//! def arena_fd() -> int: ...                  # hand it to a spawned child at the same number (in pass_fds)
//! def attach(fd: int) -> None: ...            # join the family (takes over fd); before anything else of this module is used
//! def family_id() -> bytes: ...               # 16 bytes
//! def set_name(name: str) -> None: ...        # this process's name in the roll
//! def members() -> list[dict]: ...            # {"pid", "name", "state", ...} of every process in the roll
//!
//! # children
//! def spawn_exec(path: str, argv: list[str], pass_fds: list[int]) -> Child: ...
//!         # runs a program; it gets 0, 1, 2 and pass_fds, nothing else; inherits environment, working directory, signal mask
//! def adopt(pid: int) -> Child: ...           # a child made by os.fork() in this process
//! def watch_parent(pid: int) -> None: ...     # from now on this process ends (SIGTERM, 0.5 s later SIGKILL) when that process ends,
//!                                             # even when busy; at once if it is already gone. pid is the process that asked for this one
//! class Child:
//!     pid: int
//!     sentinel: int                           # readable once the child ended; closed by close() or with the object
//!     def poll(self) -> int | None: ...       # exit code, -signal, None while it runs, 255 when nobody can know any more
//!     def wait(self, timeout: float | None) -> int | None: ...     # None: timed out. GIL released, signal handlers run
//!     def kill(self, sig: int) -> None: ...   # nothing happens if it already ended
//!     def close(self) -> None: ...            # ValueError from everything but pid afterwards
//!
//! # parcels: what a child is to do waits in shared memory under a token
//! class Parcel:
//!     def __init__(self, obj: object) -> None: ...                 # pickled here; errors name the object
//!     @staticmethod
//!     def from_bytes(data: bytes) -> Parcel: ...
//!     token: int
//!         # dropping an untaken Parcel gives it back: keep it until the child was started
//! def take_parcel(token: int) -> object: ...
//! def take_parcel_bytes(token: int) -> bytes: ...
//!
//! # zygote, client side
//! def zygote_request(token: int, fds: list[int]) -> Child | None: ...
//!         # asks this process's zygote to fork a child for the parcel `token`, which gets duplicates of fds (at other numbers: see
//!         # ZygoteRequest.fds, same order). Returns when the child exists. None: this process has no living zygote, start one
//! def zygote_start(launch: Callable[[int], Child]) -> None: ...
//!         # makes a socket pair, calls launch(server_fd), which must start the zygote with it, e.g.
//!         #   spawn_exec(exe, [exe, "-c", f"... main(arena_fd={a}, server_fd={server_fd})"], [a, server_fd]);
//!         # afterwards zygote_request() works in this process and in all children forked or made by that zygote from now on
//! def zygote_channel() -> tuple[int, int] | None: ...   # (descriptor, zygote's pid): to be passed to a spawned child (pass_fds), so
//! def attach_zygote(fd: int, pid: int) -> None: ...     # that it says this and shares the zygote. Optional: without, it starts its own
//! def zygote_pid() -> int | None: ...                   # of the zygote this process would use, if it lives
//! def zygote_stop() -> None: ...                        # forget it: it leaves once no other process and no child of it holds the channel
//!
//! # zygote, server side (in the process launched by zygote_start; single-threaded; ignores SIGINT by its own signal.signal)
//! class ZygoteServer:
//!     def __init__(self, server_fd: int) -> None: ...    # takes over the descriptor
//!     def next(self) -> ZygoteRequest | None: ...        # None: nobody is left, leave. Reaps children meanwhile. GIL released, handlers run
//! class ZygoteRequest:
//!     token: int
//!     parent_pid: int                         # who asked (os.getppid() would be the zygote)
//!     fds: list[int]                          # the descriptors passed, at their numbers here; the child owns them after in_child()
//!     def forked(self, pid: int) -> None: ... # in the zygote, after os.fork(): tells the asker, closes fds
//!     def failed(self, errno: int) -> None: ...          # in the zygote, when os.fork() failed: the asker gets that OSError
//!     def in_child(self) -> bool: ...         # in the child, first thing: signal mask as before the server, the server's descriptors closed,
//!                                             # the zygote channel attached. False: nobody waits for this child any more: os._exit(0) at once
//! ```
