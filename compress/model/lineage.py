"""What a checkpoint knows of the compressions before its own, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compress.files.paths import is_local, last_part


def earlier_compressions(facts: Mapping[str, Any]) -> list[str]:
    """One sentence for each compression before the last one, latest first.

    Args:
        facts: content of `compression.json`.
    """
    lines = []
    while earlier := facts.get("teacher_compression"):
        teacher, source = (str(compression.get("teacher", "a model")) for compression in (facts, earlier))
        teacher, source = (last_part(name) if is_local(name) else name for name in (teacher, source))
        sizes = [f"{earlier[key]:,}" for key in ("parameters_before", "parameters") if earlier.get(key)]
        size = f", {sizes[0]} to {sizes[1]} parameters" if len(sizes) == 2 else ""
        how = earlier.get("method", "method unknown")
        lines.append(f"{teacher} had itself been compressed ({how}, from {source}{size}).")
        facts = earlier
    return lines
