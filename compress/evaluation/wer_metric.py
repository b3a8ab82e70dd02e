"""The word error rate as an `evaluate` metric that needs no network (`evaluate.load("wer")` downloads a script)."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from compress.evaluation.errors import error_rates

_DESCRIPTION = "Word and character error rate, pooled over the corpus (jiwer alignment)."
_CITATION = ""
_INPUTS = """
Args:
    predictions: list of texts written by the model.
    references: list of texts that were said, in the same order; empty ones are allowed.
Returns:
    a dict with wer and cer (fractions: 0.05 is 5 %), words, substitutions, deletions, insertions; the same for
    characters.
"""


class WordErrorRate(evaluate.Metric):  # type: ignore[misc]  # evaluate ships no types
    """`evaluate.Metric` over `error_rates`: `add`, `add_batch`, `compute` and `evaluate.combine` work offline.

    Examples are kept in memory unless several processes compute together (`num_process`, `process_id`,
    `experiment_id`), which `evaluate` does through files in `cache_dir`.

    Example:
        >>> WordErrorRate().compute(predictions=["a b"], references=["a c"])["wer"]
        0.5
    """

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
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | int]:
        return error_rates(references, predictions).to_dict()
