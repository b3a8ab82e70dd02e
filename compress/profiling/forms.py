"""Smaller forms of a model, ready to be timed: as torch runs them, or as graphs that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import frame_outputs
from compress.exporting.clients import graph_of_blocks
from compress.exporting.export import write_checked, write_followed
from compress.exporting.settings import LARGEST_DIFFERENCE
from compress.exporting.source import SourceModel
from compress.model.removal import remove
from compress.running.aspects import in_full
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.signatures import SIGNATURES
from compress.structure import Structure

TimedPass = Callable[[], object]
"""One forward pass."""


class Forms(Protocol):
    """The smaller forms of one model."""

    def prepare(self, structure: Structure) -> None:
        """Does beforehand what takes long, and need not be done in every round."""

    def ready(self, structure: Structure) -> TimedPass:
        """A smaller form that can be timed."""


class TorchForms:
    """Smaller forms in torch, made when they are asked for.

    Args:
        model: all of it, in eval mode.
        inputs: what each is called with.
    """

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
        self.model, self.inputs = model, inputs

    def prepare(self, structure: Structure) -> None:
        """Does nothing."""

    def ready(self, structure: Structure) -> TimedPass:
        """Removes what the Structure does not keep."""
        return partial(_pass_in_full, remove(self.model, structure), self.inputs)


class GraphForms:
    """Smaller forms as graphs in a folder, for any program that runs ONNX; the first is compared with its model.

    Args:
        model: all of it, in eval mode, in float32 on the CPU.
        processor: its own.
        inputs: what each is called with.
        folder: an empty one, which gets a file for each.
    """

    def __init__(self, model: PreTrainedModel, processor: Any, inputs: dict[str, Tensor], folder: Path) -> None:
        self.model, self.processor, self.folder = model, processor, folder
        self.slot = graph_of_blocks(model, processor)
        self.signature = SIGNATURES[self.slot.signature]
        self.names, self.tensors = self.signature.input_names(model), self.signature.tensors(model, inputs)
        self.paths: dict[Structure, Path] = {}

    def prepare(self, structure: Structure) -> None:
        """Writes its graph, once for equal Structures.

        Raises:
            ExportError: if the model cannot be exported, or its graph computes something else.
        """
        if structure in self.paths:
            return
        source = SourceModel(str(self.model.name_or_path), remove(self.model, structure), self.processor, None, ())
        path = self.folder / f"{len(self.paths)}.onnx"
        with in_full(source.model):
            if self.paths:
                write_followed(source, self.slot, path)
            else:
                write_checked(source, self.slot, path, LARGEST_DIFFERENCE)
        self.paths[structure] = path

    def ready(self, structure: Structure) -> TimedPass:
        """Opens its graph."""
        return partial(OnnxGraph(self.paths[structure], self.names).run, self.tensors)


def _pass_in_full(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """What is timed: all blocks on all frames, as budgets count them."""
    with in_full(model):
        return frame_outputs(model, inputs)
