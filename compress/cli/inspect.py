"""Show a model's parameters and MACs per block and module, what can be gated, and which budgets can be reached.

Nothing is trained. A model that was downloaded once is read from the cache.

Examples:
  compress inspect nvidia/parakeet-ctc-0.6b
  compress inspect runs/prune/final --seconds 30
  compress inspect runs/prune/final --profile latency.json
  compress inspect runs/prune/final --json > sizes.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from compress.config import parse
from compress.cost import DEFAULT_SECONDS


@dataclass(frozen=True)
class InspectConfig:
    """What is looked at.

    Attributes:
        model: checkpoint folder or Hub name.
        seconds: length of the utterance that MACs are counted for.
        profile: file of `compress profile`: times that can be reached are shown, too.
        json: print JSON instead of a table.
    """

    model: str
    seconds: float = DEFAULT_SECONDS
    profile: str | None = None
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Prints what `compress.evaluation.inspection` finds out about a model.

    Args:
        arguments: The words after `compress inspect`.

    Raises:
        ValueError: If the model is of a family that is not supported, or `--seconds` is not positive.
        OSError: If the model cannot be found.
    """
    config = parse(InspectConfig, arguments, prog="compress inspect", description=__doc__, positional=["model"])

    from compress.evaluation.inspection import inspect_model, inspection_page
    from compress.reports.console import show

    facts = inspect_model(config.model, config.seconds, config.profile)
    if config.json:
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        show(inspection_page(facts))
