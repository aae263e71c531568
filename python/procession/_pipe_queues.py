"""The interpreter's own `multiprocessing/queues.py`, run as a part of this package.

It uses this package's connections, reducers and finalizers.
"""

import os


def _run(file: str) -> None:
    with open(file, "rb") as source:
        exec(compile(source.read(), file, "exec", dont_inherit=True), globals())


_run(os.path.join(os.path.dirname(os.__file__), "multiprocessing", "queues.py"))
