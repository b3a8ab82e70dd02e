"""The weights of a model in training in one file, each tensor once and with memory of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compress.training.loop.sharding import own_piece, piece_like


def save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Writes the parameters and buffers of a model, which its `state_dict` gives; tied ones once."""
    save_file({name: _alone(tensor) for name, tensor in _distinct(state).items()}, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """Reads what `save_weights` has written into a model of the same kind, on whatever device it is.

    Raises:
        RuntimeError: naming the tensors that are missing, that the model has not, or whose shapes differ.
    """
    saved, own = load_file(path), _distinct(model.state_dict())
    if differing := sorted(saved.keys() ^ own.keys()):
        raise RuntimeError(f"missing or unexpected: {', '.join(differing)}")
    model.load_state_dict({name: piece_like(tensor, own[name]) for name, tensor in saved.items()}, strict=False)


def _distinct(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors by the first of their names."""
    tensors: dict[object, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        same = (own_piece(tensor).data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        tensors.setdefault(same if own_piece(tensor).numel() else name, (name, tensor))
    return dict(tensors.values())


def _alone(tensor: Tensor) -> Tensor:
    """The tensor without others in its memory: cuDNN keeps all weights of a recurrent layer in one block."""
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor.contiguous() if whole else tensor.clone(memory_format=torch.contiguous_format)
