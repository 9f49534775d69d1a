"""What `headgate dev` watches, and the changes in it, gathered until a save is over.

Directories of code are watched with everything below them; settings and declarative file through their directories,
because editors replace files instead of writing into them.
"""

import asyncio
import contextlib
import importlib.util
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from watchfiles import Change, awatch

from headgate.config.load import Settings
from headgate.policy.catalog import ENTRY_POINT_GROUP

_SUFFIXES = frozenset((".py", ".so", ".json", ".toml", ".yml", ".yaml", ".html", ".txt", ".pem"))
_IGNORED_FOLDERS = frozenset(("__pycache__", "node_modules", "build", "dist", "tests", "venv"))
# A save is several events (an editor's new file, its rename, a formatter): they count as one after this silence.
_SILENCE_MS = 60
_LONGEST_GATHERING_MS = 400


@dataclass(frozen=True)
class WatchSet:
    """`folders` are watched with all their code, `files` alone."""

    folders: frozenset[Path]
    files: frozenset[Path]

    def concerns(self, path: Path) -> bool:
        """Say whether a change of this file may change what the node does."""
        if path in self.files:
            return True
        if path.suffix not in _SUFFIXES:
            return False
        for folder in self.folders:
            if path.is_relative_to(folder):
                parts = path.relative_to(folder).parts[:-1]
                return not any(part in _IGNORED_FOLDERS or part.startswith(".") for part in parts)
        return False


def watch_set(settings: Settings) -> WatchSet:
    """Return what a node with these settings is made of, beside the gateway itself."""
    folders = {Path(directory) for directory in settings.general.plugin_directories}
    folders |= set(_editable_packages(settings.general.plugins))
    files = []
    if settings.conf_path is not None:
        files.append(settings.conf_path)
    if settings.datastore.declarative_config is not None:
        files.append(Path(settings.datastore.declarative_config).expanduser())
    return WatchSet(frozenset(folders), frozenset(file.absolute() for file in files))


def _editable_packages(names: Iterable[str]) -> Iterable[Path]:
    """Yield the packages of installed plugins that lie outside of site-packages: those that people edit."""
    wanted = set(names)
    installed = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")]
    for entry in metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name.replace("_", "-") not in wanted:
            continue
        # The top package alone: finding a module below it would run the plugin's code in this process.
        spec = importlib.util.find_spec(entry.module.partition(".")[0])
        if spec is None:
            continue
        for location in spec.submodule_search_locations or ([str(Path(spec.origin).parent)] if spec.origin else []):
            folder = Path(location).absolute()
            if not any(folder.is_relative_to(place) for place in installed):
                yield folder


class Watcher:
    """Gathers changes of a watch set; `changes` waits for the next ones."""

    def __init__(self, wanted: WatchSet) -> None:
        self.wanted = wanted
        self._changes: asyncio.Queue[frozenset[Path]] = asyncio.Queue()
        self._end = asyncio.Event()
        self._tasks = [
            asyncio.ensure_future(self._watch(paths, is_recursive=is_recursive))
            for paths, is_recursive in (
                (wanted.folders, True),
                (frozenset(file.parent for file in wanted.files), False),
            )
            if paths
        ]

    async def changes(self) -> frozenset[Path]:
        """Return the files of the next save, and of those that came while nobody waited."""
        found = set(await self._changes.get())
        while not self._changes.empty():
            found |= self._changes.get_nowait()
        return frozenset(found)

    async def stop(self) -> None:
        """Watch no more."""
        self._end.set()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, paths: frozenset[Path], *, is_recursive: bool) -> None:
        def concerns(change: Change, path: str) -> bool:
            return self.wanted.concerns(Path(path))

        async for batch in awatch(
            *paths,
            watch_filter=concerns,
            debounce=_LONGEST_GATHERING_MS,
            step=_SILENCE_MS,
            stop_event=self._end,
            recursive=is_recursive,
        ):
            self._changes.put_nowait(frozenset(Path(path) for _, path in batch))


def forget_bytecode(files: Iterable[Path]) -> None:
    """Remove what Python keeps of changed sources: it tells versions apart by whole seconds and size only."""
    for file in files:
        if file.suffix == ".py":
            with contextlib.suppress(OSError):
                Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
