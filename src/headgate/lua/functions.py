"""Lua code that comes with the configuration: checked when it is stored, run within the mode of `untrusted_lua`.

Owns the environments of the modes (their lists of names are below), the budget of a call, and the running of lists of
chunks (`FunctionSet`) and of single values (`LuaValue`). What a chunk sees is laid out by
`library/headgate/sandbox.lua`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from weakref import WeakSet

from headgate.lua.chunks import in_pieces
from headgate.lua.errors import LuaBudgetError, LuaFaultError, LuaSyntaxError
from headgate.lua.limits import MOST_KEPT_CALLS, MOST_SECONDS, instructions_of, memory_of
from headgate.lua.vm import Vm, vm
from headgate.pdk._node import node
from headgate.phases import Phase

OFF = "loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'"

_KONG = """
version version_num default_workspace configuration ctx.shared ctx.plugin
client.authenticate client.authenticate_consumer_group_by_consumer_id client.get_consumer client.get_consumer_group
client.get_consumer_groups client.get_credential client.get_forwarded_ip client.get_forwarded_port client.get_ip
client.get_port client.get_protocol client.load_consumer client.set_authenticated_consumer_group
client.set_authenticated_consumer_groups client.set_token client.get_token client.get_jwt_token_header
client.get_jwt_token_payload cluster.get_id ip.is_trusted plugin.get_id nginx.get_subsystem node.get_hostname
node.get_id jwe.decode jwe.decrypt jwe.encrypt
log.() log.alert log.crit log.debug log.emerg log.err log.info log.inspect log.notice log.warn log.serialize
log.set_serialize_value log.deprecation router.get_route router.get_service
request.get_body request.get_forwarded_host request.get_forwarded_path request.get_forwarded_port
request.get_forwarded_prefix request.get_forwarded_scheme request.get_header request.get_headers request.get_host
request.get_http_version request.get_id request.get_method request.get_path request.get_path_with_query
request.get_port request.get_query request.get_query_arg request.get_raw_body request.get_raw_forwarded_path
request.get_raw_path request.get_raw_query request.get_scheme request.get_start_time request.get_uri_captures
response.add_header response.clear_header response.error response.exit response.get_header response.get_headers
response.get_raw_body response.get_source response.get_status response.set_header response.set_headers
response.set_raw_body response.set_status
service.request.add_header service.request.clear_header service.request.clear_query_arg
service.request.enable_buffering service.request.set_authentication_headers service.request.set_body
service.request.set_header service.request.set_headers service.request.set_method service.request.set_path
service.request.set_query service.request.set_raw_body service.request.set_raw_query service.request.set_scheme
service.response.get_body service.response.get_header service.response.get_headers service.response.get_raw_body
service.response.get_status table.clear table.merge table.new telemetry.log
tracing.active_span tracing.get_root_span tracing.get_sampling_decision tracing.get_spans tracing.process_span
tracing.set_active_span tracing.set_should_sample tracing.start_span
"""
_NGX = """
null arg ctx =ctx var header headers_sent is_subrequest status =status
config.nginx_version config.ngx_lua_version config.subsystem
cookie_time crc32_long crc32_short decode_args decode_base64 encode_args encode_base64 eof escape_uri exit flush
get_phase hmac_sha1 http_time localtime log md5 md5_bin now parse_http_time print quote_sql_str redirect say
send_headers sha1_bin sleep time today unescape_uri update_time utctime re.find re.gmatch re.gsub re.match re.sub
req.append_body req.clear_header req.discard_body req.finish_body req.get_body_data req.get_headers req.get_method
req.get_post_args req.get_uri_args req.http_version req.init_body req.is_internal req.raw_header req.read_body
req.set_body_data req.set_header req.set_method req.set_uri req.set_uri_args req.start_time
resp.get_headers worker.count worker.exiting worker.id worker.pid worker.pids
"""
_MODULES = """
bit string.buffer table.clear table.clone table.isarray table.isempty table.new table.nkeys
cjson cjson.safe resty.md5 resty.random resty.sha1 resty.sha224 resty.sha256 resty.sha384 resty.sha512 resty.string
kong.constants kong.meta kong.tools.cjson kong.tools.gzip kong.tools.ip kong.tools.rand kong.tools.sha256
kong.tools.string kong.tools.table kong.tools.time kong.tools.timestamp kong.tools.uri kong.tools.utils
kong.tools.uuid ngx.base64 ngx.re ngx.req ngx.resp ngx.semaphore resty.lock resty.lrucache resty.lrucache.pureffi
resty.openssl resty.openssl.bn resty.openssl.cipher resty.openssl.digest resty.openssl.hmac resty.openssl.kdf
resty.openssl.mac resty.openssl.pkey resty.openssl.rand resty.openssl.version resty.openssl.x509
pl.stringx pl.tablex resty.cookie resty.jit-uuid resty.jwt resty.hmac socket.url
"""
_KONG_LAX = """
client.get_aws_vpce_id
cache client.tls dns.resolve dns.toip nginx.get_statistics node.get_memory_stats service.set_retries
service.set_target service.set_target_retry_callback service.set_timeouts service.set_tls_cert_key
service.set_tls_verify service.set_tls_verify_depth service.set_tls_verify_store service.set_upstream
vault.get vault.is_reference vault.parse_reference vault.try vault.update websocket
"""
_NGX_LAX = """
config.debug location.capture location.capture_multi req.get_body_file req.set_body_file thread.kill thread.spawn
thread.wait socket.connect socket.stream socket.tcp socket.udp
"""
_MODULES_LAX = "resty.redis resty.http"

LISTS: Mapping[str, Mapping[str, str]] = {
    "strict": {"kong": _KONG, "ngx": _NGX, "modules": _MODULES},
    "lax": {"kong": _KONG + _KONG_LAX, "ngx": _NGX + _NGX_LAX, "modules": _MODULES + _MODULES_LAX},
}
"""What the two modes of lists have, as the sandbox reference lists it, without what this gateway does not have."""


_BODY_FILTER = Phase.BODY_FILTER.label


def mode() -> str:
    """Return the setting `untrusted_lua`."""
    return str(node.configuration.get("untrusted_lua") or "sandbox")


def syntax_fault(source: str) -> str | None:
    """Return the compiler's text for a source that is no Lua; None when it is."""
    try:
        vm().compile(source, source)
    except LuaSyntaxError as error:
        return str(error)
    return None


@cache
def _sandbox() -> tuple[Vm, Any, Any, Any]:
    """Return the machine, the sandbox's functions, what makes environments, and the limits; None in the mode on."""
    machine = vm()
    functions = machine.require("headgate.sandbox")
    configuration = node.configuration
    requires = machine.values.to_lua(list(configuration.get("untrusted_lua_sandbox_requires") or ()))
    extra = machine.values.to_lua(list(configuration.get("untrusted_lua_sandbox_environment") or ()))
    lists = machine.values.to_lua(LISTS.get(mode(), {}))
    environments = functions["environments"](mode(), requires, extra, lists)
    memory = configuration.get("untrusted_lua_memory")
    limits = None
    if mode() != "on":
        limits = machine.table(
            instructions=instructions_of(configuration.get("untrusted_lua_instructions")),
            seconds=MOST_SECONDS,
            memory_bytes=memory_of(memory),
        )
    return machine, functions, environments, limits


class _Kept:
    """What all functions of the worker keep between calls, which no call's own limit sees.

    Past the limit all of them start anew, as after a change of the configuration: whose it is cannot be told.
    """

    def __init__(self) -> None:
        self._holders: WeakSet[FunctionSet | LuaValue] = WeakSet()
        self.most_bytes = 0

    def add(self, holder: "FunctionSet | LuaValue") -> None:
        """Remember who has compiled functions."""
        self._holders.add(holder)

    def make_room(self, machine: Vm, memory_bytes: int) -> None:
        """Collect; where that is not enough, have all functions start anew. Raises: LuaBudgetError."""
        used, collect = machine.memory.used, machine.globals["collectgarbage"]
        collect()
        most_bytes = MOST_KEPT_CALLS * memory_bytes
        if self.most_bytes == 0:
            self.most_bytes = used() + most_bytes
        if used() <= self.most_bytes:
            return
        for holder in self._holders:
            holder.forget()
        # The one that is asked for is still held here: the next one sees what is left.
        self.most_bytes = 0
        raise LuaBudgetError(
            f"functions have kept more than {most_bytes} bytes of memory between calls; all of them start anew"
        )


_kept = _Kept()


class FunctionSet:
    """The functions of one plugin instance: chunks by phase, compiled when any phase first runs.

    `name` is the plugin's, for the log.
    """

    def __init__(self, name: str, sources: Mapping[str, Sequence[str]]) -> None:
        self._name = name
        self._sources = {phase: list(chunks) for phase, chunks in sources.items() if chunks}
        self._starts: dict[str, Callable[[], Any]] | None = None

    def forget(self) -> None:
        """Let the functions be compiled anew, without what they have kept."""
        self._starts = None

    @property
    def phases(self) -> frozenset[str]:
        """The phases that have chunks."""
        return frozenset(self._sources)

    def run(self, phase: str) -> Any:
        """Run the chunks of a phase; returns None, or a coroutine when they wait.

        Raises: LuaFaultError.
        """
        starts = self._starts
        if starts is None:
            starts = self._starts = self._compiled()
        return in_pieces(starts[phase]) if phase == _BODY_FILTER else starts[phase]()

    def _compiled(self) -> dict[str, Callable[[], Any]]:
        if mode() == "off":
            raise LuaFaultError(OFF)
        machine, functions, environments, limits = _sandbox()
        starts: dict[str, Callable[[], Any]] = {}
        for phase, chunks in self._sources.items():
            elements = machine.runtime.table()
            for position, chunk in enumerate(chunks, 1):
                element = functions["element"](machine.values.to_lua(chunk), environments(), limits is None)
                if isinstance(element, tuple):
                    raise LuaFaultError(str(element[1]))
                elements[position] = element
            run = functions["list"](elements)
            if limits is None:
                starts[phase] = machine.handle(self._name, run, None, None)
            else:
                starts[phase] = machine.bounded_handle(self._name, run, limits, _kept)
        _kept.add(self)
        return starts


class LuaValue:
    """A chunk whose value is wanted each time it runs; it must not wait."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._start: Callable[[], Any] | None = None
        self._kept: list[Any] = []

    def forget(self) -> None:
        """Let the chunk be compiled anew."""
        self._start = None

    def get(self) -> Any:
        """Return the value of a run, as plain data.

        Raises: LuaFaultError.
        """
        if self._start is None:
            self._start = self._compiled()
        self._kept.clear()
        waiting = self._start()
        if hasattr(waiting, "close"):
            waiting.close()
            raise LuaFaultError("code for a value cannot wait")
        return self._kept[0] if self._kept else None

    def _compiled(self) -> Callable[[], Any]:
        if mode() == "off":
            raise LuaFaultError(OFF)
        machine, functions, environments, limits = _sandbox()
        chunk = functions["expression"](machine.values.to_lua(self._source), environments(), limits is None)
        if isinstance(chunk, tuple):
            raise LuaFaultError(str(chunk[1]))
        from_lua = machine.values.from_lua

        def keep(value: Any = None, *_: Any) -> None:
            self._kept.append(from_lua(value))

        run = machine.runtime.eval("function(chunk, keep) return function() keep(chunk()) end end")(chunk, keep)
        if limits is None:
            return machine.handle("custom fields", run, None, None)
        _kept.add(self)
        return machine.bounded_handle("custom fields", run, limits, _kept)
