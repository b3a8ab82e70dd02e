"""What the parts of an elastic model gain: they run in full, in part or not at all, by the size that the model is at.

All parts of a model share one number, so that switching sets nothing else. No weight moves and none is copied: where
only the first units of a module run, its layers compute with views of the first rows or columns of their weights. The
parameters have the same names whichever size runs, and gradients reach them through the views.

The first published networks of this kind are slimmable networks (Yu et al. 2019, arXiv 1812.08928), which also give
each size batch norms of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from compress.conformers import Attention, Module, blocks_of, part
from compress.surgery.slicing import ConfigView, assign, nothing, unit_slices


class Running:
    """Which of its sizes a model runs at; one object for all parts of a model.

    Attributes:
        index: the place of the size among those that the model has, the smallest first.
    """

    def __init__(self, index: int) -> None:
        self.index = index


class SizedPart:
    """A part of a model that knows the sizes; the base of the mixins below, which come before the part's own class.

    Attributes:
        running: the size that the model is at; None before the sizes are known.
        by_size: what the part does at each size; None: it runs as it is.
        plain: the part's own class.
    """

    running: Running | None = None
    by_size: tuple[Any, ...] = ()
    plain: Any

    @property
    def at_size(self) -> Any:
        """What the part does at present; None: it runs as it is."""
        return None if self.running is None else self.by_size[self.running.index]


class SkippableBlock(SizedPart):
    """A block that can be passed over: then it gives back the hidden states as they came, as if it had been dropped.

    Attributes:
        dropped: the block is passed over while the model is in training mode, whatever the size.
    """

    dropped = False

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The block's output, or the hidden states as they came; both `(batch, frames, hidden)`."""
        if self.at_size == 0 or (self.dropped and self.training):  # type: ignore[attr-defined]
            return hidden_states
        output: Tensor = super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        return output


class SizedNorm(SizedPart):
    """The norm before a module, which does nothing where the module does not run."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Normed, or as they came; `(batch, frames, hidden)`."""
        if self.at_size == 0:
            return hidden_states
        output: Tensor = super().forward(hidden_states)  # type: ignore[misc]
        return output


class SizedModule(SizedPart):
    """A module of which only the first `by_size` units run; at 0 it adds nothing to the residual stream."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output, or what stands for a removed module's."""
        return nothing(*args, **kwargs) if self.at_size == 0 else super().forward(*args, **kwargs)  # type: ignore[misc]


class SizedAttention(SizedModule):
    """A `SizedModule` whose class returns the attention weights beside its output."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Output and attention weights, of which a removed module has none."""
        output = super().forward(*args, **kwargs)
        return (output, None) if self.at_size == 0 else output


class SizedOutputs(SizedPart):
    """A linear layer that computes the first `by_size` of its outputs."""

    def forward(self, values: Tensor) -> Tensor:
        """`(..., inputs)` to `(..., outputs)`."""
        weight, bias = self.weight, self.bias  # type: ignore[attr-defined]
        return functional.linear(values, weight[: self.at_size], None if bias is None else bias[: self.at_size])


class SizedInputs(SizedPart):
    """A linear layer that takes the first `by_size` of its inputs."""

    def forward(self, values: Tensor) -> Tensor:
        """`(..., inputs)` to `(..., outputs)`."""
        return functional.linear(values, self.weight[:, : self.at_size], self.bias)  # type: ignore[attr-defined]


class OwnBySize(SizedPart):
    """A layer that is another one, of its own weights, at each size but the full one; `by_size` is which.

    The others are in `per_size`, a list of layers that starts as copies.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output of the layer of the present size."""
        index = self.at_size
        if index is None:
            return super().forward(*args, **kwargs)  # type: ignore[misc]
        return self.per_size[index](*args, **kwargs)  # type: ignore[attr-defined]


PER_SIZE = "per_size"
"""The name, in those of parameters, under which layers have others of their own for each size."""


def become(module: Any, mixin: type[SizedPart], views: tuple[tuple[str, property], ...] = (), **values: Any) -> Any:
    """Gives a part of a model, in place, a class of the same name that is derived from the mixin and from its own.

    Args:
        module: the part.
        mixin: what it gains.
        views: attributes of the part that depend on the size.
        **values: attributes of the mixin.
    """
    if not isinstance(module, mixin):
        module.__class__ = _derived(cast(Hashable, mixin), cast(Hashable, type(module)), views)
    for name, value in values.items():
        setattr(module, name, value)
    return module


@cache
def _derived(mixin: Any, plain: Any, views: tuple[tuple[str, property], ...]) -> type[nn.Module]:
    return type(plain.__name__, (mixin, plain), {"__module__": plain.__module__, "plain": plain, **dict(views)})


@cache
def _first_rows(name: str) -> property:
    """A parameter of a part of which only the first `by_size` rows are seen."""

    def first(module: Any) -> Tensor:
        rows: Tensor = module._parameters[name]
        return rows if module.at_size is None else rows[: module.at_size]

    return property(first)


def _config_at_size(module: Any) -> Any:
    """The config with the number of heads that run."""
    return module.config_by_size[module.running.index]


_CONFIG = property(_config_at_size)


def make_plain_(model: nn.Module, place: int | None = None, *, keep_own: bool = False) -> None:
    """Takes away, in place, all that `become` gave to the parts of a model, whichever size it is at.

    Args:
        model: elastic or not.
        place: of the size whose layers are kept where each size has its own; None: the full one's.
        keep_own: leave layers of which each size has its own as they are.
    """
    for module in list(model.modules()):
        if isinstance(module, OwnBySize):
            if keep_own:
                continue
            _settle_(module, place)
        while isinstance(module, SizedPart):
            module.__class__ = module.plain
            for name in ("running", "by_size", "config_by_size"):
                vars(module).pop(name, None)


def own_layer(layer: nn.Module, place: int | None) -> nn.Module:
    """A copy of a layer as it is at a size, which depends on no size any more.

    Args:
        layer: one of which each size has its own, or any other.
        place: of the size; None: the full one.
    """
    own = copy.deepcopy(layer)
    make_plain_(own, place)
    return own


def _settle_(layer: Any, place: int | None) -> None:
    """Gives a layer the tensors of the one that it is at a size, and takes the others away."""
    chosen = None if place is None else layer.by_size[place]
    if chosen is not None:
        for name, tensor in (*layer.per_size[chosen].named_parameters(), *layer.per_size[chosen].named_buffers()):
            assign(layer, name, tensor)
    del layer.per_size


def make_skippable(model: PreTrainedModel) -> list[Any]:
    """Lets the blocks of a CTC model be passed over, in place.

    Returns:
        The blocks, in running order.
    """
    return [become(block, SkippableBlock) for block in blocks_of(model)]


def make_slimmable_(block: nn.Module, description: Module, counts: Sequence[int | None], running: Running) -> None:
    """Lets a module run with its first units only, or not at all, in place.

    Args:
        block: where it is.
        description: its description.
        counts: how many of its units run at each size; None: all.
        running: the size that the model is at.
    """
    module = part(block, description.path)
    if any(counts):
        for path, dim, places in list(unit_slices(module, description)):
            assert isinstance(part(module, path), nn.Linear), "only linear layers run in part"
            rows = tuple(count and count * places.shape[1] for count in counts)
            become(part(module, path), SizedInputs if dim else SizedOutputs, running=running, by_size=rows)
    if 0 in counts and not description.norm.startswith(description.path + "."):
        absent = tuple(0 if count == 0 else None for count in counts)
        become(part(block, description.norm), SizedNorm, running=running, by_size=absent)
    mixin, views = SizedModule, []
    if isinstance(description, Attention):
        mixin = SizedAttention if description.returns_weights else SizedModule
        views = [(name, _first_rows(name)) for name in description.per_head if hasattr(module, name)]
        if description.head_count:
            views_of_config = [
                count and ConfigView(module.config, **{description.head_count: count}) for count in counts
            ]
            module.config_by_size = tuple(view or module.config for view in views_of_config)
            views.append(("config", _CONFIG))
    become(module, mixin, tuple(views), running=running, by_size=tuple(counts))


def give_each_size_its_own_(layer: nn.Module, running: Running, sizes: int) -> None:
    """Gives a layer, in place, a copy of its own for each size but the last, which is the layer as it is."""
    others = nn.ModuleList(copy.deepcopy(layer) for _ in range(sizes - 1))
    layer.per_size = others
    become(layer, OwnBySize, running=running, by_size=(*range(sizes - 1), None))
