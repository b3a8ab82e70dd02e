"""Evaluation: error rates, size, speed and memory of a model, against a baseline; the report.

`evaluate.py` holds `evaluate_models`, which `compress evaluate` runs with an `EvaluateConfig`; `transcribe` and
`error_rates` are what training recipes use on their dev sets. `metrics.py` holds the error rates as metrics of
`evaluate`, by which every score is made.
"""

from compress.evaluation.bootstrap import BootstrapConfig
from compress.evaluation.errors import ErrorRates, align
from compress.evaluation.generate import GenerateConfig
from compress.evaluation.metrics import error_rates
from compress.evaluation.normalisation import normalise
from compress.evaluation.settings import EvaluateConfig
from compress.evaluation.speed import SpeedConfig
from compress.evaluation.transcribe import transcribe

__all__ = [
    "BootstrapConfig",
    "ErrorRates",
    "EvaluateConfig",
    "GenerateConfig",
    "SpeedConfig",
    "align",
    "error_rates",
    "normalise",
    "transcribe",
]
