"""`openssl` as a peer: `s_client` with what it saw of a handshake and sessions kept in files, and `s_server`."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from tests.support.certificates import Pair
from tests.support.http1 import wait_until

_TIMEOUT_S = 10


@dataclass(frozen=True)
class Handshake:
    """What the client saw. `common_name` None: no certificate came, the handshake failed."""

    common_name: str | None
    is_reused: bool
    protocol: str | None
    cipher: str | None
    output: str


def openssl_or_skip() -> None:
    """Skip the test where the program is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")


def s_client(
    address: tuple[str, int],
    server_name: str,
    *arguments: str,
    save: Path | None = None,
    resume: Path | None = None,
) -> Handshake:
    """Make a handshake and one request, whose answer brings session tickets along."""
    command = ["openssl", "s_client", "-connect", f"{address[0]}:{address[1]}", "-servername", server_name]
    command += [*arguments, "-ign_eof"]
    if save is not None:
        command += ["-sess_out", str(save)]
    if resume is not None:
        command += ["-sess_in", str(resume)]
    request = f"GET / HTTP/1.1\r\nHost: {server_name}\r\nConnection: close\r\n\r\n"
    done = subprocess.run(
        command, input=request, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
    )
    output = done.stdout + done.stderr
    subject = re.search(r"^subject=.*?CN ?= ?([^\n,]+)", output, re.MULTILINE)
    made = re.search(r"^(New|Reused), (TLSv[\d.]+|\(NONE\)), Cipher is (\S+)", output, re.MULTILINE)
    is_made = made is not None and made[2] != "(NONE)"
    return Handshake(
        subject[1].strip() if subject else None,
        bool(made) and made is not None and made[1] == "Reused",
        made[2] if is_made and made is not None else None,
        made[3] if is_made and made is not None else None,
        output,
    )


class OpensslServer:
    """`openssl s_server` on a free port, which sends each line back reversed; a context manager.

    `arguments` are its options, e.g. `-Verify`. What it wrote is in `output`.
    """

    def __init__(self, pair: Pair, directory: Path, *arguments: str) -> None:
        path = directory / "s_server.pem"
        path.write_text(pair.key + pair.certificate, encoding="ascii")
        self._output = (directory / "s_server.log").open("w+b")
        self._process = subprocess.Popen(
            ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", str(path), "-rev", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        assert wait_until(lambda: self._address() is not None), self.output
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(_TIMEOUT_S)
        self._output.close()

    def _address(self) -> "re.Match[str] | None":
        return re.search(r"^ACCEPT 127\.0\.0\.1:(\d+)$", self.output, re.MULTILINE)

    @property
    def output(self) -> str:
        """What it wrote so far."""
        return Path(self._output.name).read_text(encoding="utf-8", errors="replace")

    @property
    def port(self) -> int:
        """Its port."""
        address = self._address()
        assert address is not None
        return int(address[1])
