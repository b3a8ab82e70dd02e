"""Make a model smaller without training, in minutes: units are scored on speech, removed, and made up for.

What stays is decided by how much the rest of a module could not make up for (--structure obs, which needs no
transcripts), by the loss (fisher), by variance, by norms (magnitude), or by a structure.json. What is left is refitted
in closed form, module after module, so that it follows the whole model. With a budget, --out is the smaller checkpoint.
With sizes, each is measured on a dev set, and --out has report.html, report.md, report.json and structures/; the same
command goes on where it was interrupted.

Examples:
  compress shrink runs/teacher/best --data my-speech --budget.params 50% --out runs/half
  compress shrink runs/teacher/best --data my-speech --sizes.params [90%,75%,60%,50%,35%,25%] --out runs/curve
  compress shrink runs/teacher/best --data my-speech --structure structure.json --out runs/chosen
  accelerate launch recipes/prune.py --config ... --structure runs/curve/structures/25.json --budget null
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Shrinks a checkpoint, or measures several sizes of it and prints the table.

    Args:
        arguments: The words after `compress shrink`.

    Raises:
        ValueError: If a size cannot be reached, or the model or the speech are unusable.
        OSError: If the model or the data cannot be found.
    """
    from compress.config import parse
    from compress.reports.console import show
    from compress.shrinking import ShrinkConfig, shrink_checkpoint
    from compress.shrinking.curve import measure_curve
    from compress.shrinking.curve_report import SHRINK_FILES, page_of

    config = parse(ShrinkConfig, arguments, prog="compress shrink", description=__doc__, positional=["model"])
    if config.sizes is None:
        shrink_checkpoint(config)
    else:
        show(page_of(measure_curve(config)), written=f"{config.out}: {', '.join(SHRINK_FILES)}")
