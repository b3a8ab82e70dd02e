"""Batches that a model can read, made in worker processes, the same whatever the number of workers."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from compress.data.augment import SPECTRAL, change_speed, check_masks, mask_features
from compress.data.batching import MASKS, BatchPlan, plan_epoch, random_numbers
from compress.data.dataset import SpeechDataset, SpeechStream, Utterance
from compress.data.settings import AugmentConfig, BatchConfig
from compress.data.stream import StreamBatches, StreamReport
from compress.data.streams import StreamPlace
from compress.data.vocabulary import spell
from compress.machine import own_cores

IGNORED_LABEL = -100
LEAST_SECONDS = 0.2
"""So much every model can take: Parakeet divides by the frames less one, LASR's front takes 13 frames at once."""
MOST_WORKERS = 8
SEED_RANGE = 1 << 62


@dataclass
class Batch:
    """What one step reads.

    Attributes:
        inputs: the model's keyword arguments: `input_features` `(batch, frames, bins)` or `input_values`
            `(batch, samples)`, and `attention_mask`.
        labels: token ids, int64, `(batch, max_tokens)`, padded with -100; rows without a transcript are all -100.
        ids: file names or rows.
        texts: transcripts; empty strings where there is none.
        seconds: speech in the batch in seconds, padding not counted, speed changes counted.
        place: of a stream, where reading has to begin for this batch, see `SpeechLoader.epoch`.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    ids: list[str]
    texts: list[str]
    seconds: float
    place: dict[str, Any] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Returns the same batch with its tensors on `device`."""
        inputs = {name: tensor.to(device, non_blocking=True) for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Returns the same batch in page-locked memory; called by torch's DataLoader."""
        inputs = {name: tensor.pin_memory() for name, tensor in self.inputs.items()}
        return replace(self, inputs=inputs, labels=self.labels.pin_memory())


class BatchBuilder(Dataset[Batch]):
    """Turns utterances into a batch, with augmentation that follows from seed, epoch and batch number.

    Args:
        dataset: where utterances come from.
        processor: a `transformers` processor with `feature_extractor` and `tokenizer`.
        augment: augmentation, or `None`.
        seed: of the run.
    """

    def __init__(self, dataset: SpeechDataset, processor: Any, augment: AugmentConfig | None, seed: int) -> None:
        self.dataset = dataset
        self.processor = processor
        self.augment = augment
        self.seed = seed

    def __getitem__(self, plan: BatchPlan) -> Batch:
        return self.build([self.dataset[index] for index in plan.indices], plan)

    def build(self, utterances: Sequence[Utterance], plan: BatchPlan) -> Batch:
        """Augments the utterances of a plan, and computes their features and labels."""
        rate = self.dataset.sampling_rate
        with single_thread():
            waves = [
                change_speed(item.samples, rate, speed) for item, speed in zip(utterances, plan.speeds, strict=True)
            ]
            inputs = extract_features(feature_extractor_of(self.processor), waves, rate)
            seconds = torch.tensor([len(wave) / rate for wave in waves])
            if self.augment is not None and self.augment.masks_features:
                self._mask(inputs, seconds.clamp(min=LEAST_SECONDS), self.augment, plan)
        texts = [item.text or "" for item in utterances]
        labels = encode(self.processor.tokenizer, texts)
        return Batch(inputs, labels, [item.id for item in utterances], texts, float(seconds.sum()))

    def _mask(self, inputs: dict[str, Tensor], seconds: Tensor, config: AugmentConfig, plan: BatchPlan) -> None:
        seed = int(random_numbers(self.seed, MASKS, plan.epoch, plan.number).integers(SEED_RANGE))
        frames = inputs["attention_mask"].sum(dim=1)
        inputs[SPECTRAL] = mask_features(inputs[SPECTRAL], frames, seconds, config, seed)


class SpeechLoader:
    """Batches of a data set, epoch by epoch, for one rank.

    The batches of an epoch, and their augmentation, follow from `seed` and the epoch's number: any number of workers
    and any resumption give the same ones. Every rank gets equally many; together they see every utterance once.
    A stream is read by one worker; every rank reads all of it and keeps its share.

    Args:
        dataset: from `open_speech`.
        processor: a `transformers` processor with `feature_extractor` and `tokenizer`.
        batching: the size of batches, and workers.
        augment: augmentation; `None` for evaluation.
        shuffle: mix utterances and batches in each epoch; otherwise the longest come first, always alike.
        seed: of the run.
        rank: this process's number.
        world_size: number of processes.

    Attributes:
        wait_seconds: time spent waiting for batches so far.

    Raises:
        ValueError: if the data set's rate is not the processor's, or SpecAugment is asked of raw waveforms.
    """

    def __init__(
        self,
        dataset: SpeechDataset,
        processor: Any,
        batching: BatchConfig,
        *,
        augment: AugmentConfig | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_masks(augment, feature_extractor_of(processor))
        _check_rate(dataset, feature_extractor_of(processor))
        self.dataset = dataset
        self.batching = batching
        self.augment = augment
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.wait_seconds = 0.0
        self._builder = BatchBuilder(dataset, processor, augment, seed)
        self._order = _Order()
        self._workers: DataLoader[Batch] | None = None
        self._planned: tuple[int, list[BatchPlan]] | None = None

    def batches_per_epoch(self, epoch: int) -> int:
        """Batches that `epoch` has for each rank.

        Raises:
            TypeError: for a stream, which has no length.
        """
        return len(self._plan(epoch))

    def epoch(self, epoch: int, start: int = 0, place: dict[str, Any] | None = None) -> Iterator[Batch]:
        """Yields the batches of one epoch for this rank.

        Args:
            epoch: number of the epoch.
            start: batches to skip; nothing of them is loaded. Of a stream they are read again, from `place` on.
            place: `place` of a batch of this epoch before the first that is wanted, so that a stream begins there.

        Raises:
            ValueError: if the epoch has fewer than `start` batches.
        """
        streaming = self.dataset.streaming
        source = self._streamed(epoch, start, place) if streaming else self._planned_batches(epoch, start)
        while True:
            began = time.perf_counter()
            batch = next(source, None)
            self.wait_seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """Ends the worker processes; the next epoch starts new ones."""
        ended, self._workers = self._workers, None
        if ended is not None:
            _end(ended._iterator)

    def _plan(self, epoch: int) -> list[BatchPlan]:
        if self.dataset.streaming:
            len(self.dataset)  # raises, with the remedy
        if self._planned is None or self._planned[0] != epoch:
            entries = self.dataset.entries_of_epoch(self.seed, epoch) if self.shuffle else range(len(self.dataset))
            plans = plan_epoch(
                [self.dataset.seconds[entry] for entry in entries],
                self.batching,
                speeds=self.augment.speed if self.augment else (),
                shuffle=self.shuffle,
                seed=self.seed,
                epoch=epoch,
                world_size=self.world_size,
            )
            own = plans[self.rank :: self.world_size]
            self._planned = epoch, [_of_entries(plan, entries) for plan in own]
        return self._planned[1]

    def _planned_batches(self, epoch: int, start: int) -> Iterator[Batch]:
        plans = self._plan(epoch)
        if start > len(plans):
            raise ValueError(f"start {start} is beyond the {len(plans)} batches of epoch {epoch}")
        self._order.plans = plans[start:]
        if self._workers is None:
            self._workers = _data_loader(self._builder, self.batching, _workers(self.batching), self._order)
        return iter(self._workers)

    def _streamed(self, epoch: int, start: int, place: dict[str, Any] | None) -> Iterator[Batch]:
        if not isinstance(self.dataset, SpeechStream):
            raise TypeError(f"{self.dataset.name}: not a stream")
        speeds = self.augment.speed if self.augment else ()
        batches = StreamBatches(
            self.dataset,
            self.batching,
            self._builder.build,
            speeds=speeds,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=epoch,
            start=start,
            place=None if place is None else StreamPlace.of(place),
            rank=self.rank,
            world_size=self.world_size,
        )
        items = iter(_data_loader(batches, self.batching, min(1, _workers(self.batching)), None))
        try:
            for item in items:
                if isinstance(item, StreamReport):
                    item.record(self.dataset)
                else:
                    yield item
        finally:
            _end(items)


def of_first_buffer(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batches of a stream's first buffer (`BatchConfig.buffer_utterances`), its longest utterances first."""
    place: dict[str, Any] | None = None
    for batch in batches:
        if batch.place != (place := place or batch.place):
            return
        yield batch


def extract_features(feature_extractor: Any, waves: Sequence[NDArray[np.float32]], rate: int) -> dict[str, Tensor]:
    """Computes the model's inputs, padded to the longest, always with an attention mask.

    Args:
        feature_extractor: a `transformers` feature extractor.
        waves: float32 audio, one array `(samples,)` for each utterance; silence is added to those shorter than
            `LEAST_SECONDS`, and counts as speech.
        rate: in Hz.

    Raises:
        ValueError: if the extractor cuts an utterance into several.
    """
    shortest = round(LEAST_SECONDS * rate)
    waves = [np.pad(wave, (0, max(0, shortest - len(wave)))) for wave in waves]
    if "padding" not in inspect.signature(feature_extractor).parameters:
        return _padded([feature_extractor(wave)[SPECTRAL][0] for wave in waves])
    features = feature_extractor(
        waves, sampling_rate=rate, padding="longest", return_tensors="pt", return_attention_mask=True
    )
    inputs = {name: value for name, value in features.items() if isinstance(value, Tensor)}
    if any(len(value) != len(waves) for value in inputs.values()):
        longest = max(len(wave) for wave in waves) / rate
        raise ValueError(
            f"{type(feature_extractor).__name__} cuts utterances as long as {longest:.1f} s into several: leave them "
            f"out with data.max_seconds (its limit: {getattr(feature_extractor, 'max_audio_clip_s', 'unknown')} s)."
        )
    return inputs


def _padded(features: Sequence[Tensor]) -> dict[str, Tensor]:
    """Features of single utterances, `(frames, bins)` each, padded with zeros, and their mask."""
    lengths = torch.tensor([len(frames) for frames in features])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return {SPECTRAL: pad_sequence(list(features), batch_first=True), "attention_mask": mask}


def feature_extractor_of(processor: Any) -> Any:
    """Returns the feature extractor of a `transformers` processor, under whatever name it has it."""
    return getattr(processor, "feature_extractor", None) or processor.audio_processor


def encode(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Encodes transcripts (see `spell`): int64, `(batch, max_tokens)`, padded with -100; at least one column."""
    rows = [spell(tokenizer, text) if text else [] for text in texts]
    labels = torch.full((len(rows), max(1, *map(len, rows))), IGNORED_LABEL, dtype=torch.long)
    for row, tokens in enumerate(rows):
        labels[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return labels


@contextmanager
def single_thread() -> Iterator[None]:
    """Runs torch on one thread, as in a worker process, so that features agree to the last bit."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _of_entries(plan: BatchPlan, entries: Sequence[int]) -> BatchPlan:
    """A plan whose indices counted an epoch's entries, with the entries themselves."""
    return replace(plan, indices=tuple(entries[index] for index in plan.indices))


class _Order:
    """Hands the plans of the coming epoch to a DataLoader whose workers live on."""

    def __init__(self) -> None:
        self.plans: list[BatchPlan] = []

    def __iter__(self) -> Iterator[BatchPlan]:
        return iter(self.plans)

    def __len__(self) -> int:
        return len(self.plans)


def _workers(batching: BatchConfig) -> int:
    """How many processes read ahead: a CPU that trains has no core to spare, one beside a GPU has."""
    if batching.workers is not None:
        return batching.workers
    return max(1, min(MOST_WORKERS, own_cores() - 1)) if torch.accelerator.is_available() else 1


def _data_loader(
    source: Dataset[Any], batching: BatchConfig, workers: int, order: Iterable[BatchPlan] | None
) -> DataLoader[Any]:
    if workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers warns of forks after using threads
    return DataLoader(
        source,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0 and order is not None,
        prefetch_factor=batching.prefetch_batches if workers else None,
        pin_memory=torch.cuda.is_initialized(),  # not in a fork of a process that has used a GPU
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # of its own: the global one stays untouched, so a resumed run draws alike
    )


def _end(items: object) -> None:
    """Ends the workers behind an iterator here, rather than in its `__del__`, where Python drops an interrupt."""
    end: Callable[[], None] | None = getattr(items, "_shutdown_workers", None)
    if end is not None:
        end()


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)


def _check_rate(dataset: SpeechDataset, feature_extractor: Any) -> None:
    if dataset.sampling_rate != feature_extractor.sampling_rate:
        raise ValueError(
            f"{dataset.name} was opened at {dataset.sampling_rate} Hz, but the model reads "
            f"{feature_extractor.sampling_rate} Hz: open it with sampling_rate={feature_extractor.sampling_rate}"
        )


def frames_needed(labels: Tensor) -> Tensor:
    """The fewest frames in which CTC can emit each target: one per token, and a blank between equal neighbours.

    Args:
        labels: `(batch, tokens)`, padded with -100.

    Returns:
        `(batch,)` numbers of frames.
    """
    valid = labels != IGNORED_LABEL
    repeats = (labels[:, 1:] == labels[:, :-1]) & valid[:, 1:]
    return valid.sum(-1) + repeats.sum(-1)
