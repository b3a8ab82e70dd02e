"""Speed perturbation of waveforms (Ko et al. 2015) and SpecAugment of features (Park et al. 2019), with torchaudio."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio import functional

from compress.data.settings import AugmentConfig

TIME_AXIS, FREQUENCY_AXIS = 2, 1
SPECTRAL = "input_features"


def change_speed(samples: NDArray[np.float32], sampling_rate: int, factor: float) -> NDArray[np.float32]:
    """Plays audio faster (factor above 1) or slower; pitch changes along.

    Args:
        samples: `(samples,)`.
        sampling_rate: in Hz.
        factor: speed factor.

    Returns:
        About `len(samples) / factor` samples.
    """
    if factor == 1.0:
        return samples
    changed, _ = functional.speed(torch.from_numpy(samples), sampling_rate, factor)
    return np.asarray(changed.numpy(), dtype=np.float32)


def check_masks(config: AugmentConfig | None, feature_extractor: object) -> None:
    """Refuses SpecAugment for a model that reads raw waveforms.

    Raises:
        ValueError: with the model's own settings as the remedy.
    """
    names = list(getattr(feature_extractor, "model_input_names", [SPECTRAL]))
    if config is None or not config.masks_features or SPECTRAL in names:
        return
    raise ValueError(
        f"time_masks {config.time_masks} and freq_masks {config.freq_masks} mask spectral features, but "
        f"{type(feature_extractor).__name__} gives raw waveforms ({', '.join(names)}): set both to 0 and use the "
        "model's own mask_time_prob and mask_feature_prob, which mask inside it"
    )


def mask_features(features: Tensor, frames: Tensor, seconds: Tensor, config: AugmentConfig, seed: int) -> Tensor:
    """SpecAugment: hides stretches of time and bands of frequency behind the utterance's mean.

    Args:
        features: `(batch, frames, bins)`.
        frames: valid frames of each utterance, `(batch,)`; masks stay within them.
        seconds: length of each utterance, `(batch,)`, to turn seconds into frames.
        config: number and size of the masks.
        seed: the masks follow from it.

    Returns:
        A new tensor of the same shape.
    """
    masked = features.clone()
    longest = round(config.max_time_mask_seconds * float(frames.sum() / seconds.sum()))
    with torch.random.fork_rng(devices=[]):  # torchaudio draws from the global generator
        torch.manual_seed(seed)
        for row, count in enumerate(frames.tolist()):
            masked[row, :count] = _mask_one(features[row, :count].T[None], longest, config)[0].T
    return masked


def _mask_one(spectrogram: Tensor, longest: int, config: AugmentConfig) -> Tensor:
    """Masks one utterance, `(1, bins, frames)`."""
    mean = float(spectrogram.mean())
    share = config.max_time_mask_fraction
    bins = min(config.max_freq_bins, spectrogram.shape[FREQUENCY_AXIS])
    for _ in range(config.time_masks):
        limit = min(longest, int(spectrogram.shape[TIME_AXIS] * share)) + 1  # the size is drawn below the limit
        spectrogram = functional.mask_along_axis_iid(spectrogram, limit, mean, TIME_AXIS)
    for _ in range(config.freq_masks):
        spectrogram = functional.mask_along_axis_iid(spectrogram, bins + 1, mean, FREQUENCY_AXIS)
    return spectrogram
