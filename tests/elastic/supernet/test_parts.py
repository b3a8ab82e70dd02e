"""Parts: complete, priced exactly, and masked as if removed."""

from __future__ import annotations

import copy
import random
from itertools import accumulate

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import compress
from compress.conformers import block_units, frame_mask, frame_outputs
from compress.cost import Metric, cost_table
from compress.elastic.supernet import PartMasks, Parts, PartsConfig, parts_of
from compress.elastic.supernet.parts import Granularity
from compress.structure import MODULES, Structure
from compress.training.preparation import prepare_for_training
from tests.helpers.tiny import BLOCKS, CTC_MODELS, batch, parakeet, random_structure

FAMILIES = pytest.mark.parametrize("name", CTC_MODELS)
ONE_EACH = pytest.mark.parametrize("name", {name.partition("-")[0]: name for name in CTC_MODELS}.values())
"""One model of each family."""
GRANULARITIES = pytest.mark.parametrize("granularity", ["module", "component"])


def made(model: PreTrainedModel, granularity: Granularity, metric: Metric | None = None) -> Parts:
    return parts_of(model, PartsConfig(granularity), metric and cost_table(model.config, metric))


def some_of(parts: Parts, seed: int) -> list[int]:
    chooser = random.Random(seed)
    return chooser.sample(range(len(parts)), chooser.randint(1, len(parts) - 1))


def values_of(parts: Parts, chosen: list[int]) -> Tensor:
    values = torch.zeros(len(parts))
    values[chosen] = 1.0
    return values


def valid(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        logits = frame_outputs(model, inputs)
    return logits[frame_mask(model, inputs, logits.shape[1])]


def pruned(name: str) -> PreTrainedModel:
    model = CTC_MODELS[name]()
    return compress.remove(model, random_structure(model, 3))


def test_numbers_and_names() -> None:
    modules, components = made(parakeet(), "module"), made(parakeet(), "component")
    assert len(modules) == 4 * BLOCKS
    assert len(components) == BLOCKS * (4 + 4 + 1 + 4)
    names = [part.name for part in components.entries]
    assert names[:6] == [
        "blocks.0.ffn1[0:16]", "blocks.0.ffn1[16:32]", "blocks.0.ffn1[32:48]", "blocks.0.ffn1[48:64]",
        "blocks.0.attention[0]", "blocks.0.attention[1]",
    ]  # fmt: skip
    assert "blocks.2.conv" in names
    assert len(set(names)) == len(names)


@ONE_EACH
@GRANULARITIES
@pytest.mark.parametrize("build", [CTC_MODELS.__getitem__, lambda name: lambda: pruned(name)], ids=["whole", "pruned"])
def test_every_unit_is_in_one_part(name: str, granularity: Granularity, build: object) -> None:
    model = build(name)()  # type: ignore[operator]
    parts = made(model, granularity)
    found = sorted((part.block, part.module, unit) for part in parts.entries for unit in part.units)
    counts = block_units(model)
    assert found == [(b, m, u) for b in range(len(counts)) for m, n in enumerate(MODULES) for u in range(counts[b][n])]
    every = parts.structure(range(len(parts)))
    assert compress.remove(model, every).num_parameters() == compress.remove(
        model, Structure.full(parts.family, len(counts))
    ).num_parameters()  # fmt: skip


@ONE_EACH
@pytest.mark.parametrize(("granularity", "metric"), [("module", "params"), ("component", "macs")])
def test_prefixes_cost_what_the_table_says(name: str, granularity: Granularity, metric: Metric) -> None:
    parts = made(pruned(name) if metric == "params" else CTC_MODELS[name](), granularity, metric)
    assert parts.table is not None
    order = random.Random(0).sample(range(len(parts)), len(parts))
    costs = list(accumulate(parts.increments(order), initial=parts.fixed))
    for count in (0, 1, len(parts) // 2, len(parts) - 1, len(parts)):
        structure = parts.structure(order[:count])
        assert costs[count] == parts.table.of(structure) - parts.table.beside(structure)
        assert parts.fitting(order, costs[count]) == count
        assert parts.fitting(order, costs[count] - 1) == max(0, count - 1)
    assert costs[-1] == parts.whole
    assert sum(parts.shares()) == pytest.approx(1.0)


@FAMILIES
@GRANULARITIES
@pytest.mark.parametrize("seed", range(2))
def test_masked_equals_removed(name: str, granularity: Granularity, seed: int) -> None:
    model = CTC_MODELS[name]()
    parts, inputs = made(model, granularity), batch(model)
    chosen, masked = some_of(parts, seed), copy.deepcopy(model)
    masks = PartMasks(masked, parts)
    masks.use(values_of(parts, chosen))
    small = compress.remove(model, parts.structure(chosen))
    assert torch.allclose(valid(masked, inputs), valid(small, inputs), atol=1e-5)
    masks.open()
    assert torch.equal(valid(masked, inputs), valid(model, inputs))
    masks.detach(masked)
    assert masked.state_dict().keys() == model.state_dict().keys()


@GRANULARITIES
def test_masked_equals_removed_in_a_pruned_model_in_training(granularity: Granularity) -> None:
    model = pruned("parakeet")
    parts, inputs = made(model, granularity), batch(model)
    small, masked = compress.remove(model, parts.structure(some_of(parts, 0))), copy.deepcopy(model)
    for one in (small, masked):
        prepare_for_training(one.train(), dropout=0.0)
    PartMasks(masked, parts).use(values_of(parts, some_of(parts, 0)))
    assert torch.allclose(valid(masked, inputs), valid(small, inputs), atol=1e-5)


@ONE_EACH
def test_parts_have_gradients_of_their_own_even_where_a_whole_module_is_out(name: str) -> None:
    model = CTC_MODELS[name]()
    parts = made(model, "component")
    masks, values = PartMasks(model, parts), torch.zeros(len(parts), requires_grad=True)
    masks.use(values)
    frame_outputs(model, batch(model)).square().sum().backward()
    assert values.grad is not None
    chunks = [number for number, part in enumerate(parts.entries) if part.place == parts.entries[0].place]
    assert len(set(values.grad[chunks].tolist())) == len(chunks)
    assert (values.grad != 0).all()


def test_the_value_of_a_part_multiplies_its_units_once() -> None:
    model = parakeet()
    parts = made(model, "component")
    halves, by_hand = copy.deepcopy(model), copy.deepcopy(model)
    values = torch.ones(len(parts))
    values[:4] = 0.5
    PartMasks(halves, parts).use(values)
    with torch.no_grad():
        down = by_hand.encoder.layers[0].feed_forward1.linear2
        down.weight.mul_(0.5)
        if down.bias is not None:
            down.bias.mul_(0.5)
    assert torch.allclose(valid(halves, batch(model)), valid(by_hand, batch(model)), atol=1e-6)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="ffn_chunks is 0; give at least 1"):
        PartsConfig(ffn_chunks=0)
    empty = parts_of(parakeet(), PartsConfig()).structure([])
    with pytest.raises(ValueError, match="No module is left in this parakeet"):
        parts_of(compress.remove(parakeet(), empty), PartsConfig())
