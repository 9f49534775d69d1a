"""One upstream and one gateway per test file: the file gives `config(upstream)` and, where needed, `SETTINGS`."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, so that `-m "not wire"` leaves it out."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.wire)


def _module(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.module
    return module


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A scripted upstream; what its scripts raise fails the file."""
    with Upstream() as server:
        yield server
    assert server.failures == []


@pytest.fixture(scope="module")
def gateway(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Gateway]:
    """The gateway with the file's configuration."""
    module = _module(request)
    with Gateway(module.config(upstream), **getattr(module, "SETTINGS", {})) as running:
        yield running
