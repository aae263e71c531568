"""procession: `multiprocessing` on an engine that does not lose, tear or hang.

The names are the standard library's, module for module; `install`, `log_to_file`, `ProcessPoolExecutor` and five exceptions are additions.
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
    """Put procession under the name `multiprocessing`, in this process and in all its children to come.

    With `executor`, `concurrent.futures.ProcessPoolExecutor` is procession's too. Call it before anything imports `multiprocessing`
    or `concurrent.futures.process`; RuntimeError if that has happened already.
    """
    from ._install import install

    install(executor)


SUBDEBUG = 5
SUBWARNING = 25

# What the program calls `__main__` is `__mp_main__` in children that import it anew: one name that both know.
if "__main__" in sys.modules:
    sys.modules["__mp_main__"] = sys.modules["__main__"]


def __getattr__(name: str) -> object:
    # Modules that few need are loaded by whoever first does.
    if name == "reduction":
        # By its whole name: what says "from . import" asks here first.
        __import__(f"{__name__}.reduction")
        return sys.modules[f"{__name__}.reduction"]
    if name == "reducer":
        return context._default_context.reducer
    if name == "ProcessPoolExecutor":
        from ._executor import ProcessPoolExecutor

        return ProcessPoolExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
