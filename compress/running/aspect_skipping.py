"""The aspect of skipping: how a model whose blank frames skip blocks is read, prepared, made smaller, described."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import ctc_head, skeleton, structure_of
from compress.conformers.originals import ByContent
from compress.running.aspect import Aspect
from compress.running.skipper import Skipper, prepare_skipping_, set_skipping, skipper_of, without_skipping
from compress.running.skipping import (
    Skipping,
    check_skipping,
    heads_left,
    read_skipping,
    skipping_left,
    write_skipping,
)
from compress.running.skipping_pass import HEADS
from compress.running.slimmable import own_layer
from compress.structure import Structure


class SkipsFrames:
    """What a model's class gains by skipping: its skipper, if it can skip, and other settings for it."""

    skipper: Skipper | None = None

    def set_skipping(self: Any, **changes: Any) -> None:
        """Lets a model that can skip do it by other settings from now on: `threshold`, `extension`, `first_blocks`.

        With `threshold=1` nothing is skipped. What the config says stays. With `output_hidden_states` the states
        between the first blocks and the last one are those of the gathered frames.

        Raises:
            SkippingError: if it cannot skip at all, or not by these settings.
        """
        set_skipping(self, **changes)


class SkippingAspect(Aspect):
    """Letting frames that are surely blank bypass the last blocks. Removal keeps it while there are any."""

    name = "skipping"
    fields = ("skipping",)
    methods = SkipsFrames

    def read(self, model: PreTrainedModel) -> Skipping | None:
        """The settings in the model's config; None if it cannot skip.

        Raises:
            SkippingError: naming what is malformed.
        """
        return _settings_in(model.config)

    def check(self, model: PreTrainedModel, settings: Skipping) -> None:
        """Checks that the model can skip by these settings.

        Raises:
            SkippingError: naming the number of first blocks that does not fit.
        """
        check_skipping(model, settings)

    def prepare(self, model: PreTrainedModel, settings: Skipping) -> None:
        """Lets the model skip by these settings, in place."""
        prepare_skipping_(model, settings)

    def follow(self, config: PreTrainedConfig, structure: Structure) -> dict[str, Any]:
        """The settings for the blocks that are left. Where nothing is left to skip, a warning says so."""
        before = _settings_in(config)
        if before is None:
            return {}
        left = skipping_left(before, structure_of(config), structure)
        if before.heads and not (left and left.heads):
            logging.getLogger(__name__).warning(
                "No block is left that frames could skip, or none that runs before: the model no longer skips frames."
            )
        return {"skipping": write_skipping(left)} if left else {}

    def lost(self, config: PreTrainedConfig, structure: Structure) -> int:
        """The parameters of intermediate heads that fall together with others, or have nothing left to skip."""
        before = _settings_in(config)
        if before is None or not before.own_heads:
            return 0
        left = skipping_left(before, structure_of(config), structure)
        gone = len(before.heads) - (len(left.heads) if left else 0)
        return gone * _parameters_of_head(ByContent.of(config)) if gone else 0

    def hand_over(self, model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
        """Gives the model the intermediate heads that it wants, in place, and takes the others away.

        A head that the model has at the same place among its blocks stays; another one begins as a copy of its CTC
        head.
        """
        wanted, had = _settings_in(after), _settings_in(before)
        heads: dict[int, nn.Module] = {}
        if had and had.own_heads:
            places = {number: place for place, number in enumerate(had.heads)}
            left = heads_left(had.heads, structure_of(before).survivors, structure_of(after).survivors)
            heads = {number: getattr(model, HEADS)[places[old]] for number, old in left.items()}
            delattr(model, HEADS)
        if wanted and wanted.own_heads:
            own = (heads.get(number) or own_layer(ctc_head(model), None) for number in wanted.heads)
            setattr(model, HEADS, nn.ModuleList(own))

    @contextmanager
    def in_full(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, no frame skips."""
        with without_skipping(model):
            yield

    def as_seen(self, model: PreTrainedModel, block: int, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Gathers the frames that blocks behind the first ones have given, if any frame was skipped."""
        skipper = skipper_of(model)
        slots = skipper and skipper.last.slots
        if not skipper or not slots or block not in skipper.last.gathered:
            return states, mask
        return slots.gather(states), slots.gather(mask & slots.deep)

    def describe(self, model: PreTrainedModel) -> dict[str, Any] | None:
        """The settings as the config has them; None if the model cannot skip."""
        described: dict[str, Any] | None = getattr(model.config, "skipping", None)
        return described

    def row(self, described: dict[str, Any] | None) -> tuple[str, str] | None:
        """The line that says which frames skip which blocks; None if none can."""
        if not described:
            return None
        heads = ", ".join(map(str, described["heads"]))
        return (
            "blank frames skip",
            f"all but the first {described['first_blocks']} blocks above {described['threshold']:g} (extension "
            f"{described['extension']}); it has learned that behind the first {heads}",
        )

    def paragraph(self, described: dict[str, Any] | None) -> str | None:
        """What the card says of skipping; None if no block can be skipped."""
        if not described or not described["heads"]:
            return None
        return (
            f"Frames that are surely blank (probability above {described['threshold']} behind the first "
            f"{described['first_blocks']} blocks) bypass the other blocks,\nwhich makes the model faster on pauses. "
            "`model.set_skipping(threshold=1)` switches that off."
        )


@lru_cache(8)
def _parameters_of_head(config: ByContent) -> int:
    head = getattr(skeleton(config.config, original=False), HEADS)[0]
    return sum(parameter.numel() for parameter in head.parameters())


def _settings_in(config: PreTrainedConfig) -> Skipping | None:
    return read_skipping(getattr(config, "skipping", None))


SKIPPING = SkippingAspect()
