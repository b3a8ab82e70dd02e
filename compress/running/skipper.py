"""Skipping at run time: hooks on a model's blocks that gather the kept frames behind the first of them.

Between the blocks nothing looks at more than one frame, so the encoder itself runs on whatever its blocks hand on:
whole sequences up to block K, gathered ones behind it. The last block's output is put back over a copy of block K's.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import blocks_of, ctc_head
from compress.running.heads import BLANK_IS_BEST, Factorised, factorise
from compress.running.skipping import Skipping, SkippingError, heads_left, nearest_head
from compress.running.skipping_pass import HEADS, Pass, Seen


class OfThread(threading.local):
    """The forward passes of one thread; a copy of it has seen none.

    Attributes:
        now: the one under way; None: none is.
        last: what the last one has seen.
    """

    def __init__(self) -> None:
        self.now: Pass | None = None
        self.last = Seen()

    def __reduce__(self) -> tuple[type[OfThread], tuple[()]]:
        return OfThread, ()


class Skipper:
    """The skipping of one model, which several threads may call at once.

    In eval mode an utterance from which nothing is kept leaves the model as the output of its first blocks. In training
    mode all its frames are kept: a new model takes everything for blank at first, and would never learn otherwise.

    Args:
        model: gets the hooks, in place. Its CTC head becomes factorised if the settings say so.
        settings: checked already.

    Attributes:
        settings: what is skipped from now on; set them by `use`.
        in_training: how many blocks always run in training mode; None: all frames pass all blocks there.
    """

    def __init__(self, model: PreTrainedModel, settings: Skipping) -> None:
        self.settings = settings
        self.in_training: int | None = settings.first_blocks
        self._passes = OfThread()
        blocks = blocks_of(model)
        model.register_forward_pre_hook(self._begin, with_kwargs=True)
        model.register_forward_hook(self._end)
        for number, block in enumerate(blocks, start=1):
            block.register_forward_pre_hook(self._enter, with_kwargs=True)
            block.register_forward_hook(partial(self._leave, number))
        if settings.factorised:
            for head in _heads_of(model):
                factorise(head, int(model.config.pad_token_id))
        self.use(model, settings)

    @property
    def last(self) -> Seen:
        """What the last forward pass of this thread has seen."""
        return self._passes.last

    def use(self, model: PreTrainedModel, settings: Skipping) -> None:
        """Skips by other settings from now on; no weight changes."""
        self.settings = settings
        for head in nn.ModuleList(_heads_of(model)).modules():
            if isinstance(head, Factorised):
                head.threshold = max(settings.threshold, BLANK_IS_BEST)

    def take_logits(self) -> dict[int, Tensor]:
        """The intermediate outputs of the last forward pass in training mode, which are then forgotten.

        Returns:
            By number of first blocks, `(batch, frames, vocabulary)`.
        """
        taken, self.last.logits = self.last.logits, {}
        return taken

    def _begin(self, model: PreTrainedModel, args: Any, kwargs: Any) -> None:
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        head, behind = self._where(model)
        last = len(blocks_of(model))
        self._passes.now = Pass(model, self.settings, head=head, behind=behind, last=last, mask=mask)
        self._passes.last = self._passes.now.seen

    def _where(self, model: PreTrainedModel) -> tuple[int | None, int | None]:
        """Which intermediate head decides in this forward pass, and behind how many first blocks; None: none.

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

    def _enter(self, block: nn.Module, args: Any, kwargs: Any) -> Any:
        return self._passes.now and self._passes.now.enter(args, kwargs)

    def _leave(self, number: int, block: nn.Module, args: Any, output: Tensor) -> Tensor:
        return self._passes.now.leave(number, output) if self._passes.now else output

    def _end(self, model: PreTrainedModel, args: Any, output: Any) -> None:
        self._passes.now = None


def prepare_skipping_(model: PreTrainedModel, settings: Skipping) -> None:
    """Makes a compressed model ready to skip by settings that fit it."""
    if settings.own_heads and not hasattr(model, HEADS):
        setattr(model, HEADS, nn.ModuleList(copy.deepcopy(ctc_head(model)) for _ in settings.heads))
    model.skipper = Skipper(model, settings)  # type: ignore[assignment]


def skipper_of(model: Any) -> Skipper | None:
    """The skipping of a model; None if it cannot skip."""
    skipper: Skipper | None = getattr(model, "skipper", None)
    return skipper


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


def _heads_of(model: PreTrainedModel) -> list[nn.Module]:
    return [ctc_head(model), *getattr(model, HEADS, ())]
