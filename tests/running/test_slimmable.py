"""A block that is passed over and one that was dropped are the same function."""

from __future__ import annotations

import copy

import pytest
import torch

from compress.conformers import blocks_of, family_of
from compress.model.removal import remove
from compress.running.slimmable import Running, make_skippable
from compress.structure import Block, Structure
from tests.helpers.tiny import BLOCKS, CTC_MODELS, batch, parakeet

MIDDLE = 1


@pytest.mark.parametrize("name", CTC_MODELS)
def test_a_skipped_block_equals_a_removed_one(name: str) -> None:
    model = CTC_MODELS[name]()
    kept = tuple(None if index == MIDDLE else Block() for index in range(BLOCKS))
    small = remove(model, Structure(family_of(model).name, kept))
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    inputs = batch(model)
    with torch.no_grad():
        whole = model(**inputs).logits
        blocks = make_skippable(model)
        torch.testing.assert_close(model(**inputs).logits, whole, rtol=0, atol=0)
        blocks[MIDDLE].running, blocks[MIDDLE].by_size = Running(0), (0,)
        torch.testing.assert_close(model(**inputs).logits, small(**inputs).logits, rtol=0, atol=1e-6)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def test_a_dropped_block_runs_outside_training() -> None:
    model = parakeet()
    blocks, inputs = make_skippable(model), batch(model)
    with torch.no_grad():
        whole = model(**inputs).logits
        blocks[MIDDLE].dropped = True
        assert torch.equal(model(**inputs).logits, whole)
        model.train()
        assert not torch.equal(model(**inputs).logits, whole)


def test_the_class_stays_the_same_class_to_transformers_and_to_a_copy() -> None:
    model = parakeet()
    before = type(blocks_of(model)[0])
    blocks = make_skippable(model)
    assert isinstance(blocks[0], before)
    assert type(blocks[0]).__name__ == before.__name__
    assert make_skippable(model) == blocks
    assert type(blocks[0]).__mro__.count(before) == 1
    copied = make_skippable(copy.deepcopy(model))
    copied[0].dropped = True
    assert not blocks[0].dropped
