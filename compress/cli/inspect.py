"""Show a model's parameters and MACs per block and module, what can be gated, and which budgets can be reached.

Nothing is trained. A model that was downloaded once is read from the cache.

Examples:
  compress inspect nvidia/parakeet-ctc-0.6b
  compress inspect runs/prune/final --seconds 30
  compress inspect runs/prune/final --json > sizes.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Prints what `compress.evaluation.inspection` finds out about a model.

    Args:
        arguments: The words after `compress inspect`.

    Raises:
        ValueError: If the model is of a family that is not supported, or `--seconds` is not positive.
        OSError: If the model cannot be found.
    """
    from compress.cli import parse_verb, verb_parser
    from compress.cost import DEFAULT_SECONDS

    parser = verb_parser("inspect", __doc__)
    parser.add_argument("model", type=str, help="Checkpoint folder or Hub name.")
    parser.add_argument(
        "--seconds", type=float, default=DEFAULT_SECONDS, help="Length of the utterance that MACs are counted for."
    )
    parser.add_argument("--json", action="store_true", help="Print JSON instead of a table.")
    options = parse_verb(parser, arguments)

    from rich.console import Console

    from compress.evaluation.inspection import inspect_model, render

    found = inspect_model(options.model, options.seconds)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        Console().print(render(found))
