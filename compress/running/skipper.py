"""Skipping at run time: hooks on a model's blocks that gather the kept frames behind the first of them.

Between the blocks nothing looks at more than one frame, so the encoder itself runs on whatever its blocks hand on:
whole sequences up to block K, gathered ones behind it. The last block's output is put back over a copy of block K's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import blocks_of, ctc_head, family_of, frame_lengths, head_logits, part
from compress.running.frames import Places, kept_frames
from compress.running.heads import BLANK_IS_BEST, Factorised, blank_probability, factorise
from compress.running.skipping import Skipping, SkippingError, heads_left, nearest_head
from compress.running.slimmable import OwnBySize

HEADS = "skipping_heads"
"""Name of the list of a model's own intermediate heads."""


class Skipper:
    """The skipping of one model.

    In eval mode an utterance from which nothing is kept leaves the model as the output of its first blocks. In training
    mode all its frames are kept: a new model takes everything for blank at first, and would never learn otherwise.

    Args:
        model: gets the hooks, in place. Its CTC head becomes factorised if the settings say so.
        settings: checked already.

    Attributes:
        settings: what is skipped from now on; set them by `use`.
        in_training: how many blocks always run in training mode; None: all frames pass all blocks there.
        blank: of the last forward pass, the probability of the blank behind the first blocks, `(batch, frames)`; None
            if nothing could be skipped in it.
        valid: of the last forward pass, which frames are no padding, `(batch, frames)`.
        places: of the last forward pass, where the kept frames were; None if all were kept.
        logits: see `take_logits`.
    """

    def __init__(self, model: PreTrainedModel, settings: Skipping) -> None:
        self.settings = settings
        self.in_training: int | None = settings.first_blocks
        self.blank: Tensor | None = None
        self.valid: Tensor | None = None
        self.places: Places | None = None
        self.logits: dict[int, Tensor] = {}
        self._model: PreTrainedModel | None = None
        self._head: int | None = None
        self._behind: int | None = None
        self._mask: Tensor | None = None
        self._before: Tensor | None = None
        self._arguments: dict[str, Any] | None = None
        blocks = blocks_of(model)
        self._last = len(blocks)
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.register_forward_hook(self._end)
        for number, block in enumerate(blocks, start=1):
            block.register_forward_pre_hook(self._enter, with_kwargs=True)
            block.register_forward_hook(partial(self._leave, number))
        if settings.factorised:
            for head in _heads_of(model):
                factorise(head, int(model.config.pad_token_id))
        self.use(model, settings)

    def use(self, model: PreTrainedModel, settings: Skipping) -> None:
        """Skips by other settings from now on; no weight changes."""
        self.settings = settings
        for head in nn.ModuleList(_heads_of(model)).modules():
            if isinstance(head, Factorised):
                head.threshold = max(settings.threshold, BLANK_IS_BEST)

    @property
    def kept(self) -> Tensor | None:
        """Which frames of the last forward pass went through all blocks, `(batch, frames)`."""
        return self.places.kept if self.places else self.valid

    def _begin(self, model: PreTrainedModel, args: Any, kwargs: Any) -> None:
        self._model = model
        self._head, self._behind = self._where(model)
        self._mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        self.blank = self.valid = self.places = self._before = self._arguments = None
        self.logits = {}

    def _where(self, model: PreTrainedModel) -> tuple[int | None, int | None]:
        """Which intermediate head decides in this forward pass, and behind which block, counted from 1; None: none.

        At a size that passes blocks over it is what `skipping_left` leaves of the settings there.
        """
        if model.training:
            return self.in_training, self.in_training
        if getattr(model, "running", None) is None:
            return self.settings.first_blocks, self.settings.first_blocks
        blocks = blocks_of(model)
        running = [index for index, block in enumerate(blocks) if getattr(block, "at_size", None) != 0]
        left = heads_left(self.settings.heads, range(len(blocks)), running)
        if not left:
            return None, None
        first = nearest_head(self.settings, left)
        return left[first], running[first - 1] + 1

    def _end(self, model: PreTrainedModel, args: Any, output: Any) -> None:
        self._model = self._mask = None

    def take_logits(self) -> dict[int, Tensor]:
        """The intermediate outputs of the last forward pass in training mode, which are then forgotten.

        Returns:
            By number of first blocks, `(batch, frames, vocabulary)`.
        """
        taken, self.logits = self.logits, {}
        return taken

    def _enter(self, block: nn.Module, args: Any, kwargs: Any) -> Any:
        """Before a block behind the first ones: masks and positions for the gathered sequences."""
        if self.places is None or self._model is None:
            return None
        if self._arguments is None:
            self._arguments = self.places.fitted(self._model, args[0], kwargs)
        return args, self._arguments

    def _leave(self, number: int, block: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Behind a block: the intermediate output, if there is one, the gathering behind block K, and the way back."""
        model = self._model
        if model is None:
            return output
        training = bool(model.training)
        if training and number in self.settings.heads:
            self.logits[number] = intermediate_logits(model, self.settings, number, self.whole(output))
        if number == self._behind:
            return self._gathered(model, output)
        if number < self._last:
            return output
        output = self.whole(output)
        self._before = self._arguments = None
        return output

    def whole(self, states: Tensor) -> Tensor:
        """A block's output with all frames: those that were gathered are put back over the output of block K."""
        return states if self.places is None or self._before is None else self.places.scatter(states, self._before)

    @torch.no_grad()
    def _decide(self, model: PreTrainedModel, number: int, output: Tensor) -> Places | None:
        settings, logits = self.settings, self.logits.get(number)
        self.blank = (
            blank_behind(model, settings, number, output)
            if logits is None
            else blank_probability(logits, int(model.config.pad_token_id))
        )
        self.valid = valid_frames(model, output, self._mask)
        kept = kept_frames(self.blank, self.valid, settings.threshold, settings.extension)
        if model.training:
            kept = kept | (self.valid & ~kept.any(1, keepdim=True))
        skipped = (self.valid & ~kept).sum()
        counts = torch.cat([kept.sum(1), skipped[None]]).tolist()  # the one time that the host waits for the device
        return Places.of(kept, counts[:-1]) if counts[-1] else None

    def _gathered(self, model: PreTrainedModel, output: Tensor) -> Tensor:
        if self._head is None or self.settings.threshold >= 1 or output.is_meta:
            return output
        self.places = self._decide(model, self._head, output)
        if self.places is None:
            return output
        self._before = output
        return self.places.gather(output)


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


def prepare_skipping_(model: PreTrainedModel, settings: Skipping) -> None:
    """Makes a compressed model ready to skip by settings that fit it."""
    if settings.own_heads and not hasattr(model, HEADS):
        setattr(model, HEADS, nn.ModuleList(copy.deepcopy(ctc_head(model)) for _ in settings.heads))
    model.skipper = Skipper(model, settings)  # type: ignore[assignment]


def skipper_of(model: Any) -> Skipper | None:
    """The skipping of a model; None if it cannot skip."""
    found: Skipper | None = getattr(model, "skipper", None)
    return found


def required_skipper(model: PreTrainedModel) -> Skipper:
    """The skipping of a model.

    Raises:
        SkippingError: if it cannot skip; the message says how it can learn to.
    """
    skipper = skipper_of(model)
    if skipper is None or not skipper.settings.heads:
        raise SkippingError(
            "This model has no intermediate CTC output that could tell which frames are blank. Train one: "
            "recipes/train.py --model.checkpoint CKPT --skipping.first_blocks [K], or recipes/prune.py with the same."
        )
    return skipper


def set_skipping(model: PreTrainedModel, **changes: Any) -> None:
    """Lets a model skip by other settings from now on; what its config says, and thus what it saves, stays.

    Raises:
        SkippingError: if it cannot skip at all, or not by these settings.
    """
    skipper = required_skipper(model)
    skipper.use(model, replace(skipper.settings, **changes))


@contextmanager
def without_skipping(model: PreTrainedModel) -> Iterator[None]:
    """Inside, a model that can skip runs all its blocks on all frames; others are as they are."""
    skipper = skipper_of(model)
    if skipper is None:
        yield
        return
    before = skipper.settings
    skipper.use(model, replace(before, threshold=1.0))
    try:
        yield
    finally:
        skipper.use(model, before)


def head_behind(model: PreTrainedModel, settings: Skipping, number: int) -> nn.Module:
    """The head of the intermediate output behind so many first blocks, at the size that the model runs at."""
    if settings.own_heads:
        head: Any = getattr(model, HEADS)[settings.heads.index(number)]
    else:
        head = ctc_head(model)
    index = head.at_size if isinstance(head, OwnBySize) else None
    found: nn.Module = head if index is None else head.per_size[index]
    return found


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


def _heads_of(model: PreTrainedModel) -> list[nn.Module]:
    return [ctc_head(model), *getattr(model, HEADS, ())]
