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
from headgate.engine import find_route
from headgate.errors import PlanError
from headgate.policy.compile import CompiledPlan, compile_plan
from headgate.policy.description import DescriptionError, described
from headgate.policy.explain import Explanation, explain, find_consumer

WORDS = ("scheme", "method", "path", "host", "sni", "source", "destination", "port", "consumer")


class ExplainEndpoint:
    """Explains requests with the configuration in force."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._plan: CompiledPlan | None = None

    async def get(self, request: Request) -> Response:
        """Answer the explanation.

        Query: `scheme`, `method`, `path`, `host`, `header` (`name:value`, repeated), `sni`, `source` and `destination`
        (`ip:port`), `port`, `consumer` (username, custom id or id).
        """
        result = await asyncio.to_thread(self._explain, request)
        return Json(dataclasses.asdict(result))

    def _explain(self, request: Request) -> Explanation:
        query = request.query_params
        faults: dict[str, str] = {}
        description = None
        try:
            description = described({name: query.get(name) for name in WORDS} | {"header": query.getlist("header")})
        except DescriptionError as error:
            faults |= error.faults
        faults |= {name: "unknown argument" for name in query if name not in (*WORDS, "header")}
        snapshot = self._node.snapshot
        consumer = find_consumer(snapshot, query["consumer"]) if "consumer" in query else None
        if "consumer" in query and consumer is None:
            faults.setdefault("consumer", "no consumer has this username, custom id or id")
        if faults or description is None:
            raise AnswerError(400, {"message": "bad query arguments", "fields": faults})
        try:
            plan = self._compiled()
            match = find_route(plan.engine_plan(), description)
        except PlanError as error:
            raise AnswerError(409, {"message": str(error)}) from error
        is_tls, is_stream = description.is_tls, description.is_stream
        return explain(plan.snapshot, plan, match, consumer=consumer, is_tls=is_tls, is_stream=is_stream)

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
