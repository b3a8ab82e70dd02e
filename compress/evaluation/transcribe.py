"""Transcription of a data set: greedy CTC, or by the model's own `generate` where it has no CTC head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from compress.checkpoint.exported import INT8
from compress.conformers import family_of, frame_mask
from compress.evaluation.generate import GenerateConfig, generate
from compress.runtimes.onnx_model import RunsOnnx

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from compress.data import Batch, BatchConfig

OnBatch = Callable[["Batch"], None]


class BatchSource(Protocol):
    """What `transcribe` reads from: a `SpeechLoader`, or anything that yields batches once per epoch."""

    def epoch(self, epoch: int) -> Iterable[Batch]:
        """Yields every batch of one pass over the data."""


def batching_for(model: PreTrainedModel, batch: BatchConfig) -> BatchConfig:
    """How utterances are put together for a model: one by one where its output depends on what is beside them."""
    return replace(batch, max_utterances=1) if why_one_by_one(model) else batch


def why_one_by_one(model: PreTrainedModel) -> str | None:
    """Says what about a model makes utterances in a batch change each other; None if they do not."""
    if family_of(model).padding_sensitive:
        return "its output depends on padding"
    if isinstance(model, RunsOnnx) and model.precision == INT8:
        return "one scale of 8 bits holds for the activations of a whole batch"
    return None


def transcribe(
    model: PreTrainedModel,
    loader: BatchSource,
    processor: ProcessorMixin,
    *,
    on_batch: OnBatch | None = None,
    config: GenerateConfig | None = None,
) -> tuple[list[str], list[str], list[str]]:
    """Writes down every utterance of a loader.

    A CTC model takes the best token of each frame, CTC-collapsed by the processor; frames that belong to padding become
    blank before decoding, so they cannot add words. Another model uses its `generate`. The model runs in eval mode
    without gradients, on its own device and in its own dtype, and is put back into its former mode.

    Args:
        model: of any family.
        loader: yields one pass over the data; batches may come in any order.
        processor: the model's own, for `batch_decode`.
        on_batch: called with every finished batch, for progress.
        config: how a model without a CTC head writes.

    Returns:
        ids, references, hypotheses, in the order of the loader. A missing transcript is an empty reference.
    """
    ids: list[str] = []
    references: list[str] = []
    hypotheses: list[str] = []
    with _evaluating(model):
        for batch in loader.epoch(0):
            ids.extend(batch.ids)
            references.extend(text or "" for text in batch.texts)
            if family_of(model).has_ctc:
                hypotheses.extend(processor.batch_decode(best_tokens(model, batch.inputs)))
            else:
                placed = to_model(model, batch.inputs)
                hypotheses.extend(generate(model, placed, processor, config or GenerateConfig()))
            if on_batch is not None:
                on_batch(batch)
    return ids, references, hypotheses


def best_tokens(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Greedy token of every frame, blank beyond the end of an utterance.

    Args:
        model: a CTC model in eval mode.
        inputs: the model's keyword inputs with their attention mask, on any device.

    Returns:
        Token ids on the CPU, (batch, frames).
    """
    placed = to_model(model, inputs)
    tokens: Tensor = model(**placed).logits.argmax(dim=-1)
    valid = frame_mask(model, placed, tokens.shape[1]).to(tokens.device)
    return tokens.masked_fill(~valid, model.config.pad_token_id).cpu()


def to_model(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Moves inputs to the model's device and floating inputs to its dtype; masks keep theirs."""
    device, dtype = model.device, model.dtype
    return {
        name: value.to(device, dtype if value.is_floating_point() else value.dtype) for name, value in inputs.items()
    }


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    # no_grad, not inference_mode: a tensor a model caches here (position tables) may be needed in training later.
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
