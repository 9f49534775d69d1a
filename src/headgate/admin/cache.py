"""/cache: what plugins keep in `kong.cache` of this node, looked at and dropped by hand (reference: admin-api 8).

Owns no cache: the values are those of `pdk.cache` in the node's shared memory, which this process opens when it is
first asked. Workers notice at once what is dropped here; other nodes keep theirs.
"""

import asyncio
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from headgate.admin.answers import Json, not_found
from headgate.admin.node import Node
from headgate.pdk import shared_dict
from headgate.pdk.cache import Cache, caches_of


class CacheEndpoints:
    """The caches of plugins and of the gateway, as one."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._caches = caches_of(node.bootstrap.generation)

    async def get(self, request: Request) -> Response:
        """Answer the value that is kept for a key."""
        key = unquote(request.path_params["key"])
        for cache in self._opened():
            found = cache.probe(key)
            if found is not None:
                value = _shown(found.value)
                return Json(value if isinstance(value, dict) else {"message": value})
        raise not_found()

    async def delete(self, request: Request) -> Response:
        """Drop a key on this node, whether it is there or not."""
        key = unquote(request.path_params["key"])
        for cache in self._opened():
            cache.invalidate_local(key)
        return Response(status_code=204)

    async def delete_all(self, request: Request) -> Response:
        """Drop all keys on this node."""
        for cache in self._opened():
            await asyncio.to_thread(cache.purge)
        return Response(status_code=204)

    def _opened(self) -> tuple[Cache, Cache]:
        bootstrap = self._node.bootstrap
        shared_dict.configure(bootstrap.shared_memory_path, bootstrap.settings.general.shared_dict_size_bytes)
        return self._caches


def _shown(value: Any) -> Any:
    """Return plain data as JSON has it: bytes as text, keys as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {str(_shown(key)): _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return value
