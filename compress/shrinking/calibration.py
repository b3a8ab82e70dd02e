"""Calibration speech: a few minutes that a model is looked at with, in memory, with labels of one kind or another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.conformers import family_of
from compress.curvature.moments import Total, alone
from compress.curvature.passage import Inputs, one_by_one
from compress.data import Batch, BatchConfig, SpeechDataset, SpeechLoader, of_first_buffer, vocabulary_of
from compress.data.checks import transcript_problem
from compress.data.loader import IGNORED_LABEL
from compress.data.vocabulary import Alphabet
from compress.evaluation.transcribe import best_tokens, to_model
from compress.structure import Structure

logger = logging.getLogger(__name__)


def by_itself(structure: Structure) -> Structure:
    """What a process that is alone has decided."""
    return structure


@dataclass(frozen=True)
class Calibration:
    """Speech that a model is looked at with.

    Attributes:
        batches: of this process, on the model's device and in its precision.
        utterances: how many there are, over all processes.
        dataset: of which they are.
        total: over the processes, each of which has its share.
        agreed: what one of the processes has decided.
    """

    batches: list[Batch]
    utterances: int
    dataset: SpeechDataset
    total: Total = alone
    agreed: Callable[[Structure], Structure] = by_itself

    @property
    def inputs(self) -> list[Inputs]:
        """What the model is called with."""
        return [batch.inputs for batch in self.batches]

    @property
    def seconds(self) -> float:
        """Speech in the batches of this process."""
        return sum(batch.seconds for batch in self.batches)


def read_calibration(
    model: PreTrainedModel,
    processor: Any,
    dataset: SpeechDataset,
    utterances: int,
    batching: BatchConfig,
    *,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    total: Total = alone,
    agreed: Callable[[Structure], Structure] = by_itself,
) -> Calibration:
    """Reads some utterances of a data set.

    Of a CTC model, utterances without a transcript, or with one that the tokenizer cannot spell, get the model's own,
    as it writes them down.

    Args:
        model: in eval mode.
        processor: the model's own.
        dataset: of which utterances are drawn at random; of a stream, the first ones are taken.
        utterances: how many, over all processes.
        batching: how they are put together; models that want them singly get them singly.
        seed: of the choice.
        rank: number of this process.
        world_size: how many processes share the utterances.
        total: over these processes.
        agreed: what the first of these processes has decided.

    Raises:
        ValueError: if a process would have no utterance.
    """
    chosen = dataset if dataset.streaming else dataset.sample(utterances, seed)
    batching = replace(
        batching,
        workers=0,
        buffer_utterances=utterances,
        max_utterances=1 if one_by_one(model) else batching.max_utterances,
    )
    loader = SpeechLoader(chosen, processor, batching, shuffle=False, rank=rank, world_size=world_size)
    read = of_first_buffer(loader.epoch(0)) if dataset.streaming else loader.epoch(0)
    vocabulary, unusable = vocabulary_of(processor), list[str]()
    spelt = (_spelt(batch, vocabulary, unusable) for batch in read)
    batches = [
        _labelled(model, replace(batch.to(model.device), inputs=to_model(model, batch.inputs))) for batch in spelt
    ]
    if unusable:
        said = "%s: %d transcripts cannot be used and count as none; the first has %s"
        logger.warning(said, dataset.name, len(unusable), unusable[0])
    here = torch.tensor([sum(len(batch.ids) for batch in batches), not batches], device=model.device)
    heard, without = total(here).tolist()
    if without:
        raise ValueError(
            f"{dataset.name}: {without} of {world_size} processes have no utterance to look at, with {heard} in all: "
            "give more speech, or start fewer processes."
        )
    return Calibration(batches, heard, chosen, total, agreed)


def _spelt(batch: Batch, vocabulary: Alphabet | None, unusable: list[str]) -> Batch:
    """The batch without labels of transcripts that cannot be used, such as those in letters unknown to the tokenizer.

    Args:
        batch: as it was read.
        vocabulary: what the tokenizer can spell.
        unusable: what is wrong with them is added.
    """
    problems = [transcript_problem(text, vocabulary) if text else None for text in batch.texts]
    unusable += filter(None, problems)
    left_out = torch.tensor([problem is not None for problem in problems])
    return replace(batch, labels=batch.labels.masked_fill(left_out[:, None], IGNORED_LABEL))


@torch.no_grad()
def _labelled(model: PreTrainedModel, batch: Batch) -> Batch:
    unknown = (batch.labels == IGNORED_LABEL).all(1)
    if not family_of(model).has_ctc or not unknown.any():
        return batch
    blank = int(model.config.pad_token_id)
    written = [_collapsed(tokens, blank) for tokens in best_tokens(model, batch.inputs)]
    rows = [
        written[n] if unknown[n] else labels[labels != IGNORED_LABEL].cpu() for n, labels in enumerate(batch.labels)
    ]
    labels = torch.full((len(rows), max(1, *map(len, rows))), IGNORED_LABEL)
    for row, tokens in zip(labels, rows, strict=True):
        row[: len(tokens)] = tokens
    return replace(batch, labels=labels.to(batch.labels.device))


def _collapsed(tokens: Tensor, blank: int) -> Tensor:
    """A greedy transcript: repetitions once, blanks not at all."""
    once: Tensor = torch.unique_consecutive(tokens)
    return once[once != blank]
