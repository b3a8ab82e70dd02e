"""Which utterances make a batch: by seconds of audio, similar lengths together, reproducible from seed and epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data.settings import BatchConfig

ORDER, SPEED, MASKS, PASSES = range(4)
"""Independent streams of random numbers: order of batches, speed factors, SpecAugment, passes of a mix's sources."""


@dataclass(frozen=True)
class BatchPlan:
    """What one batch is made of, decided before anything is loaded.

    Attributes:
        epoch: the epoch it belongs to.
        number: its number among all batches of the epoch, over all ranks.
        indices: utterances.
        speeds: the speed factor of each.
    """

    epoch: int
    number: int
    indices: tuple[int, ...]
    speeds: tuple[float, ...]


def random_numbers(seed: int, stream: int, *parts: int) -> np.random.Generator:
    """Makes a generator that follows from its arguments only."""
    return np.random.default_rng([seed, stream, *parts])


def draw_speeds(speeds: Sequence[float], count: int, seed: int, *parts: int) -> NDArray[np.float64]:
    """Draws one speed factor for each of `count` utterances, `(count,)`; ones if `speeds` is empty.

    Args:
        speeds: factors to draw from.
        count: how many to draw.
        seed: of the run.
        parts: what else the draw follows from, such as the epoch.
    """
    if not speeds:
        return np.ones(count)
    return random_numbers(seed, SPEED, *parts).choice(np.asarray(speeds, dtype=np.float64), size=count)


def plan_epoch(
    seconds: Sequence[float],
    config: BatchConfig,
    *,
    speeds: Sequence[float] = (),
    shuffle: bool,
    seed: int,
    epoch: int,
    world_size: int = 1,
) -> list[BatchPlan]:
    """Plans all batches of an epoch, for all ranks: rank r takes every `world_size`-th from r on.

    Every utterance is in exactly one batch. The number of batches is a multiple of `world_size`, and batches of the
    same step have utterances of similar length. Without `shuffle` the longest utterances come first, and where batches
    can be halved no more, as where utterances are singly, the last ranks may have a batch less.

    Args:
        seconds: length of every utterance.
        config: the size of a batch.
        speeds: speed factors to draw from.
        shuffle: whether to mix utterances and batches anew in each epoch.
        seed: of the run.
        epoch: number of the epoch.
        world_size: number of ranks.

    Raises:
        ValueError: if there are fewer utterances than ranks.
    """
    if len(seconds) < world_size:
        raise ValueError(f"{len(seconds)} utterances cannot be shared by {world_size} processes: use fewer processes")
    factors = draw_speeds(speeds, len(seconds), seed, epoch)
    lengths = np.asarray(seconds, dtype=np.float64) / factors
    random = random_numbers(seed, ORDER, epoch)
    batches = cut_batches(lengths, config, random if shuffle else None, world_size, join=shuffle)
    if shuffle:
        batches = _shuffle_steps(batches, random, world_size)
    return [
        BatchPlan(epoch, number, tuple(batch), tuple(float(factors[index]) for index in batch))
        for number, batch in enumerate(batches)
    ]


def cut_batches(
    lengths: NDArray[np.float64],
    config: BatchConfig,
    random: np.random.Generator | None,
    world_size: int,
    *,
    join: bool = True,
) -> list[list[int]]:
    """Sorts utterances by length, longest first, and cuts the list into batches.

    Args:
        lengths: seconds of every utterance, `(utterances,)`.
        config: the size of a batch.
        random: blurs lengths before sorting, by `config.length_jitter`; `None` sorts exactly.
        world_size: the number of batches is a multiple of it.
        join: whether short batches are joined for that, if there is nothing to halve.
    """
    blur = random.uniform(-config.length_jitter, config.length_jitter, len(lengths)) if random else 0.0
    order = np.argsort(-lengths * np.exp(blur), kind="stable")
    return _fit(_cut(order, lengths, config), world_size, join)


def _cut(order: NDArray[np.intp], lengths: NDArray[np.float64], config: BatchConfig) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0.0
    for index in order.tolist():
        longest = max(longest, float(lengths[index]))
        current = batches[-1] if batches else []
        full = len(current) == config.max_utterances or longest * (len(current) + 1) > config.seconds
        if full or not batches:
            batches.append([index])
            longest = float(lengths[index])
        else:
            current.append(index)
    return batches


def _fit(batches: list[list[int]], world_size: int, join: bool) -> list[list[int]]:
    """Makes the number of batches a multiple of `world_size` by halving large ones, or else joining short ones."""
    while len(batches) % world_size and max(map(len, batches)) > 1:
        place = max(range(len(batches)), key=lambda number: len(batches[number]))
        whole = batches[place]
        batches[place : place + 1] = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    while join and len(batches) % world_size:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def _shuffle_steps(batches: list[list[int]], random: np.random.Generator, world_size: int) -> list[list[int]]:
    steps = [batches[start : start + world_size] for start in range(0, len(batches), world_size)]
    return [steps[step][rank] for step in random.permutation(len(steps)) for rank in random.permutation(world_size)]
