"""`run_phase`: one phase of one handler, and what came of it."""

import asyncio
import atexit
import inspect
import logging
import shutil
import tempfile
import threading
import uuid
from collections.abc import Awaitable, Coroutine, Iterable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from typing import Any

from headgate.pdk import shared_dict
from headgate.pdk._call import Call, current_call
from headgate.pdk._exit import Exit
from headgate.pdk._headers import HeaderMap, header_map
from headgate.pdk._namespace import Namespace
from headgate.pdk._node import node
from headgate.pdk.plugin import InstanceInfo, Plugin, config_model_of, remember_instance
from headgate.phases import STREAM_LOG, Phase
from headgate.testing.exchange import MemoryExchange, Request, Upstream
from headgate.testing.plan import MemoryPlan, MemorySnapshot
from headgate.testing.stream import MemoryStream, Stream

_FRAMES = Phase.WS_CLIENT_FRAME | Phase.WS_UPSTREAM_FRAME
_AFTER_PROXYING = _FRAMES | Phase.WS_CLOSE | Phase.RESPONSE | Phase.HEADER_FILTER | Phase.BODY_FILTER | Phase.LOG
_WITHOUT_CONFIG = (Phase.INIT_WORKER, Phase.CONFIGURE)
_NO_HEADER_LIMIT = 10**6


@dataclass(frozen=True)
class LogLine:
    """One line of `kong.log`."""

    level: str
    message: str


@dataclass(frozen=True)
class Sent:
    """The request as it would go upstream now; None where nothing was changed."""

    method: str
    path: str
    query: str | None
    headers: HeaderMap
    body: bytes | None
    scheme: str | None
    target: tuple[str, int] | None
    upstream: str | None
    retries: int | None
    timeouts_ms: tuple[int, int, int] | None
    is_buffered: bool


@dataclass(frozen=True)
class Frame:
    """One WebSocket message, for the frame phases; `status` of a close frame, whose data is the reason."""

    data: bytes | str
    type: str = "text"
    status: int | None = None


@dataclass(frozen=True)
class Result:
    """What a phase left behind.

    `status`, `headers`, `body`: the response to the client (0, empty before there is one). `is_exit`: the handler
    answered
    through `kong.response.exit` or `error`. `exchange` can be given to the next `run_phase` to go on with the request.
    `returned` is what the handler returned. `frame`: what is passed on of the message of a frame phase, None when it
    was dropped. `closed`: (status, reason) for the client and for the upstream when the handler closed the connection.
    `payload_limits`: what `set_max_payload_size` set, by side.
    """

    status: int
    headers: HeaderMap
    body: bytes
    is_exit: bool
    upstream: Sent
    logs: list[LogLine]
    ctx: Namespace
    shared: Namespace
    consumer: dict[str, Any] | None
    credential: dict[str, Any] | None
    consumer_groups: list[dict[str, Any]] | None
    exchange: MemoryExchange
    returned: Any
    frame: Frame | None = None
    closed: tuple[tuple[int, bytes], tuple[int, bytes]] | None = None
    payload_limits: Mapping[str, int] = field(default_factory=dict)

    def messages(self, level: str | None = None) -> list[str]:
        """Return the texts logged, of one level or all."""
        return [line.message for line in self.logs if level in (None, line.level)]


def run_phase(
    handler: type[Plugin[Any]] | Plugin[Any],
    phase: str,
    *,
    config: Mapping[str, Any] | Any = None,
    request: Request | None = None,
    response: Upstream | None = None,
    name: str | None = None,
    instance_id: str | None = None,
    consumer: dict[str, Any] | None = None,
    credential: dict[str, Any] | None = None,
    consumer_groups: list[dict[str, Any]] | None = None,
    route: Mapping[str, Any] | None = None,
    service: Mapping[str, Any] | None = None,
    entities: Mapping[str, Iterable[dict[str, Any]]] | None = None,
    shared: Mapping[str, Any] | None = None,
    chunks: list[bytes] | None = None,
    frame: Frame | None = None,
    exchange: MemoryExchange | None = None,
    stream: Stream | None = None,
) -> Result:
    """Run one phase of a plugin and return what it did.

    Args:
        handler: the class or an object of it. phase: e.g. `access`. name: the plugin's (default: from its module).
        config: a mapping, checked by the plugin's schema, or a configuration object. For `configure` a list of them:
            the handler gets None without one.
        request: the client's; response: the upstream's (phases after proxying get an empty 200 unless given).
        consumer, credential, consumer_groups: as if authenticated before.
        route, service: entities; a route for all paths exists unless an exchange is given. entities: for `kong.db`.
        shared: start values of `kong.ctx.shared`. chunks: of the response body, for body_filter.
        frame: the message, for `ws_client_frame` and `ws_upstream_frame` (an empty text unless given).
        exchange: of an earlier result, to run the next phase of the same request.
        stream: a TCP, TLS or UDP stream instead of a request (always so in preread); for log it has the byte counts.

    Raises: whatever the handler raises, `Exit` apart; headgate.errors.SchemaViolation for a wrong configuration.
    """
    bit = Phase[phase.upper()]
    handler_object = handler() if isinstance(handler, type) else handler
    confs = _configurations(type(handler_object), config) if bit is Phase.CONFIGURE else None
    conf = None if bit in _WITHOUT_CONFIG else _configuration(type(handler_object), config)
    instance = InstanceInfo(
        id=instance_id or str(uuid.uuid4()),
        name=name or _plugin_name(type(handler_object)),
        instance_name=None,
        route_id=None,
        service_id=None,
        consumer_id=None,
        consumer_group_id=None,
        sequence=1,
    )
    for position, each in enumerate(confs or ([] if conf is None else [conf])):
        remember_instance(each, replace(instance, id=str(uuid.uuid4())) if position else instance)
    if stream is None and bit is Phase.PREREAD and exchange is None:
        stream = Stream()
    if exchange is None and stream is not None:
        exchange = _stream(stream, route, service, entities or {})
    elif exchange is None:
        exchange = _exchange(bit, request or Request(), response, route, service, entities or {})
    elif response is not None:
        exchange.receive(response)
    call: Call = exchange.state or Call(exchange, int(bit))
    exchange.state = call
    exchange.phase = call.phase = int(bit)
    if bit & _FRAMES:
        _receive_frame(exchange, frame or Frame(""))
    if bit is Phase.LOG and exchange.stream_protocol is not None:
        call.phase = STREAM_LOG
    call.instance = instance
    call.suspend = exchange.read_body_now
    if consumer is not None or credential is not None or consumer_groups is not None:
        call.consumer, call.credential, call.consumer_groups = consumer, credential, consumer_groups
    if shared:
        call.shared = call.shared or Namespace()
        for key, value in shared.items():
            call.shared[key] = value

    _share_memory()
    handle = getattr(handler_object, phase)
    adapt = getattr(handler_object, "adapt_config", None)
    if bit is Phase.CONFIGURE:
        given = confs if adapt is None or confs is None else [adapt(each, instance) for each in confs]
        arguments: tuple[Any, ...] = (given,)
    else:
        arguments = () if bit is Phase.INIT_WORKER else (conf if adapt is None else adapt(conf, instance),)
    with _Capture() as capture:
        if bit is Phase.BODY_FILTER:
            returned, is_exit = _run_chunks(handle, arguments, call, exchange, chunks)
        else:
            returned, is_exit = _run(handle, arguments, call)
    exchange.end_phase()
    return _result(exchange, call, capture.lines, is_exit, returned)


def _exchange(
    bit: Phase,
    request: Request,
    response: Upstream | None,
    route: Mapping[str, Any] | None,
    service: Mapping[str, Any] | None,
    entities: Mapping[str, Iterable[dict[str, Any]]],
) -> MemoryExchange:
    plan = MemoryPlan(MemorySnapshot(entities), route, service)
    node.snapshot = plan.snapshot
    if response is None and bit & _AFTER_PROXYING:
        response = Upstream(101) if bit & (_FRAMES | Phase.WS_CLOSE) else Upstream()
    exchange = MemoryExchange(request, response, plan, None if bit in (Phase.REWRITE, *_WITHOUT_CONFIG) else 0)
    if bit is Phase.RESPONSE:
        exchange.enable_buffering()
    return exchange


def _receive_frame(exchange: MemoryExchange, frame: Frame) -> None:
    data = frame.data.encode() if isinstance(frame.data, str) else frame.data
    exchange.message = (data, frame.type, frame.status)
    exchange.is_message_dropped = False


def _passed_on(exchange: MemoryExchange) -> Frame | None:
    if exchange.message is None or exchange.is_message_dropped or exchange.farewells is not None:
        return None
    return Frame(*exchange.message)


def _stream(
    stream: Stream,
    route: Mapping[str, Any] | None,
    service: Mapping[str, Any] | None,
    entities: Mapping[str, Iterable[dict[str, Any]]],
) -> MemoryStream:
    of_streams = {"protocols": [stream.protocol], "paths": None} | dict(route or {})
    plan = MemoryPlan(MemorySnapshot(entities), of_streams, service)
    node.snapshot = plan.snapshot
    return MemoryStream(stream, plan, 0)


def _run(handle: Any, arguments: tuple[Any, ...], call: Call) -> tuple[Any, bool]:
    """Call a handler the way the runner does; return (what it returned, whether it answered)."""
    token = current_call.set(call)
    try:
        returned = handle(*arguments)
        if inspect.isawaitable(returned):
            call.suspend = None
            returned = _run_coroutine(_awaited(returned))
        return returned, False
    except Exit:
        return None, True
    finally:
        current_call.reset(token)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A test that runs in a loop of its own: the handler gets another one, in a thread with a copy of this context.
    outcome: list[Any] = []
    context = copy_context()

    def run() -> None:
        try:
            outcome.extend((context.run(asyncio.run, coroutine), None))
        except BaseException as error:
            outcome.extend((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    returned, error = outcome
    if error is not None:
        raise error
    return returned


def _run_chunks(
    handle: Any, arguments: tuple[Any, ...], call: Call, exchange: MemoryExchange, chunks: list[bytes] | None
) -> tuple[Any, bool]:
    """Run body_filter for each chunk, the last one with the end mark; what went out becomes the response body."""
    pieces = chunks if chunks is not None else [exchange.response_body]
    sent = b""
    returned = None
    for position, piece in enumerate(pieces):
        exchange.set_response_chunk(piece, position == len(pieces) - 1)
        returned, _ = _run(handle, arguments, call)
        chunk, is_last = exchange.response_chunk()
        sent += chunk
        if is_last:
            break
    exchange.response_body = sent
    return returned, False


def _result(exchange: MemoryExchange, call: Call, logs: list[LogLine], is_exit: bool, returned: Any) -> Result:
    token = current_call.set(call)
    try:
        namespaces = call.plugin_namespaces or {}
        ctx = namespaces.get(call.instance.name) if call.instance is not None else None
    finally:
        current_call.reset(token)
    return Result(
        status=exchange.response_status,
        headers=header_map(exchange.response_headers(), _NO_HEADER_LIMIT),
        body=exchange.response_body,
        is_exit=is_exit,
        upstream=Sent(
            method=exchange.method,
            path=exchange.upstream_path or exchange.path,
            query=exchange.query,
            headers=header_map(exchange.request_headers(), _NO_HEADER_LIMIT),
            body=exchange.request_body(),
            scheme=exchange.upstream_scheme,
            target=exchange.upstream_target,
            upstream=exchange.upstream_name,
            retries=exchange.upstream_retries,
            timeouts_ms=exchange.upstream_timeouts_ms,
            is_buffered=exchange.is_buffered,
        ),
        logs=logs,
        ctx=ctx or Namespace(),
        shared=call.shared or Namespace(),
        consumer=call.consumer,
        credential=call.credential,
        consumer_groups=call.consumer_groups,
        exchange=exchange,
        returned=returned,
        frame=_passed_on(exchange),
        closed=exchange.farewells,
        payload_limits=dict(exchange.websocket_limits),
    )


def _share_memory() -> None:
    """Give `kong.cache` and `kong.shared_dict` a memory of this process, unless the test made one."""
    if shared_dict.is_configured():
        return
    directory = tempfile.mkdtemp(prefix="headgate-testing-")
    shared_dict.configure(directory, shared_dict.MINIMUM_MAP_SIZE_BYTES)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)


def _configurations(handler: type[Any], config: Any) -> list[Any] | None:
    """Return what `configure` gets: all configurations, None when there are none."""
    given = [] if config is None else list(config) if isinstance(config, (list, tuple)) else [config]
    return [_configuration(handler, each) for each in given] or None


def _configuration(handler: type[Any], config: Any) -> Any:
    if config is not None and not isinstance(config, Mapping):
        return config
    from headgate.schema import PluginConfig, plain, validate
    from headgate.schema.stored import read, without_transient, written

    model = config_model_of(handler)
    if model is None:
        return config
    checked = validate(model, dict(config or {}))
    if not (issubclass(model, PluginConfig) and model.transformations):
        return checked
    # As a gateway does it: what is stored comes between what was written and what the handler gets.
    entity = written(model, {"config": plain(checked)}, {"config": dict(config or {})})
    entity = read(model, {"config": without_transient(model, entity["config"])})
    return validate(model, entity["config"], is_stored=True)


def _plugin_name(handler: type[Any]) -> str:
    *_, parent, last = ("plugin", *handler.__module__.split("."))
    return (parent if last == "handler" else last).replace("_", "-")


class _Capture(logging.Handler):
    """Collects the lines of `kong.log`, at every level, while it is entered."""

    def __init__(self) -> None:
        super().__init__(level=1)
        self.lines: list[LogLine] = []
        self._logger = logging.getLogger("headgate.plugin")

    def __enter__(self) -> "_Capture":
        self._level = self._logger.level
        self._logger.addHandler(self)
        self._logger.setLevel(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        names = {25: "notice", 30: "warn", 40: "err", 50: "crit", 60: "alert", 70: "emerg"}
        self.lines.append(LogLine(names.get(record.levelno, record.levelname.lower()), record.getMessage()))
