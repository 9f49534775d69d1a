"""Conformance to HTTP/2, as h2spec sees it: over TLS, and by prior knowledge on a port that speaks HTTP/1.1 too."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import document, service
from tests.support.gateway import Gateway
from tests.support.h2spec import h2spec_or_skip, run_h2spec
from tests.support.upstream import Upstream

# Only the first run on a machine takes long: it builds the program.
pytestmark = pytest.mark.timeout(300)
CASES = 146
# What is no preface of HTTP/2 is a request of HTTP/1.1 on such a port, here one without a version: it is answered 400
# before the connection is closed, where the case accepts silence only.
NOT_FOR_SHARED_PORTS = "http2/3.5: Sends invalid connection preface"


def config(upstream: Upstream) -> dict[str, Any]:
    return document(services=[service(upstream)])


@pytest.fixture(scope="module")
def h2spec() -> Path:
    return h2spec_or_skip()


def test_every_case_passes_over_tls(gateway: Gateway, h2spec: Path, tmp_path: Path) -> None:
    report = run_h2spec(h2spec, gateway.tls, tmp_path / "report.xml", is_tls=True)
    assert report.failed == ()
    assert report.count == CASES


def test_every_case_passes_by_prior_knowledge(gateway: Gateway, h2spec: Path, tmp_path: Path) -> None:
    report = run_h2spec(h2spec, gateway.prior_knowledge, tmp_path / "report.xml", is_tls=False)
    assert report.failed == (NOT_FOR_SHARED_PORTS,)
    assert report.count == CASES
