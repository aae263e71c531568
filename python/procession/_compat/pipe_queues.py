"""The interpreter's own `multiprocessing/queues.py`, run as a part of this package.

It uses this package's connections, reducers and finalizers. It is a module of its own because its
classes are pickled by its name.
"""

import os


def _run(file: str) -> dict[str, object]:
    # Relative imports of the file find the public modules.
    namespace: dict[str, object] = {"__name__": __name__, "__package__": "procession"}
    with open(file, "rb") as source:
        exec(compile(source.read(), file, "exec", dont_inherit=True), namespace)
    return {name: value for name, value in namespace.items() if not name.startswith("__")}


globals().update(_run(os.path.join(os.path.dirname(os.__file__), "multiprocessing", "queues.py")))
