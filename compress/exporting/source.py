"""The model that is exported, as it will run: at one size, with every frame in every block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from compress.checkpoint import load_recogniser
from compress.elastic.extract import standalone
from compress.exporting.settings import ExportConfig
from compress.running.skipper import skipper_of
from compress.running.subnets import subnet_at_depth, subnet_names


@dataclass(frozen=True)
class SourceModel:
    """The model that is exported.

    Attributes:
        name: as the user gave it.
        model: whole, in eval mode, in float32 on the CPU; one size, if it has several.
        processor: its own.
        size: which one.
        notes: what a person should know of how the graph differs from the checkpoint.
    """

    name: str
    model: PreTrainedModel
    processor: Any
    size: str | None
    notes: tuple[str, ...]

    @classmethod
    def load(cls, config: ExportConfig) -> SourceModel:
        """Loads what is asked for.

        Raises:
            SizeError: if the checkpoint has no such size or depth.
            ValueError: if it cannot be loaded.
        """
        model, processor = load_recogniser(config.model)
        size = subnet_at_depth(model, config.depth) if config.depth is not None else config.size
        notes = []
        if size is not None or len(subnet_names(model)) > 1:
            size = size or subnet_names(model)[-1]
            model = standalone(model, size, consume=True)
            notes.append(f"One size of an elastic checkpoint: {size}.")
        if skipper_of(model) is not None:
            notes.append("Skipping of blank frames is off: every frame goes through all blocks.")
        return cls(config.model, model.eval(), processor, size, tuple(notes))
