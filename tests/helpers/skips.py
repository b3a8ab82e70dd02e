"""Models that skip frames: what they compute, and a threshold at which they skip half of what they hear."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.running.skipper import Skipper, skipper_of


def skipper(model: PreTrainedModel) -> Skipper:
    found = skipper_of(model)
    assert found is not None
    return found


@torch.no_grad()
def logits(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    found: Tensor = model(**inputs).logits
    return found


def halved(model: PreTrainedModel, inputs: dict[str, Tensor], extension: int = 0) -> None:
    """Sets a threshold between two frames' probabilities, so that about half of the frames are kept."""
    model.set_skipping(threshold=0.5, extension=0)
    logits(model, inputs)
    seen = skipper(model).last
    assert seen.blank is not None
    assert seen.valid is not None
    sorted_ = seen.blank[seen.valid].sort().values
    middle = len(sorted_) // 2
    model.set_skipping(threshold=float(sorted_[middle - 1 : middle + 1].mean()), extension=extension)
