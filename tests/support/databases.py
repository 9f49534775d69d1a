"""The databases that tests of the whole gateway run on, as its settings."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import postgres
from tests.support.gateway import run

DATABASES = ("sqlite", "postgres")


@contextmanager
def database_settings(kind: str, directory: Path, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the settings of an empty database of a kind, set up for a gateway with these other settings."""
    if kind == "sqlite":
        yield {"database": "sqlite", "sqlite_path": str(directory / "gateway.sqlite")}
        return
    with postgres.running() as server:
        own = server.settings(server.new_database())
        done = run("migrations", "bootstrap", settings={**settings, **own}, prefix=directory)
        assert done.returncode == 0, done.stdout + done.stderr
        yield own
