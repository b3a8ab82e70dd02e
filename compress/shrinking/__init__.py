"""Smaller without training: deciding by speech, removing, and repairing in closed form, in one round or several."""

from compress.shrinking.calibration import Calibration, read_calibration
from compress.shrinking.checkpoints import shrink, shrink_checkpoint
from compress.shrinking.repairing import repair
from compress.shrinking.rounds import Shrunk, needs_speech, shrink_in_rounds, smaller
from compress.shrinking.settings import ApplyConfig, ShrinkConfig

__all__ = [
    "ApplyConfig",
    "Calibration",
    "ShrinkConfig",
    "Shrunk",
    "needs_speech",
    "read_calibration",
    "repair",
    "shrink",
    "shrink_checkpoint",
    "shrink_in_rounds",
    "smaller",
]
