"""Check speech before training: what would be used, what not, and why.

Nothing is trained. The exit code is 1 where training would stop: where more entries cannot be used than
data.max_bad_fraction allows, or none can. Where the source cannot be opened, or nothing of one source of a mix can be
used, the exit code is 2, and --json prints nothing.

Examples:
  compress check my-speech
  compress check my-speech --data.split dev --model nvidia/parakeet-ctc-0.6b
  compress check my-speech --json > problems.json
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Prints what `compress.evaluation.data_check` finds.

    Args:
        arguments: The words after `compress check`.

    Raises:
        SystemExit: with 1, where training would stop.
        ValueError: If the source cannot be opened, or nothing of one source of a mix can be used.
        OSError: If the model cannot be found.
    """
    import json

    from compress.config import parse
    from compress.evaluation.data_check import DataCheckConfig, check_data, data_page, too_many_problems
    from compress.reports.console import show

    config = parse(DataCheckConfig, arguments, prog="compress check", description=__doc__, positional=["data.source"])
    facts = check_data(config)
    if config.json:
        sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    else:
        show(data_page(facts))
    if too_many_problems(facts):
        sys.exit(1)
