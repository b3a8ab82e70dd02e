"""What a model's blocks make of speech: a sample of bounded size at every boundary, from one pass over utterances.

Boundary 0 is the input of the first block, boundary b + 1 the output of block b. A row of the sample is one utterance
(the mean over its frames, as in CoMFLP's published code, which lets padding in) or one frame. Padding never counts.
Where blocks change the frame rate, the rows of one frame are those that become it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from compress.config import check, check_positive
from compress.conformers import blocks_of, family_of, frame_lengths, frame_outputs, part
from compress.evaluation.transcribe import to_model
from compress.files.writing import MEBIBYTE
from compress.running.aspects import in_full

if TYPE_CHECKING:
    from compress.data import Batch

Feature = Literal["mean", "frames"]

_BYTES = 4


@dataclass(frozen=True)
class SampleConfig:
    """How large the sample is.

    Attributes:
        feature: what a row is: the `mean` of an utterance, or one of its `frames`.
        rows: of a sample of frames, at most; every utterance gives equally many, as far as it has them.
        max_mib: of memory that the sample may take; more is refused before the model runs.
        seed: of the choice of frames, and of the order of rows.
    """

    feature: Feature = "mean"
    rows: int = 4096
    max_mib: float = 1024.0
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.rows >= 2, "rows", self.rows, "a sample needs at least 2 frames, and some thousands to be good")
        check_positive("max_mib", self.max_mib, "a number of mebibytes")


def sample_boundaries(
    model: PreTrainedModel, batches: Iterable[Batch], utterances: int, config: SampleConfig
) -> list[Tensor]:
    """Runs the model once over all batches and keeps a sample of what passes every boundary.

    Args:
        model: of any family, in eval mode; one without a CTC head runs its encoder only.
        batches: the speech.
        utterances: how many there are in all.
        config: what to keep.

    Returns:
        For each of the `blocks + 1` boundaries `(rows, hidden)`, float32 on the CPU; rows correspond, and their order
        is random.

    Raises:
        ValueError: if the sample would take more memory than it may, or there is no speech.
    """
    frames = max(1, config.rows // max(utterances, 1))
    rows = utterances if config.feature == "mean" else utterances * frames
    _check_memory(model, rows, config)
    recorder = _Recorder(model, config, frames)
    try:
        with torch.no_grad(), in_full(model):
            for batch in batches:
                recorder.run(to_model(model, batch.inputs))
    finally:
        recorder.close()
    return recorder.sample()


def _check_memory(model: PreTrainedModel, rows: int, config: SampleConfig) -> None:
    blocks = blocks_of(model)
    width = part(blocks[0], family_of(model).final_norm).weight.numel()
    needed = rows * width * (len(blocks) + 1) * _BYTES / MEBIBYTE
    if needed > config.max_mib:
        raise ValueError(
            f"A sample of {rows} rows of width {width} at {len(blocks) + 1} boundaries takes {needed:.0f} MiB, but "
            f"max_mib is {config.max_mib:g}: take fewer utterances or rows, or allow more."
        )


class _Recorder:
    """Hooks at every boundary that keep the rows of each batch."""

    def __init__(self, model: PreTrainedModel, config: SampleConfig, frames: int) -> None:
        self.model, self.config, self.frames = model, config, frames
        self.random = torch.Generator().manual_seed(config.seed)
        blocks = blocks_of(model)
        self.rows: list[list[Tensor]] = [[] for _ in range(len(blocks) + 1)]
        self._handles = [blocks[0].register_forward_pre_hook(self._entering, with_kwargs=True)]
        self._handles += [block.register_forward_hook(self._leaving(b)) for b, block in enumerate(blocks, start=1)]

    def run(self, inputs: dict[str, Tensor]) -> None:
        """Runs one forward pass; the hooks do the rest."""
        self.lengths: Tensor | None = None
        self.out_frames = 0
        mask = inputs.get("attention_mask")
        if mask is not None:
            self.lengths = frame_lengths(self.model, mask, of_blocks=True).cpu()
            self.out_frames = int(frame_lengths(self.model, torch.ones_like(mask[:1]), of_blocks=True))
        self.chosen: list[Tensor] | None = None
        frame_outputs(self.model, inputs)

    def sample(self) -> list[Tensor]:
        """Returns the rows of all batches, in one random order."""
        if not self.rows[0]:
            raise ValueError("There is no speech to compare the blocks on: the data set is empty.")
        order = torch.randperm(sum(map(len, self.rows[0])), generator=self.random)
        if self.config.feature == "frames":
            order = order[: self.config.rows]
        sample = []
        for rows in self.rows:
            sample.append(torch.cat(rows)[order])
            rows.clear()
        return sample

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()

    def _entering(self, module: Any, args: Any, kwargs: Any) -> None:
        self._keep(0, args[0] if args else kwargs["hidden_states"])

    def _leaving(self, boundary: int) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            self._keep(boundary, output[0] if isinstance(output, tuple) else output)

        return hook

    def _keep(self, boundary: int, hidden: Tensor) -> None:
        """Reduces `(batch, frames, hidden)` to rows at once, so that one boundary is held at a time."""
        lengths, rate = self._valid(hidden)
        if self.config.feature == "mean":
            valid = torch.arange(hidden.shape[1]) < lengths[:, None]
            masked = hidden.float().masked_fill(~valid[..., None].to(hidden.device), 0.0)
            self.rows[boundary].append(masked.sum(1).cpu() / lengths[:, None])
            return
        if self.chosen is None:
            counts = ((lengths - 1) // rate + 1).tolist()
            self.chosen = [torch.randperm(n, generator=self.random)[: self.frames] for n in counts]
        places = [(frames * rate).to(hidden.device) for frames in self.chosen]
        rows = [row[place].float().cpu() for row, place in zip(hidden, places, strict=True)]
        self.rows[boundary].append(torch.cat(rows))

    def _valid(self, hidden: Tensor) -> tuple[Tensor, int]:
        """Says how many frames of each utterance are surely speech here, and how many of them become one at the end."""
        batch, frames, _ = hidden.shape
        if self.lengths is None:
            return torch.full((batch,), frames), 1
        rate = max(1, round(frames / max(1, self.out_frames)))
        return ((self.lengths - 1) * rate + 1).clamp(1, frames), rate
