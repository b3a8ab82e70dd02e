"""One forward pass of a model that skips: what it decides, what it gathers, and what is left of it to look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import ctc_head, family_of, frame_lengths, head_logits, part
from compress.running.frames import Slots, deep_frames
from compress.running.heads import Factorised, blank_probability
from compress.running.skipping import Skipping
from compress.running.slimmable import OwnBySize

HEADS = "skipping_heads"
"""Name of the list of a model's own intermediate heads."""


@dataclass
class Seen:
    """What a forward pass has seen.

    Attributes:
        blank: the probability of the blank behind the first blocks, `(batch, frames)`; None if nothing could be
            skipped.
        valid: which frames are no padding, `(batch, frames)`; None if nothing could be skipped.
        slots: where the frames were that ran deep; None if all did.
        gathered: the blocks, from 0, whose outputs hold these frames alone: from the one behind which they are gathered
            to that before the last, behind which they are put back.
        logits: of a pass in training mode, the intermediate outputs by number of first blocks, `(batch, frames,
            vocabulary)`.
    """

    blank: Tensor | None = None
    valid: Tensor | None = None
    slots: Slots | None = None
    gathered: range = range(0)
    logits: dict[int, Tensor] = field(default_factory=dict)

    @property
    def deep(self) -> Tensor | None:
        """Which frames went through all blocks, `(batch, frames)`."""
        return self.slots.deep if self.slots else self.valid


class Pass:
    """A forward pass under way; it is told what goes into each block and what comes out.

    Args:
        model: whose pass it is.
        settings: by which it skips.
        head: the number of first blocks whose intermediate head decides; None: nothing is skipped.
        behind: the number of blocks, counting those that do not run at the model's size, behind which frames are
            gathered.
        last: the number of blocks behind which they are put back.
        mask: the model's `attention_mask`, `(batch, input frames)`; None: nothing is padding.

    Attributes:
        seen: what it has seen so far.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Skipping,
        *,
        head: int | None,
        behind: int | None,
        last: int,
        mask: Tensor | None,
    ) -> None:
        self.seen = Seen()
        self._model, self._settings, self._mask = model, settings, mask
        self._head, self._behind, self._last = head, behind, last
        self._before: Tensor | None = None  # all frames, as the first blocks have left them
        self._arguments: dict[str, Any] | None = None  # of the blocks that see gathered frames

    def enter(self, args: Any, kwargs: Any) -> Any:
        """Before a block: behind the first ones, masks and positions for the gathered sequences."""
        if self.seen.slots is None:
            return None
        if self._arguments is None:
            self._arguments = self.seen.slots.fitted(self._model, args[0], kwargs)
        return args, self._arguments

    def leave(self, number: int, output: Tensor) -> Tensor:
        """Behind so many blocks: an intermediate output, if there is one, the gathering, and the way back."""
        if self._model.training and number in self._settings.heads:
            whole = self._whole(output)
            self.seen.logits[number] = intermediate_logits(self._model, self._settings, number, whole)
        if number == self._behind:
            return self._gathered(output)
        return self._whole(output) if number == self._last else output

    def _whole(self, states: Tensor) -> Tensor:
        """A block's output with all frames: gathered ones are put back over the output of the first blocks."""
        if self.seen.slots is None or self._before is None:
            return states
        return self.seen.slots.scatter(states, self._before)

    def _gathered(self, output: Tensor) -> Tensor:
        if self._head is None or self._settings.threshold >= 1 or output.is_meta:
            return output
        self.seen.slots = self._decide(self._head, output)
        if self.seen.slots is None:
            return output
        self._before = output
        assert self._behind is not None
        self.seen.gathered = range(self._behind - 1, self._last - 1)
        return self.seen.slots.gather(output)

    @torch.no_grad()
    def _decide(self, head: int, output: Tensor) -> Slots | None:
        model, settings, logits = self._model, self._settings, self.seen.logits.get(head)
        self.seen.blank = (
            blank_behind(model, settings, head, output)
            if logits is None
            else blank_probability(logits, int(model.config.pad_token_id))
        )
        self.seen.valid = valid_frames(model, output, self._mask)
        deep = deep_frames(self.seen.blank, self.seen.valid, settings.threshold, settings.extension)
        if model.training:
            deep = deep | (self.seen.valid & ~deep.any(1, keepdim=True))
        skipped = (self.seen.valid & ~deep).sum()
        counts = torch.cat([deep.sum(1), skipped[None]]).tolist()  # the one time that the host waits for the device
        return Slots.of(deep, counts[:-1]) if counts[-1] else None


def valid_frames(model: PreTrainedModel, output: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Which frames of a block's output `(batch, frames, hidden)` are no padding: `(batch, frames)`, bool.

    Args:
        model: whose block it is, behind the last one that changes the frame rate.
        output: its output.
        attention_mask: `(batch, input frames)`; None: nothing is padding.
    """
    batch, frames, _ = output.shape
    if attention_mask is None:
        return torch.ones(batch, frames, dtype=torch.bool, device=output.device)
    lengths = frame_lengths(model, attention_mask).to(output.device)
    return torch.arange(frames, device=output.device) < lengths[:, None]


def head_behind(model: PreTrainedModel, settings: Skipping, number: int) -> nn.Module:
    """The head of the intermediate output behind so many first blocks, at the size that the model runs at."""
    if settings.own_heads:
        head: Any = getattr(model, HEADS)[settings.heads.index(number)]
    else:
        head = ctc_head(model)
    index = head.at_size if isinstance(head, OwnBySize) else None
    chosen: nn.Module = head if index is None else head.per_size[index]
    return chosen


def intermediate_logits(model: PreTrainedModel, settings: Skipping, number: int, output: Tensor) -> Tensor:
    """The intermediate output behind so many first blocks.

    Args:
        model: whose intermediate output it is.
        settings: of its skipping.
        number: of first blocks, one of `settings.heads`.
        output: of the last of them, `(batch, frames, hidden)`.

    Returns:
        `(batch, frames, vocabulary)`.
    """
    return head_logits(model, output, head_behind(model, settings, number))


def blank_behind(model: PreTrainedModel, settings: Skipping, number: int, output: Tensor) -> Tensor:
    """The probability of the blank, `(batch, frames)`; see `intermediate_logits`. Tokens only if they are needed."""
    head = head_behind(model, settings, number)
    if isinstance(head, Factorised):
        for path in family_of(model).to_head:
            output = part(model, path)(output)
        return head.log_odds(output).sigmoid()
    return blank_probability(head_logits(model, output, head), int(model.config.pad_token_id))
