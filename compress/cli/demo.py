"""Train a small Conformer, compress it to half its size, and report what that cost: about 7 minutes on 2 cores.

The stages are the recipes and configs that `compress ls` shows. Interrupted or run again, the demo continues where it
stopped. The results are demo/report.html and demo/report.json, the models demo/teacher/best and demo/student/final.

Examples:
  compress demo
  compress demo --out demo-30 --budget 30%
  compress demo --data my-speech --out my-demo
    with my-speech/train, my-speech/dev, my-speech/test, each an audiofolder: metadata.csv with file_name, transcription
"""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str]) -> None:
    """Runs the demo.

    Args:
        arguments: The words after `compress demo`.

    Raises:
        ValueError: If a stage fails, the data lack a split, or the folder holds a demo with other settings or configs.
    """
    from compress.config import parse
    from compress.demo import DemoConfig, run_demo

    run_demo(parse(DemoConfig, arguments, prog="compress demo", description=__doc__))
