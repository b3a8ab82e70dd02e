"""See how the blocks of a model behave: how alike they are, what it costs to lose each, what the head makes of each.

On a dev set: SVCCA and linear CKA between the boundaries of blocks, the word error rate without every single block, and
CTC loss and word error rate of the model's own head on every block's output. The folder --out receives analysis.json,
analysis.md and analysis.html. Nothing is trained or changed.

Examples:
  compress analyze runs/teacher/best --data my-speech
  compress analyze runs/teacher/best --data my-speech --utterances 100 --measures [svcca,cka,distance_correlation]
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Analyses, prints the tables and writes the files.

    Args:
        arguments: The words after `compress analyze`.

    Raises:
        ValueError: If the model or the data are unusable.
        OSError: If the model or the data cannot be found.
    """
    from compress.config import parse
    from compress.reports.console import show
    from compress.search.analysis_report import ANALYSIS_FILES, page_of
    from compress.search.analyze import AnalyzeConfig, analyze_blocks

    config = parse(AnalyzeConfig, arguments, prog="compress analyze", description=__doc__, positional=["model"])
    show(page_of(analyze_blocks(config)), written=f"{config.out}: {', '.join(ANALYSIS_FILES)}")
