"""Evaluation: error rates, size, speed and memory of a model, against a baseline; the report.

`evaluate.py` holds `EvaluateConfig` and `evaluate_models`, which `compress evaluate` runs; `transcribe` and
`error_rates` are what training recipes use on their dev sets. The `evaluate` metric is
`compress.evaluation.wer_metric.WordErrorRate` (not imported here: `import evaluate` is slow).
"""

from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.errors import ErrorRates, align, error_rates, normalise
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.speed import SpeedConfig
from compress.evaluation.transcribe import transcribe

__all__ = [
    "BootstrapConfig",
    "ErrorRates",
    "GenerateConfig",
    "SpeedConfig",
    "align",
    "error_rates",
    "normalise",
    "transcribe",
]
