"""Repairing a smaller model on speech, and saying what that did."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel

from compress.curvature.repair import RefitConfig, Refitted, Repair
from compress.shrinking.calibration import Calibration

logger = logging.getLogger(__name__)


def repair(small: PreTrainedModel, whole: PreTrainedModel, speech: Calibration, config: RefitConfig) -> dict[str, Any]:
    """Refits a smaller model in closed form, in place; both models come back in the mode in which they were.

    Args:
        small: removed from `whole`, and perhaps trained.
        whole: what it is to come close to.
        speech: on the device of both.
        config: how.

    Returns:
        What `compression.json` says of it: the settings, on how much speech, and the mean squared error of modules, as
        a share of what they are to give, before and after.
    """
    began, modes = time.perf_counter(), (small.training, whole.training)
    small.eval(), whole.eval()
    modules = list(Repair(small, whole, speech.inputs, config, speech.total).run())
    small.train(modes[0]), whole.train(modes[1])
    _warn_of_few_frames(modules)
    return {
        "utterances": speech.utterances,
        "ridge": config.ridge,
        "inputs": config.inputs,
        "frames": max((module.frames for module in modules), default=0),
        "error_before": fmean(module.before for module in modules) if modules else 0.0,
        "error_after": fmean(module.after for module in modules) if modules else 0.0,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _warn_of_few_frames(modules: Sequence[Refitted]) -> None:
    few = [module for module in modules if module.frames < module.inputs]
    if few:
        widest = max(few, key=lambda module: module.inputs)
        logger.warning(
            "%d of %d projections were refitted on fewer frames than they have inputs (%s: %d frames, %d "
            "inputs): what the speech does not determine stays as it was. Give more speech (refit.utterances).",
            len(few), len(modules), widest.place.label, widest.frames, widest.inputs,
        )  # fmt: skip
