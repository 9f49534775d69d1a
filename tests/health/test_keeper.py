"""States that outlive a control process, and no longer than they should."""

import asyncio
from pathlib import Path

from headgate.cluster.frames import AddressHealth, HealthStates
from headgate.health.keeper import HealthKeeper

STATES = HealthStates([AddressHealth("u", "h.test", "10.0.0.1", 80, "unhealthy")])
NOTHING = HealthStates([])


def keeper(directory: Path, generation: int) -> HealthKeeper:
    return HealthKeeper(directory, generation, lambda: STATES)


def is_there(directory: Path, generation: int) -> bool:
    return (directory / f"health-{generation}.states").exists()


def write(directory: Path, generation: int) -> HealthKeeper:
    async def whole() -> HealthKeeper:
        kept = keeper(directory, generation)
        running = asyncio.ensure_future(kept.run())
        kept.changed()
        async with asyncio.timeout(5):
            while not is_there(directory, generation):  # noqa: ASYNC110 another thread writes
                await asyncio.sleep(0.005)
        running.cancel()
        return kept

    return asyncio.run(whole())


def test_the_next_generation_knows_what_the_one_before_did(tmp_path: Path) -> None:
    before = write(tmp_path, 1)
    assert keeper(tmp_path, 2).load(is_replacement=False) == STATES
    assert keeper(tmp_path, 4).load(is_replacement=False) == STATES, "generations that failed leave a gap"
    assert (tmp_path / "health-1.states").stat().st_mode & 0o777 == 0o600
    before.remove()
    assert keeper(tmp_path, 2).load(is_replacement=False) == NOTHING


def test_a_replaced_process_reads_what_its_predecessor_wrote(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert keeper(tmp_path, 1).load(is_replacement=True) == STATES


def test_a_fresh_start_knows_nothing_and_clears_up(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 3)
    assert keeper(tmp_path, 1).load(is_replacement=False) == NOTHING
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "health-1.states").write_bytes(b"no states")
    assert keeper(tmp_path, 2).load(is_replacement=False) == NOTHING
