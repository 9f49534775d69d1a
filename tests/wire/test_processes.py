"""Processes under load: a killed worker, a reload, a graceful stop, and ten thousand requests without a leak."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.node.prefix import Prefix
from headgate.node.scheduling import NICENESS
from tests.support import processes
from tests.support.documents import catch_all, document, service
from tests.support.gateway import Gateway
from tests.support.http1 import Client, wait_until
from tests.support.load import Load
from tests.support.upstream import Connection, Request, Upstream

CLIENT_COUNT = 8


def small(request: Request, connection: Connection) -> None:
    """Answer without a body worth mentioning."""
    connection.respond(b"ok")


@pytest.fixture
def pair(upstream: Upstream) -> Iterator[Gateway]:
    """A gateway of its own with two workers, for tests that end or reload it."""
    with Gateway(catch_all(upstream), workers=2) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ten_thousand_keep_alive_requests_leak_no_connection(upstream: Upstream) -> None:
    path = upstream.script(small)
    with Gateway(catch_all(upstream), workers=1) as gateway:
        worker = gateway.worker_pids[0]
        assert gateway.get(path).status == 200
        assert wait_until(lambda: processes.socket_count(worker) > 0)
        before = processes.socket_count(worker)
        outcomes: list[int] = []

        def ask(count: int) -> None:
            with gateway.client() as client:
                outcomes.append(sum(client.request("GET", path).status == 200 for _ in range(count)))

        threads = [threading.Thread(target=ask, args=(1000,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert sum(outcomes) == 10_000
        # Ten clients were there at most; what stays open are as many idle upstream connections.
        assert upstream.open_connection_count <= 11
        assert wait_until(lambda: processes.socket_count(worker) <= before + 11)


@pytest.mark.timeout(60)
def test_ten_thousand_connections_leave_nothing_behind(upstream: Upstream) -> None:
    path = upstream.script(small)
    with Gateway(catch_all(upstream), workers=1) as gateway:
        worker = gateway.worker_pids[0]
        assert gateway.get(path).status == 200
        before = processes.socket_count(worker)
        for _ in range(1000):
            with gateway.client() as client:
                client.request("GET", path, {"Connection": "close"})
        assert wait_until(lambda: processes.socket_count(worker) <= before + 2)


@pytest.mark.timeout(60)
def test_killed_worker_costs_only_its_own_requests_and_is_replaced(pair: Gateway, upstream: Upstream) -> None:
    path = upstream.script(small)
    workers = set(pair.worker_pids)
    assert len(workers) == 2
    victim = min(workers)
    with Load(pair.client, path, CLIENT_COUNT) as load:
        assert load.wait_for(500)
        os.kill(victim, signal.SIGKILL)
        assert load.wait_for(500)
        assert wait_until(lambda: len(set(pair.worker_pids) - {victim}) == 2)
        assert load.wait_for(500)
    # Each client has one request in flight at most; those of the other worker must all succeed.
    assert len(load.outcome.failed) <= CLIENT_COUNT, load.outcome.failed
    assert min(workers - {victim}) in pair.worker_pids


@pytest.mark.timeout(60)
def test_new_connections_are_served_after_each_worker_was_killed(pair: Gateway, upstream: Upstream) -> None:
    path = upstream.script(small)
    first = set(pair.worker_pids)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    # The listening sockets survive: connections made now wait in the kernel's queue and are served.
    with Client(pair.plain, timeout_s=20) as client:
        assert client.request("GET", path).status == 200
    assert wait_until(lambda: len(set(pair.worker_pids) - first) == 2, 20)
    for _ in range(20):
        assert pair.get(path).status == 200


@pytest.mark.timeout(90)
def test_reload_under_load_fails_no_request(pair: Gateway, upstream: Upstream) -> None:
    path = upstream.script(small)
    with Load(pair.client, path, CLIENT_COUNT) as load:
        assert load.wait_for(300)
        for _ in range(2):
            old = set(pair.worker_pids)
            pair.signal(signal.SIGHUP)
            assert wait_until(lambda old=old: len(set(pair.worker_pids) - old) == 2, 20)  # type: ignore[misc]
            assert wait_until(lambda old=old: not set(pair.worker_pids) & old, 20)  # type: ignore[misc]
            assert load.wait_for(300)
    assert load.outcome.failed == []


@pytest.mark.timeout(60)
def test_reload_reads_the_declarative_file_again(pair: Gateway, upstream: Upstream) -> None:
    assert pair.get("/").status == 200
    changed = catch_all(upstream, plugins=[{"name": "request-termination", "config": {"status_code": 418}}])
    pair.write_config(changed)
    pair.signal(signal.SIGHUP)
    assert wait_until(lambda: pair.get("/").status == 418, 20)


@pytest.mark.timeout(60)
def test_reload_with_a_bad_file_keeps_the_old_configuration(pair: Gateway) -> None:
    old = set(pair.worker_pids)
    pair.write_config("_format_version: '3.0'\nservices:\n- name: broken\n")
    pair.signal(signal.SIGHUP)
    assert wait_until(lambda: "in 'host': required field missing" in pair.output(), 20), pair.output()
    assert pair.get("/").status == 200
    assert set(pair.worker_pids) == old


@pytest.mark.timeout(60)
@pytest.mark.parametrize("signal_number", [signal.SIGHUP, signal.SIGQUIT])
def test_request_in_flight_is_finished_by_its_old_worker(
    pair: Gateway, upstream: Upstream, signal_number: signal.Signals
) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def held(request: Request, connection: Connection) -> None:
        arrived.set()
        assert go_on.wait(30)
        connection.respond(b"finished")

    path = upstream.script(held)
    workers = set(pair.worker_pids)
    with pair.client(timeout_s=30) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert arrived.wait(10)
        pair.signal(signal_number)
        if signal_number is signal.SIGHUP:
            assert wait_until(lambda: len(set(pair.worker_pids) - workers) == 2, 20)
        else:
            assert wait_until(lambda: _is_refused(pair), 10)
        go_on.set()
        response = client.read_response()
        assert response.body == b"finished"
        assert client.is_closed_by_peer()
    if signal_number is signal.SIGQUIT:
        assert pair.wait() == 0


def _is_refused(gateway: Gateway) -> bool:
    """Whether new connections are no longer accepted and answered."""
    try:
        with gateway.client(timeout_s=0.2) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return client.socket.recv(1) == b""
    except (ConnectionError, TimeoutError):
        return True


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signals_end_everything_at_once(upstream: Upstream, signal_number: signal.Signals) -> None:
    with Gateway(catch_all(upstream), workers=2) as gateway:
        pids = processes.children(gateway.process.pid)
        with gateway.client() as client:
            assert client.request("GET", "/").status == 200
            gateway.signal(signal_number)
            assert gateway.wait() == 0
        assert [pid for pid in pids if processes.command_line(pid)] == []


def test_supervisor_that_is_killed_takes_its_processes_along(upstream: Upstream) -> None:
    with Gateway(catch_all(upstream), workers=2) as gateway:
        pids = processes.children(gateway.process.pid)
        gateway.process.kill()
        gateway.wait()
        assert wait_until(lambda: not [pid for pid in pids if processes.command_line(pid)])


def test_control_leaves_processors_to_workers(pair: Gateway) -> None:
    [control] = [pid for pid in processes.children(pair.process.pid) if "control" in processes.command_line(pid)]

    def niceness(pid: int) -> set[int]:
        return {os.getpriority(os.PRIO_PROCESS, int(each)) for each in os.listdir(f"/proc/{pid}/task")}

    [of_workers] = set.union(*map(niceness, pair.worker_pids))
    assert wait_until(lambda: niceness(control) == {min(of_workers + NICENESS, 19)})


def test_memory_of_a_killed_node_goes_with_the_start_of_any_other_and_that_of_running_ones_stays(
    upstream: Upstream,
) -> None:
    with Gateway(catch_all(upstream)) as running, Gateway(catch_all(upstream)) as killed:
        pids = processes.children(killed.process.pid)
        kept, left = (Prefix(one.prefix).memory.path for one in (running, killed))
        killed.process.kill()
        killed.wait()
        assert wait_until(lambda: not [pid for pid in pids if processes.command_line(pid)])
        with Gateway(catch_all(upstream)):
            assert not left.exists()
            assert kept.is_dir()
        assert running.reload().returncode == 0
        assert running.get("/").status == 200


@pytest.mark.timeout(60)
def test_counters_are_shared_by_the_workers(upstream: Upstream) -> None:
    path = upstream.script(small)
    config: dict[str, Any] = document(
        services=[service(upstream)],
        plugins=[{"name": "rate-limiting", "config": {"hour": 10, "policy": "local", "limit_by": "ip"}}],
    )
    with Gateway(config, workers=2) as gateway:
        statuses = [gateway.get(path).status for _ in range(20)]
    # The window may roll over in between, which lets at most one further set through.
    assert statuses.count(200) in (10, 20)
    assert statuses[:10] == [200] * 10
