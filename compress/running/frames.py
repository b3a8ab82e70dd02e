"""Which frames run deep, and how they are gathered into shorter sequences and put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask

from compress.conformers import family_of, part


def deep_frames(blank: Tensor, valid: Tensor, threshold: float, extension: int) -> Tensor:
    """Which frames go through all blocks: those that may not be blank, and their neighbours.

    Args:
        blank: `(batch, frames)`, the probability of the blank.
        valid: `(batch, frames)`, true for frames that are not padding, which never runs deep.
        threshold: a frame is skipped if the blank's probability is above.
        extension: how many neighbours on either side of such a frame go with it.

    Returns:
        `(batch, frames)`, bool.
    """
    spoken = (blank <= threshold) & valid
    if not extension:
        return spoken
    near_spoken = functional.max_pool1d(spoken.float(), 2 * extension + 1, stride=1, padding=extension).bool()
    return near_spoken & valid


@dataclass(frozen=True)
class Slots:
    """Where the frames of a batch that run deep stand in its gathered sequences.

    A sequence of which nothing runs deep has one slot all the same, so that attention has something to look at; what
    comes out of it goes nowhere.

    Attributes:
        deep: `(batch, frames)`, which frames go through all blocks.
        sources: `(batch, slots)`, the frame that stands in each slot; the deep ones in order, then any others.
        filled: `(batch, slots)`, which slots are no padding; None if all are filled.
    """

    deep: Tensor
    sources: Tensor
    filled: Tensor | None

    @classmethod
    def of(cls, deep: Tensor, counts: list[int]) -> Slots:
        """The slots of the frames that run deep.

        Args:
            deep: `(batch, frames)`, bool.
            counts: how many there are of each utterance.
        """
        slots = max(1, *counts)
        sources = deep.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :slots]
        if min(counts) == slots:
            return cls(deep, sources, None)
        least = deep.sum(1, keepdim=True).clamp(min=1)
        return cls(deep, sources, torch.arange(slots, device=deep.device) < least)

    def gather(self, frames: Tensor) -> Tensor:
        """The deep ones of `(batch, frames, ...)`, as `(batch, slots, ...)`; zeros where a slot is padding."""
        gathered = frames.gather(1, _expanded(self.sources, frames))
        return gathered if self.filled is None else gathered * _expanded(self.filled, gathered)

    def scatter(self, gathered: Tensor, frames: Tensor) -> Tensor:
        """`(batch, frames, ...)` in which `(batch, slots, ...)` replace the deep ones; those skipped stay as given."""
        slots = (self.deep.cumsum(1) - 1).clamp(min=0)
        return torch.where(_expanded(self.deep, frames), gathered.gather(1, _expanded(slots, frames)), frames)

    def fitted(self, model: PreTrainedModel, gathered: Tensor, given: dict[str, Any]) -> dict[str, Any]:
        """What the blocks of a model are called with for the gathered sequences instead of the whole ones.

        Args:
            model: tells by its family what its blocks are called with.
            gathered: `(batch, slots, hidden)`.
            given: the keywords for the whole sequences; masks and positions change, all else stays.
        """
        family = family_of(model)
        masks = {name: self._mask(model, form, gathered) for name, form in family.masks if name in given}
        if family.positions not in given:
            return given | masks
        frames, slots = self.deep.shape[1], gathered.shape[1]
        return given | masks | {family.positions: _fewer_positions(given[family.positions], frames, slots)}

    def _mask(self, model: PreTrainedModel, form: str, gathered: Tensor) -> Any:
        filled = self.filled
        if filled is None:
            return None
        if form == "attention":
            config = part(model, family_of(model).encoder).config
            return create_bidirectional_mask(config=config, inputs_embeds=gathered, attention_mask=filled)
        if form == "pairs":
            return (filled[:, :, None] & filled[:, None, :])[:, None]
        return ~filled if form == "padding" else filled


def _expanded(index: Tensor, like: Tensor) -> Tensor:
    return index.reshape(*index.shape, *[1] * (like.ndim - 2)).expand(*index.shape, *like.shape[2:])


def _fewer_positions(positions: Any, frames: int, slots: int) -> Any:
    """Embeddings of the positions of a shorter sequence; see `Family.positions`."""
    if isinstance(positions, tuple):
        return tuple(_fewer_positions(embedding, frames, slots) for embedding in positions)
    if positions is None or positions.shape[1] == frames:
        return None if positions is None else positions[:, :slots]
    return positions[:, frames - slots : frames + slots - 1]
