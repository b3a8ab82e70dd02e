"""Inspects the configurations of public checkpoints, each in a fresh process, and measures what that takes.

    python -m tools.experiments.inspect_public --results RESULTS.md

Nothing is downloaded: see tools/experiments/public_configs.py.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from tools.commands import main, typed
from tools.experiments.public_configs import CONFIGS
from tools.results import REPOSITORY, EntryConfig, add, facts, grid

MAXRSS_UNITS_PER_MIB = 1024
NAMES = ("configuration", "parameters", "MACs, 10 s", "reachable, params", "reachable, MACs", "seconds", "peak MiB")


@dataclass(frozen=True, kw_only=True)
class InspectConfig(EntryConfig):
    """The table, and the entry that holds it."""

    title: str = "compress inspect on public configurations"
    note: str = "2 CPU cores"


def inspect(config: InspectConfig) -> None:
    """Prints a line per configuration, and appends the table to a file of results."""
    rows = []
    for name in CONFIGS:
        command = [sys.executable, "-m", "tools.experiments.inspect_public", name]
        cells = json.loads(subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout)
        rows.append([name, *cells])
        print(" | ".join(rows[-1]), flush=True)
    add(config, [*facts(typed(), "none: configurations only", config.note), *grid(NAMES, rows)])


def describe(name: str) -> dict[str, Any]:
    """What `compress inspect` says of one of them."""
    from compress.evaluation.inspection import inspect_model

    with tempfile.TemporaryDirectory() as folder:
        CONFIGS[name].save_pretrained(folder)
        return inspect_model(folder)


def measured(name: str) -> list[str]:
    """One row of the table."""
    start = time.perf_counter()
    inspected = describe(name)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_UNITS_PER_MIB
    ranges = [
        f"{row['smallest'] / row['full']:.0%} to {row['largest'] / row['full']:.0%}"
        for row in inspected["reachable"]
        if row["denominator"] == "total"
    ]
    size, macs = f"{inspected['parameters']['total'] / 1e6:,.1f} M", f"{inspected['macs']['total'] / 1e9:,.1f} G"
    return [size, macs, *ranges, f"{seconds:.1f}", f"{memory:,.0f}"]


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] in CONFIGS:
        print(json.dumps(measured(sys.argv[1])))
    else:
        main(inspect)
