"""Rules of the tree that no single module owns: mirrored tests, file sizes, generated pages, import contracts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import ROOT

SOURCE = ROOT / "src" / "headgate"
LINE_LIMIT = 800


def _sources() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def _covered() -> dict[str, str]:
    """Modules without a test of their own, and the test that covers them."""
    lines = (ROOT / "tests" / "invariants" / "mirrors.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return dict(pairs)


def _mirrors(path: Path) -> list[Path]:
    """The places where a module's test may be: its mirror, or for a package of one noun beside the package."""
    relative = path.relative_to(SOURCE)
    name = relative.stem.lstrip("_")
    package = ROOT / "tests" / relative.parent
    found = [package / f"test_{name}.py"]
    if len(relative.parts) > 2:
        # plugins/rate_limiting/config.py: tests/plugins/test_rate_limiting_config.py, or test_rate_limiting.py.
        folder = relative.parent.name
        found += [package.parent / f"test_{folder}_{name}.py", package.parent / f"test_{folder}.py"]
    return found


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_has_its_mirrored_test(path: Path) -> None:
    if any(mirror.exists() for mirror in _mirrors(path)):
        return
    covered_by = _covered().get(str(path.relative_to(SOURCE)))
    assert covered_by is not None, f"add {_mirrors(path)[0].relative_to(ROOT)}, or a line in mirrors.txt"
    assert (ROOT / "tests" / covered_by).exists(), f"{covered_by} of mirrors.txt does not exist"


def test_exceptions_from_mirroring_are_needed() -> None:
    needless = [
        module
        for module in _covered()
        if not (SOURCE / module).exists() or any(mirror.exists() for mirror in _mirrors(SOURCE / module))
    ]
    assert needless == []


def test_no_file_is_too_long() -> None:
    long = []
    for folder in ("src", "crates", "tests", "bench", "tools", "examples"):
        for suffix in ("*.py", "*.pyi", "*.rs"):
            for path in (ROOT / folder).rglob(suffix):
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > LINE_LIMIT:
                    long.append(f"{path.relative_to(ROOT)}: {lines}")
    assert long == []


def test_modules_say_what_they_own() -> None:
    silent = [
        str(path.relative_to(SOURCE))
        for path in _sources()
        if not path.read_text(encoding="utf-8").lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_generated_pages_are_current() -> None:
    finished = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr


def test_native_module_has_one_importer() -> None:
    importing = re.compile(
        r"^\s*(?:from headgate import .*\b_engine\b|from headgate\._engine |import headgate\._engine)", re.M
    )
    found = [path for path in _sources() if importing.search(path.read_text(encoding="utf-8"))]
    assert found == [SOURCE / "engine.py"]


def test_imports_keep_their_contracts() -> None:
    finished = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
