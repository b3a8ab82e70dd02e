"""Scores without learning: norms of weights, and equal shares."""

from __future__ import annotations

import pytest
import torch

import compress
from compress.conformers import block_units, blocks_of, family_of, part
from compress.deciding.baselines import magnitude, proportional
from compress.deciding.budget import BudgetConfig, decide, make_budget
from compress.deciding.decisions import DECISIONS
from compress.structure import MODULES, Block, Structure, count_kept
from compress.surgery.slicing import unit_slices
from tests.helpers.tiny import MODELS, parakeet

FAMILIES = pytest.mark.parametrize("name", list(MODELS))


@FAMILIES
@pytest.mark.parametrize("share", ["70%", "50%"])
def test_decides_within_the_budget(name: str, share: str) -> None:
    model = MODELS[name]()
    budget = make_budget(BudgetConfig(params=share, denominator="encoder"), model.config)
    for method in ("magnitude", "proportional"):
        structure = DECISIONS[method](model, budget)
        encoder = part(compress.remove(model, structure), family_of(model).encoder)
        assert sum(p.numel() for p in encoder.parameters()) == budget.table.of(structure) <= budget.limit
        assert budget.table.of(structure) > 0.9 * budget.limit


def test_proportional_keeps_the_same_share_of_every_module() -> None:
    model = parakeet()
    structure = decide(make_budget(BudgetConfig(params="50%", round_to=1), model.config), proportional(model))
    assert len(set(structure.blocks)) <= 2  # the last units that fit may go to some of the blocks only
    shares = {
        count_kept(getattr(block, module), units[module]) / units[module]
        for block, units in zip(structure.blocks, block_units(model), strict=True)
        for module in MODULES
    }
    assert max(shares) - min(shares) <= 0.25  # one head of four


def zero_units(model, block: int, module: str, units: tuple[int, ...]) -> None:
    described = family_of(model).modules[module]
    found = part(blocks_of(model)[block], described.path)
    with torch.no_grad():
        for path, dim, places in unit_slices(found, described):
            weight = part(found, path).weight
            if weight.ndim > 1:
                weight.index_fill_(dim, places[list(units)].flatten(), 0.0)


@FAMILIES
def test_magnitude_removes_the_smallest(name: str) -> None:
    """Units whose weights are zero go first, in every kind of module."""
    model = MODELS[name]()
    gone = {"ffn1": tuple(range(8)), "attention": (2,), "conv": tuple(range(8, 16)), "ffn2": tuple(range(16, 24))}
    for module, units in gone.items():
        zero_units(model, 1, module, units)
    scores = magnitude(model)
    for m, module in enumerate(MODULES):
        values = scores.units[1, m]
        assert [unit for unit, value in enumerate(values) if value == 0.0] == list(gone[module])
        assert sum(sum(scores.units[b, m]) for b in range(3)) == pytest.approx(
            sum(len(scores.units[b, m]) for b in range(3))
        )
    kept = {m: tuple(u for u in range(block_units(model)[1][m]) if u not in units) for m, units in gone.items()}
    wanted = Structure(family_of(model).name, (Block(), Block(**kept), Block()))
    table = make_budget(BudgetConfig(params="99%"), model.config).table
    budget = make_budget(BudgetConfig(params=str(table.of(wanted))), model.config)
    assert decide(budget, scores) == wanted


def test_the_norm_of_a_unit_is_that_of_all_its_weights() -> None:
    model = parakeet()
    block = blocks_of(model)[0]
    up, down = block.feed_forward1.linear1.weight, block.feed_forward1.linear2.weight
    norms = (up.square().sum(1) + down.square().sum(0)).sqrt()
    every = torch.cat([
        (b.feed_forward1.linear1.weight.square().sum(1) + b.feed_forward1.linear2.weight.square().sum(0)).sqrt()
        for b in blocks_of(model)
    ])  # fmt: skip
    assert torch.allclose(torch.tensor(magnitude(model).units[0, 0]), norms / every.mean(), atol=1e-6)


def test_slices_of_a_glu_are_both_of_its_halves() -> None:
    model = parakeet()
    described = family_of(model).conv
    conv = blocks_of(model)[0].conv
    slices = {path: places for path, _, places in unit_slices(conv, described)}
    channels = conv.depthwise_conv.in_channels
    assert slices["pointwise_conv1"][3].tolist() == [3, channels + 3]
