"""Weights in a file beside their graph, written one by one."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from compress.checkpoint.exported import weights_file

_INSIDE = 1024
"""Up to so many bytes a tensor stays in the file of the graph."""


def array_of(tensor: Any, folder: Path) -> NDArray[Any]:
    """The numbers of a tensor.

    Args:
        tensor: an `onnx.TensorProto`.
        folder: of its graph, where those lie that the graph does not hold.
    """
    from onnx import numpy_helper

    array: NDArray[Any] = numpy_helper.to_array(tensor, base_dir=str(folder))
    return array


def stored(array: NDArray[Any], name: str, file: IO[bytes]) -> Any:
    """A tensor, an `onnx.TensorProto`; the numbers of a large one go to the end of a file.

    Args:
        array: the numbers.
        name: of the tensor.
        file: beside the graph that the tensor is for.
    """
    from onnx import TensorProto, helper, numpy_helper

    if array.nbytes <= _INSIDE:
        return numpy_helper.from_array(array, name)
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    where = {"location": Path(file.name).name, "offset": file.tell(), "length": array.nbytes}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    file.write(np.ascontiguousarray(array).data)
    return tensor


def move_weights_beside_(graph: Any, folder: Path, target: Path) -> None:
    """Moves the weights of a graph into a file beside its new place, in place.

    Args:
        graph: an `onnx.GraphProto`.
        folder: where it came from.
        target: where it is going to be.
    """
    with weights_file(target).open("wb") as file:
        for tensor in graph.initializer:
            tensor.CopyFrom(stored(array_of(tensor, folder), tensor.name, file))
