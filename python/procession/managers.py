"""Managers: objects in a server process that other processes use by proxies.

The other processes may run on another machine.

The server is in `_managers.server`, the proxies are in `_managers.proxies`, and their messages in
`_managers.wire` and `_managers.link`. The types are in `_managers.types` and `_managers.memory`, the
common base of all managers in `_managers.base`. Messages and handshake are CPython's, so the other
end may be a manager or proxy of a plain `multiprocessing`.
"""

from __future__ import annotations

import array
import queue
import threading

from ._managers.base import BaseManager
from ._managers.memory import (  # noqa: F401
    SharedMemoryManager,
    SharedMemoryServer,
    _SharedMemoryTracker,
)
from ._managers.proxies import (  # noqa: F401
    AutoProxy,
    BaseProxy,
    MakeProxyType,
    ProcessLocalSet,
    RebuildProxy,
    State,
)
from ._managers.server import Server, all_methods, public_methods  # noqa: F401
from ._managers.types import (  # noqa: F401
    AcquirerProxy,
    Array,
    ArrayProxy,
    BarrierProxy,
    BaseListProxy,
    BasePoolProxy,
    ConditionProxy,
    DictProxy,
    EventProxy,
    IteratorProxy,
    ListProxy,
    Namespace,
    NamespaceProxy,
    PoolProxy,
    SetProxy,
    Value,
    ValueProxy,
    _BaseDictProxy,
    _BaseSetProxy,
)
from ._managers.wire import (  # noqa: F401
    RemoteError,
    Token,
    convert_to_error,
    dispatch,
    listener_client,
)
from .context import (  # noqa: F401 - some names only for importers, as in CPython
    ProcessError,
    _default_context,
    get_spawning_popen,
    reduction,
)

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

get_context = _default_context.get_context

__all__ = ["BaseManager", "BaseProxy", "SharedMemoryManager", "SyncManager", "Token"]

HAS_SHMEM = True


def reduce_array(a: array.array) -> Any:
    """Reduce an array to its bytes, for the pickler."""
    return array.array, (a.typecode, a.tobytes())


def rebuild_as_list(obj: Any) -> Any:
    """Reduce a view that cannot be sent to a list, for the pickler."""
    return list, (list(obj),)


reduction.register(array.array, reduce_array)
view_types: list[type] = [type({}.items()), type({}.keys()), type({}.values())]
for _view_type in view_types:
    reduction.register(_view_type, rebuild_as_list)
del _view_type


class SyncManager(BaseManager):
    """A manager of the types that threads share: queues, locks, lists, dicts and the like.

    `Manager()` returns a started one.
    """


def _pool(*args: Any, **kwds: Any) -> Any:
    from .pool import Pool

    return Pool(*args, **kwds)


SyncManager.register("Queue", queue.Queue)
SyncManager.register("JoinableQueue", queue.Queue)
SyncManager.register("Event", threading.Event, EventProxy)
SyncManager.register("Lock", threading.Lock, AcquirerProxy)
SyncManager.register("RLock", threading.RLock, AcquirerProxy)
SyncManager.register("Semaphore", threading.Semaphore, AcquirerProxy)
SyncManager.register("BoundedSemaphore", threading.BoundedSemaphore, AcquirerProxy)
SyncManager.register("Condition", threading.Condition, ConditionProxy)
SyncManager.register("Barrier", threading.Barrier, BarrierProxy)
SyncManager.register("Pool", _pool, PoolProxy)
SyncManager.register("list", list, ListProxy)
SyncManager.register("dict", dict, DictProxy)
SyncManager.register("set", set, SetProxy)
SyncManager.register("Value", Value, ValueProxy)
SyncManager.register("Array", Array, ArrayProxy)
SyncManager.register("Namespace", Namespace, NamespaceProxy)
SyncManager.register("Iterator", proxytype=IteratorProxy, create_method=False)
SyncManager.register("AsyncResult", create_method=False)
