"""start.py LIBRARY METHOD SCRIPT [ARGUMENT...]: run SCRIPT as the main program.

LIBRARY has METHOD set as its start method before.

The script's text runs in the real ``__main__``, under its own path, so that children find it there.
"""

import importlib
import os
import sys


def start(library: str, method: str, script: str) -> None:
    importlib.import_module(library).set_start_method(method)
    sys.argv[:] = sys.argv[3:]
    sys.path[0] = os.path.dirname(script)
    with open(script, encoding="utf-8") as text:
        code = compile(text.read(), script, "exec")
    main = sys.modules["__main__"].__dict__
    for name in ("importlib", "os", "sys", "start"):
        del main[name]
    main["__file__"] = script
    main["__doc__"] = None
    exec(code, main)


start(*sys.argv[1:4])
