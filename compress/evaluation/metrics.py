"""Error rates as metrics of `evaluate`, by which every score is made; and any further metric that a user names."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate

from compress.evaluation.errors import ErrorRates, character_errors, tidy, word_errors

logger = logging.getLogger(__name__)

_INPUTS = """
Args:
    predictions: list of texts written by the model.
    references: list of texts that were said, in the same order; empty ones are allowed.
"""
_EXAMPLE = ["turn the light on"]


class _ErrorRate(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """A rate of pooled errors, which needs no network: `add`, `add_batch`, `compute` and `evaluate.combine` work.

    Examples are kept in memory unless several processes compute together (`num_process`, `process_id`,
    `experiment_id`), which `evaluate` does through files in `cache_dir`.
    """

    description = ""

    def __init__(
        self,
        config_name: str | None = None,
        keep_in_memory: bool | None = None,
        num_process: int = 1,
        **options: Any,
    ) -> None:
        in_memory = num_process == 1 if keep_in_memory is None else keep_in_memory
        super().__init__(config_name, keep_in_memory=in_memory, num_process=num_process, **options)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=type(self).description,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )


class WordErrorRate(_ErrorRate):
    """Gives `wer` (a fraction: 0.05 is 5 %), `words`, `substitutions`, `deletions` and `insertions`.

    Example:
        >>> WordErrorRate().compute(predictions=["a b"], references=["a c"])["wer"]
        0.5
    """

    description = "Word error rate, pooled over the corpus (jiwer alignment)."

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return word_errors(references, predictions)


class CharacterErrorRate(_ErrorRate):
    """Gives `cer`, `characters`, and their substitutions, deletions and insertions."""

    description = "Character error rate, pooled over the corpus (jiwer alignment)."

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return character_errors(references, predictions)


OWN_METRICS: Mapping[str, type[Any]] = {"wer": WordErrorRate, "cer": CharacterErrorRate}
"""The metrics that every report holds."""


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> ErrorRates:
    """Scores a corpus by all of `OWN_METRICS`; arguments and errors as in `word_errors`."""
    references, hypotheses = tidy(references, hypotheses)
    rates: dict[str, Any] = {}
    for metric in OWN_METRICS.values():
        rates |= metric().compute(predictions=hypotheses, references=references)
    return ErrorRates(utterances=len(references), **rates)


def load_metrics(names: Sequence[str]) -> dict[str, Any]:
    """Loads the metrics of `evaluate` beside our own, and tries each on one sentence before it is relied on.

    Args:
        names: of our own metrics, of metrics on the Hub, or folders of metrics; what is not ours brings code that is
            run, which is said before.

    Returns:
        The metrics that are not ours, by name.

    Raises:
        ValueError: naming a metric that cannot be loaded, or cannot score transcripts.
    """
    return {name: _foreign(name) for name in dict.fromkeys(names) if name not in OWN_METRICS}


def further_scores(metrics: Mapping[str, Any], references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, Any]:
    """Scores a corpus by metrics from `load_metrics`.

    Returns:
        By the name of each metric, its numbers by their names.
    """
    return {name: _numbers(metric, references, hypotheses) for name, metric in metrics.items()}


def _foreign(name: str) -> Any:
    logger.warning(
        "metrics: %s is no metric of this package: its code is loaded (from the Hub, if need be) and run", name
    )
    try:
        metric = evaluate.load(name)
        numbers = _numbers(metric, _EXAMPLE, _EXAMPLE)
    except Exception as error:  # whatever the code of a stranger raises
        raise ValueError(f"metrics: {name!r} cannot be used to score transcripts: {_first_line(error)}") from error
    if not numbers:
        raise ValueError(f"metrics: {name!r} gives no number for a transcript.")
    return metric


def _numbers(metric: Any, references: Sequence[str], hypotheses: Sequence[str]) -> dict[str, float]:
    result = metric.compute(predictions=list(hypotheses), references=list(references)) or {}
    return {
        key: float(value)
        for key, value in result.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
