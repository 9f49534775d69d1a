"""The gateway as users run it: `headgate start` in a process of its own, with free ports and a temporary prefix.

Readiness is an event: the supervisor writes one JSON line to the descriptor named by HEADGATE_READY_FD when all
workers serve.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support import processes
from tests.support.http1 import Client, Response

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
ROOT = Path(__file__).resolve().parents[2]
PLUGIN_DIRECTORY = ROOT / "tests" / "wire" / "plugins"

# plain HTTP/1.1; TLS with HTTP/2 by ALPN; HTTP/2 by prior knowledge
PROXY_LISTEN = "127.0.0.1:0 reuseport, 127.0.0.1:0 ssl http2 reuseport, 127.0.0.1:0 http2 reuseport"


def command() -> list[str]:
    """Return the installed program."""
    return [str(Path(sys.executable).parent / "headgate")]


class StartFailed(Exception):
    """The process ended, or took too long, before it was ready."""

    def __init__(self, exit_code: int | None, output: str) -> None:
        super().__init__(f"exit code {exit_code}:\n{output}")
        self.exit_code = exit_code
        self.output = output


def environment(settings: Mapping[str, object], prefix: Path) -> dict[str, str]:
    """Return the process environment: this one's without gateway settings, then what tests set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE_", "KONG_"))}
    defaults: dict[str, object] = {
        "prefix": prefix,
        "database": "off",
        "proxy_listen": PROXY_LISTEN,
        "admin_listen": "127.0.0.1:0",
        "status_listen": "off",
        "workers": 1,
        "log_level": "info",
    }
    given = {f"HEADGATE_{name.upper()}": str(value) for name, value in (defaults | dict(settings)).items()}
    return inherited | given


class Gateway:
    """A running gateway; a context manager.

    Args: `config` is a declarative document, a dict or YAML text; `settings` are settings by name, put into the
    environment.
    Raises: StartFailed.
    """

    def __init__(self, config: dict[str, Any] | str | None = None, **settings: object) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="headgate-test-")
        self.directory = Path(self._directory.name)
        self.prefix = self.directory / "prefix"
        if config is not None:
            self.config_path = self.directory / "headgate.yml"
            self.write_config(config)
            settings = {"declarative_config": self.config_path} | settings
        self._log = (self.directory / "output.log").open("w+b")
        self._environment = environment(settings, self.prefix)
        self._ready_read, self._ready_write = os.pipe()
        self.listeners: list[dict[str, Any]] = []
        try:
            self._start()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [*command(), "start"],
            env=self._environment | {"HEADGATE_READY_FD": str(self._ready_write)},
            pass_fds=(self._ready_write,),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(self._ready_write)
        try:
            document = self._read_ready_line(START_TIMEOUT_S)
        except BaseException:
            self._kill()
            raise
        self.listeners = document["listeners"]

    def _read_ready_line(self, timeout_s: float) -> dict[str, Any]:
        ready, _, _ = select.select([self._ready_read], [], [], timeout_s)
        line = b""
        while ready and not line.endswith(b"\n"):
            data = os.read(self._ready_read, 65536)
            if not data:
                break
            line += data
        if not line:
            code: int | None = None
            if ready:
                code = self.process.wait(STOP_TIMEOUT_S)
            raise StartFailed(code, self.output())
        document: dict[str, Any] = json.loads(line)
        return document

    def write_config(self, config: dict[str, Any] | str) -> None:
        """Write the declarative file."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        self.config_path.write_text(text, encoding="utf-8")

    # -- addresses ----------------------------------------------------------------------------------------------

    def _addresses(self, name: str) -> list[tuple[str, int]]:
        found = [each for each in self.listeners if each["setting"] == f"{name}_listen"]
        return [(each["address"], each["port"]) for each in found]

    @property
    def plain(self) -> tuple[str, int]:
        """Address of the plain proxy listener."""
        return self._addresses("proxy")[0]

    @property
    def tls(self) -> tuple[str, int]:
        """Address of the TLS proxy listener."""
        return self._addresses("proxy")[1]

    @property
    def prior_knowledge(self) -> tuple[str, int]:
        """Address of the plain listener that speaks HTTP/2."""
        return self._addresses("proxy")[2]

    @property
    def admin(self) -> tuple[str, int]:
        """Address of the Admin API."""
        return self._addresses("admin")[0]

    def client(self, **arguments: Any) -> Client:
        """Open a connection to the plain listener."""
        return Client(self.plain, **arguments)

    def get(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> Response:
        """Do one request on a connection of its own."""
        with self.client() as client:
            return client.request(method, target, headers)

    def admin_request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        """Do one request to the Admin API."""
        with Client(self.admin) as client:
            return client.request(method, target, headers, body)

    def load(self, config: dict[str, Any] | str) -> Response:
        """POST a declarative document."""
        text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
        return self.admin_request("POST", "/config", text.encode(), {"Content-Type": "application/yaml"})

    # -- processes ----------------------------------------------------------------------------------------------

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now."""
        return [pid for pid in processes.children(self.process.pid) if "worker" in processes.command_line(pid)]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout_s)

    def output(self) -> str:
        """Return everything the processes wrote so far."""
        self._log.flush()
        return (self.directory / "output.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End all processes and remove the files."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self._kill()
                raise
        self._release()

    def _release(self) -> None:
        os.close(self._ready_read)
        self._log.close()
        self._directory.cleanup()

    def _kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(STOP_TIMEOUT_S)


def run(
    *arguments: str, settings: Mapping[str, object] | None = None, prefix: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        [*command(), *arguments],
        env=environment(settings or {}, prefix),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
