"""What a checkpoint knows of the compressions before its own, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def earlier_compressions(facts: Mapping[str, Any]) -> list[str]:
    """One sentence for each compression before the last one, latest first.

    Args:
        facts: content of `compression.json`.
    """
    lines = []
    while earlier := facts.get("teacher_compression"):
        teacher, source = (_short(str(one.get("teacher", "a model"))) for one in (facts, earlier))
        sizes = [f"{earlier[key]:,}" for key in ("parameters_before", "parameters") if earlier.get(key)]
        size = f", {sizes[0]} to {sizes[1]} parameters" if len(sizes) == 2 else ""
        how = earlier.get("method", "method unknown")
        lines.append(f"{teacher} had itself been compressed ({how}, from {source}{size}).")
        facts = earlier
    return lines


def _short(name: str) -> str:
    """A name on the Hub as it is, of a folder the last part."""
    path = PurePath(name)
    return name if len(path.parts) <= 2 and not path.is_absolute() else path.name
