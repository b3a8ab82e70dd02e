"""The aspect of running at sizes: how a model that has several is read, prepared, made smaller and described."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from compress.running.aspect import Aspect
from compress.running.slimmable import PER_SIZE, make_plain_
from compress.running.subnets import (
    activate,
    check_subnets,
    depths_of,
    own_layers,
    prepare_subnets_,
    subnet_at_depth,
    subnet_at_present,
    subnet_names,
    subnets_of,
)
from compress.structure import Structure


class RunsAtSizes:
    """What a model's class gains by running at sizes: which there are, at which it is, and switching."""

    @property
    def sizes(self: Any) -> dict[str, Structure]:
        """What runs at each size, the smallest first; all of the model at the last."""
        return subnets_of(self)

    @property
    def size(self: Any) -> str:
        """The size at which the model runs; the full one in a model that was just loaded."""
        return subnet_at_present(self)

    def activate(self: Any, size: str) -> None:
        """Lets the model run at another of its `sizes` from now on; nothing is copied, and no weight moves.

        It then computes what the model computes that `compress extract` writes. With `output_hidden_states` a block
        that does not run repeats the state before it. A model compiled by `torch.compile` is compiled anew at the first
        forward pass of each size.

        Raises:
            SizeError: listing the sizes that there are, if this is none of them.
        """
        activate(self, size)

    @property
    def depths(self: Any) -> dict[int, tuple[int, ...]]:
        """The blocks that run at each size at which they do so in full or not at all; all of them at the last."""
        return depths_of(self)

    @property
    def depth(self: Any) -> int:
        """How many blocks run, in full or in part."""
        return sum(block is not None for block in subnets_of(self)[self.size].blocks)

    def set_depth(self: Any, depth: int) -> None:
        """Lets the model run with so many of its blocks from now on, one of its `depths`; see `activate`.

        Raises:
            SizeError: listing the depths that there are, if this is none of them.
        """
        activate(self, subnet_at_depth(self, depth))


class SizesAspect(Aspect):
    """Running at one of several sizes. Removal takes the sizes away: what is left is one model."""

    name = "sizes"
    fields = ("sizes", "own_by_size", "unit_order")
    methods = RunsAtSizes

    def read(self, model: PreTrainedModel) -> dict[str, Structure] | None:
        """What runs at each size, the smallest first; None if the model has one size only."""
        return subnets_of(model) if getattr(model.config, "sizes", None) else None

    def check(self, model: PreTrainedModel, settings: dict[str, Structure]) -> None:
        """Checks that the model can run at these sizes.

        Raises:
            StructureError: naming the size that does not fit.
        """
        check_subnets(model, settings)

    def prepare(self, model: PreTrainedModel, settings: dict[str, Structure]) -> None:
        """Lets the parts of the model run at these sizes, in place; it starts at the full one."""
        prepare_subnets_(model, settings)

    def settle(self, model: PreTrainedModel, size: str) -> None:
        """Takes the sizes away, in place; of what each has of its own, that of one size stays."""
        make_plain_(model, subnet_names(model).index(size))

    def take_off(self, model: PreTrainedModel, after: PreTrainedConfig) -> None:
        """Takes the sizes away, in place; what each has of its own stays where the smaller model has the same sizes."""
        fields = [[getattr(config, name, None) for name in self.fields] for config in (model.config, after)]
        make_plain_(model, keep_own=fields[0] == fields[1])

    def hand_over(self, model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
        """Gives each size the layers that it wants of its own, in place; they begin as copies of the full one's."""
        layers = list(own_layers(model, after))
        for layer in [] if any(hasattr(layer, PER_SIZE) for layer in layers) else layers:
            setattr(layer, PER_SIZE, nn.ModuleList(copy.deepcopy(layer) for _ in after.sizes[:-1]))

    @contextmanager
    def in_full(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, the model is at its full size."""
        before = subnet_at_present(model)
        activate(model, subnet_names(model)[-1])
        try:
            yield
        finally:
            activate(model, before)

    def describe(self, model: PreTrainedModel) -> list[str]:
        """The names of the sizes, the smallest first; of a model that is not elastic, its number of blocks alone."""
        return subnet_names(model)

    def row(self, described: list[str]) -> tuple[str, str] | None:
        """The line that lists the sizes; None if there is one only."""
        return ("runs at size", ", ".join(described)) if len(described) > 1 else None

    def paragraph(self, described: list[str]) -> str | None:
        """What the card says of the sizes; None if there is one only."""
        if len(described) < 2:
            return None
        return (
            f"The model is elastic: it runs at size {', '.join(described)}, switched without reloading by "
            f'`model.activate("{described[0]}")`. It is loaded\nat size {described[-1]}, all of it.'
        )


SIZES = SizesAspect()
