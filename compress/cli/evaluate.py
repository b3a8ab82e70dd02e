"""Measure a model's word error rate, size and speed, alone or against a baseline.

With --out, the folder receives report.json, report.md and report.html (one self-contained file).

Examples:
  compress evaluate runs/prune/final --data my-speech
  compress evaluate runs/prune/final --data my-speech --baseline nvidia/parakeet-ctc-0.6b --out report
  compress evaluate runs/prune/final --data my-speech --data.split dev --batch.seconds 40 --speed.seconds 5
"""

from __future__ import annotations

from collections.abc import Sequence

_FLAGS = ("-h", "--help", "--print_config")


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
    from compress.evaluation.evaluate import EvaluateConfig, evaluate_models, expand_data_shorthand
    from compress.evaluation.table import show

    words = expand_data_shorthand(model_as_option(arguments))
    config = parse(EvaluateConfig, words, prog="compress evaluate", description=__doc__)
    show(evaluate_models(config, console=Console(stderr=True)))


def model_as_option(arguments: Sequence[str]) -> list[str]:
    """Turns the MODEL of `MODEL --data D` into `--model MODEL`; every option but the flags takes one value.

    Args:
        arguments: The words after the verb.
    """
    words: list[str] = []
    takes_value = False
    for word in arguments:
        if not takes_value and not word.startswith("-"):
            words.append("--model")
        takes_value = word.startswith("-") and "=" not in word and word not in _FLAGS and not takes_value
        words.append(word)
    return words
