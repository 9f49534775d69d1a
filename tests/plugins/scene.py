"""One request before a bundled plugin: what came in, and what the handler made of it.

A thin layer over `headgate.testing`, in the words of the plugins' tests.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headgate.pdk import InstanceInfo, Plugin, configure_node
from headgate.pdk.plugin import config_model_of, remember_instance
from headgate.schema import validate
from headgate.testing import MemoryExchange, Request, Result, Upstream, run_phase
from headgate.testing.plan import MemoryPlan, MemorySnapshot

Lines = list[tuple[str, str]]


class Scene:
    """A request on its way through one instance of a plugin; each phase method plays on and returns the scene."""

    def __init__(
        self,
        plugin: type[Plugin[Any]],
        config: Mapping[str, Any],
        *,
        handler: Plugin[Any] | None = None,
        method: str = "GET",
        target: str = "/",
        headers: Lines | None = None,
        body: bytes = b"",
        ip: str = "127.0.0.1",
        entities: Mapping[str, list[dict[str, Any]]] | None = None,
        consumer: dict[str, Any] | None = None,
        credential: dict[str, Any] | None = None,
        service: dict[str, Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        scope: Mapping[str, str] | None = None,
        uri_captures: tuple[list[str | None], dict[str, str]] | None = None,
        configuration: Mapping[str, Any] | None = None,
        response_headers: Lines | None = None,
        response_chunks: list[bytes] | None = None,
    ) -> None:
        self._handler = handler if handler is not None else plugin()
        model = config_model_of(plugin)
        assert model is not None
        self.config = validate(model, dict(config))
        request = Request(
            method=method, path=target, headers=headers or [], body=body, client_ip=ip, is_body_read=False
        )
        plan = MemoryPlan(MemorySnapshot(entities or {}), None, service)
        self.exchange = MemoryExchange(request, None, plan, 0)
        self.exchange.captures = uri_captures
        self._who: dict[str, Any] = {"consumer": consumer, "credential": credential, "shared": shared}
        self._configuration = configuration
        self._response_headers = response_headers or []
        self._response_chunks = response_chunks
        self._result: Result | None = None
        self._set_scope(scope or {})

    def access(self) -> "Scene":
        return self._play("access")

    def header_filter(self) -> "Scene":
        return self._play("header_filter", response=Upstream(headers=self._response_headers))

    def body_filter(self) -> "Scene":
        return self._play("body_filter", chunks=self._response_chunks)

    def log(self) -> "Scene":
        return self._play("log")

    @property
    def result(self) -> Result:
        assert self._result is not None, "no phase was played"
        return self._result

    @property
    def answer(self) -> Result | None:
        """The handler's own answer, None when the request goes on."""
        return self.result if self.result.is_exit else None

    @property
    def refusal(self) -> tuple[int, str] | None:
        """Status and message of the handler's own answer."""
        if self.answer is None:
            return None
        return self.result.status, json.loads(self.result.body)["message"]

    @property
    def status(self) -> int:
        return self.result.status

    @property
    def answer_body(self) -> bytes:
        return self.result.body

    def answered(self, name: str) -> list[str]:
        """Values of a header of the response to the client."""
        return _values(self.result.headers, name)

    @property
    def client_headers(self) -> dict[str, Any]:
        """Headers kept for the response to the client."""
        return dict(self.result.headers)

    @property
    def response_headers(self) -> Lines:
        """Lines of the response's headers, names in lower case."""
        return [(name.lower(), value) for name, value in self.exchange.response_headers()]

    @property
    def response_body(self) -> bytes:
        return self.result.body

    def sent(self, name: str) -> list[str]:
        """Values of a header of the request that goes upstream."""
        return [value for header, value in self.exchange.request_headers() if header.lower() == name.lower()]

    @property
    def upstream_headers(self) -> Lines:
        return self.exchange.request_headers()

    @property
    def upstream_path(self) -> str:
        return self.result.upstream.path

    @property
    def method(self) -> str:
        return self.result.upstream.method

    @property
    def query(self) -> str | None:
        return self.result.upstream.query

    @property
    def body(self) -> bytes:
        """The request body that goes upstream, read by the plugin or not."""
        self.exchange.read_body_now(2**63 - 1)
        body = self.exchange.request_body()
        assert body is not None
        return body

    @property
    def consumer(self) -> dict[str, Any] | None:
        return self.result.consumer

    @property
    def credential(self) -> dict[str, Any] | None:
        return self.result.credential

    @property
    def serialize_values(self) -> list[tuple[str, Any]]:
        """What was added to the log record."""
        return [(key, value) for key, value, _ in self.exchange.state.serialize_values or []]

    def _play(self, phase: str, **options: Any) -> "Scene":
        # Who sent the request is told once: later phases keep what the earlier ones made of it.
        who, self._who = self._who, {}
        with _configuration(self._configuration):
            self._result = run_phase(self._handler, phase, config=self.config, exchange=self.exchange, **who, **options)
        return self

    def _set_scope(self, scope: Mapping[str, str]) -> None:
        info = InstanceInfo(
            id=str(uuid.uuid4()),
            name="scene",
            instance_name=None,
            route_id=scope.get("route_id"),
            service_id=scope.get("service_id"),
            consumer_id=None,
            consumer_group_id=None,
            sequence=1,
        )
        remember_instance(self.config, info)
        # Read once now: `run_phase` makes an instance of its own, without a scope.
        getattr(self.config, "scope_prefix", None)


@contextmanager
def _configuration(configuration: Mapping[str, Any] | None) -> Iterator[None]:
    if configuration is None:
        yield
        return
    configure_node(dict(configuration))
    try:
        yield
    finally:
        configure_node({})


def _values(headers: Mapping[str, Any], name: str) -> list[str]:
    value = headers.get(name)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
