"""Make `multiprocessing` procession in an interpreter that starts beneath `procession run`.

`site` imports this module as such an interpreter starts. Only there is this folder on the path, put
there by ``procession_run.pth`` or by PYTHONPATH, and it is taken off again before anything else is
imported. The package itself is loaded only once the program asks for `multiprocessing`.
"""

import os
import sys


class _Waiting:
    """Wait for the first import of `multiprocessing` or `concurrent.futures.process`.

    procession's own finder takes its place then.
    """

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] != "multiprocessing" and name != "concurrent.futures.process":
            return None
        sys.meta_path.remove(_Waiting)
        package_folder = os.path.dirname(os.path.dirname(os.path.dirname(_FOLDER)))
        sys.path.insert(0, package_folder)
        try:
            from procession._compat import install
        finally:
            sys.path.remove(package_folder)
        install.install_beneath_run()
        return install._Finder.find_spec(name, path, target)


_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _begin():
    # An interpreter other than that of `procession run` is left alone, even if it sees this folder.
    tag, _, rest = os.environ.get("PROCESSION_RUN", "").partition(":")
    prefix = rest.partition(":")[2]
    if tag == sys.implementation.cache_tag and prefix == sys.prefix:
        sys.meta_path.insert(0, _Waiting)


_begin()
# The `sitecustomize` that this one hides runs now. If there is none, `site` expects exactly this
# ImportError.
sys.path[:] = [folder for folder in sys.path if folder != _FOLDER]
del sys.modules["sitecustomize"]
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
