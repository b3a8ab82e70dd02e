"""The aspect of running without frames that hold only blank; see `compress.running`."""

from __future__ import annotations

import logging
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.conformers import ctc_head, structure_of
from compress.running.aspect import Aspect
from compress.running.skipper import Skipper, prepare_skipping_, set_skipping, skipper_of
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
    """What a model's class gains; see `Aspect.methods`."""

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
    """Letting what is surely blank pass the last blocks by. Removal leaves it as long as there are blocks to pass."""

    name = "skipping"
    fields = ("skipping",)
    methods = SkipsFrames

    def read(self, model: PreTrainedModel) -> Skipping | None:
        """See `Aspect.read`."""
        return _settings_in(model.config)

    def check(self, model: PreTrainedModel, settings: Skipping) -> None:
        """See `Aspect.check`."""
        check_skipping(model, settings)

    def prepare(self, model: PreTrainedModel, settings: Skipping) -> None:
        """See `Aspect.prepare`."""
        prepare_skipping_(model, settings)

    def follow(self, config: PreTrainedConfig, structure: Structure) -> dict[str, Any]:
        """See `Aspect.follow`; warns where nothing is left to skip."""
        before = _settings_in(config)
        if before is None:
            return {}
        left = skipping_left(before, structure_of(config), structure)
        if before.heads and not (left and left.heads):
            logging.getLogger(__name__).warning(
                "No block is left that frames could skip, or none that runs before: the model skips no more."
            )
        return {"skipping": write_skipping(left)} if left else {}

    def hand_over(self, model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
        """See `Aspect.hand_over`: the intermediate heads.

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

    def as_seen(self, model: PreTrainedModel, output: Tensor, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """See `Aspect.as_seen`; blocks behind the first ones see the gathered frames only."""
        skipper = skipper_of(model)
        places = skipper and skipper.last.places
        if not places or output.shape[1] >= mask.shape[1]:
            return states, mask
        return places.gather(states), places.gather(mask & places.kept)

    def describe(self, model: PreTrainedModel) -> dict[str, Any] | None:
        """The settings in the config; see `Aspect.describe`."""
        described: dict[str, Any] | None = getattr(model.config, "skipping", None)
        return described

    def row(self, described: dict[str, Any] | None) -> tuple[str, str] | None:
        """See `Aspect.row`."""
        if not described:
            return None
        heads = ", ".join(map(str, described["heads"]))
        return (
            "blank frames skip",
            f"all but the first {described['first_blocks']} blocks above {described['threshold']:g} (extension "
            f"{described['extension']}); it has learned that behind the first {heads}",
        )

    def paragraph(self, described: dict[str, Any] | None) -> str | None:
        """See `Aspect.paragraph`."""
        if not described or not described["heads"]:
            return None
        return (
            f"Frames that are surely blank (probability above {described['threshold']} behind the first "
            f"{described['first_blocks']} blocks) pass the other blocks by,\nwhich makes the model faster on pauses. "
            "`model.set_skipping(threshold=1)` switches that off."
        )


def _settings_in(config: PreTrainedConfig) -> Skipping | None:
    return read_skipping(getattr(config, "skipping", None))


SKIPPING = SkippingAspect()
