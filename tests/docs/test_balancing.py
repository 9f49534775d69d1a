"""The examples of docs/balancing.md: loaded as they are, and the first one run."""

import json
import re
from collections import Counter
from typing import Any

import pytest
import yaml

from headgate.entities.registry import ENTITY_TYPES
from headgate.testing import Request
from tests.pdk.calls import phase
from tests.support.gateway import ROOT, Gateway
from tests.support.http1 import wait_until
from tests.support.upstream import Connection, Script, Upstream
from tests.support.upstream import Request as UpstreamRequest

PAGE = (ROOT / "docs" / "balancing.md").read_text(encoding="utf-8")


def _examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", _examples("yaml"))
def test_every_configuration_is_valid(text: str) -> None:
    for upstream in yaml.safe_load(text)["upstreams"]:
        fields: dict[str, Any] = {name: value for name, value in upstream.items() if name != "targets"}
        assert ENTITY_TYPES["upstreams"].examine(fields, now=1)[1] == {}


def _tells(name: str) -> Script:
    def script(request: UpstreamRequest, connection: Connection) -> None:
        connection.respond(name.encode())

    return script


def test_the_first_example_spreads_by_weight_and_its_health_is_shown_and_set() -> None:
    with Upstream(default=_tells("first")) as first, Upstream(default=_tells("second")) as second:
        text = _examples("yaml")[0].replace(":9001", f":{first.port}").replace(":9002", f":{second.port}")
        with Gateway(text, workers=1) as gateway:
            answers = Counter(gateway.get("/orders").body.decode() for _ in range(30))
            assert answers == {"first": 20, "second": 10}
            for command in _examples("sh")[0].splitlines():
                found = re.search(r"(-X PUT )?'?localhost:8001(\S+?)'?$", command)
                assert found is not None
                method = "PUT" if found[1] else "GET"
                path = found[2].replace(":9001", f":{first.port}")
                response = gateway.admin_request(method, path)
                assert response.status == (204 if method == "PUT" else 200), command
                if path.endswith("/unhealthy"):
                    assert wait_until(lambda: gateway.get("/orders").body == b"second")
            shown = json.loads(gateway.admin_request("GET", "/upstreams/orders.internal/health").body)
            assert {target["health"] for target in shown["data"]} == {"HEALTHY"}


def test_the_plugin_says_what_has_changed() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(_examples("python")[0], "page", "exec"), names)
    handler = names["Handler"]()
    data = {"upstream": "orders.internal", "ip": "10.0.0.1", "port": 80, "health": "unhealthy"}
    with phase("log", Request()):
        handler.on_health(data, "health", "balancer", 1)
