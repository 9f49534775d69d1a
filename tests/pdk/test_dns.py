"""Names to addresses, with the resolver replaced."""

import asyncio
import socket
from typing import Any

import pytest

from headgate.pdk import kong
from headgate.pdk.dns import DnsError


def resolve(call: Any, answer: Any) -> Any:
    async def main() -> Any:
        async def getaddrinfo(host: str, port: Any, *, family: int, **_: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return [one for one in answer if family in (socket.AF_UNSPEC, one[0])]

        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
        return await call()

    return asyncio.run(main())


BOTH = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


def test_a_name_has_its_addresses_once_each() -> None:
    assert resolve(lambda: kong.dns.resolve("name"), BOTH) == [
        {"name": "name", "address": "::1", "type": 28},
        {"name": "name", "address": "127.0.0.1", "type": 1},
    ]
    assert [one["address"] for one in resolve(lambda: kong.dns.resolve("name", 1), BOTH)] == ["127.0.0.1"]
    assert resolve(lambda: kong.dns.toip("name", 80), BOTH) == ("::1", 80)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "dns server error: 3 name error"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "dns client error: later"),
        (UnicodeError("label too long"), "dns client error: label too long"),
    ],
)
def test_faults_have_kongs_texts(fault: Exception, text: str) -> None:
    with pytest.raises(DnsError) as caught:
        resolve(lambda: kong.dns.resolve("name"), fault)
    assert str(caught.value) == text


def test_wrong_arguments_are_refused() -> None:
    for call, text in (
        (lambda: kong.dns.resolve(1), "name must be a string"),  # type: ignore[arg-type]
        (lambda: kong.dns.resolve("a", 5), "record type 5 is not supported"),
        (lambda: kong.dns.toip("a", 70000), "port must be an integer between 0 and 65535: given 70000"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            resolve(call, BOTH)
