"""Writing a model as an ONNX graph: by torch's exporter that follows one forward pass.

It serves every family here, takes seconds, and its graphs run faster than those of the exporter that reads the code,
which also fixes numbers of some families that depend on the length. What following a single pass gets wrong shows where
another length is tried, which `compress.exporting.checking` does.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compress.checkpoint.errors import reason_of
from compress.checkpoint.exported import ExportError
from compress.exporting.beside import array_of, move_weights_beside_

OPSET = 17
MOST_BYTES_INSIDE = 2_000_000_000
"""A file of a graph can hold so much itself; weights beyond go into a file beside it."""


def write_graph(
    traced: nn.Module,
    tensors: list[Tensor],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Follows one forward pass and writes it as a graph.

    Args:
        traced: in eval mode.
        tensors: what it is called with.
        path: where to.
        inputs: names for the tensors.
        outputs: names for what it gives.
        axes: dimensions that may vary, by those names.

    Raises:
        ExportError: if the exporter cannot follow it.
    """
    with _explained(), _quiet(), _unfolding(), _masks_by_index(), torch.no_grad():
        torch.onnx.export(
            traced.eval(),
            tuple(tensors),
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def write_tidied(path: Path, metadata: Mapping[str, str], target: Path) -> None:
    """Writes a graph anew, with metadata for clients and without what only says where it was made.

    Args:
        path: of the graph.
        metadata: by key.
        target: where to; weights that do not fit into the file go beside it.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:]
    linear_pointwise_(model.graph, path.parent)
    onnx.helper.set_model_props(model, dict(metadata))
    target.parent.mkdir(parents=True, exist_ok=True)
    if sum(_bytes(tensor) for tensor in model.graph.initializer) > MOST_BYTES_INSIDE:
        move_weights_beside_(model.graph, path.parent, target)
    onnx.save(model, str(target))


def _bytes(tensor: Any) -> int:
    from onnx import helper

    return int(prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def linear_pointwise_(graph: Any, folder: Path) -> None:
    """Replaces convolutions of one frame by the linear layers that they are, in place: those can be quantised.

    Args:
        graph: an `onnx.GraphProto`.
        folder: where its weights lie if it does not hold them.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    nodes = []
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "Conv" and uses[node.input[1]] == 1 else None
        nodes += [node] if weight is None or not _pointwise(node, weight) else _linear(node, weight, folder)
    del graph.node[:]
    graph.node.extend(nodes)


def _pointwise(node: Any, weight: Any) -> bool:
    settings = {attribute.name: attribute.i or list(attribute.ints) for attribute in node.attribute}
    plain = settings.get("group", 1) == 1 and settings.get("strides", [1]) == [1]
    return plain and list(weight.dims[2:]) == [1] and not any(settings.get("pads", []))


def _linear(node: Any, weight: Any, folder: Path) -> list[Any]:
    """The nodes for a convolution of one frame, whose weights are turned the other way round, `(inputs, outputs)`."""
    from onnx import helper, numpy_helper

    name = node.name
    turned = array_of(weight, folder)[..., 0].T.copy()
    weight.CopyFrom(numpy_helper.from_array(turned, weight.name))
    has_bias = len(node.input) > 2
    product = f"{name}/product" if has_bias else f"{name}/frames"
    nodes = [
        helper.make_node("Transpose", [node.input[0]], [f"{name}/input"], f"{name}/Transpose", perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{name}/input", weight.name], [product], f"{name}/MatMul"),
    ]
    if has_bias:
        nodes.append(helper.make_node("Add", [product, node.input[2]], [f"{name}/frames"], f"{name}/Add"))
    return [*nodes, helper.make_node("Transpose", [f"{name}/frames"], [node.output[0]], f"{name}/Back", perm=[0, 2, 1])]


@contextmanager
def _explained() -> Iterator[None]:
    """Turns whatever the exporter raises into an error of ours."""
    try:
        yield
    except (MemoryError, OSError):
        raise
    except Exception as error:  # it has no common class
        raise ExportError(f"torch's exporter cannot follow it: {reason_of(error)}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tracer, whose warnings are answered by trying other lengths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _unfolding() -> Iterator[None]:
    """Lets `Tensor.unfold` be exported along a dimension whose length varies."""
    from torch.onnx import utils

    utils.register_custom_op_symbolic("aten::unfold", _unfold, OPSET)
    try:
        yield
    finally:
        utils.unregister_custom_op_symbolic("aten::unfold", OPSET)


@contextmanager
def _masks_by_index() -> Iterator[None]:
    """Lets masks be made of whole tensors of indices, where transformers would map a rule over single ones.

    Frames of padding attend to themselves then: where all is masked, runtimes give what is no number, and it spreads.
    """
    from transformers import masking_utils

    def by_index(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def allowed(*places: Tensor) -> Tensor:
            batch, head, query, key = masking_utils._non_vmap_expansion_sdpa(*places)
            mask: Tensor = rule(batch, head, query, key) | (query == key)
            return mask

        return allowed

    changed = {"_vmap_expansion_sdpa": by_index, "TransformGetItemToIndex": nullcontext}
    before = {name: getattr(masking_utils, name) for name in changed}
    for name, value in changed.items():
        setattr(masking_utils, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(masking_utils, name, value)


def _unfold(g: Any, states: Any, dimension: Any, size: Any, step: Any) -> Any:
    """Windows of a dimension, along a new last one: gathered by the index of every frame of every window."""
    from torch.onnx import symbolic_helper as helper

    axis, width, hop = (helper._get_const(value, "i", "unfold") for value in (dimension, size, step))
    rank = helper._get_tensor_rank(states)
    assert rank is not None
    axis = axis % rank

    def constant(value: Any) -> Any:
        return g.op("Constant", value_t=torch.as_tensor(value, dtype=torch.int64))

    length = g.op("Gather", g.op("Shape", states), constant(axis), axis_i=0)
    last = g.op("Sub", length, constant(width - 1))
    starts = g.op("Unsqueeze", g.op("Range", constant(0), last, constant(hop)), constant([1]))
    windows = g.op("Gather", states, g.op("Add", starts, constant(list(range(width)))), axis_i=axis)
    order = [number for number in range(rank + 1) if number != axis + 1] + [axis + 1]
    return g.op("Transpose", windows, perm_i=order)
