"""The Lua machine of this process: made on first use, one for all plugins and functions.

Owns making it (LuaJIT 2.1, no access from Lua to Python objects but through `bridge`), where `require` looks, and
running handlers: at once on the thread that asks, until they wait. Every thread may use it; it runs one at a time.
"""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from pathlib import Path
from typing import Any, NoReturn, Protocol

import lupa.luajit21 as lupa

from headgate.errors import GatewayError, PluginLoadError
from headgate.lua import search
from headgate.lua.bridge import MARGIN_BYTES, NO_LIMIT, Bridge, MemoryLimit
from headgate.lua.entity_schema import EntitySchemas
from headgate.lua.errors import LuaBudgetError, LuaFaultError, LuaSyntaxError
from headgate.lua.values import Values, text_from_lua, text_to_lua
from headgate.pdk._call import current_call
from headgate.pdk._exit import Exit
from headgate.pdk._node import node

LIBRARY = Path(__file__).parent / "library"
BUDGET_MARK = "\0budget\0"

_log = logging.getLogger("headgate.plugin")
get_call = current_call.get


class BodyWait:
    """What a handler yields to have the request body read: `limit_bytes` of it at most."""

    __slots__ = ("limit_bytes",)

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes


class Kept(Protocol):
    """What knows how much functions may keep between calls; `make_room` is asked where there is more."""

    most_bytes: int

    def make_room(self, machine: "Vm", memory_bytes: int) -> None:
        """Make room. Raises: LuaBudgetError."""


class Waiting:
    """A run that waits: awaited, it goes on to its end; closed instead, it is given up and leaves nothing behind."""

    __slots__ = ("_machine", "_outcome")

    def __init__(self, machine: "Vm", outcome: tuple[Any, ...]) -> None:
        self._machine = machine
        self._outcome = outcome

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._machine.go_on(self._outcome).__await__()

    def close(self) -> None:
        """Give the run up."""
        _, identifier, awaited = self._outcome[:3]
        if inspect.iscoroutine(awaited):
            awaited.close()
        self._machine.drop(identifier)


def _deny(_object: Any, name: Any, _is_setting: bool) -> NoReturn:
    raise AttributeError(f"no access to {name!r}")


class Vm:
    """One LuaJIT with the gateway's libraries."""

    def __init__(self) -> None:
        self.runtime = lupa.LuaRuntime(
            encoding="latin-1",
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_filter=_deny,
            # A limit that is never reached has the allocator count, which sandboxed code needs.
            max_memory=NO_LIMIT,
        )
        self.globals = self.runtime.globals()
        self.globals["python"] = None
        self._use_library()
        self._require = self.globals["require"]
        self.host = self.require("headgate.host")
        self.core = self.require("headgate.core")
        self.entity_schemas = EntitySchemas(self)
        self.daos: dict[str, dict[str, str]] = {}
        """By plugin: the entities whose functions a module of the plugin replaces, with that module."""
        self.values = Values(self.runtime.table, self.host)
        self.memory = MemoryLimit(self.runtime)
        self.bridge = Bridge(self.values, self.host, self.memory)
        self._resume = self.core["resume"]
        self.drop = self.core["drop"]
        self._call = self.memory.around(self.core["call"])
        self.call_now = self.memory.around(self.core["call_now"])
        self._anchor = self.core["anchored"]
        self._new_request = self.core["new_request"]
        self._request_of = self.core["request_of"]
        self.plugin_name = self.core["name"]
        self.charge = self.core["charge"]
        self.core["connect"](
            self.table(
                request_table=self._request_table,
                spawn=self._spawn,
                wait_any=self._wait_any,
                cancel=self._cancel,
                begin_bounded=self.memory.begin,
                end_bounded=self.memory.end,
            )
        )
        # Imported here: they fill the machine, and need its type.
        from headgate.lua import environment

        environment.install(self)

    # -- modules ------------------------------------------------------------------------------------------------------

    def require(self, name: str) -> Any:
        """Return a Lua module, loading it on first use.

        Raises: LuaFaultError.
        """
        try:
            return self._require(name)
        except lupa.LuaError as error:
            raise LuaFaultError(lua_text(error)) from error

    def load_module(self, name: str) -> Any:
        """Return a module of a plugin, loading it on first use.

        Raises: PluginLoadError, with the texts of plugins that cannot be loaded.
        """
        try:
            return self.require(name)
        except (LuaFaultError, LuaSyntaxError) as error:
            head = f"error loading module '{name}':"
            text = str(error).removeprefix(head).lstrip()
            raise PluginLoadError(f"{head}\n{_without_frames_of_the_host(text)}") from error

    def forget(self, prefix: str) -> None:
        """Have modules below a name loaded anew."""
        loaded = self.globals["package"]["loaded"]
        for name in [key for key in loaded if key == prefix or str(key).startswith(f"{prefix}.")]:
            loaded[name] = None

    def find(self, name: str) -> Path | None:
        """Return the file that `require` would load for a name."""
        return _own(name) or search.find(name, search.paths())

    def is_own(self, name: Any) -> bool:
        """Tell whether a module is one of the gateway's library."""
        return isinstance(name, str) and _own(name) is not None

    def compile(self, source: str | bytes, chunk_name: str) -> Any:
        """Return the function that a Lua source is.

        Raises: LuaSyntaxError with the compiler's text; for precompiled code too.
        """
        raw = source if isinstance(source, bytes) else source.encode("utf-8", "surrogateescape")
        name = chunk_name.encode("utf-8", "surrogateescape")
        loaded = self._load(raw, name)
        if isinstance(loaded, tuple):
            raise LuaSyntaxError(text_from_lua(str(loaded[1])))
        return loaded

    def table(self, **members: Any) -> Any:
        """Return a new table."""
        table = self.runtime.table()
        for name, value in members.items():
            table[name] = value
        return table

    def anchor(self, value: Any) -> Any:
        """Return a Lua object for keeping.

        An object that Python got within a handler belongs to the handler's coroutine, and dies with it; whatever is
        used after the call that brought it must be anchored. Functions called from here belong to the machine itself,
        and so do their results. (Within a handler nothing may be read with `table[key]`: lupa then returns what else
        is on the stack.)
        """
        return self._anchor(value)

    def execute_library(self, name: str) -> Any:
        """Return what a file of the library returns, run anew."""
        return self.compile((LIBRARY / "headgate" / f"{name}.lua").read_bytes(), f"@headgate/{name}.lua")()

    def _use_library(self) -> None:
        self._load = self.runtime.eval("function(source, name) return load(source, name, 't') end")

        def loader(name: str, *_: Any) -> Any:
            # The library comes first, so that no file on a path can stand in for what the gateway itself runs on.
            own = _own(name)
            path = own or search.find(name, search.paths())
            if path is None:
                replacement = search.instead(name)
                if replacement is not None:
                    return f"\n\t{replacement}"
                return "\n\t" + "\n\t".join(f"no file '{text}'" for text in search.tried(name))
            shown = str(path.relative_to(LIBRARY)) if own is not None else str(path)
            loaded = self._load(path.read_bytes(), f"@{shown}".encode())
            if isinstance(loaded, tuple):
                return (None, f"error loading module '{name}':\n\t{loaded[1]}")
            return loaded

        self.globals["__find"] = loader
        self.runtime.execute(
            """
            local find, type, error = __find, type, error
            __find = nil
            local function searcher(name)
              local found, fault = find(name)
              if fault then error(fault, 0) end
              return found
            end
            package.loaders = { package.loaders[1], searcher }
            package.path, package.cpath = "", ""
            """
        )

    # -- running ------------------------------------------------------------------------------------------------------

    def handle(self, name: str, function: Any, handler: Any, conf: Any) -> Callable[[], Any]:
        """Return a Python function that runs `function(handler, conf)` as plugin `name`.

        It returns None when the handler is over, or a coroutine for the loop when it waits. It raises LuaFaultError
        for what Lua raised, and `Exit` when the handler ended the request.
        """
        start = self.start(name, function, handler, conf)
        settled = self.settled

        def run() -> Any:
            call = get_call()
            outcome = start() if call is None else start(call.exchange.lua_handle, call.lua)
            return None if outcome is None else settled(outcome)

        return run

    def start(self, name: str, function: Any, handler: Any, conf: Any) -> Any:
        """Return the Lua function behind `handle`: of the engine's handle of the request, and without one of its table;
        what it returns is for `settled`.
        """
        return self.core["handle"](name, function, handler, conf)

    def bounded_handle(self, name: str, function: Any, limits: Any, kept: "Kept") -> Callable[[], Any]:
        """Return as `handle` a Python function that runs a Lua function within limits: a table of `instructions`,
        `seconds` and `memory_bytes`. It raises LuaBudgetError when they are not enough.
        """
        start = self.core["handle_bounded"](name, function, limits)
        settled = self.settled
        memory_bytes = int(limits["memory_bytes"])
        memory = self.memory
        used, set_most, more_bytes = memory.used, memory.set_most, memory_bytes + MARGIN_BYTES

        # As `memory.begin` and `memory.end`, without their frames: this is each call of each function.
        def run() -> Any:
            used_bytes = used()
            if used_bytes > kept.most_bytes:
                kept.make_room(self, memory_bytes)
                used_bytes = used()
            try:
                memory.bytes = used_bytes + more_bytes
                set_most(memory.bytes)
                call = get_call()
                try:
                    outcome = start() if call is None else start(call.exchange.lua_handle, call.lua)
                finally:
                    memory.bytes = 0
                    set_most(NO_LIMIT)
            except lupa.LuaError as error:
                # Memory ran out where not even that could be told.
                memory.end()
                self.globals["collectgarbage"]()
                raise LuaBudgetError(f"the function took too much memory: {lua_text(error)}") from error
            return None if outcome is None else settled(outcome)

        return run

    def call(self, name: str | None, function: Any, *arguments: Any) -> Any:
        """Run a Lua function; returns its values as a tuple of Lua's, or something to await for them when it waits.

        Raises: as `handle`.
        """
        return self.settled(self._call(name, function, *arguments))

    def settled(self, outcome: tuple[Any, ...] | None) -> Any:
        """Return what came of running: values, or what goes on waiting."""
        while outcome is not None and outcome[0] == "wait" and outcome[2].__class__ is BodyWait:
            call = current_call.get()
            if call is None or call.suspend is None:
                break
            # In a greenlet, outside of the machine: nothing of it is on this stack.
            call.suspend(outcome[2].limit_bytes)
            outcome = self._resume(outcome[1], True)
        if outcome is not None and outcome[0] == "wait":
            return Waiting(self, outcome)
        return self._values(outcome)

    def _values(self, outcome: tuple[Any, ...] | None) -> Any:
        if outcome is None:
            return None
        kind = outcome[0]
        if kind == "done":
            return outcome[1:]
        if kind == "exit":
            raise Exit
        text, trace = text_from_lua(str(outcome[1])), text_from_lua(str(outcome[2]))
        if BUDGET_MARK in text:
            self.globals["collectgarbage"]()
            raise LuaBudgetError(text.replace(BUDGET_MARK, ""), trace)
        raise LuaFaultError(text, trace)

    async def go_on(self, outcome: tuple[Any, ...] | None) -> Any:
        """Wait for what a handler waits for and go on with it, to its end."""
        while outcome is not None and outcome[0] == "wait":
            identifier, awaited = outcome[1], outcome[2]
            try:
                if awaited.__class__ is BodyWait:
                    call = current_call.get()
                    assert call is not None
                    await call.exchange.read_request_body(awaited.limit_bytes)
                    values: Any = None
                else:
                    values = await awaited
            except GatewayError as error:
                outcome = self._resume(identifier, False, text_to_lua(str(error)))
            except BaseException:
                self.drop(identifier)
                raise
            else:
                outcome = (
                    self._resume(identifier, True, *values)
                    if values.__class__ is tuple
                    else self._resume(identifier, True, values)
                )
        return self._values(outcome)

    # -- what core.lua asks for ---------------------------------------------------------------------------------------

    def _request_table(self) -> Any:
        """Return the table that lives as long as the request; None outside of one."""
        call = current_call.get()
        if call is None:
            return None
        # At the start of a worker there is no exchange.
        handle = getattr(call.exchange, "lua_handle", None)
        if handle is not None:
            return self._request_of(handle)
        if call.lua is None:
            call.lua = self._new_request()
        return call.lua

    def _spawn(self, identifier: int, awaited: Any, settled: Any) -> Any:
        """Go on with a light thread as a task of the loop; `settled` gets its outcome."""

        settled = self.anchor(settled)

        async def run() -> None:
            try:
                values = await self.go_on(("wait", identifier, awaited))
            except Exit:
                settled("exit")
            except Exception as error:
                settled("error", text_to_lua(str(error)))
            else:
                settled("done", *(values or ()))

        try:
            return _start_task(run())
        except RuntimeError:
            Waiting(self, ("wait", identifier, awaited)).close()
            raise

    async def _wait_for(self, tasks: tuple[Any, ...]) -> None:
        await asyncio.wait([asyncio.wrap_future(task) for task in tasks], return_when=asyncio.FIRST_COMPLETED)

    def _wait_any(self, *tasks: Any) -> Any:
        return self._wait_for(tasks)

    def _cancel(self, task: Any) -> None:
        if task is not None:
            task.cancel()


def _own(name: str) -> Path | None:
    """Return the library's file of a module.

    Of Penlight it has a part only, which a whole one on the path replaces: except for what needs ``lfs``, native there.
    """
    if name.startswith("pl.") and name not in ("pl.path", "pl.file") and search.find("pl.compat", search.paths()):
        return None
    return search.find(name, [f"{LIBRARY}/?.lua", f"{LIBRARY}/?/init.lua"])


def _without_frames_of_the_host(text: str) -> str:
    """Return a text without the lines of its trace that are no Lua file's; without the trace when none is left."""
    message, mark, trace = text.partition("\nstack traceback:\n")
    frames = [line for line in trace.splitlines() if not line.startswith(("\t[C]: ", '\t[string "<python>"]'))]
    return message + mark + "\n".join(frames) if frames else message


def _start_task(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the worker's loop in the present context; returns a concurrent future."""
    try:
        loop = node.loop or asyncio.get_running_loop()
        return copy_context().run(asyncio.run_coroutine_threadsafe, coroutine, loop)
    except RuntimeError:
        # There is no loop, or it is closed: the worker is ending, or none runs yet.
        coroutine.close()
        raise


def on_loop(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Run an asynchronous function on the worker's loop, from any thread."""
    returned = function(*arguments)
    if inspect.iscoroutine(returned):
        return _start_task(returned)
    return returned


def lua_text(error: BaseException) -> str:
    """Return the text of an error that left the machine."""
    return text_from_lua(str(error))


@functools.cache
def vm() -> Vm:
    """Return the machine of this process."""
    return Vm()
