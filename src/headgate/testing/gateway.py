"""The gateway as users run it, for tests: `headgate start` in a process of its own, with free ports and its own prefix.

Owns the process: start, readiness, logs, reload, end. Readiness is an event: the supervisor writes one JSON line to the
descriptor named by HEADGATE_READY_FD when all workers serve. A plugin's tests import the fixture `gateway` in their
`conftest.py`; `Gateway` is the same as a context manager.
"""

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import pytest
import yaml

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0
REQUEST_TIMEOUT_S = 15.0

Config: TypeAlias = Mapping[str, Any] | str | Path
"""A declarative document: a mapping, YAML text, or the path of a file."""
PluginPath: TypeAlias = str | Path | Sequence[str | Path]
"""One directory or several."""


class StartFailed(Exception):
    """The process ended, or took too long, before it was ready; `output` is what it wrote."""

    def __init__(self, exit_code: int | None, output: str) -> None:
        super().__init__(f"exit code {exit_code}:\n{output}")
        self.exit_code = exit_code
        self.output = output


@dataclass(frozen=True)
class Answer:
    """A response; names of headers are lower case, several values of one are joined by `, `."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


def command() -> list[str]:
    """Return the command line of the installed program."""
    return [sys.executable, "-m", "headgate"]


def environment(settings: Mapping[str, object], prefix: Path) -> dict[str, str]:
    """Return the process environment: this one's without gateway settings, then what tests set."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HEADGATE_", "KONG_"))}
    defaults: dict[str, object] = {
        "prefix": prefix,
        "database": "off",
        "proxy_listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "status_listen": "off",
        "workers": 1,
        "log_level": "info",
    }
    given = {f"HEADGATE_{name.upper()}": str(value) for name, value in (defaults | dict(settings)).items()}
    return inherited | given


class Gateway:
    """A running gateway; a context manager.

    Args:
        config: declarative document; without it nothing is served until one is posted to the Admin API.
        plugin_path: directories with plugins, as in the setting of that name.
        settings: settings by name, e.g. `plugins="bundled,hello"`, `workers=2`.
    Raises: StartFailed, with everything that the gateway wrote.
    """

    def __init__(self, config: Config | None = None, *, plugin_path: PluginPath = (), **settings: object) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="headgate-test-")
        self.directory = Path(self._directory.name)
        self.prefix = self.directory / "prefix"
        if config is not None:
            self.config_path = self.directory / "headgate.yml"
            self.write_config(config)
            settings = {"declarative_config": self.config_path} | settings
        if plugin_path:
            directories = [plugin_path] if isinstance(plugin_path, str | Path) else plugin_path
            settings = {"plugin_path": ",".join(str(Path(one).absolute()) for one in directories)} | settings
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

    def start_command(self) -> list[str]:
        """Return the command line that is run; it must write the ready line as `headgate start` does."""
        return [*command(), "start"]

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self.start_command(),
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

    def write_config(self, config: Config) -> None:
        """Write the declarative file; it counts from the next reload on."""
        if isinstance(config, Path):
            text = config.read_text(encoding="utf-8")
        else:
            text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
        self.config_path.write_text(text, encoding="utf-8")

    # -- addresses ----------------------------------------------------------------------------------------------

    def addresses(self, name: str) -> list[tuple[str, int]]:
        """Return address and port of each listener of the setting `<name>_listen`."""
        found = [each for each in self.listeners if each["setting"] == f"{name}_listen"]
        return [(each["address"], each["port"]) for each in found]

    @property
    def base_url(self) -> str:
        """URL of the first plain proxy listener, without a slash at the end."""
        return self._url("proxy")

    @property
    def admin_url(self) -> str:
        """URL of the Admin API, without a slash at the end."""
        return self._url("admin")

    def _url(self, name: str) -> str:
        address, port = self.addresses(name)[0]
        return f"http://{address}:{port}"

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        *,
        to: str = "proxy",
    ) -> Answer:
        """Do one request on a connection of its own; `to` is proxy or admin."""
        address, port = self.addresses(to)[0]
        connection = http.client.HTTPConnection(address, port, timeout=REQUEST_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request(method, target, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            content = response.read()
        joined: dict[str, str] = {}
        for name, value in response.getheaders():
            name = name.lower()
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return Answer(response.status, joined, content)

    # -- processes ----------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout_s)

    def reload(self) -> subprocess.CompletedProcess[str]:
        """Run `headgate reload`: new workers with new code and configuration; returns when they serve."""
        return run("reload", prefix=self.prefix)

    def output(self) -> str:
        """Return everything the processes wrote so far."""
        self._log.flush()
        return (self.directory / "output.log").read_text(encoding="utf-8", errors="replace")

    @property
    def logs(self) -> list[str]:
        """The lines the processes wrote so far."""
        return self.output().splitlines()

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


class StartGateway(Protocol):
    """What the fixture `gateway` is: call it with the arguments of `Gateway`."""

    def __call__(
        self, config: Config | None = None, *, plugin_path: PluginPath = (), **settings: object
    ) -> Gateway: ...


@pytest.fixture
def gateway() -> Iterator[Callable[..., Gateway]]:
    """Start gateways with given configurations; they end with the test."""
    with contextlib.ExitStack() as running:

        def start(*arguments: Any, **settings: Any) -> Gateway:
            return running.enter_context(Gateway(*arguments, **settings))

        yield start
