"""procession: `multiprocessing` on an engine that does not lose, tear or hang.

The names are those of the standard library, module for module. `install`, `log_to_file`,
`ProcessPoolExecutor` and six exceptions are additions.
"""

import sys

if sys.platform != "linux":
    raise ImportError(f"procession runs on Linux only: this is {sys.platform}")

from . import context
from ._errors import Abandoned, BrokenPool, OwnerDied, TaskCancelled, TaskTimeout, WorkerDied

__all__ = [name for name in dir(context._default_context) if not name.startswith("_")]
globals().update(
    (name, getattr(context._default_context, name)) for name in __all__ if name != "reducer"
)
__all__ += [
    "Abandoned",
    "BrokenPool",
    "OwnerDied",
    "TaskCancelled",
    "TaskTimeout",
    "WorkerDied",
    "install",
]


def install(executor: bool = False) -> None:
    """Put procession under the name `multiprocessing`, in this process and all its future children.

    With `executor`, `concurrent.futures.ProcessPoolExecutor` is procession's too. Call this before
    anything imports `multiprocessing` or `concurrent.futures.process`; raises RuntimeError if
    either has been imported already.
    """
    from ._compat.install import install

    install(executor)


SUBDEBUG = 5
SUBWARNING = 25

# The program's `__main__` is `__mp_main__` in children that import it again. This process binds
# both names, so that either resolves on both sides.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


def __getattr__(name: str) -> object:
    # Modules that few programs need are loaded on first use.
    if name == "reduction":
        # By its full name: `from . import` calls this function first.
        __import__(f"{__name__}.reduction")
        return sys.modules[f"{__name__}.reduction"]
    if name == "reducer":
        return context._default_context.reducer
    if name == "ProcessPoolExecutor":
        from ._executor.executor import ProcessPoolExecutor

        return ProcessPoolExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
