"""docs/pdk.md: every function of the PDK from its signature and docstring, the phases included."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from headgate.pdk import kong
from headgate.pdk.db import EntityTable
from headgate.pdk.shared_dict import SharedDict

MODULES: dict[str, Any] = {
    "kong.request": kong.request,
    "kong.client": kong.client,
    "kong.client.tls": kong.client.tls,
    "kong.service": kong.service,
    "kong.service.request": kong.service.request,
    "kong.service.response": kong.service.response,
    "kong.response": kong.response,
    "kong.router": kong.router,
    "kong.ctx": kong.ctx,
    "kong.log": kong.log,
    "kong.log.inspect": kong.log.inspect,
    "kong.log.deprecation": kong.log.deprecation,
    "kong.ip": kong.ip,
    "kong.plugin": kong.plugin,
    "kong.configuration": kong.configuration,
    "kong.node": kong.node,
    "kong.nginx": kong.nginx,
    "kong.cluster": kong.cluster,
    "kong.vault": kong.vault,
    "kong.cache": kong.cache,
    "kong.core_cache": kong.core_cache,
    "kong.db": kong.db,
    "kong.db.<entity>": EntityTable("consumers"),
    "kong.shared_dict(name)": SharedDict("name"),
    "kong.timer": kong.timer,
    "kong.worker_events": kong.worker_events,
    "kong.cluster_events": kong.cluster_events,
    "kong.dns": kong.dns,
    "kong.jwe": kong.jwe,
    "kong.tracing": kong.tracing,
    "kong.telemetry": kong.telemetry,
    "kong.websocket.client": kong.websocket.client,
    "kong.websocket.upstream": kong.websocket.upstream,
    "kong.table": kong.table,
}

_INTRODUCTION = """# The plugin development kit

What a plugin can call, by module. `from headgate import kong` is all that is needed. Names are those of Kong; where
Kong returns `nil` and a text, an exception with that text is raised here. A function that is called in a phase it is
not made for raises `PhaseError`; arguments are checked after the phase. Functions marked `await` are for `async def`
handlers, timers and `init_worker`.

This page is made from the code by `make docs`.
"""

_QUALIFIER = re.compile(r"(?<![\w.'\"])(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])")
_SECTION = re.compile(r"(Args|Returns|Raises|Phases|Cost|Source|Returns and raises)(?: \(.*?\))?:")
_INTERNAL = {("Logger", "current_namespace"), ("Logger", "write")}
_LISTED = {"kong.core_cache": "The functions of `kong.cache`, with keys of its own."}


def pdk_page() -> str:
    """Return the page."""
    lines = [_INTRODUCTION]
    for path, module in MODULES.items():
        lines += [f"## {path}", ""]
        if path in _LISTED:
            lines += [_LISTED[path], ""]
            continue
        lines += [*_text(inspect.cleandoc(type(module).__doc__ or ""), drop=f"`{path}`"), ""]
        for name, function in _functions(type(module)):
            lines += [f"### `{_shown(path, name, function)}`", "", *_text(inspect.getdoc(function) or ""), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _functions(module: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the public functions in the order of their definition."""
    for name, member in vars(module).items():
        if (name.startswith("_") and name != "__call__") or (module.__name__, name) in _INTERNAL:
            continue
        if inspect.isfunction(member) or isinstance(member, property):
            yield name, member


def _shown(path: str, name: str, function: Any) -> str:
    """Return a call as it is written, with short names of types."""
    if isinstance(function, property):
        return f"{path}.{name}"
    signature = inspect.signature(function)
    _self, *parameters = signature.parameters.values()
    short = _QUALIFIER.sub("", str(signature.replace(parameters=parameters))).replace("'", "").replace('"', "")
    waits = "await " if inspect.iscoroutinefunction(function) else ""
    called = path if name == "__call__" else f"{path}.{name}"
    return f"{waits}{called}{short}"


def _text(docstring: str, drop: str = "") -> list[str]:
    """Return a docstring as Markdown: sections in bold, their continuation lines joined to paragraphs."""
    lines: list[str] = []
    for line in docstring.splitlines():
        stripped = line.strip()
        found = _SECTION.match(stripped)
        if found is not None:
            lines += ["", f"**{found[0][:-1]}:**{stripped[found.end() :]}"]
        else:
            lines.append(stripped)
    text = "\n".join(lines).removeprefix(f"{drop}.").removeprefix(f"{drop}; ").removeprefix(f"{drop}: ").strip()
    return [text[:1].upper() + text[1:]] if text else []
