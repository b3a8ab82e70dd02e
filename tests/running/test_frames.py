"""Which frames run deep, and gathering and putting back on random masks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compress.running.frames import Slots, deep_frames
from compress.running.heads import blank_probability, factorised_log_probabilities

MASKS = st.integers(1, 4).flatmap(
    lambda batch: st.integers(1, 12).flatmap(
        lambda frames: st.lists(
            st.lists(st.booleans(), min_size=frames, max_size=frames), min_size=batch, max_size=batch
        )
    )
)


def slots_of(mask: Tensor) -> Slots:
    return Slots.of(mask, mask.sum(1).tolist())


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_what_is_gathered_is_put_back_and_nothing_else_changes(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    frames = torch.arange(1.0, 1 + mask.numel() * 3).reshape(*mask.shape, 3)
    slots = slots_of(mask)
    gathered = slots.gather(frames)
    counts = mask.sum(1)
    assert gathered.shape == (len(mask), max(1, int(counts.max())), 3)
    for row, count in enumerate(counts.tolist()):
        assert torch.equal(gathered[row, :count], frames[row][mask[row]])
        assert not gathered[row, max(1, count) :].any()
        if slots.filled is not None:
            assert slots.filled[row].sum() == max(1, count)
    assert slots.filled is not None or (counts == counts[0]).all()
    expected = torch.where(mask[..., None], -frames, frames)
    assert torch.equal(slots.scatter(-gathered, frames), expected)


@given(MASKS)
@settings(max_examples=50, deadline=None)
def test_gradients_pass_by_either_way_once(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    before = torch.ones(*mask.shape, 2, requires_grad=True)
    slots = slots_of(mask)
    slots.scatter(3 * slots.gather(before), before).sum().backward()
    assert before.grad is not None
    assert torch.equal(before.grad, torch.where(mask[..., None], 3.0, 1.0).expand_as(before))


@given(MASKS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_deep_frames_are_the_spikes_and_their_neighbours(rows: list[list[bool]], extension: int) -> None:
    spikes = torch.tensor(rows)
    batch, frames = spikes.shape
    valid = torch.arange(frames) < torch.arange(frames, frames - batch, -1).clamp(min=1)[:, None]
    deep = deep_frames(torch.where(spikes, 0.2, 0.9), valid, 0.5, extension)
    for row in range(batch):
        length = int(valid[row].sum())
        near = [any(spikes[row, max(0, t - extension) : min(t + extension + 1, length)]) for t in range(length)]
        assert deep[row].tolist() == near + [False] * (frames - length)


def test_at_a_threshold_of_one_all_but_padding_runs_deep() -> None:
    valid = torch.tensor([[True, True, False]])
    assert torch.equal(deep_frames(torch.ones(1, 3), valid, 1.0, 2), valid)
    assert not deep_frames(torch.ones(1, 3), valid, 0.99, 2).any()


@pytest.mark.parametrize("blank", [0, 3, 6])
def test_the_factorised_distribution_is_one(blank: int) -> None:
    scores = torch.randn(2, 5, 7, dtype=torch.float64)
    logs = factorised_log_probabilities(scores, blank)
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(2, 5))
    torch.testing.assert_close(logs.log_softmax(-1), logs)
    torch.testing.assert_close(logs[..., blank].exp(), scores[..., blank].sigmoid().float())
    torch.testing.assert_close(blank_probability(logs, blank), scores[..., blank].sigmoid().float())
    others = [token for token in range(7) if token != blank]
    torch.testing.assert_close(logs[..., others].log_softmax(-1), scores[..., others].log_softmax(-1).float())
