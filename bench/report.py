"""Figures as ratios with their spread, as a table for people and JSON for machines."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """Round by round quotient of two contenders."""

    middle: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float]) -> "Ratio":
        """Divide round by round; a round's two figures come from neighbouring minutes of the machine."""
        quotients = [value / base for value, base in zip(values, baseline, strict=True)]
        return cls(median(quotients), min(quotients), max(quotients))

    def document(self) -> dict[str, float]:
        """Return it for JSON."""
        return {"median": self.middle, "min": self.lowest, "max": self.highest}

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.lowest:.2f}-{self.highest:.2f})"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    figure: str
    ratio: Ratio
    baseline: str
    tail: str = ""
    cost: str = ""


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| case | figure | ratio, median (min-max) | to | p99 | processor time, busy |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.title} | {row.figure} | {row.ratio} | {row.baseline} | {row.tail} | {row.cost} |" for row in rows
    ]
    return "\n".join(lines)


def memory_table(memory: dict[str, int]) -> str:
    """Return memory figures as a Markdown table."""
    lines = ["| a worker's memory (PSS) | MB |", "|---|---|"]
    lines += [f"| {name} | {size / 1_000_000:.0f} |" for name, size in memory.items()]
    return "\n".join(lines)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write the raw data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
