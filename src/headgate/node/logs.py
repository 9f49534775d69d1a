"""The error log of every process: levels of the reference, one line format, a file or stderr.

Owns the mapping between level names and `logging` levels. Plugin lines carry the request id as `extra={"request_id":
...}` of their record; the formatter appends it. A log file that was moved away is opened anew by itself.
"""

import logging
import logging.handlers
import os
import sys
from pathlib import Path

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": 25,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "crit": logging.CRITICAL,
    "alert": 60,
    "emerg": 70,
}
NOTICE = LEVELS["notice"]
_COLOURS = {"warn": "33", "error": "31", "crit": "31;1", "alert": "31;1", "emerg": "31;1", "debug": "2"}
_NAMES = {level: name for name, level in LEVELS.items()}


class LineFormatter(logging.Formatter):
    """`2026/01/31 12:00:00 [notice] 1234#worker-0: text, request_id: "..."`."""

    def __init__(self, process: str, is_coloured: bool) -> None:
        super().__init__(datefmt="%Y/%m/%d %H:%M:%S")
        self._source = f"{os.getpid()}#{process}"
        self._is_coloured = is_coloured

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record, with its traceback below when it has one."""
        level = _NAMES.get(record.levelno, record.levelname.lower())
        shown = f"\x1b[{_COLOURS[level]}m[{level}]\x1b[0m" if self._is_coloured and level in _COLOURS else f"[{level}]"
        line = f"{self.formatTime(record, self.datefmt)} {shown} {self._source}: {record.getMessage()}"
        request_id = getattr(record, "request_id", None)
        if request_id:
            line += f', request_id: "{request_id}"'
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str, path: Path | None, process: str) -> None:
    """Send the log of this process to a file, or to stderr for None; called again it replaces what was set."""
    handler: logging.Handler
    if path is None or str(path) in ("/dev/stderr", "/dev/stdout"):
        stream = sys.stdout if path is not None and path.name == "stdout" else sys.stderr
        handler = logging.StreamHandler(stream)
        is_coloured = stream.isatty() and "NO_COLOR" not in os.environ
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        is_coloured = False
    handler.setFormatter(LineFormatter(process, is_coloured))
    for number, name in _NAMES.items():
        logging.addLevelName(number, name)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # Its notes on how it sees the database tell an operator nothing.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def level_name() -> str:
    """Return the name of the level that this process logs from."""
    return _NAMES.get(logging.getLogger().level, "notice")


def set_level(level: str) -> None:
    """Log from another level on, by its name in `LEVELS`."""
    logging.getLogger().setLevel(LEVELS[level])


def reopen() -> None:
    """Open log files anew (USR1)."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.handlers.WatchedFileHandler):
            handler.reopenIfNeeded()
