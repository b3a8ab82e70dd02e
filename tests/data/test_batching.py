"""The plan of an epoch: every utterance once, within the budget, the same number for every rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.data import BatchConfig
from compress.data.batching import BatchPlan, plan_epoch

LENGTHS = st.lists(st.floats(0.1, 30.0), min_size=4, max_size=120)


def padded_seconds(batch: Sequence[int], lengths: NDArray[np.float64]) -> float:
    """Seconds of audio in a batch, padding counted."""
    return float(lengths[list(batch)].max()) * len(batch)


@settings(max_examples=80, deadline=None)
@given(
    lengths=LENGTHS,
    seconds=st.floats(5.0, 90.0),
    world_size=st.integers(1, 4),
    shuffle=st.booleans(),
    most=st.none() | st.integers(1, 10),
)
def test_every_utterance_once_and_equally_many_batches(
    lengths: list[float], seconds: float, world_size: int, shuffle: bool, most: int | None
) -> None:
    config = BatchConfig(seconds=seconds, max_utterances=most)
    plans = plan_epoch(lengths, config, shuffle=shuffle, seed=1, epoch=2, world_size=world_size)
    assert sorted(index for plan in plans for index in plan.indices) == list(range(len(lengths)))
    all_single = not shuffle and all(len(plan.indices) == 1 for plan in plans)
    assert len(plans) % world_size == 0 or all_single
    assert shuffle or all(len(plan.indices) <= (most or len(lengths)) for plan in plans)
    assert [plan.number for plan in plans] == list(range(len(plans)))
    if world_size == 1:
        sizes = [padded_seconds(plan.indices, np.array(lengths)) for plan in plans]
        assert all(size <= seconds + 1e-6 or len(plan.indices) == 1 for size, plan in zip(sizes, plans, strict=True))
        assert all(len(plan.indices) <= (most or len(lengths)) for plan in plans)


def test_the_plan_follows_from_seed_and_epoch() -> None:
    lengths = np.random.default_rng(0).uniform(0.5, 5, 300).tolist()
    config = BatchConfig(seconds=20)

    def plan(seed: int, epoch: int, shuffle: bool = True) -> list[BatchPlan]:
        return plan_epoch(lengths, config, speeds=(0.9, 1.1), shuffle=shuffle, seed=seed, epoch=epoch)

    assert plan(0, 0) == plan(0, 0)
    assert plan(0, 0) != plan(0, 1)
    assert plan(0, 0) != plan(1, 0)
    members = {frozenset(batch.indices) for batch in plan(0, 0)}
    assert members != {frozenset(batch.indices) for batch in plan(0, 1)}


def test_without_shuffling_the_longest_come_first_in_every_epoch() -> None:
    lengths = np.random.default_rng(0).uniform(0.5, 5, 100).tolist()
    plans = [plan_epoch(lengths, BatchConfig(seconds=20), shuffle=False, seed=0, epoch=epoch) for epoch in (0, 1)]
    order = [index for batch in plans[0] for index in batch.indices]
    assert [batch.indices for batch in plans[0]] == [batch.indices for batch in plans[1]]
    assert order == sorted(range(100), key=lambda index: -lengths[index])


def test_similar_lengths_share_a_batch_and_a_step() -> None:
    lengths = np.random.default_rng(0).uniform(0.5, 15, 2000)
    plans = plan_epoch(lengths.tolist(), BatchConfig(seconds=80), shuffle=True, seed=0, epoch=0, world_size=2)
    padded = sum(padded_seconds(plan.indices, lengths) for plan in plans)
    assert lengths.sum() / padded > 0.85
    longest = [lengths[list(plan.indices)].max() for plan in plans]
    assert np.mean([abs(a - b) for a, b in zip(longest[::2], longest[1::2], strict=True)]) < 1.0


def test_speeds_are_drawn_and_change_the_budgeted_length() -> None:
    lengths = [1.0] * 400
    plans = plan_epoch(
        lengths, BatchConfig(seconds=10, length_jitter=0), speeds=(0.5, 2.0), shuffle=True, seed=0, epoch=0
    )
    drawn = np.array([speed for plan in plans for speed in plan.speeds])
    assert set(drawn) == {0.5, 2.0}
    assert 0.4 < (drawn == 0.5).mean() < 0.6
    assert all(max(1 / speed for speed in plan.speeds) * len(plan.indices) <= 10 for plan in plans)


def test_long_utterances_are_batches_of_their_own() -> None:
    plans = plan_epoch([30.0, 1.0, 25.0, 1.0], BatchConfig(seconds=5), shuffle=False, seed=0, epoch=0)
    assert [plan.indices for plan in plans] == [(0,), (2,), (1, 3)]


def test_too_few_utterances_for_the_ranks() -> None:
    with pytest.raises(ValueError, match="3 utterances cannot be shared by 4 processes: use fewer processes"):
        plan_epoch([1.0] * 3, BatchConfig(), shuffle=True, seed=0, epoch=0, world_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": 0}, "batch.seconds is 0; give a number of seconds above 0"),
        ({"workers": -1}, "batch.workers is -1; give at least 0"),
        ({"max_utterances": 0}, "batch.max_utterances is 0; give at least 1"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchConfig(**options)  # type: ignore[arg-type]
