"""Speed perturbation and SpecAugment do what they say, from their seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.data import AugmentConfig
from compress.data.augment import change_speed, mask_features
from tests.helpers.samples import RATE, tone

FRAMES = torch.tensor([100, 60])
SECONDS = torch.tensor([1.0, 0.6])


def features() -> torch.Tensor:
    return torch.randn(2, 100, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [0.9, 1.1, 0.5, 2.0])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    changed = change_speed(tone(1.0), RATE, factor)
    assert changed.dtype == np.float32
    assert len(changed) == pytest.approx(RATE / factor, abs=1)
    peak = np.abs(np.fft.rfft(changed)).argmax() * RATE / len(changed)
    assert peak == pytest.approx(440 * factor, abs=2)


def test_speed_one_is_the_same_audio() -> None:
    samples = tone(0.5)
    assert change_speed(samples, RATE, 1.0) is samples


def test_time_masks_hide_frames_within_the_utterance() -> None:
    config = AugmentConfig(time_masks=2, max_time_mask_seconds=0.2, max_time_mask_fraction=0.15)
    original = features()
    sizes = set()
    for seed in range(40):
        masked = mask_features(original, FRAMES, SECONDS, config, seed)
        changed = (masked != original).any(dim=2)
        assert not changed[1, 60:].any()
        assert changed[0].sum() <= 2 * 15  # at most 15 % of 100 frames each
        assert changed[1].sum() <= 2 * 9
        sizes.add(int(changed[0].sum()))
        assert torch.equal((masked != original).all(dim=2), changed)
        if changed[0].any():
            mean = original[0].mean()
            assert torch.allclose(masked[0][changed[0]], mean.expand(20), atol=1e-6)
    assert max(sizes) > 10


def test_the_longest_time_mask_is_reached_and_not_passed() -> None:
    config = AugmentConfig(time_masks=1, max_time_mask_seconds=0.03, max_time_mask_fraction=1.0)
    original = features()
    counts = {
        int((mask_features(original, FRAMES, SECONDS, config, seed) != original).any(dim=2)[0].sum())
        for seed in range(60)
    }
    assert counts == {0, 1, 2, 3}


def test_frequency_masks_hide_bins_everywhere() -> None:
    config = AugmentConfig(freq_masks=1, max_freq_bins=5)
    original = features()
    counts = set()
    for seed in range(60):
        changed = mask_features(original, FRAMES, SECONDS, config, seed) != original
        bins = changed[1].any(dim=0)
        assert torch.equal(changed[1, :60].all(dim=0), bins)
        assert not changed[1, 60:].any()
        counts.add(int(bins.sum()))
    assert counts == {0, 1, 2, 3, 4, 5}


def test_masks_follow_from_the_seed_and_leave_the_input_alone() -> None:
    config = AugmentConfig(time_masks=2, freq_masks=2, max_freq_bins=5)
    original = features()
    first = mask_features(original, FRAMES, SECONDS, config, 7)
    torch.manual_seed(123)
    assert torch.equal(first, mask_features(original, FRAMES, SECONDS, config, 7))
    assert not torch.equal(first, mask_features(original, FRAMES, SECONDS, config, 8))
    assert torch.equal(original, features())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": (0.1,)}, "augment.speed is .*; give factors from 0.5 to 2"),
        ({"time_masks": -1}, "augment.time_masks is -1; give at least 0"),
        ({"max_time_mask_fraction": 1.5}, "augment.max_time_mask_fraction is 1.5; give a fraction above 0 and up to 1"),
    ],
)
def test_impossible_augmentation_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**options)  # type: ignore[arg-type]
