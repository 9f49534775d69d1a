"""What one call of a function of the configuration may take, in Lua and in Python alike.

Owns the defaults where no node has set any, as in a test of a plugin; a test compares them with those of the settings.
Imports no machine: functions in Python need none.
"""

from typing import Any

DEFAULT_INSTRUCTIONS = 10_000_000
DEFAULT_MEMORY_BYTES = 64 * 1024 * 1024

MOST_KEPT_CALLS = 8
"""What all functions of a worker may keep between calls, in calls' worth of memory (own choice)."""

MOST_SECONDS = 1.0
"""That a call may run, waiting left out (own choice): what no count of instructions sees, such as huge texts."""


def memory_of(given: Any) -> int:
    """Return how many bytes a call may take, from the setting: a number, `64m`, None where not set."""
    if given is None:
        return DEFAULT_MEMORY_BYTES
    if isinstance(given, int):
        return given
    text = str(given).lower()
    factor = {"k": 1024, "m": 1024**2, "g": 1024**3}.get(text[-1:], 1)
    return int(text.rstrip("kmg")) * factor


def instructions_of(given: Any) -> int:
    """Return how many instructions a call may take, from the setting, None where it is not set; 0 is no limit."""
    return DEFAULT_INSTRUCTIONS if given is None else int(given)
