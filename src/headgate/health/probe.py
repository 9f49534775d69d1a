"""One probe of one address: connect, and over HTTP ask for a path and read the status line, over gRPC for a service.

Knows nothing of states and intervals. Each operation has the timeout of its own, as the reference has it.
"""

import asyncio
import contextlib
import ssl

from headgate.health import grpc_call
from headgate.health.checks import Checks
from headgate.health.pools import AddressKey

# A status line is short; whoever sends more without a line end is no HTTP server.
_MOST_STATUS_BYTES = 8_192


async def probe(key: AddressKey, checks: Checks, context: ssl.SSLContext | None) -> str | None:
    """Probe an address; returns the name of the observation, None when the status counts as nothing.

    Args: `context`: for https and grpcs.
    """
    probing = checks.probing
    writer: asyncio.StreamWriter | None = None
    try:
        host = checks.host_header or key.host
        server_name = None if context is None else probing.sni or _without_port(host)
        async with asyncio.timeout(probing.timeout_s):
            reader, writer = await asyncio.open_connection(
                key.ip, key.port, ssl=context, server_hostname=server_name, limit=_MOST_STATUS_BYTES
            )
        if probing.type == "tcp":
            return "success"
        if probing.is_grpc:
            is_serving = await grpc_call.is_serving(
                reader,
                writer,
                service=probing.path.strip("/"),
                scheme="http" if context is None else "https",
                authority=host,
                metadata=probing.headers,
                timeout_s=probing.timeout_s,
            )
            return "success" if is_serving else "http_failure"
        writer.write(_request(probing.path, probing.headers, host))
        async with asyncio.timeout(probing.timeout_s):
            await writer.drain()
        async with asyncio.timeout(probing.timeout_s):
            line = await reader.readline()
        return "tcp_failure" if not line else probing.observation(_status(line))
    except TimeoutError:
        return "timeout"
    except OSError:
        # TLS too: a certificate that is not believed is a ValueError as well.
        return "tcp_failure"
    except ValueError:
        return probing.observation(0)
    finally:
        if writer is not None:
            writer.transport.abort()


def _request(path: str, headers: tuple[tuple[str, str], ...], host: str) -> bytes:
    lines = [f"GET {path} HTTP/1.0", *(f"{name}: {value}" for name, value in headers), f"Host: {host}", "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    has_port = port.isdigit() and bool(name) and (":" not in name or name.startswith("["))
    return (name if has_port else host).strip("[]")


def _status(line: bytes) -> int:
    """Return the status of a status line; 0 when it is none."""
    words = line.split(None, 2)
    if len(words) >= 2 and words[0].startswith(b"HTTP/") and len(words[1]) == 3:
        with contextlib.suppress(ValueError):
            return int(words[1])
    return 0
