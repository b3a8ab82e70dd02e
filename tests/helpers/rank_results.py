"""How a program of several processes ends that has found something out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from compress.training.loop import processes


def leave_with(accelerator: Accelerator, out: str, found: Any) -> None:
    """Leaves the process group; what rank 0 has found is written."""
    is_main = processes.rank() == 0
    processes.leave(accelerator)
    if is_main:
        Path(out).write_text(json.dumps(found))
