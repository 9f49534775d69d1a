"""Declarative documents that tests start from."""

from typing import Any

from tests.support.upstream import Upstream


def document(**entities: Any) -> dict[str, Any]:
    """Return a declarative document with these entities."""
    return {"_format_version": "3.0", **entities}


def catch_all(upstream: Upstream, **additions: Any) -> dict[str, Any]:
    """Return a document with one service and one route that takes every path; `additions` are further entities."""
    return document(services=[service(upstream)], **additions)


def service(upstream: Upstream, **fields: Any) -> dict[str, Any]:
    """Return a service with a route for every path."""
    return {
        "name": "main",
        "url": upstream.url,
        "routes": [{"name": "all", "paths": ["/"], "strip_path": False}],
    } | fields
