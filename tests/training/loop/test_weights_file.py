"""The file of weights in a run's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compress.training.loop.weights_file import load_weights, save_weights


def tied(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "norm": nn.BatchNorm1d(3), "one": nn.Linear(3, 3)})
    model["two"] = nn.Linear(3, 3)
    model["two"].weight = model["one"].weight
    return model


def in_one_block(module: nn.Module) -> None:
    """The parameters share one block of memory, as cuDNN lays out recurrent layers on a GPU."""
    parameters = list(module.parameters())
    block = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, piece in zip(parameters, block.split([p.numel() for p in parameters]), strict=True):
        parameter.data = piece.view_as(parameter)


@pytest.mark.parametrize("saved_in_one", [False, True])
@pytest.mark.parametrize("read_in_one", [False, True])
def test_what_is_saved_is_what_is_loaded(tmp_path: Path, saved_in_one: bool, read_in_one: bool) -> None:
    before, after = tied(0), tied(1)
    for model, in_one in ((before, saved_in_one), (after, read_in_one)):
        if in_one:
            in_one_block(model["lstm"])
    save_weights(before.state_dict(), tmp_path / "weights.safetensors")
    load_weights(after, tmp_path / "weights.safetensors")
    torch.testing.assert_close(dict(after.state_dict()), dict(before.state_dict()), rtol=0, atol=0)
    assert after["two"].weight is after["one"].weight


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_weights(nn.Linear(3, 3).state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(RuntimeError, match="bias"):
        load_weights(nn.Linear(3, 3, bias=False), tmp_path / "weights.safetensors")
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(nn.Linear(3, 4), tmp_path / "weights.safetensors")
