"""The directory of the shared memory: made, held, given back, swept when its node has died."""

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from headgate.node.memory_directory import MemoryDirectory, MemoryDirectoryError
from headgate.pdk import shared_dict

HOLD = """
import sys
from pathlib import Path
from headgate.node.memory_directory import MemoryDirectory
directory = MemoryDirectory(Path(sys.argv[1]), "held")
directory.make()
print("held", flush=True)
sys.stdin.read()
"""
OPEN = """
import sys
from headgate.pdk import shared_dict
shared_dict.configure(sys.argv[1], 1048576)
print("open", flush=True)
sys.stdin.read()
"""


def _process(code: str, argument: Path) -> subprocess.Popen[str]:
    """Start a process and wait until it says that it is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(argument)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def _killed(process: subprocess.Popen[str]) -> None:
    with process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_it_starts_empty_is_private_and_is_given_back(tmp_path: Path) -> None:
    directory = MemoryDirectory(tmp_path, "own")
    directory.path.mkdir()
    (directory.path / "old").write_text("x")
    path = directory.make()
    assert list(path.iterdir()) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    directory.remove()
    assert not path.exists()


def test_what_only_looks_like_it_is_refused(tmp_path: Path) -> None:
    directory = MemoryDirectory(tmp_path, "own")
    (tmp_path / "elsewhere").mkdir()
    directory.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MemoryDirectoryError, match=r"belongs to another user; remove it$"):
        directory.make()
    assert directory.sweep() == []
    assert directory.path.is_symlink()


def test_it_is_swept_when_its_node_was_killed_and_not_before(tmp_path: Path) -> None:
    own = MemoryDirectory(tmp_path, "own")
    node = _process(HOLD, tmp_path)
    try:
        held = MemoryDirectory(tmp_path, "held").path
        (held / "dict").mkdir()
        assert own.sweep() == []
        assert held.is_dir()
    finally:
        _killed(node)
    assert own.sweep() == [held]
    assert not held.exists()


def test_memory_that_a_process_has_open_is_not_swept(tmp_path: Path) -> None:
    """One whose node has just died, or of an older release: nobody holds the directory itself."""
    own, other = MemoryDirectory(tmp_path, "own"), MemoryDirectory(tmp_path, "other")
    other.make()
    path = other.path
    worker = _process(OPEN, path / "dict")
    try:
        assert (path / "dict" / "lock.mdb").exists()
        # Let go of the directory, not of what is in it.
        kept = path.rename(tmp_path / "kept")
        other.remove()
        kept.rename(path)
        assert own.sweep() == []
        assert path.is_dir()
    finally:
        _killed(worker)
    assert own.sweep() == [path]


def test_a_directory_of_its_own_process_is_no_obstacle_to_it(tmp_path: Path) -> None:
    directory = MemoryDirectory(tmp_path, "own")
    directory.make()
    assert directory.sweep() == []
    shared_dict.configure(directory.path / "dict", shared_dict.MINIMUM_MAP_SIZE_BYTES)
    shared_dict.close()
    directory.remove()
    assert not any(tmp_path.iterdir())
