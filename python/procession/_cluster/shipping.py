"""The program's own code on nodes that do not have it.

The driver packs the Python files of its main module's folder. An agent that does not find the main
module under its path unpacks them into a folder of its own. What is installed, the nodes must have,
or get from Ray by ``runtime_env``.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile

from .. import process, util

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []

#: The most bytes and files that are packed. Of a larger folder only the files beside the main
#: module are, as far as they fit.
_MOST_BYTES, _MOST_FILES = 16 << 20, 2000
#: The most files and folders that are looked at.
_MOST_ENTRIES = 20_000

#: Pairs of a driver's folder and the folder here that has its files.
_folders: list[tuple[str, str]] = []
_made: list[str] = []
#: The ends of pipes by which those that remove them see this process's end.
_watched_ends: list[int] = []


def with_keys(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that may be pickled with the keys in them, for nodes of the cluster alone."""
    secret = process.AuthenticationString
    return {k: bytes(v) if isinstance(v, secret) else v for k, v in settings.items()}


def pack(settings: dict[str, Any], working_dir: str | None) -> dict[str, Any]:
    """Return settings with the code that goes with them, for `unpack`.

    `working_dir` is the folder that Ray ships, if any: agents find it as their working directory.
    """
    packed = dict(settings)
    if working_dir is not None and os.path.isdir(working_dir):
        packed["working_dir"] = os.path.realpath(working_dir)
    main = settings.get("init_main_from_path")
    if main is None and "init_main_from_name" in settings:
        folder: str | None = settings.get("orig_dir")
    else:
        folder = None if main is None else os.path.dirname(main)
    if folder is not None:
        packed["shipped"] = folder, _files(folder, main)
    return packed


def _files(folder: str, main: str | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    room = _MOST_BYTES
    for path in ([main] if main is not None else []) + list(_sources(folder)):
        name = os.path.relpath(path, folder)
        try:
            size = os.path.getsize(path)
            if size > room or len(found) >= _MOST_FILES:
                util.sub_warning(
                    "the folder %s is too large: %s is not sent to other nodes", folder, name
                )
                break
            with open(path, "rb") as file:
                found.setdefault(name, file.read())
        except OSError as error:
            util.info("%s is not sent to other nodes: %s", path, error)
            continue
        room -= size
    return found


def _sources(folder: str) -> Any:
    """Yield the Python files below a folder, those of the folder itself first."""
    seen = 0
    for where, folders, files in os.walk(folder):
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        seen += len(folders) + len(files)
        if seen > _MOST_ENTRIES:
            util.sub_warning(
                "the folder %s is too large to be sent to other nodes as a whole", folder
            )
            return
        left_out = ("__pycache__", "node_modules")
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in left_out)
        yield from (os.path.join(where, name) for name in sorted(files) if name.endswith(".py"))


def unpack(packed: dict[str, Any]) -> dict[str, Any]:
    """Make the code available here, and return the settings as they are on this node."""
    settings = dict(packed)
    folder, files = settings.pop("shipped", (None, {}))
    working_dir = settings.pop("working_dir", None)
    if working_dir is not None:
        _folders.append((working_dir, os.getcwd()))
    main = settings.get("init_main_from_path")
    if folder is not None and not _is_there(main or folder, folder, files):
        made = tempfile.mkdtemp(prefix="procession-")
        _made.append(made)
        _remove_at_end(made)
        _folders.append((folder, made))
        for name, content in files.items():
            path = os.path.join(made, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
    return localized(settings)


def _is_there(path: str, folder: str, files: dict[str, bytes]) -> bool:
    """Return whether the main module or folder is on this node, as the driver has it."""
    shipped = files.get(os.path.relpath(path, folder))
    try:
        if shipped is None:
            return os.path.exists(located(path))
        with open(located(path), "rb") as file:
            return file.read() == shipped
    except OSError:
        return False


def _remove_at_end(folder: str) -> None:
    """Have a folder removed when this process has ended, even by SIGKILL.

    What removes it is no child of this process, because Ray ends the children of its workers.
    """
    # The standard input of a command in the background is /dev/null.
    script = 'exec 3<&0 > /dev/null 2>&1; (cat <&3; rm -rf -- "$0") &'
    reader, writer = os.pipe()
    try:
        subprocess.run(
            ["sh", "-c", script, folder], stdin=reader, start_new_session=True, check=True
        )
    finally:
        os.close(reader)
    _watched_ends.append(writer)
    atexit.register(remove)


def remove() -> None:
    """Remove what was unpacked."""
    for folder in _made:
        shutil.rmtree(folder, ignore_errors=True)


def localized(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a parent's settings with its paths as they are on this node."""
    result = dict(settings)
    for name in ("dir", "orig_dir", "init_main_from_path"):
        if result.get(name) is not None:
            result[name] = located(result[name])
    for name in ("dir", "orig_dir"):
        if not os.path.isdir(result.get(name) or "/"):
            result[name] = os.getcwd()
    theirs = [located(folder) for folder in settings.get("sys_path", ())]
    result["sys_path"] = [*theirs, *(folder for folder in sys.path if folder not in theirs)]
    return result


def located(path: str) -> str:
    """Return where the file or folder of a driver's path is on this node."""
    if os.path.isabs(path):
        for theirs, ours in reversed(_folders):
            here = os.path.normpath(os.path.join(ours, os.path.relpath(path, theirs)))
            if os.path.commonpath([path, theirs]) == theirs and os.path.exists(here):
                return here
    return path
