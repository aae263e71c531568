"""The number of threads that numerical libraries use in a worker.

With one worker for each processor, more threads only get in each other's way.
"""

from __future__ import annotations

import os

__all__: list[str] = []

#: Environment variables that such libraries read when they are loaded.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
#: Functions that set the number in libraries that are already loaded.
_SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "omp_set_num_threads",
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
)


def limit(threads: int) -> None:
    """Make OpenMP, OpenBLAS, MKL and similar libraries use this many threads in this process."""
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        _tell_loaded(threads)
    else:
        threadpool_limits(threads)


def _tell_loaded(threads: int) -> None:
    import ctypes

    with open("/proc/self/maps") as maps:
        paths = {line.split()[-1] for line in maps if ".so" in line}
    for path in paths:
        if any(name in os.path.basename(path) for name in ("blas", "omp", "mkl_rt", "blis")):
            library = ctypes.CDLL(path)
            for setter in _SETTERS:
                if hasattr(library, setter):
                    getattr(library, setter)(threads)
