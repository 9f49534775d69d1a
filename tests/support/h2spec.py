"""h2spec, the conformance suite for HTTP/2 servers: built once by the Go toolchain, kept outside of the tree."""

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

_MODULE = "github.com/summerwind/h2spec/cmd/h2spec"
_VERSION = "v2.2.1+incompatible"
_BUILD_TIMEOUT_S = 240
_RUN_TIMEOUT_S = 25


@dataclass(frozen=True)
class Report:
    """How many cases ran, and `section: what it sends` of those that failed."""

    count: int
    failed: tuple[str, ...]


def h2spec_or_skip() -> Path:
    """Return the program: that on PATH, that built before, or one built now; skip the test where none can be had."""
    on_path = shutil.which("h2spec")
    if on_path is not None:
        return Path(on_path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headgate" / "h2spec"
    program = cache / "h2spec"
    if program.is_file():
        return program
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        pytest.skip("h2spec is not installed and there is no Go toolchain to build it")
    cache.mkdir(parents=True, exist_ok=True)
    try:
        built = subprocess.run(
            [go, "install", f"{_MODULE}@{_VERSION}"],
            env={**os.environ, "GOBIN": str(cache)},
            capture_output=True,
            text=True,
            timeout=_BUILD_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"h2spec could not be built within {_BUILD_TIMEOUT_S} s")
    if built.returncode != 0 or not program.is_file():
        pytest.skip(f"h2spec could not be built: {built.stderr.strip()[-200:]}")
    return program


def run_h2spec(program: Path, address: tuple[str, int], report: Path, *, is_tls: bool) -> Report:
    """Run every case, the optional ones too, against a server."""
    command = [str(program), "-h", address[0], "-p", str(address[1]), "--strict", "-o", "2", "-j", str(report)]
    if is_tls:
        command += ["-t", "-k"]
    # Its exit code says that cases failed, which the report says better.
    subprocess.run(command, capture_output=True, timeout=_RUN_TIMEOUT_S, check=False)
    cases = ElementTree.parse(report).getroot().findall(".//testcase")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return Report(len(cases), tuple(f"{case.get('package')}: {case.get('classname')}" for case in failed))
