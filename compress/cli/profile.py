"""Measure what each kind of module costs in time on this machine, for budgets in milliseconds.

Random smaller forms of the model are timed in turn, and one line for each kind of module is fitted to them. The file is
refused where it predicts others too badly. Time it on a machine that does nothing else; it can be carried elsewhere.

Examples:
  compress profile runs/teacher/best --speed.threads 1 --out latency.json
  compress profile runs/teacher/best --runtime onnx --speed.threads 1 --out latency-onnx.json
  compress inspect runs/teacher/best --profile latency.json
  compress shrink runs/teacher/best --data my-speech --budget.latency 50% --budget.profile latency.json --out small
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Writes the file of `compress.profiling`, and shows what is in it.

    Args:
        arguments: The words after `compress profile`.

    Raises:
        ValueError: If the file cannot be written, the model cannot be loaded, or it cannot be predicted well.
        OSError: If the model cannot be found.
    """
    from rich.console import Console

    from compress.config import parse
    from compress.files.writing import require_replaceable
    from compress.profiling import ProfileConfig, profile, profile_page
    from compress.reports.console import show

    config = parse(ProfileConfig, arguments, prog="compress profile", description=__doc__, positional=["model"])
    require_replaceable(config.out)
    made = profile(config, Console(stderr=True))
    made.save(config.out)
    show(profile_page(made, config.model))
