"""The parts of the package's logging that need `logging` itself: loaded with it, not before.

Records carry the name of the process that made them, and any number of processes can share one
file.
"""

from __future__ import annotations

import logging
import os

from . import process

TYPE_CHECKING = False  # `typing` is slow to load
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # what `typing.get_type_hints` finds

__all__: list[str] = []


class SharedFileHandler(logging.Handler):
    """A handler that appends each record to a file in one write.

    The kernel puts such a write at the end of the file as a whole.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            written = os.write(self._fd, line)
            if written < len(line):  # the disk is full: the second write raises the error
                os.write(self._fd, line[written:])
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the file."""
        with self.lock:  # type: ignore[union-attr]
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
        super().close()


def add_stderr(logger: logging.Logger, format: str) -> None:
    """Make `logger` print records in `format` to standard error too."""
    _add(logger, logging.StreamHandler(), format)


def add_file(logger: logging.Logger, path: str, format: str) -> None:
    """Make `logger` append records in `format` to `path` too, unless it does already."""
    if path not in files(logger):
        _add(logger, SharedFileHandler(path), format)


def _add(logger: logging.Logger, handler: logging.Handler, format: str) -> None:
    handler.setFormatter(logging.Formatter(format))
    logger.addHandler(handler)


def files(logger: logging.Logger) -> list[str]:
    """Return the files that `logger` appends to, so that children append to them too."""
    return [handler.path for handler in logger.handlers if isinstance(handler, SharedFileHandler)]


def name_records() -> None:
    """Make all later records name the procession process that made them.

    `logging` itself only asks the module `multiprocessing`, which does not know procession's
    processes.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "_names_processes", False):
        return

    def make_named(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if record.processName == "MainProcess":
            record.processName = process.current_process().name
        return record

    make_named._names_processes = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make_named)
