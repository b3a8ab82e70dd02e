"""What a compression leaves: a model after each of its phases, each with all that is known of its making by then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from compress.checkpoint import describe, read_compression, save
from compress.cost import size_of
from compress.deciding.budget import Budget
from compress.reports.formats import percent
from compress.structure import Structure
from compress.training.loop import processes

logger = logging.getLogger(__name__)

GATED, REMOVED, FINAL = "gated", "removed", "final"
"""Folders of the models, in the order in which they appear."""

FINAL_FACTS = (
    "structure", "requested", "limit", "expected", "achieved", "full", "parameters_before", "parameters", "route", "wer"
)  # fmt: skip
"""What is repeated of the final model at the end of a run."""


class Results:
    """The models of one compression, in the folder of its run.

    Args:
        output: that folder.
        name: folder or Hub name of the teacher.
        teacher: the teacher itself.
        processor: saved with every model.
        budget: the target, if there was one.
        dtype: of the weights in the files; None: as they are.
    """

    def __init__(
        self,
        output: Path,
        name: str,
        teacher: PreTrainedModel,
        processor: Any,
        budget: Budget | None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.output, self.name, self.before = output, name, size_of(teacher)
        self.processor, self.budget, self.dtype = processor, budget, dtype

    def save(
        self, model: PreTrainedModel, phase: str, facts: dict[str, Any], structure: Structure | None = None
    ) -> None:
        """Saves the model that a phase ends with, on rank 0.

        Args:
            model: compressed or not.
            phase: name of its folder.
            facts: what the phase adds to what is known; facts of the phases before it are carried on.
            structure: the Structure that was decided, if it is yet to be applied to the model.
        """
        if processes.rank() != 0:
            return
        made = describe("prune", self.name, self.before, size_of(model), self.budget)
        known = read_compression(str(self.output / REMOVED)) or {}
        save(model, self.processor, self.output / phase, known | made | facts | {"phase": phase}, structure, self.dtype)

    def numbers(self) -> dict[str, Any]:
        """Requested, expected and achieved size, and what else is known of the final model."""
        facts = read_compression(str(self.output / FINAL)) or {}
        return {name: facts.get(name) for name in FINAL_FACTS}


def say_removed(small: PreTrainedModel, teacher: PreTrainedModel, facts: Mapping[str, Any]) -> None:
    """Tells how much is left of a teacher and, where it was measured, what that costs before recovery."""
    left, before = (f"{model.num_parameters():,}" for model in (small, teacher))
    rate = f"; WER {percent(facts['wer']['dev'])} before recovery" if "wer" in facts else ""
    logger.info("Removed all but %s of %s parameters%s", left, before, rate)
