"""Binding listeners, and keeping their sockets over a change of settings."""

import socket
from collections.abc import Iterator

import pytest

from headgate.config.listeners import Listener, ListenerArray
from headgate.node.sockets import SocketTable


def listeners(text: str, count: int, name: str = "proxy_listen") -> list[tuple[Listener, int]]:
    return [(listener, count) for listener in ListenerArray().parse(name, text)]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def test_reuseport_gives_each_process_its_own_socket_on_one_port() -> None:
    table, faults = SocketTable().open(listeners("127.0.0.1:0 reuseport", 3))
    assert faults == []
    (bound,) = table.all()
    assert len(bound.sockets) == 3
    assert {entry.getsockname()[1] for entry in bound.sockets} == {bound.port}
    assert [bound.for_process(index, 3)[0] for index in range(3)] == bound.sockets
    table.close_except(None)


def test_without_reuseport_processes_share_one_socket() -> None:
    table, _ = SocketTable().open(listeners("127.0.0.1:0", 3))
    (bound,) = table.all()
    assert len(bound.sockets) == 1
    assert bound.for_process(2, 3) == bound.sockets
    table.close_except(None)


@pytest.mark.parametrize("flags", ["", " reuseport"])
def test_taken_port_names_address_port_and_setting(taken: int, flags: str) -> None:
    _, faults = SocketTable().open(listeners(f"127.0.0.1:{taken}{flags}", 1))
    expected = f"cannot listen on 127.0.0.1:{taken} (proxy_listen): Address already in use"
    assert [fault.partition(";")[0] for fault in faults] == [expected]


def test_every_taken_port_is_reported_and_nothing_stays_open(taken: int) -> None:
    table, faults = SocketTable().open(listeners(f"127.0.0.1:{taken}, 127.0.0.1:0, 127.0.0.1:{taken}", 1))
    assert len(faults) == 2
    assert all(entry.fileno() == -1 for bound in table.all() for entry in bound.sockets)


def test_same_address_keeps_its_sockets_and_others_are_closed() -> None:
    first, _ = SocketTable().open(listeners("127.0.0.1:0 reuseport, localhost:0", 2))
    kept, dropped = first.all()
    second, faults = first.open(listeners("127.0.0.1:0 reuseport backlog=7", 3))
    assert faults == []
    first.close_except(second)
    assert second.all()[0].sockets[:2] == kept.sockets[:2]
    assert len(second.all()[0].sockets) == 3
    assert dropped.sockets[0].fileno() == -1
    second.close_except(None)


def test_fewer_processes_still_accept_on_every_socket() -> None:
    first, _ = SocketTable().open(listeners("127.0.0.1:0 reuseport", 4))
    second, _ = first.open(listeners("127.0.0.1:0 reuseport", 2))
    (bound,) = second.all()
    covered = [entry for index in range(2) for entry in bound.for_process(index, 2)]
    assert sorted(map(id, covered)) == sorted(map(id, bound.sockets))
    second.close_except(None)


def test_ipv6_only_listener_leaves_the_ipv4_port_free() -> None:
    table, faults = SocketTable().open(listeners("[::1]:0 ipv6only=on so_keepalive=60:5:3", 1))
    assert faults == []
    opened = table.all()[0].sockets[0]
    assert opened.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    table.close_except(None)
