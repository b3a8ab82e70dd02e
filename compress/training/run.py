"""What every training recipe sets up alike: the accelerator, its trackers, the training set, the dev set."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from transformers import PreTrainedModel

from compress.data import BatchConfig, SpeechConfig, SpeechDataset, SpeechLoader, open_speech, vocabulary_of
from compress.evaluation import ErrorRates, error_rates, transcribe
from compress.training import processes
from compress.training.folders import write_json
from compress.training.precision import Precision, autocast
from compress.training.settings import flatten

logger = logging.getLogger(__name__)


def make_accelerator(output: Path, trackers: Sequence[str]) -> Accelerator:
    """An accelerator for one or many processes on whatever devices there are; autocast stays the recipe's.

    Args:
        output: folder of the run; trackers write there.
        trackers: names that accelerate knows, such as tensorboard.
    """
    return Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision="no",  # autocast is ours, around the forward pass only
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(output), logging_dir=str(output)),
    )


def start_trackers(accelerator: Accelerator, name: str, settings: dict[str, Any], output: Path) -> None:
    """Starts the trackers, and writes the run's settings to `config.json` in its folder."""
    accelerator.init_trackers(name, config={key: str(value) for key, value in flatten(settings).items()})
    if accelerator.is_main_process:
        write_json(output / "config.json", settings)


class DevSet:
    """The dev set of a run, divided among its processes.

    Args:
        dataset: the utterances, with transcripts.
        processor: of the model that will be evaluated.
        batch: how utterances are put together.
        accelerator: tells ranks apart, and the device.
        precision: of the forward passes.
    """

    def __init__(
        self, dataset: SpeechDataset, processor: Any, batch: BatchConfig, accelerator: Accelerator, precision: Precision
    ) -> None:
        self.processor, self.accelerator, self.precision = processor, accelerator, precision
        self.loader = SpeechLoader(
            dataset,
            processor,
            batch,
            shuffle=False,
            rank=accelerator.process_index,
            world_size=accelerator.num_processes,
        )

    def error_rates(self, model: PreTrainedModel) -> ErrorRates:
        """Error rates of a model, the same on every rank. All ranks must call it; the model comes back in its mode."""
        with autocast(self.accelerator.device, self.precision):
            processes.share_buffers(model)
            part = list(zip(*transcribe(model, self.loader, self.processor), strict=True))
        every = {row[0]: row for rows in processes.gather(part) for row in rows}  # ranks may share the last batches
        return error_rates(*([row[column] for row in every.values()] for column in (1, 2)))


def open_loaders(
    data: SpeechConfig,
    dev_split: str | None,
    dev: SpeechConfig | None,
    dev_limit: int | None,
    *,
    processor: Any,
    batch: BatchConfig,
    accelerator: Accelerator,
    precision: Precision,
    labels: bool = True,
) -> tuple[SpeechDataset, DevSet | None]:
    """Opens the training set and the dev set, checked against what the processor can spell.

    Args:
        data: the training set.
        dev_split: split of the dev set, which is otherwise read like the training set; None opens none.
        dev: the dev set, if it is another source.
        dev_limit: only the first so many dev utterances; None takes all.
        processor: feature extractor and tokenizer of the model.
        batch: how dev utterances are put together.
        accelerator: rank 0 fills the caches, the others find them filled.
        precision: of the dev set's forward passes.
        labels: whether the training set needs transcripts.

    Returns:
        The training set, and the dev set unless there is none.
    """
    rate, vocabulary = processor.feature_extractor.sampling_rate, vocabulary_of(processor)
    with accelerator.main_process_first():
        train_set = open_speech(data, sampling_rate=rate, vocabulary=vocabulary, labels=labels)
        if dev is None and dev_split is None:
            return train_set, None
        chosen = dev or replace(data, split=dev_split or "", limit=None)
        chosen = replace(chosen, limit=dev_limit or chosen.limit)
        dev_set = open_speech(chosen, sampling_rate=rate, vocabulary=vocabulary)
    return train_set, DevSet(dev_set, processor, batch, accelerator, precision)
