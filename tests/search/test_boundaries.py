"""What passes the boundaries of blocks: right frames, no padding, bounded memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compress.conformers import blocks_of, frame_outputs
from compress.conformers.recording import BlockOutputs
from compress.search import SampleConfig, sample_boundaries
from tests.helpers import tiny


def batches(model: Any, *seeds: int) -> list[Any]:
    return [SimpleNamespace(inputs=tiny.batch(model, seed)) for seed in seeds]


def halves(inputs: dict[str, torch.Tensor]) -> list[Any]:
    """The two utterances of a tiny batch, each alone and without padding."""
    length = int(inputs["attention_mask"][1].sum())
    alone = [(0, inputs["attention_mask"].shape[1]), (1, length)]
    return [
        SimpleNamespace(inputs={key: value[row : row + 1, :end] for key, value in inputs.items()}) for row, end in alone
    ]


@pytest.mark.parametrize("name", tiny.MODELS)
@pytest.mark.parametrize("feature", ["mean", "frames"])
def test_every_family_is_sampled_at_every_boundary(name: str, feature: Any) -> None:
    model = tiny.MODELS[name]()
    sample = sample_boundaries(model, batches(model, 1, 2), 4, SampleConfig(feature=feature, rows=20))
    assert len(sample) == tiny.BLOCKS + 1
    assert len({one.shape for one in sample}) == 1
    assert sample[0].shape[0] == (4 if feature == "mean" else 20)
    assert all(one.isfinite().all() and one.dtype == torch.float32 for one in sample)
    assert not any(block._forward_hooks or block._forward_pre_hooks for block in blocks_of(model))


@pytest.mark.parametrize("name", ["parakeet", "wav2vec2_bert-rotary", "granite_speech5", "canary"])
def test_padding_never_enters(name: str) -> None:
    """The shorter utterance gives the same row with the longer one beside it and alone."""
    model = tiny.MODELS[name]()
    inputs = tiny.batch(model)
    padded = sample_boundaries(model, [SimpleNamespace(inputs=inputs)], 2, SampleConfig())
    alone = sample_boundaries(model, halves(inputs), 2, SampleConfig())
    for one, other in zip(padded[1:], alone[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    noisy = dict(inputs)
    features = next(key for key in inputs if key != "attention_mask")
    noisy[features] = inputs[features].clone()
    noisy[features][1, int(inputs["attention_mask"][1].sum()) :] = 1e3
    again = sample_boundaries(model, [SimpleNamespace(inputs=noisy)], 2, SampleConfig())
    for one, other in zip(padded[1:], again[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_means_and_frames_are_those_of_the_blocks() -> None:
    model = tiny.parakeet()
    inputs = {key: value[:1] for key, value in tiny.batch(model).items()}
    outputs = BlockOutputs(model, range(tiny.BLOCKS))
    frames = frame_outputs(model, inputs).shape[1]
    expected = outputs.take()
    outputs.close()
    one = [SimpleNamespace(inputs=inputs)]
    means = sample_boundaries(model, one, 1, SampleConfig())
    every = sample_boundaries(model, one, 1, SampleConfig(feature="frames", rows=1000))
    orders = []
    for block in range(tiny.BLOCKS):
        torch.testing.assert_close(means[block + 1], expected[block].mean(1))
        assert every[block + 1].shape[0] == frames
        found, wanted = every[block + 1], expected[block][0]
        order = torch.cdist(found, wanted).argmin(1)
        assert sorted(order.tolist()) == list(range(frames))
        torch.testing.assert_close(found, wanted[order])
        orders.append(order)
    assert torch.equal(orders[0], orders[-1])


def test_there_are_never_more_frames_than_were_asked_for() -> None:
    model = tiny.parakeet()
    sample = sample_boundaries(model, batches(model, 1, 2), 4, SampleConfig(feature="frames", rows=3))
    assert [len(one) for one in sample] == [3] * (tiny.BLOCKS + 1)


def test_the_seed_decides() -> None:
    model = tiny.parakeet()
    config = SampleConfig(feature="frames", rows=12, seed=3)
    first, again = (sample_boundaries(model, batches(model, 1, 2), 4, config) for _ in range(2))
    other = sample_boundaries(model, batches(model, 1, 2), 4, SampleConfig(feature="frames", rows=12, seed=4))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_memory_is_bounded_before_the_model_runs() -> None:
    model = tiny.parakeet()
    with pytest.raises(ValueError, match=r"1000 rows of width 32 at 4 boundaries takes 0 MiB, but max_mib is 0.1"):
        sample_boundaries(model, iter(()), 1000, SampleConfig(max_mib=0.1))
    with pytest.raises(ValueError, match="no speech"):
        sample_boundaries(model, iter(()), 1, SampleConfig())
    with pytest.raises(ValueError, match="rows is 1"):
        SampleConfig(rows=1)
    with pytest.raises(ValueError, match="max_mib is 0"):
        SampleConfig(max_mib=0)
