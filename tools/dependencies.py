"""Print what pyproject.toml requires: the package's dependencies, then those of the extras given as arguments.

Used by the Makefile, so that no requirement is written twice.
"""

import sys
import tomllib
from pathlib import Path


def dependencies(pyproject: Path, extras: list[str]) -> list[str]:
    """Return requirement strings of the package and of the named extras."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = list(project["dependencies"])
    for extra in extras:
        found += project["optional-dependencies"][extra]
    return found


if __name__ == "__main__":
    print("\n".join(dependencies(Path(__file__).parent.parent / "pyproject.toml", sys.argv[1:])))
