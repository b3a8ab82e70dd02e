"""Aspect: one way in which a model runs in part, behind the verbs by which everything else deals with it.

Whoever builds, removes, saves, describes or distils a model goes through `compress.running.aspects.ASPECTS` and calls
these verbs; nothing outside knows what aspects there are. A new one is a file beside this one that defines an object
of a class derived from `Aspect`, and its name in that tuple.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from compress.structure import Structure


class Aspect:
    """One way in which a model runs in part. Every verb has a default that suits an aspect with nothing to do there.

    Attributes:
        name: by which people and JSON files know it.
        fields: names under which the config of a compressed model holds it; a model whose config has none of them lacks
            the aspect, and the original's own class can hold no model that has it.
        methods: a class with what every compressed model's class gains: attributes, properties and methods.
    """

    name: str
    fields: tuple[str, ...]
    methods: type = object

    def read(self, model: PreTrainedModel) -> Any:
        """The settings in a model's config, checked in themselves; None if the model lacks the aspect.

        Raises:
            ValueError: naming what is malformed.
        """
        raise NotImplementedError

    def check(self, model: PreTrainedModel, settings: Any) -> None:
        """Checks that a model can run in part as `read` says.

        Raises:
            ValueError: naming what does not fit the model.
        """

    def prepare(self, model: PreTrainedModel, settings: Any) -> None:
        """Makes a model ready, in place, to run in part as `read` says; it has just been built, and checked."""

    def follow(self, config: PreTrainedConfig, structure: Structure) -> dict[str, Any]:
        """What removal leaves of the aspect: its fields in the config of the smaller model; none: nothing is left.

        Args:
            config: of the model before, which need not have the aspect.
            structure: what stays; refers to the original model.
        """
        return {}

    def lost(self, config: PreTrainedConfig, structure: Structure) -> int:
        """How many parameters outside of the blocks go with the blocks that a Structure leaves out.

        Args:
            config: of the model before, which need not have the aspect.
            structure: what stays; refers to the original model.
        """
        return 0

    def take_off(self, model: PreTrainedModel, after: PreTrainedConfig) -> None:
        """Makes a model plain, in place, so that its parts can be removed.

        Args:
            model: with its own config; it need not have the aspect.
            after: the config of the smaller model.
        """

    def hand_over(self, model: PreTrainedModel, before: PreTrainedConfig, after: PreTrainedConfig) -> None:
        """Gives a model whose parts have been removed, in place, the parameters that the aspect wants in it.

        Args:
            model: with the blocks that `after` describes.
            before: the config of the model before.
            after: the config of the smaller model.
        """

    @contextmanager
    def in_full(self, model: PreTrainedModel) -> Iterator[None]:
        """Inside, a model runs in full; afterwards it runs as before. It need not have the aspect."""
        yield

    def as_seen(self, model: PreTrainedModel, block: int, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Reduces whole sequences to the frames on which a block ran, for comparison with what it gave.

        Args:
            model: whose block it is; the last forward pass is meant.
            block: its number, from 0.
            states: `(batch, frames, ...)`.
            mask: `(batch, frames)`, true for frames that count.

        Returns:
            Both, with the frames of the block's output.
        """
        return states, mask

    def describe(self, model: PreTrainedModel) -> Any:
        """What can be said of the aspect in JSON; of a model that lacks it, too."""
        return None

    def row(self, described: Any) -> tuple[str, str] | None:
        """What `describe` gave as a line for a terminal, `(label, text)`; None where there is nothing to say."""
        return None

    def paragraph(self, described: Any) -> str | None:
        """What `describe` gave as Markdown for the model card; None where there is nothing to say."""
        return None
