"""Run by `site` as an interpreter starts beneath `procession run`: there too, `multiprocessing` shall be procession.

This folder is on the path only in such interpreters, put there by ``procession_run.pth`` or by PYTHONPATH, and is off it again before
anything else is imported. It loads nothing of the package before the program asks for `multiprocessing`.
"""

import os
import sys


class _Waiting:
    """In `sys.meta_path` until `multiprocessing` is imported, or what imports it; then procession's own finder takes its place."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "multiprocessing" and name != "concurrent.futures.process":
            return None
        sys.meta_path.remove(_Waiting)
        package_folder = os.path.dirname(os.path.dirname(_FOLDER))
        sys.path.insert(0, package_folder)
        try:
            from procession import _install
        finally:
            sys.path.remove(package_folder)
        _install.install_beneath_run()
        return _install._Finder.find_spec(name, path, target)


_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _begin():
    # Another interpreter than the one of `procession run`, even if it sees this folder, is none of our business.
    tag, _, rest = os.environ.get("PROCESSION_RUN", "").partition(":")
    prefix = rest.partition(":")[2]
    if tag == sys.implementation.cache_tag and prefix == sys.prefix:
        sys.meta_path.insert(0, _Waiting)


_begin()
# Whoever would have been found without us has its turn; if there is none, `site` expects just this error.
sys.path[:] = [folder for folder in sys.path if folder != _FOLDER]
del sys.modules["sitecustomize"]
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
