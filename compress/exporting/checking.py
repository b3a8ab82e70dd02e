"""Whether a graph computes what its model computes: on several lengths, and on a batch of unequal ones."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.checkpoint.exported import ExportError
from compress.conformers import blocks_of, family_of, frame_lengths, frame_mask, frame_outputs, part
from compress.data import extract_features, feature_extractor_of
from compress.exporting.graph import write_graph
from compress.runtimes.onnx_graph import OnnxGraph
from compress.runtimes.signatures import Signature, TracedModel

TRACED_SECONDS = (1.57, 1.03)
"""Of the batch that is followed; no number of frames in it is round, so that nothing happens to fit."""
CHECKED_SECONDS = ((0.43,), (1.0,), (4.21,), (9.13,), (3.37, 1.2, 0.46))
_NOISE_LEVEL = 0.1


@dataclass(frozen=True)
class Sample:
    """A batch and what the model itself makes of it.

    Attributes:
        seconds: of its utterances.
        inputs: features and mask.
        expected: `(batch, frames, ...)`.
        valid: `(batch, frames)`, which of them are no padding.
    """

    seconds: tuple[float, ...]
    inputs: dict[str, Tensor]
    expected: Tensor
    valid: Tensor


def noise_inputs(processor: Any, seconds: Sequence[float]) -> dict[str, Tensor]:
    """Features of a batch of seeded noise.

    Args:
        processor: of a model.
        seconds: length of each utterance.
    """
    extractor = feature_extractor_of(processor)
    rate = int(extractor.sampling_rate)
    numbers = np.random.default_rng(0)
    waves = [_NOISE_LEVEL * numbers.standard_normal(round(length * rate)).astype(np.float32) for length in seconds]
    return extract_features(extractor, waves, rate)


def longest_frames(model: PreTrainedModel) -> int | None:
    """Up to how many frames a graph of the model can hold; None where any number will do."""
    table = family_of(model).position_table
    if table is None or part(model.config, table[1]) != table[2]:
        return None
    return int(part(model.config, table[0]))


def samples_of(model: PreTrainedModel, processor: Any, *, singly: bool) -> list[Sample]:
    """What a model makes of noise of several lengths.

    Args:
        model: in eval mode, in float32 on the CPU.
        processor: its own.
        singly: leave out batches.

    Raises:
        ExportError: if none of them fits into what the model can take.
    """
    most = longest_frames(model)
    samples = []
    for seconds in CHECKED_SECONDS:
        inputs = noise_inputs(processor, seconds)
        if (singly and len(seconds) > 1) or (most and int(frame_lengths(model, inputs["attention_mask"]).max()) > most):
            continue
        with torch.no_grad():
            expected = frame_outputs(model, inputs)
        samples.append(Sample(seconds, inputs, expected, frame_mask(model, inputs, expected.shape[1])))
    if not samples:
        raise ExportError(
            f"Nothing to compare: {CHECKED_SECONDS[0][0]} s are more frames than the {most} that a graph of this model "
            "can take."
        )
    return samples


def largest_difference(graph: OnnxGraph, model: PreTrainedModel, signature: Signature, samples: list[Sample]) -> float:
    """The largest difference between graph and model over all frames of all samples that are no padding."""
    differences = [0.0]
    for sample in samples:
        got = graph.run(signature.tensors(model, sample.inputs))[0]
        expected = sample.expected.log_softmax(-1) if signature.log_probabilities else sample.expected
        if got.shape != expected.shape:
            raise ExportError(
                f"The graph gives {tuple(got.shape)} for {sample.seconds} s, and the model {tuple(expected.shape)}."
            )
        difference = (got - expected)[sample.valid].abs()
        differences.append(float(difference.nan_to_num(nan=torch.inf).max()) if difference.numel() else 0.0)
    return max(differences)


def first_different_block(model: PreTrainedModel, processor: Any, tolerance: float) -> str:
    """Finds the first block whose output differs between graph and model, for messages.

    Args:
        model: in eval mode, in float32 on the CPU.
        processor: its own.
        tolerance: the largest difference that counts as none.
    """
    traced = _WithBlocks(model)
    names = [f"block {number}" for number in range(len(blocks_of(model)))]
    features = family_of(model).features
    example, other = noise_inputs(processor, TRACED_SECONDS[:1]), noise_inputs(processor, CHECKED_SECONDS[1])
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder, "blocks.onnx")
        axes = {name: {0: "batch", 1: "time"} for name in (features, "attention_mask", *names)}
        inputs = [features, "attention_mask"]
        write_graph(traced, [example[name] for name in inputs], path, inputs=inputs, outputs=names, axes=axes)
        graph = OnnxGraph(path, inputs)
        for batch in (example, other):
            pair = [batch[name] for name in inputs]
            for name, got, expected in zip(names, graph.run(pair), traced(*pair), strict=True):
                if got.shape != expected.shape or not bool(((got - expected).abs() <= tolerance).all()):
                    return f"{name} is the first whose output differs"
    return "every block's output agrees, so that what differs stands behind the blocks"


class _WithBlocks(TracedModel):
    """Gives the output of every block."""

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """In the order of the blocks."""
        seen: list[Tensor] = []

        def keep(block: nn.Module, args: Any, output: Any) -> None:
            seen.append(output[0] if isinstance(output, tuple) else output)

        hooks = [block.register_forward_hook(keep) for block in blocks_of(self.model)]
        try:
            self.outputs(features, mask)
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(seen)
