"""Export a model as an ONNX graph, checked against it, for clients of others or any program that runs ONNX.

The folder --out holds the graph, what its client wants beside it, a README that runs it, and export.json, by which
`compress evaluate` knows it. Parakeet's transducers give encoder, decoder and joiner; all other models without a CTC
head give their encoder.

Examples:
  compress export runs/prune/final --out exported
  compress export runs/prune/final --out exported --client sherpa-onnx --int8
  compress export runs/prune/final --out exported --client onnx-asr --int8 --keep_fp32 auto --data my-speech
  compress export runs/supernet/best --size 33% --out exported --client transformers.js
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Exports a model.

    Args:
        arguments: The words after `compress export`.

    Raises:
        ValueError: If the model cannot be exported for that client, its graph computes something else, or the output
            folder exists.
    """
    from compress.config import parse
    from compress.exporting.export import export
    from compress.exporting.page import page_of
    from compress.exporting.settings import ExportConfig
    from compress.reports.console import show

    config = parse(ExportConfig, arguments, prog="compress export", description=__doc__, positional=["model"])
    show(page_of(export(config)))
