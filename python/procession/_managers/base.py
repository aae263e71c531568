"""The manager: starting, finding and ending a server, and registering types of objects."""

from __future__ import annotations

from .. import connection, process, util
from ..context import ProcessError, _default_context
from .link import Link
from .proxies import AutoProxy, State, first_proxy, key_or_own
from .server import Server
from .wire import Token, call_once, listener_client

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__ = ["BaseManager"]


class BaseManager:
    """A server process and the connection to it.

    `address` is where it listens, by default a free Unix socket. `authkey` (bytes) is the key that
    clients must know, by default this process's. `register` adds types. `start` starts a server
    process, `get_server().serve_forever()` serves in this process, and `connect` connects to a
    server that runs elsewhere. `shutdown_timeout` is the number of seconds that the process has to
    end before it is terminated, and again before it is killed.
    """

    _registry: dict[str, Any] = {}
    _Server = Server
    _process: Any = None
    # Held, once made, so that it stays open from one proxy to the next. The type is a comment:
    # `typing.get_type_hints` looks for this class's names in `procession.managers`.
    _link = None  # type: Link | None

    def __init__(
        self,
        address: Any = None,
        authkey: bytes | None = None,
        serializer: str = "pickle",
        ctx: Any = None,
        *,
        shutdown_timeout: float = 1.0,
    ) -> None:
        self._ctx = _default_context.get_context() if ctx is None else ctx
        self._address, self._authkey = address, key_or_own(authkey)
        self._Listener, self._Client = listener_client[serializer]
        self._serializer = serializer
        self._shutdown_timeout = shutdown_timeout
        self._state = State()

    # What error messages call a manager that is used in the wrong state.
    _server_noun, _manager_noun = "server", "Manager"

    def _check_state(self, wanted: int) -> None:
        state = self._state.value
        if state == wanted:
            return
        if state == State.INITIAL:
            raise ProcessError("Unable to start server")
        if state == State.STARTED:
            raise ProcessError(f"Already started {self._server_noun}")
        if state == State.SHUTDOWN:
            raise ProcessError(f"{self._manager_noun} has shut down")
        raise ProcessError(f"Unknown state {state!r}")

    def get_server(self) -> Server:
        """Return the server, to be run in this process by its `serve_forever()`.

        It already listens at its `address`.
        """
        self._check_state(State.INITIAL)
        return self._Server(self._registry, self._address, self._authkey, self._serializer)

    def connect(self) -> None:
        """Connect to the server that runs at `address`.

        Raises AuthenticationError when the server has another key, and OSError when no server
        listens there.
        """
        call_once(self._Client, self._address, self._authkey, "dummy")
        self._state.value = State.STARTED

    def start(self, initializer: Any = None, initargs: Any = ()) -> None:
        """Start the server in a new process, which ends with this one.

        It calls `initializer(*initargs)` first. Raises EOFError when the process ends before it
        serves.
        """
        self._check_state(State.INITIAL)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        reader, writer = connection.Pipe(duplex=False)
        self._process = self._ctx.Process(
            target=type(self)._run_server,
            args=(
                self._registry,
                self._address,
                self._authkey,
                self._serializer,
                writer,
                initializer,
                initargs,
            ),
        )
        self._process.name = process.numbered(type(self).__name__, self._process._identity)
        self._process._is_server = True
        try:
            self._process.start()
            self._meet_server(reader, writer)
        except BaseException:
            # Interrupts too: no other process knows the server, so it would never be ended.
            if self._process._popen is not None:
                self._process.kill()
                self._process.join()
            raise

    def _meet_server(self, reader: Any, writer: Any) -> None:
        """Receive the server's address, and register the finalizer that ends the server."""
        writer.close()
        # The end of the pipe is not enough: another child may have inherited the writing end.
        connection.wait([reader, self._process.sentinel])
        with reader:
            try:
                if not reader.poll():
                    raise EOFError
                self._address = reader.recv()
            except EOFError:
                self._process.join()
                raise EOFError(
                    f"the manager's server process ended before it served, with exit code {self._process.exitcode}"
                ) from None
        self._state.value = State.STARTED
        self.shutdown = util.Finalize(
            self,
            type(self)._finalize_manager,
            args=(
                self._process,
                self._address,
                self._authkey,
                self._state,
                self._Client,
                self._shutdown_timeout,
            ),
            exitpriority=0,
        )

    @classmethod
    def _run_server(
        cls,
        registry: Any,
        address: Any,
        authkey: bytes,
        serializer: str,
        writer: Any,
        initializer: Any = None,
        initargs: Any = (),
    ) -> None:
        """Report the address and serve: the main function of the server process."""
        _end_with_parent()
        if initializer is not None:
            initializer(*initargs)
        server = cls._Server(registry, address, authkey, serializer)
        server._may_share = type(server) is Server
        _report_and_serve(server, writer)

    def _create(self, typeid: str, /, *args: Any, **kwds: Any) -> tuple[Token, Any]:
        assert self._state.value != State.INITIAL, "server not yet started"
        assert self._state.value != State.SHUTDOWN, "Manager has shut down"
        id, exposed = self._ask("create", typeid, *args, **kwds)
        return Token(typeid, self._address, id), exposed

    def join(self, timeout: float | None = None) -> None:
        """Wait until the server process, if any, has ended, at most `timeout` seconds."""
        if self._process is not None:
            self._process.join(timeout)
            if not self._process.is_alive():
                self._process = None

    def _ask(self, function: str, /, *args: Any, **kwds: Any) -> Any:
        """Call a function of the server itself."""
        self._link = Link.to(self._address, self._authkey, self._serializer)
        return self._link.ask(function, *args, **kwds)

    def _debug_info(self) -> str:
        """Return the server's objects and how many proxies refer to each, as readable text."""
        return self._ask("debug_info")

    def _number_of_objects(self) -> int:
        """Return the number of the server's objects that proxies refer to."""
        return self._ask("number_of_objects")

    def __enter__(self) -> Any:
        if self._state.value == State.INITIAL:
            self.start()
        self._check_state(State.STARTED)
        return self

    def __exit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        self.shutdown()

    @staticmethod
    def _finalize_manager(
        process: Any,
        address: Any,
        authkey: bytes,
        state: Any,
        _Client: Any,
        shutdown_timeout: float,
    ) -> None:
        """End the server process: ask it, then terminate it, then kill it."""

        def ask() -> None:
            util.info("sending shutdown message to manager")
            try:
                call_once(_Client, address, authkey, "shutdown")
            except Exception as error:
                util.info("the manager does not listen: %s", error)

        def terminate() -> None:
            util.info("manager still alive")
            util.info("trying to `terminate()` manager process")
            process.terminate()

        def kill() -> None:
            util.info("manager still alive after terminate")
            process.kill()

        for end, timeout in (ask, shutdown_timeout), (terminate, shutdown_timeout), (kill, None):
            if process.is_alive():
                end()
                process.join(timeout)
        state.value = State.SHUTDOWN
        Link.end(address)

    @property
    def address(self) -> Any:
        """The address where the server listens."""
        return self._address

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Any = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: dict[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Register a type of objects.

        Unless `create_method` is false, this adds a method `typeid` that makes an object of the
        type and returns its proxy. `callable` makes the object, in the server (None: this manager
        only connects). `proxytype` is the type of its proxies. By default it is made from
        `exposed`, the names of the methods that may be called, which defaults to all public ones.
        `method_to_typeid` names the methods that return a proxy of a registered type instead of a
        copy.
        """
        if proxytype is None:
            proxytype = AutoProxy
        returned = method_to_typeid or getattr(proxytype, "_method_to_typeid_", None)
        _check_names(returned or {})
        entry = callable, exposed or getattr(proxytype, "_exposed_", None), returned, proxytype
        if "_registry" not in vars(cls):
            cls._registry = cls._registry.copy()  # it was that of a base
        cls._registry[typeid] = entry
        if create_method:
            setattr(cls, typeid, _creator(typeid, proxytype))


def _check_names(returned: dict[str, str]) -> None:
    for name in (*returned, *returned.values()):
        assert type(name) is str, f"{name!r} is not a string"


def _creator(typeid: str, proxytype: Any) -> Any:
    """Return the manager's method that makes an object of a type."""

    def create(self: BaseManager, /, *args: Any, **kwds: Any) -> Any:
        util.debug("requesting creation of a shared %r object", typeid)
        token, exposed = self._create(typeid, *args, **kwds)
        return first_proxy(proxytype, token, exposed, self, manager=self, ask=self._ask)

    create.__name__ = typeid
    return create


def _end_with_parent() -> None:
    """Make this server process end with its parent, and not at Ctrl-C."""
    import signal

    # Ctrl-C is for the program. Its manager ends when the program does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = process.parent_process()
    if parent is not None:
        process._leave_with_parent(parent.pid)


def _report_and_serve(server: Server, writer: Any) -> None:
    with writer:
        try:
            writer.send(server.address)
        except BrokenPipeError:
            return  # the program that wanted this server has ended
    util.info("manager serving at %r", server.address)
    server.serve_forever()


BaseManager.__module__ = "procession.managers"
