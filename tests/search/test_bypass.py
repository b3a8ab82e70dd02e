"""A block that is skipped and a block that is removed are the same function, in every family."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import compress
from compress.conformers import blocks_of, fixed_blocks, frame_outputs
from compress.model.able_to_skip import able_to_skip
from compress.running.skipping import Skipping
from compress.search import removable, reuse, structure_without, without_blocks
from compress.search.bypass import route_without
from compress.search.reuse import SharedRuns, block_runs, plan_runs
from compress.structure import StructureError
from compress.surgery.stock import route_of
from tests.helpers import tiny

PLENTY = 1 << 30


def every_proposal(model: Any) -> list[tuple[int, ...]]:
    free, blocks = removable(model), len(blocks_of(model))
    return [p for size in range(blocks) for p in itertools.combinations(free, size)]


@pytest.mark.parametrize("name", tiny.MODELS)
@torch.no_grad()
def test_skipped_is_removed(name: str) -> None:
    model = tiny.MODELS[name]()
    inputs = tiny.batch(model)
    before, blocks = frame_outputs(model, inputs), blocks_of(model)
    for proposal in every_proposal(model)[1:]:
        with without_blocks(model, proposal):
            skipped = frame_outputs(model, inputs)
        removed = frame_outputs(compress.remove(model, structure_without(model, proposal)), inputs)
        torch.testing.assert_close(skipped, removed, rtol=0, atol=0)
        assert not torch.equal(skipped, before)
    assert blocks_of(model) == blocks
    torch.testing.assert_close(frame_outputs(model, inputs), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", tiny.CTC_MODELS)
@pytest.mark.parametrize("most_bytes", [PLENTY, 0])
@torch.no_grad()
def test_shared_runs_compute_what_separate_ones_do(name: str, most_bytes: int, monkeypatch: Any) -> None:
    """Also when nothing may be kept: then every proposal runs from the front."""
    monkeypatch.setattr(reuse, "best_tokens", frame_outputs)
    model = tiny.CTC_MODELS[name]()
    proposals = every_proposal(model)
    for seed in (1, 2):
        inputs = tiny.batch(model, seed)
        shared = dict(SharedRuns(model, proposals, most_bytes).tokens(inputs))
        assert shared.keys() == set(proposals)
        for proposal, found in shared.items():
            with without_blocks(model, proposal):
                torch.testing.assert_close(found, frame_outputs(model, inputs), rtol=0, atol=0)


@torch.no_grad()
def test_shared_runs_of_six_blocks(monkeypatch: Any) -> None:
    """Deep enough for states that are recorded by runs which themselves began in the middle."""
    monkeypatch.setattr(reuse, "best_tokens", frame_outputs)
    model = tiny.parakeet(num_hidden_layers=6)
    inputs = tiny.batch(model)
    for proposals in (every_proposal(model), [p for p in every_proposal(model) if len(p) == 2]):
        for proposal, found in SharedRuns(model, proposals, PLENTY).tokens(inputs):
            with without_blocks(model, proposal):
                torch.testing.assert_close(found, frame_outputs(model, inputs), rtol=0, atol=0)


def test_shared_runs_work_on_a_model_that_has_lost_blocks(monkeypatch: Any) -> None:
    monkeypatch.setattr(reuse, "best_tokens", frame_outputs)
    model = tiny.granite_speech5()
    small = compress.remove(model, structure_without(model, (1,)))
    inputs = tiny.batch(model)
    with torch.no_grad():
        assert removable(small) == [1]
        found = dict(SharedRuns(small, [(), (1,)], PLENTY).tokens(inputs))
        with without_blocks(model, (1, 2)):
            torch.testing.assert_close(found[(1,)], frame_outputs(model, inputs), rtol=0, atol=0)


class Counting:
    """Counts calls of blocks and of what runs before them."""

    def __init__(self, model: Any, front: str) -> None:
        self.blocks = self.front = 0
        for block in blocks_of(model):
            block.register_forward_hook(self._block)
        model.get_submodule(front).register_forward_hook(self._front)
        self.forward = model.get_submodule(front)
        self.linear = next(m for m in self.forward.modules() if isinstance(m, torch.nn.Linear))
        self.linear.register_forward_hook(self._linear)
        self.linears = 0

    def _block(self, *_: Any) -> None:
        self.blocks += 1

    def _front(self, *_: Any) -> None:
        self.front += 1

    def _linear(self, *_: Any) -> None:
        self.linears += 1


@torch.no_grad()
def test_nothing_before_the_first_removed_block_runs_twice() -> None:
    model = tiny.parakeet()
    count = Counting(model, "encoder.subsampling")
    proposals = [(2,), (1,), (1, 2)]
    list(SharedRuns(model, proposals, PLENTY).tokens(tiny.batch(model)))
    assert count.linears == 1
    assert count.blocks == block_runs(plan_runs(proposals, 3), 3)
    # 0 1 of (2,), 2 of (1,); (1, 2) ends with its last kept block, which has to run for the head
    assert count.blocks == 2 + 1 + 1


@pytest.mark.parametrize("blocks", [4, 7])
def test_every_run_starts_where_an_earlier_one_passed(blocks: int) -> None:
    for size in range(1, blocks):
        proposals = list(itertools.combinations(range(blocks), size))
        passed: set[Any] = set()
        runs = plan_runs(proposals, blocks)
        assert {run.proposal for run in runs} == set(proposals)
        for run in runs:
            assert run.start is None or run.start in passed
            start = run.start[0] if run.start else 0
            for block in range(start, blocks):
                if block not in run.proposal:
                    passed.add((block, tuple(b for b in run.proposal if b < block)))
        assert block_runs(runs, blocks) <= len(proposals) * (blocks - size)


def test_route_says_what_it_takes_to_load_the_result() -> None:
    """Granite's encoder feeds posteriors back after half of its blocks: its own class needs that half kept."""
    for name in tiny.CTC_MODELS:
        model = tiny.CTC_MODELS[name]()
        for proposal in every_proposal(model)[1:]:
            small = compress.remove(model, structure_without(model, proposal))
            assert route_without(model, proposal) == route_of(small.config)
    model = tiny.granite_speech5()
    assert {route_without(model, one) for one in every_proposal(model)[1:]} == {"stock", "code"}


def test_what_cannot_go_is_refused() -> None:
    model = tiny.granite_speech5()
    assert fixed_blocks(model) == {0}
    with pytest.raises(StructureError, match="Block 0 of a granite_speech5 changes the frame rate"):
        structure_without(model, (0, 1))
    with pytest.raises(ValueError, match="no block 3: the model has blocks 0 to 2"), without_blocks(model, (3,)):
        pass
    with pytest.raises(ValueError, match="no block -1: the model has blocks 0 to 2"), without_blocks(model, (-1,)):
        pass
    with pytest.raises(ValueError, match="at least one must stay, so give 1 to 2"):
        structure_without(tiny.parakeet(), (0, 1, 2))
    assert structure_without(tiny.parakeet(), (1,)).blocks[1] is None


def test_the_model_is_put_back_after_an_error() -> None:
    model = tiny.parakeet()
    blocks = blocks_of(model)

    def fail() -> Tensor:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"), without_blocks(model, (0,)):
        fail()
    assert blocks_of(model) == blocks


def test_a_model_that_skips_does_not_skip_while_blocks_are_left_out() -> None:
    """Whatever stands before and behind the gap: what comes out is what the plain model without the block gives."""
    plain = tiny.parakeet()
    model, inputs = able_to_skip(plain, Skipping(1, 0.0, heads=(1,))), tiny.batch(plain)
    for number in (0, 1, 2):
        with without_blocks(model, (number,)), without_blocks(plain, (number,)), torch.no_grad():
            assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    assert model.skipper.settings.threshold == 0.0
