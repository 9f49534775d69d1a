"""`kong.log`: plugins' lines in the error log, and the record of a request for logging plugins.

PDK reference 11. Lines go to the standard logger `headgate.plugin`; text is built only when the level is on. The record
carries `request_id` and `plugin` as extra attributes. Nothing of a request but its id is added, so that no secret
gets into a line by
itself.
"""

import logging
import re
import sys
import textwrap
import traceback
from collections.abc import Mapping
from pathlib import Path
from pprint import pformat
from types import FrameType
from typing import Any

from headgate.pdk._call import Call, current_call
from headgate.pdk._check import need_string
from headgate.pdk._phase import AUTHENTICATED, FINISHED, any_phase, phases
from headgate.pdk.serializer import MODES, serialize_request, serialize_stream
from headgate.phases import STREAM_LOG, Phase

NOTICE = 25
ALERT = 60
EMERG = 70

INSPECT_WIDTH = 120

_logger = logging.getLogger("headgate.plugin")
_PDK_DIRECTORY = str(Path(__file__).parent)
_MODIFIER = re.compile(r"%%?(message|file_src|line_src|func_name|namespace)")


class Inspect:
    """`kong.log.inspect`: prints values over several lines; can be switched off per logger."""

    __slots__ = ("_is_on", "_owner")

    def __init__(self, owner: "Logger") -> None:
        self._owner = owner
        self._is_on = True

    def on(self) -> None:
        """Print again."""
        self._is_on = True

    def off(self) -> None:
        """Print nothing until `on`."""
        self._is_on = False

    def __call__(self, *values: Any) -> None:
        """Log each value, nested ones over several lines, in a frame, at level notice."""
        if not self._is_on or not _logger.isEnabledFor(NOTICE):
            return
        frame = _caller()
        where = f"{_file(frame)}:{frame.f_code.co_name}:{frame.f_lineno}"
        namespace = self._owner.current_namespace()
        head = f"[kong] {where} [{namespace}] " if namespace else f"[kong] {where} "
        _emit(NOTICE, head.ljust(INSPECT_WIDTH + 1, "-") + "+", namespace)
        text = " ".join(pformat(value, width=INSPECT_WIDTH - 2) for value in values)
        for line in text.split("\n"):
            for piece in textwrap.wrap(line, INSPECT_WIDTH - 1, drop_whitespace=False) or [""]:
                _emit(NOTICE, f"|{piece.ljust(INSPECT_WIDTH)}|", namespace)
        _emit(NOTICE, "+" + "-" * INSPECT_WIDTH + "+", namespace)


class Deprecation:
    """`kong.log.deprecation`: warns that something will go away."""

    __slots__ = ("_owner",)

    def __init__(self, owner: "Logger") -> None:
        self._owner = owner

    def __call__(self, *parts: Any) -> None:
        """Log a warning; a mapping as last argument says more: `after`, `removal` (versions), `trace` (with stack)."""
        if not _logger.isEnabledFor(logging.WARNING):
            return
        about: Mapping[str, Any] = {}
        if parts and isinstance(parts[-1], Mapping):
            *parts_, about = parts
            parts = tuple(parts_)
        text = "".join(_text(part) for part in parts)
        halves = []
        if about.get("after"):
            halves.append(f"deprecated after {about['after']}")
        if about.get("removal"):
            halves.append(f"scheduled for removal in {about['removal']}")
        if halves:
            text += f" ({', '.join(halves)})"
        if about.get("trace"):
            text += "\n" + "".join(traceback.format_stack(_caller()))
        self.write(text)

    def write(self, *parts: Any) -> None:
        """Log the parts as they are, at level warn."""
        self._owner.write(logging.WARNING, parts)


class Logger:
    """One logger: `kong.log` itself, or what `kong.log.new` returns.

    `kong.log` takes its namespace from the running plugin; others have one of their own.
    """

    __slots__ = ("_namespace", "_template", "deprecation", "inspect")

    def __init__(self, namespace: str | None = None, template: str | None = None) -> None:
        self._namespace = namespace
        self._template = template
        self.inspect = Inspect(self)
        self.deprecation = Deprecation(self)

    @any_phase
    def __call__(self, *parts: Any) -> None:
        """Log at level notice; the parts are turned into text and joined."""
        if _logger.isEnabledFor(NOTICE):
            self.write(NOTICE, parts)

    @any_phase
    def trace(self, *parts: Any) -> None:
        """Log nothing: the level exists for compatibility."""

    @any_phase
    def debug(self, *parts: Any) -> None:
        """Log at level debug; the parts are turned into text and joined."""
        if _logger.isEnabledFor(logging.DEBUG):
            self.write(logging.DEBUG, parts)

    @any_phase
    def info(self, *parts: Any) -> None:
        """Log at level info; the parts are turned into text and joined."""
        if _logger.isEnabledFor(logging.INFO):
            self.write(logging.INFO, parts)

    @any_phase
    def notice(self, *parts: Any) -> None:
        """Log at level notice; the parts are turned into text and joined."""
        if _logger.isEnabledFor(NOTICE):
            self.write(NOTICE, parts)

    @any_phase
    def warn(self, *parts: Any) -> None:
        """Log at level warn; the parts are turned into text and joined."""
        if _logger.isEnabledFor(logging.WARNING):
            self.write(logging.WARNING, parts)

    @any_phase
    def err(self, *parts: Any) -> None:
        """Log at level error; the parts are turned into text and joined."""
        if _logger.isEnabledFor(logging.ERROR):
            self.write(logging.ERROR, parts)

    @any_phase
    def crit(self, *parts: Any) -> None:
        """Log at level crit; the parts are turned into text and joined."""
        if _logger.isEnabledFor(logging.CRITICAL):
            self.write(logging.CRITICAL, parts)

    @any_phase
    def alert(self, *parts: Any) -> None:
        """Log at level alert; the parts are turned into text and joined."""
        if _logger.isEnabledFor(ALERT):
            self.write(ALERT, parts)

    @any_phase
    def emerg(self, *parts: Any) -> None:
        """Log at level emerg; the parts are turned into text and joined."""
        if _logger.isEnabledFor(EMERG):
            self.write(EMERG, parts)

    @any_phase
    def new(self, namespace: str, template: str | None = None) -> "Logger":
        """Return an independent logger with its own namespace and, if given, format.

        Raises: TypeError or ValueError `namespace must be a string`, `namespace cannot be an empty string`,
            `format must be a string if specified`, `format cannot be an empty string if specified`.
        """
        need_string(namespace, "namespace")
        if not namespace:
            raise ValueError("namespace cannot be an empty string")
        if template is not None and not isinstance(template, str):
            raise TypeError("format must be a string if specified")
        if template == "":
            raise ValueError("format cannot be an empty string if specified")
        return Logger(namespace, template)

    @any_phase
    def set_format(self, template: str | None = None) -> None:
        """Change this logger's format; None restores the usual one.

        Modifiers: `%message`, `%file_src`, `%line_src`, `%func_name`, `%namespace`; a doubled percent sign is literal.

        Raises: TypeError `format must be a string`.
        """
        if template is not None:
            need_string(template, "format")
        self._template = template

    @phases(Phase.REWRITE | AUTHENTICATED, is_for_streams=True)
    def set_serialize_value(self, call: Call, key: str, value: Any, options: Mapping[str, Any] | None = None) -> None:
        r"""Change a field of what `serialize` returns for this request; applied in call order.

        Args: `key` with `.` between levels (`\.` for a literal dot); `options["mode"]`: `set` (default), `add` (only
            when absent), `replace` (only when present). A value of None with `set` deletes.
        Raises: TypeError `key must be a string`; ValueError `mode must be 'set', 'add' or 'replace'`.
        """
        need_string(key, "key")
        mode = (options or {}).get("mode") or "set"
        if mode not in MODES:
            raise ValueError("mode must be 'set', 'add' or 'replace'")
        if call.serialize_values is None:
            call.serialize_values = []
        call.serialize_values.append((key, value, mode))

    @phases(FINISHED, is_for_streams=True)
    def serialize(self, call: Call) -> dict[str, Any]:
        """Return the record of this request or stream as logging plugins send it: a new dict of plain JSON values.

        Raises: ValueError for values of `set_serialize_value` that cannot be placed or serialised.
        """
        return serialize_stream(call) if call.phase == STREAM_LOG else serialize_request(call)

    def current_namespace(self) -> str | None:
        """Return the namespace of a line written now: the logger's own, else the running plugin's name."""
        if self._namespace is not None:
            return self._namespace
        call = current_call.get()
        return call.instance.name if call is not None and call.instance is not None else None

    def write(self, level: int, parts: tuple[Any, ...]) -> None:
        """Format and emit one line; the level was found to be on."""
        frame = _caller()
        message = "".join([part if part.__class__ is str else _text(part) for part in parts])
        namespace = self.current_namespace()
        if self._template is not None:
            line = _formatted(self._template, message, frame, namespace)
        elif namespace is None:
            line = f"{_file(frame)}:{frame.f_lineno} {message}"
        else:
            line = f"{_file(frame)}:{frame.f_lineno} [{namespace}] {message}"
        _emit(level, f"[kong] {line}", namespace)


def _emit(level: int, line: str, plugin: str | None) -> None:
    call = current_call.get()
    request_id = None
    if call is not None and call.exchange is not None:
        # Lines written after the end of a request, or during a handshake, have no id.
        try:
            request_id = call.exchange.id
        except (AttributeError, RuntimeError):
            request_id = None
    _logger.log(level, "%s", line, extra={"request_id": request_id, "plugin": plugin})


def log_levels() -> dict[str, int]:
    """Return the levels of the standard logger by the names of `kong.log`."""
    return {
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "notice": NOTICE,
        "warn": logging.WARNING,
        "err": logging.ERROR,
        "crit": logging.CRITICAL,
        "alert": ALERT,
        "emerg": EMERG,
    }


def emit_line(
    level: int, message: str, namespace: str | None, file: str, line: int, template: str | None, function: str
) -> None:
    """Write one line for code that is no Python: its place is told by the caller."""
    if template is not None:
        values = {
            "message": message,
            "file_src": file,
            "line_src": str(line),
            "func_name": function,
            "namespace": namespace or "?",
        }
        text = _replaced(template, values)
    elif namespace is None:
        text = f"{file}:{line} {message}"
    else:
        text = f"{file}:{line} [{namespace}] {message}"
    _emit(level, f"[kong] {text}", namespace)


def is_pdk_file(filename: str) -> bool:
    """Say whether code of this file belongs to the PDK (its modules, the generated guards)."""
    return filename.startswith((_PDK_DIRECTORY, "<guard of "))


def _caller() -> FrameType:
    """Return the nearest frame outside of the PDK."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_pdk_file(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename.rpartition("/")[2]


def _text(part: Any) -> str:
    if part is None:
        return "nil"
    if isinstance(part, bool):
        return "true" if part else "false"
    if isinstance(part, bytes):
        return part.decode("utf-8", "backslashreplace")
    return str(part)


def _formatted(template: str, message: str, frame: FrameType, namespace: str | None) -> str:
    values = {
        "message": message,
        "file_src": _file(frame),
        "line_src": str(frame.f_lineno),
        "func_name": frame.f_code.co_name,
        "namespace": namespace or "?",
    }
    return _replaced(template, values)


def _replaced(template: str, values: Mapping[str, str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        return found.group() if found.group().startswith("%%") else values[found.group(1)]

    return _MODIFIER.sub(replaced, template)


log = Logger()
