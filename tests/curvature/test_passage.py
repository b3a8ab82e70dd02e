"""Block by block is the same as all at once, in every family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from compress.conformers import blocks_of, family_of, frame_outputs, part, submodule
from compress.curvature.passage import Look, Passage, one_by_one
from compress.structure import Place
from tests.helpers.tiny import MODELS, batch


def outputs_at_once(model: Any, inputs: dict[str, Tensor]) -> dict[Place, Tensor]:
    """What every last projection gives in one forward pass of the whole model."""
    seen: dict[Place, Tensor] = {}
    handles = []
    for index, block in enumerate(blocks_of(model)):
        for name, description in family_of(model).modules.items():
            place, branch = Place.of(index, name), submodule(block, description)

            def keep(module: Any, args: Any, output: Tensor, place: Place = place) -> None:
                seen[place] = output.clone()

            handles.append(part(branch, description.last).register_forward_hook(keep))
    frame_outputs(model, inputs)
    for handle in handles:
        handle.remove()
    return seen


def model_and_inputs(name: str) -> tuple[Any, dict[str, Tensor]]:
    """A model, and two utterances, of which it gets one where it wants them singly."""
    model = MODELS[name]()
    inputs = batch(model)
    return model, {key: value[:1] for key, value in inputs.items()} if one_by_one(model) else inputs


def keeping(seen: dict[str, Tensor], name: str) -> Look:
    return lambda before, after: seen.update({name: after})


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_each_block_sees_what_it_sees_in_the_whole_model(name: str) -> None:
    model, inputs = model_and_inputs(name)
    expected, passage = outputs_at_once(model, inputs), Passage(model, [inputs])
    for index in range(len(passage.blocks)):
        seen: dict[str, Tensor] = {}
        with passage.observed({name: keeping(seen, name) for name in family_of(model).modules}):
            passage.run()
        for name, rows in seen.items():
            assert torch.isin(rows, expected[Place.of(index, name)]).all()
        passage.advance()
    lengths = passage.valid(len(seen["ffn2"]))
    assert len(seen["ffn2"]) == int(lengths.sum()) if one_by_one(model) else len(seen["ffn2"]) > 0


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_settled_module_is_computed_once_and_the_others_go_on_from_what_it_gives(name: str) -> None:
    """Modules change on the way, as in the refit, each before it is settled."""
    model, inputs = model_and_inputs(name)
    passage, calls = Passage(model, [inputs, inputs]), dict[str, int]()
    for module in family_of(model).modules:
        passage.run(until=module)
        layer: Any = passage.last_projection(module)
        layer.weight.mul_(0.5)
        passage.settle(module)
        layer.register_forward_hook(lambda *_, module=module: calls.update({module: calls.get(module, 0) + 1}))
    kept = [value for value in tree_leaves(list(passage._settled.values())) if value is not None]
    assert {value.dim() for value in kept} == {3}  # no attention weights
    passage.advance()
    assert calls == dict.fromkeys(family_of(model).modules, len(passage.batches))
    anew = Passage(model, [inputs, inputs])
    anew.advance()
    assert all(torch.equal(one, other) for one, other in zip(passage.states(), anew.states(), strict=True))
