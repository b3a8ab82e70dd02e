"""Smaller forms of a model, ready to be timed: as torch runs them, or as graphs that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
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
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.signatures import SIGNATURES
from compress.structure import Structure

TimedPass = Callable[[], object]
"""One forward pass."""
HELD_BYTES = 1 << 30
"""Of all smaller forms together: below it they are made once, above it anew in every round."""


class Forms(Protocol):
    """The smaller forms of one model."""

    def prepare(self, structures: Sequence[Structure]) -> None:
        """Does beforehand what takes long, and is no part of a pass."""

    def ready(self, structure: Structure) -> TimedPass:
        """A smaller form that can be timed."""


class TorchForms:
    """Smaller forms in torch; where they are large, only one of them is held at a time.

    Args:
        model: all of it, in eval mode.
        inputs: what each is called with.
    """

    def __init__(self, model: PreTrainedModel, inputs: dict[str, Tensor]) -> None:
        self.model, self.inputs = model, inputs
        self.ready: Callable[[Structure], TimedPass] = self._made

    def prepare(self, structures: Sequence[Structure]) -> None:
        """Holds them all if they are small."""
        if _are_small(self.model, structures):
            self.ready = cache(self._made)

    def _made(self, structure: Structure) -> TimedPass:
        return partial(frame_outputs, remove(self.model, structure), self.inputs)


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
        self.ready: Callable[[Structure], TimedPass] = self._opened

    def prepare(self, structures: Sequence[Structure]) -> None:
        """Writes all graphs.

        Raises:
            ExportError: if the model cannot be exported, or its graph computes something else.
        """
        for number, structure in enumerate(structures):
            source = SourceModel(str(self.model.name_or_path), remove(self.model, structure), self.processor, None, ())
            path = self.folder / f"{number}.onnx"
            if number:
                write_followed(source, self.slot, path)
            else:
                write_checked(source, self.slot, path, LARGEST_DIFFERENCE)
            self.paths[structure] = path
        if _are_small(self.model, structures):
            self.ready = cache(self._opened)

    def _opened(self, structure: Structure) -> TimedPass:
        return partial(OnnxGraph(self.paths[structure], self.names).run, self.tensors)


def _are_small(model: PreTrainedModel, structures: Sequence[Structure]) -> bool:
    return bool(len(structures) * model.get_memory_footprint() < HELD_BYTES)
