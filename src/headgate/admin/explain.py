"""`GET /explain`: what the node would do with a described request, and why.

The decisions are `policy.explain`'s and the router's; this owns the query arguments. The plan is compiled in this
process, beside those of the workers, and kept for as long as the configuration stays the same.
"""

import asyncio
import dataclasses

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import AnswerError, Json
from headgate.admin.node import Node
from headgate.engine import explain_route
from headgate.errors import PlanError
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.policy.explain import Explanation, explain, find_consumer

_PORTS = {"http": 80, "https": 443}


class ExplainEndpoint:
    """Explains requests with the configuration in force."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._plan: CompiledPlan | None = None

    async def get(self, request: Request) -> Response:
        """Answer the explanation.

        Query: `method`, `path`, `host`, `scheme`, `port`, `sni`, `header` (`name:value`, repeated), `consumer`
        (username, custom id or id).
        """
        result = await asyncio.to_thread(self._explain, request)
        return Json(dataclasses.asdict(result))

    def _explain(self, request: Request) -> Explanation:
        query = request.query_params
        scheme, target, host = query.get("scheme", "http"), query.get("path", "/"), query.get("host", "localhost")
        port, sni = query.get("port", ""), query.get("sni")
        fields: dict[str, str] = {}
        if scheme not in _PORTS:
            fields["scheme"] = "expected one of: http, https"
        if not target.startswith("/"):
            fields["path"] = "should start with: /"
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            fields["port"] = "value should be between 1 and 65535"
        headers = [("Host", host)]
        for text in query.getlist("header"):
            name, separator, value = text.partition(":")
            if not separator or not name.strip():
                fields["header"] = "expected name:value"
            headers.append((name.strip(), value.strip()))
        snapshot = self._node.snapshot
        consumer = find_consumer(snapshot, query["consumer"]) if "consumer" in query else None
        if "consumer" in query and consumer is None:
            fields["consumer"] = "no consumer has this username, custom id or id"
        if fields:
            raise AnswerError(400, {"message": "bad query arguments", "fields": fields})
        try:
            plan = self._compiled()
            match = explain_route(
                plan.engine_plan(),
                method=query.get("method", "GET").upper(),
                host=host,
                target=target,
                headers=headers,
                sni=sni if sni is not None or scheme == "http" else host.partition(":")[0],
                is_tls=scheme == "https",
                port=int(port) if port else _PORTS[scheme],
            )
        except PlanError as error:
            raise AnswerError(409, {"message": str(error)}) from error
        return explain(plan.snapshot, plan, match, consumer=consumer, is_tls=scheme == "https")

    def _compiled(self) -> CompiledPlan:
        """Return the plan of the configuration in force."""
        snapshot, settings = self._node.snapshot, self._node.settings
        plan = self._plan
        if plan is None or plan.snapshot is not snapshot:
            plan = self._plan = compile_plan(
                snapshot,
                self._node.catalog,
                router_flavor=settings.datastore.router_flavor,
                previous=plan,
                ordering_algorithm=settings.general.plugin_ordering_algorithm,
                is_broken_allowed=settings.general.allow_broken_plugins,
            )
        return plan
