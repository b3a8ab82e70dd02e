"""Stochastic depth: how often, what, and by how much the rest is scaled."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import blocks_of, family_of, part
from compress.training.preparation import prepare_for_training
from compress.training.recogniser import Recogniser
from compress.training.stochastic_depth import StochasticDepth
from tests.helpers.tiny import BLOCKS, CTC_MODELS, batch, granite_speech5, parakeet

RATE = 0.6


def ready(model: PreTrainedModel) -> PreTrainedModel:
    prepare_for_training(model, dropout=0.0)
    return model.train()


def test_probabilities_rise_linearly_with_depth_and_are_met() -> None:
    model = parakeet()
    depth = StochasticDepth(model, RATE, seed=0)
    assert depth.probabilities == pytest.approx([0.2, 0.4, 0.6])
    drawn = []
    for _ in range(2000):
        depth.draw()
        drawn.append([block.dropped for block in blocks_of(model)])
    assert [fmean(column) for column in zip(*drawn, strict=True)] == pytest.approx([0.2, 0.4, 0.6], abs=0.04)


def test_blocks_that_change_the_frame_rate_stay() -> None:
    assert StochasticDepth(granite_speech5(), RATE, seed=0).probabilities[0] == 0.0


def first_branch(model: PreTrainedModel, index: int, run: Callable[[], Any]) -> Tensor:
    """What the first module of a block adds to the residual stream before its factor; zero if the block is dropped."""
    seen: list[Tensor] = []
    module = part(blocks_of(model)[index], family_of(model).ffn1.path)
    handle = module.register_forward_hook(lambda *found: seen.append(found[2]))
    run()
    handle.remove()
    return seen[0] if seen else torch.zeros(())


@pytest.mark.parametrize("name", CTC_MODELS)
def test_the_expected_branch_is_the_branch(name: str) -> None:
    """Of a block before which none is dropped: its input is the same in every draw, so the mean over draws is exact."""
    model, rate = ready(CTC_MODELS[name]()), 0.5
    inputs, index = batch(model), 1 if name == "granite_speech5" else 0
    with torch.no_grad():
        plain = first_branch(model, index, lambda: model(**inputs))
        depth = StochasticDepth(model, rate, seed=0)
        block, probability = blocks_of(model)[index], depth.probabilities[index]
        block.dropped = False
        runs = first_branch(model, index, lambda: model(**inputs))
        block.dropped = True
        dropped = first_branch(model, index, lambda: model(**inputs))
        expected = (1 - probability) * runs + probability * dropped
        torch.testing.assert_close(expected, plain, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(runs, plain)


@pytest.mark.parametrize("name", CTC_MODELS)
def test_evaluation_is_untouched(name: str) -> None:
    model = CTC_MODELS[name]()
    inputs = batch(model)
    with torch.no_grad():
        before = model(**inputs).logits
        recogniser = Recogniser(model, stochastic_depth=0.9)
        recogniser.stochastic_depth.draw()
        assert torch.equal(model(**inputs).logits, before)


def test_all_four_branches_are_scaled() -> None:
    model = ready(parakeet())
    StochasticDepth(model, RATE, seed=0)
    family, block = family_of(model), blocks_of(model)[-1]
    for module in family.modules.values():
        hooks = part(block, module.path)._forward_hooks
        assert len(hooks) == 1
    output = nn.Module.__call__(block.feed_forward1, torch.ones(1, 3, 32))
    torch.testing.assert_close(output, block.feed_forward1.forward(torch.ones(1, 3, 32)) / (1 - RATE))


def test_dropped_blocks_get_no_gradient_and_the_others_do() -> None:
    model = ready(parakeet())
    recogniser = Recogniser(model, stochastic_depth=RATE)
    recogniser.stochastic_depth.draw = lambda: None  # type: ignore[method-assign]
    blocks_of(model)[1].dropped = True  # type: ignore[assignment]
    recogniser(**batch(model))[0].square().mean().backward()
    given = [any(p.grad is not None for p in block.parameters()) for block in blocks_of(model)]
    assert given == [True, False, True]


def test_draws_go_on_where_a_checkpoint_left_them() -> None:
    def draws(depth: StochasticDepth, model: PreTrainedModel, count: int) -> list[list[bool]]:
        found = []
        for _ in range(count):
            depth.draw()
            found.append([block.dropped for block in blocks_of(model)])
        return found

    model = parakeet()
    depth = StochasticDepth(model, RATE, seed=3)
    draws(depth, model, 5)
    state = depth.noise.state_dict()
    later = draws(depth, model, 20)
    fresh = StochasticDepth(other := parakeet(), RATE, seed=9)
    fresh.noise.load_state_dict(state)
    assert draws(fresh, other, 20) == later
    assert len(later[0]) == BLOCKS


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2.0])
def test_a_rate_is_a_probability(rate: float) -> None:
    with pytest.raises(ValueError, match="give the probability to drop the last block"):
        StochasticDepth(parakeet(), rate, seed=0)


def test_a_rate_of_zero_leaves_the_model_alone() -> None:
    model = parakeet()
    before = type(blocks_of(model)[0])
    StochasticDepth(model, 0.0, seed=0).draw()
    assert type(blocks_of(model)[0]) is before
