"""A PostgreSQL server of the tests' own: a temporary cluster on a free port, started and stopped by them.

It refuses to run as root, so root runs it as the user `nobody`. Where its programs are not installed there is none.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

USER = "headgate"
_START_TIMEOUT_S = 20


@dataclass(frozen=True)
class Server:
    """Where the server listens; it trusts every local user."""

    port: int
    host: str = "127.0.0.1"
    user: str = USER
    control: Callable[..., None] = lambda *arguments: None
    """Runs `pg_ctl` with the arguments of this server."""

    def stop(self) -> None:
        """Cut all connections and take no more, until `start`."""
        self.control("-m", "immediate", "stop")

    def start(self) -> None:
        """Serve again, on the same port."""
        self.control("start")

    def new_database(self) -> str:
        """Create an empty database and return its name."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(
            host=self.host, port=self.port, user=self.user, dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return name

    def settings(self, name: str) -> dict[str, object]:
        """Return the settings of a gateway on a database of this server."""
        place = {"pg_host": self.host, "pg_port": self.port, "pg_user": self.user, "pg_database": name}
        return {"database": "postgres", **place}


def programs() -> Path | None:
    """Return the directory of the newest server's programs; None when there is none."""
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (directory / "initdb").exists() and (directory / "pg_ctl").exists():
            return directory
    found = shutil.which("initdb")
    return None if found is None or shutil.which("pg_ctl") is None else Path(found).resolve().parent


@contextmanager
def running() -> Iterator[Server]:
    """Run a server until the end of the block; skips what needs it where its programs are not installed."""
    binaries = programs()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed (Debian: postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="headgate-postgres-"))
    try:
        owner = []
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            owner = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        data = directory / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        def run(*arguments: str) -> None:
            done = subprocess.run([*owner, *arguments], cwd=directory, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

        run(
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "--no-sync",
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c jit=off"
        control = [str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", str(_START_TIMEOUT_S)]

        def pg_ctl(*arguments: str) -> None:
            # Without a log of its own the server would hold the pipe of the program that starts it open.
            run(*control, "-l", str(directory / "log"), "-o", options, *arguments)

        pg_ctl("start")
        try:
            yield Server(port, control=pg_ctl)
        finally:
            pg_ctl("-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
