"""States of health kept for the control process that follows: after a reload nothing is sent to what is unhealthy.

One small file for each generation beside the link, there for as long as its control process runs. A replaced control
process reads its predecessor's, one of a new generation that of the generation before; a fresh start reads none.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from headgate.cluster.frames import HealthStates

_log = logging.getLogger("headgate.health")
_PREFIX: Final = "health-"
_SUFFIX: Final = ".states"
# Many targets may go at once; a reload is never sooner than this after what an operator sees.
_INTERVAL_S: Final = 0.2


class HealthKeeper:
    """The file of one control process.

    Args: `directory`: of the node alone; `states` gives what is to be kept.
    """

    def __init__(self, directory: Path, generation: int, states: Callable[[], HealthStates]) -> None:
        self._directory = directory
        self._generation = generation
        self._states = states
        self._path = directory / f"{_PREFIX}{generation}{_SUFFIX}"
        self._has_changed = asyncio.Event()

    def load(self, *, is_replacement: bool) -> HealthStates:
        """Return what the control process before has kept; nothing at a fresh start, and files of a dead node go."""
        newest = self._generation if is_replacement else self._generation - 1
        found = {number: path for number, path in self._files() if number <= newest}
        if self._generation == 1 and not is_replacement:
            for _, path in self._files():
                path.unlink(missing_ok=True)
        if not found:
            return HealthStates([])
        # What is taken over is kept anew: the file it comes from ends with its process.
        self._has_changed.set()
        try:
            return msgspec.msgpack.decode(found[max(found)].read_bytes(), type=HealthStates)
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("the health of targets before is not known: %s", error)
            return HealthStates([])

    def changed(self) -> None:
        """Have the states kept soon."""
        self._has_changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            body = msgspec.msgpack.encode(self._states())
            try:
                await asyncio.to_thread(self._write, body)
            except OSError as error:
                _log.error("the health of targets cannot be kept in %s: %s", self._path, error)
            await asyncio.sleep(_INTERVAL_S)

    def remove(self) -> None:
        """Remove the file: this process ends, and what it knows grows old."""
        self._path.unlink(missing_ok=True)

    def _write(self, body: bytes) -> None:
        beside = self._path.with_suffix(".new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(body)
        beside.replace(self._path)

    def _files(self) -> Iterator[tuple[int, Path]]:
        for path in self._directory.glob(f"{_PREFIX}*{_SUFFIX}"):
            number = path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
            if number.isdigit():
                yield int(number), path
