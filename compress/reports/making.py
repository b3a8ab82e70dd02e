"""When a report was made, and by which versions."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import torch

from compress.files.shipped import __version__


def created() -> str:
    """Now, in ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def made() -> dict[str, Any]:
    """The entries `created` and `versions` of a report."""
    return {"created": created(), "versions": {"compress": __version__, "torch": torch.__version__}}
