"""Measure a model's word error rate, size and speed, alone or against a baseline.

With --out, the folder receives report.json, report.md and report.html (one self-contained file).

Examples:
  compress evaluate runs/prune/final --data my-speech
  compress evaluate runs/prune/final --data my-speech --baseline nvidia/parakeet-ctc-0.6b --out report
  compress evaluate exported --data my-speech --baseline runs/prune/final --speed.threads 1
  compress evaluate runs/prune/final --data my-speech --runtime onnx
  compress evaluate runs/prune/final --data my-speech --data.split dev --batch.seconds 40 --speed.seconds 5
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Evaluates a model, prints a table and writes the report.

    Args:
        arguments: The words after `compress evaluate`.

    Raises:
        ValueError: If the model, the data or an option is unusable.
        OSError: If the model or the data cannot be found.
    """
    from rich.console import Console

    from compress.config import parse
    from compress.evaluation import EvaluateConfig
    from compress.evaluation.evaluate import ReportNotWritten, evaluate_models
    from compress.evaluation.files import EVALUATION_FILES
    from compress.evaluation.page import page_of
    from compress.exporting.temporary import exported_for
    from compress.reports.console import show

    config = parse(EvaluateConfig, arguments, prog="compress evaluate", description=__doc__, positional=["model"])
    try:
        with exported_for(config.model, config.runtime) as export:
            report = evaluate_models(config, console=Console(stderr=True), export=export)
    except ReportNotWritten as error:
        show(page_of(error.report))
        raise
    show(page_of(report), written=f"{config.out}: {', '.join(EVALUATION_FILES)}" if config.out else "")
