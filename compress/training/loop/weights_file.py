"""The weights of a model in training in one file, each tensor once and with memory of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes the parameters and buffers of a model; tied ones once."""
    save_file({name: _alone(tensor) for name, tensor in _distinct(model).items()}, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Reads what `save_weights` has written into a model of the same kind, on whatever device it is.

    Raises:
        RuntimeError: naming the tensors that are missing, that the model has not, or whose shapes differ.
    """
    saved, names = load_file(path), _distinct(model).keys()
    if differing := sorted(saved.keys() ^ names):
        raise RuntimeError(f"missing or unexpected: {', '.join(differing)}")
    model.load_state_dict(saved, strict=False)


def _distinct(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by the first of their names."""
    tensors: dict[object, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        tensors.setdefault(same if tensor.numel() else name, (name, tensor))
    return dict(tensors.values())


def _alone(tensor: Tensor) -> Tensor:
    """The tensor without others in its memory: cuDNN keeps all weights of a recurrent layer in one block."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if whole else tensor.clone(memory_format=torch.contiguous_format)
