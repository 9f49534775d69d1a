"""The file writer of file-log: order, rotation, bounded memory, faults."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.plugins.file_log.writer import LineWriter, flush_all, keep_only, writer_of


@pytest.fixture
def faults() -> list[str]:
    return []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def writer(path: Path, faults: list[str]) -> Iterator[LineWriter]:
    writer = LineWriter(str(path), faults.append)
    yield writer
    writer.stop()
    writer._thread.join(5)


def test_lines_are_appended_in_order(writer: LineWriter, path: Path) -> None:
    path.write_text("before\n")
    for number in range(1000):
        writer.write(b"%d\n" % number, reopen=False)
    assert writer.flush()
    assert path.read_text() == "before\n" + "".join(f"{number}\n" for number in range(1000))


def test_the_file_is_created_readable_by_all(writer: LineWriter, path: Path) -> None:
    earlier = os.umask(0o022)
    try:
        writer.write(b"x\n", reopen=False)
        assert writer.flush()
    finally:
        os.umask(earlier)
    assert path.stat().st_mode & 0o777 == 0o644


def test_without_reopen_the_moved_file_is_written_on(writer: LineWriter, path: Path) -> None:
    writer.write(b"1\n", reopen=False)
    assert writer.flush()
    path.rename(path.with_suffix(".1"))
    writer.write(b"2\n", reopen=False)
    assert writer.flush()
    assert path.with_suffix(".1").read_text() == "1\n2\n"
    assert not path.exists()


def test_with_reopen_a_moved_file_is_created_anew(writer: LineWriter, path: Path) -> None:
    writer.write(b"1\n", reopen=True)
    assert writer.flush()
    path.rename(path.with_suffix(".1"))
    writer.write(b"2\n", reopen=True)
    assert writer.flush()
    assert path.with_suffix(".1").read_text() == "1\n"
    assert path.read_text() == "2\n"


def test_lines_of_many_threads_stay_whole(writer: LineWriter, path: Path) -> None:
    def write() -> None:
        for _ in range(500):
            writer.write(b"0123456789\n", reopen=False)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush()
    assert path.read_bytes() == b"0123456789\n" * 2000


def test_a_file_that_blocks_costs_the_oldest_lines(tmp_path: Path, faults: list[str]) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = LineWriter(str(fifo), faults.append, most_waiting_lines=10)
    for number in range(50):
        writer.write(b"%d\n" % number, reopen=False)
    with fifo.open() as reader:
        writer.stop()
        text = reader.read()
    writer._thread.join(5)
    assert text.endswith("49\n")
    assert len(text.splitlines()) <= 20
    assert any("log lines" in fault and "were dropped" in fault for fault in faults)


def test_a_fault_is_reported_once_until_it_is_over(tmp_path: Path, faults: list[str]) -> None:
    path = tmp_path / "missing" / "access.log"
    writer = LineWriter(str(path), faults.append)
    for _ in range(3):
        writer.write(b"lost\n", reopen=False)
        assert writer.flush()
    assert len(faults) == 1
    assert f"failed to write to {path}: No such file or directory" in faults[0]
    path.parent.mkdir()
    writer.write(b"kept\n", reopen=False)
    assert writer.flush()
    assert path.read_text() == "kept\n"
    writer.stop()


def test_a_path_has_one_writer_until_it_is_no_longer_configured(path: Path, faults: list[str]) -> None:
    writer = writer_of(str(path), faults.append)
    assert writer_of(str(path), faults.append) is writer
    writer.write(b"last\n", reopen=False)
    keep_only(set())
    writer._thread.join(5)
    assert path.read_text() == "last\n"
    assert writer_of(str(path), faults.append) is not writer
    flush_all()
    keep_only(set())


def test_lines_queued_at_the_end_of_the_process_are_written(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "end.log"
    code = (
        "from headgate.plugins.file_log.writer import writer_of\n"
        f"writer_of({str(path)!r}, print).write(b'last words\\n', reopen=False)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20, env={**os.environ, "PYTHONPATH": _source()})
    assert path.read_text() == "last words\n"


def _source() -> str:
    import headgate

    return str(Path(headgate.__file__).parent.parent)
