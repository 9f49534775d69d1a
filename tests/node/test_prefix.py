"""The working directory: lock, runtime copy, node id."""

import stat
from pathlib import Path

import pytest

from headgate.config.load import load_settings
from headgate.node.prefix import Prefix, PrefixError


@pytest.fixture
def prefix(tmp_path: Path) -> Prefix:
    made = Prefix(tmp_path / "prefix")
    made.prepare()
    return made


def test_prefix_is_taken_once_and_says_who_has_it(prefix: Prefix) -> None:
    assert prefix.running_pid() is None
    prefix.take()
    with pytest.raises(PrefixError, match=f"^Headgate is already running in {prefix.path}$"):
        Prefix(prefix.path).take()
    prefix.release()
    assert prefix.running_pid() is None


def test_pid_file_left_by_a_crash_is_no_running_node(prefix: Prefix) -> None:
    prefix.pid_path.write_text("1\n")
    assert prefix.running_pid() is None


def test_runtime_copy_is_private_and_readable_as_settings(prefix: Prefix) -> None:
    environment = {"KONG_LOG_LEVEL": "info", "KONG_REAL_IP_HEADER": "a#b", "KONG_NODE_ID": "{vault://env/id}"}
    environment["ID"] = "0dc6f45b-8f8d-40d2-a504-473544ee190b"
    prefix.write_environment(load_settings(None, environment))
    assert stat.S_IMODE(prefix.environment_path.stat().st_mode) == 0o600
    text = prefix.environment_path.read_text()
    assert "node_id = {vault://env/id}\n" in text
    again = load_settings(str(prefix.environment_path), {"ID": environment["ID"]})
    assert (again.general.log_level, again.http.real_ip_header) == ("info", "a#b")


def test_node_id_is_kept(prefix: Prefix) -> None:
    settings = load_settings(None, {})
    assert prefix.node_id(settings) == prefix.node_id(settings)


def test_link_of_a_long_prefix_fits_into_a_socket_address(tmp_path: Path) -> None:
    long = Prefix(tmp_path / ("x" * 100))
    assert len(str(long.link_path(1))) < 100
    assert Prefix(Path("/a")).link_path(2) == Path("/a/sockets/control-2.sock")


def test_memory_of_a_prefix_has_its_own_directory(prefix: Prefix, tmp_path: Path) -> None:
    other = Prefix(tmp_path / "other")
    assert prefix.memory.path == Prefix(prefix.path).memory.path != other.memory.path
    assert prefix.memory is prefix.memory
