"""The main module in a child that does not inherit it: imported again, under a name of its own.

`spawn` says which module that is. What functions sent by value make of it is in `_pickling`.
"""

from __future__ import annotations

import sys

from .. import process

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any

__all__: list[str] = []

#: The main modules that were replaced by an import, so that what refers to them stays whole.
old_main_modules: list[Any] = []


class MainNotGuarded(RuntimeError):
    """The main module starts processes when it is merely imported."""


_main_not_guarded: str | None = None


def check_not_importing() -> None:
    """Raise `MainNotGuarded` if this is a child that is still importing the main module."""
    if process.current_process()._inheriting:
        raise MainNotGuarded(f"""
        An attempt has been made to start a new process before the
        current process has finished its bootstrapping phase{_importing_line()}.

        A child does not inherit its parent's memory here: it imports the main
        module again, and that must not start processes. So put what the program
        does, as opposed to what it defines, under the proper idiom:

            if __name__ == '__main__':
                freeze_support()
                ...

        The "freeze_support()" line can be omitted if the program
        is not going to be frozen to produce an executable.

        See the "Safe importing of main module" section in
        https://docs.python.org/3/library/multiprocessing.html
        """)


def _importing_line() -> str:
    """Return the line of the main module that started the process, as text."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "__mp_main__" and frame.f_code.co_name == "<module>":
            return f"\n        ({frame.f_code.co_filename}, line {frame.f_lineno})"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def read_code(path: str) -> Any:
    """Return the code of a script, or of the compiled form of one."""
    import io

    with io.open_code(path) as file:
        data = file.read()
    # `importlib.util` has it, too, but is slow to load.
    from _frozen_importlib_external import MAGIC_NUMBER

    if data.startswith(MAGIC_NUMBER):
        import marshal

        return marshal.loads(data[16:])
    return compile(data, path, "exec", dont_inherit=True)


def import_main(code: Any, attributes: dict[str, Any]) -> None:
    """Run the main module's code.

    Its variables are the module's own: functions found by name and functions sent by value share
    them.
    """
    global _main_not_guarded
    if _main_not_guarded is not None:
        raise MainNotGuarded(_main_not_guarded)
    import types

    module = types.ModuleType("__mp_main__")
    module.__dict__.update(attributes)
    before = sys.modules.get("__mp_main__")
    sys.modules["__mp_main__"] = module
    script = sys.argv[0] if sys.argv else None
    if script is not None:
        sys.argv[0] = attributes["__file__"]
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        if isinstance(error, MainNotGuarded):
            _main_not_guarded = str(error)
        if before is None:
            del sys.modules["__mp_main__"]
        else:
            sys.modules["__mp_main__"] = before
        raise
    finally:
        if script is not None and sys.argv:
            sys.argv[0] = script
    old_main_modules.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    process.main_state.at_import = process.definitions_of_main()
