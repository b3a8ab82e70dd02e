"""Running statistics of batch norms: left alone, gone by, and followed once where a pass is computed twice."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from compress.conformers import frame_outputs
from compress.running.batch_norms import computed_again, running_statistics, unchanged_statistics
from compress.training.preparation import prepare_for_training
from tests.helpers.tiny import CTC_MODELS, batch

ONE_EACH = pytest.mark.parametrize("name", {name.partition("-")[0]: name for name in CTC_MODELS}.values())
"""One model of each family."""


@ONE_EACH
def test_statistics_can_be_left_alone(name: str) -> None:
    model = CTC_MODELS[name]()
    prepare_for_training(model, dropout=0.0)
    model.train()
    before = copy.deepcopy(model.state_dict())

    def followed() -> bool:
        with torch.no_grad():
            frame_outputs(model, batch(model))
        return any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())

    for left_alone in (unchanged_statistics, running_statistics):
        with left_alone(model):
            assert not followed()
        assert all(module.training for module in model.modules())
    assert followed() == any(key.endswith("running_mean") for key in before)


def gradients(twice: bool, running: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Of a block with a batch norm, and what it holds afterwards."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 3)).train()
    inputs = torch.randn(8, 3)

    def run() -> Tensor:
        if not twice:
            return block(inputs)
        return checkpoint(block, inputs, use_reentrant=False, context_fn=lambda: computed_again(block))

    if running:
        with running_statistics(block):
            output = run()
    else:
        output = run()
    output.square().sum().backward()
    assert block[1].training
    return [parameter.grad for parameter in block.parameters()], block.state_dict()


@pytest.mark.parametrize("running", [False, True])
def test_a_pass_that_is_computed_again_counts_once_and_goes_by_the_same(running: bool) -> None:
    (once, held), (again, held_again) = (gradients(twice, running) for twice in (False, True))
    for one, other in zip(once, again, strict=True):
        torch.testing.assert_close(one, other)
    assert held.keys() == held_again.keys()
    for key in held:
        torch.testing.assert_close(held[key], held_again[key])
    assert int(held["1.num_batches_tracked"]) == (0 if running else 1)
