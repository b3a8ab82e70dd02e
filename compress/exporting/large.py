"""Quantising graphs whose weights lie in a file beside them: one weight at a time, into the file of the new graph.

What is written computes what `quantize_dynamic` of ONNX Runtime makes of the graph, which would load all of it more
than once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from compress.checkpoint.exported import weights_file
from compress.exporting.beside import array_of, stored

_LEVELS = 255
_LARGEST = 127


def quantise_large(graph: Path, target: Path, nodes: Collection[str], *, unsigned: bool) -> None:
    """Quantises linear layers with constant weights, each output's weights by their own scale.

    Args:
        graph: in float32.
        target: where to; its weights go into the file beside it.
        nodes: the names of those that are quantised.
        unsigned: store weights from 0 on.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    with weights_file(target).open("wb") as file:
        writer = _Writer(model.graph, graph.parent, file, unsigned)
        changed = [new for node in model.graph.node for new in (writer.nodes(node) if node.name in nodes else [node])]
        others = list(writer.others({name for node in changed for name in node.input}))
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(changed)
    model.graph.initializer.extend([*others, *writer.made])
    onnx.save(model, str(target))


def quantised(weight: NDArray[np.float32], *, unsigned: bool) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Numbers of 8 bits for the weights `(inputs, outputs)` of a linear layer, their scales and zeros `(outputs,)`.

    Args:
        weight: float32.
        unsigned: from 0 to 255 with a zero of their own, instead of from -127 to 127.
    """
    if not unsigned:
        scale = _safe(np.abs(weight).max(0) / _LARGEST)
        return np.rint(weight / scale).astype(np.int8), scale, np.zeros(len(scale), np.int8)
    low, high = np.minimum(weight.min(0), 0), np.maximum(weight.max(0), 0)
    scale = _safe((high - low) / _LEVELS)
    zero = np.rint(-low / scale)
    return np.clip(np.rint(weight / scale) + zero, 0, _LEVELS).astype(np.uint8), scale, zero.astype(np.uint8)


def _safe(scale: NDArray[Any]) -> NDArray[np.float32]:
    """Scales none of which is 0."""
    return np.where(scale > 0, scale, 1).astype(np.float32)


class _Writer:
    """Makes the nodes and tensors of the new graph, in the order of the old one.

    Attributes:
        made: the new tensors.
    """

    def __init__(self, graph: Any, folder: Path, file: IO[bytes], unsigned: bool) -> None:
        self.weights: Mapping[str, Any] = {tensor.name: tensor for tensor in graph.initializer}
        self.folder, self.file, self.unsigned = folder, file, unsigned
        self.made: list[Any] = []
        self._inputs: set[str] = set()
        self._layers: set[str] = set()

    def nodes(self, node: Any) -> Iterator[Any]:
        """What stands for a linear layer: its input quantised as it comes, whole numbers multiplied, and scaled."""
        from onnx import TensorProto, helper

        source, weight, output = node.input[0], node.input[1], node.output[0]
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        self._add_layer(weight, transposed=transposed)
        if source not in self._inputs:
            self._inputs.add(source)
            names = [f"{source}/{part}" for part in ("8", "scale", "zero")]
            yield helper.make_node("DynamicQuantizeLinear", [source], names, f"{source}/quantised")
        inputs = [f"{source}/8", f"{weight}/8", f"{source}/zero", f"{weight}/zero"]
        product = f"{output}/product" if len(node.input) > 2 else output
        yield helper.make_node("MatMulInteger", inputs, [f"{output}/whole"], f"{node.name}/MatMulInteger")
        yield helper.make_node(
            "Cast", [f"{output}/whole"], [f"{output}/float"], f"{node.name}/Cast", to=TensorProto.FLOAT
        )
        scales = [f"{source}/scale", f"{weight}/scale"]
        yield helper.make_node("Mul", scales, [f"{output}/scale"], f"{node.name}/Scale")
        yield helper.make_node("Mul", [f"{output}/float", f"{output}/scale"], [product], f"{node.name}/Mul")
        if product != output:
            yield helper.make_node("Add", [product, node.input[2]], [output], f"{node.name}/Add")

    def others(self, used: Collection[str]) -> Iterator[Any]:
        """The old tensors that are still used, their numbers in the new file."""
        for name, tensor in self.weights.items():
            if name in used:
                yield stored(array_of(tensor, self.folder), name, self.file)

    def _add_layer(self, name: str, *, transposed: bool) -> None:
        if name in self._layers:
            return
        self._layers.add(name)
        array = array_of(self.weights[name], self.folder)
        parts = quantised(array.T if transposed else array, unsigned=self.unsigned)
        for part, numbers in zip(("8", "scale", "zero"), parts, strict=True):
            self.made.append(stored(numbers, f"{name}/{part}", self.file))
