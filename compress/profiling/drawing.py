"""Random Structures of a model, which are timed to learn what its modules cost."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from compress.structure import FEWEST_CHANNELS, MODULES, Block, Kept, Structure

ABSENT, DROPPED = 0.15, 0.1  # probabilities that a module or a block is gone
SMALLEST = 0.1  # share of the units of a model of which the smallest Structures keep about so much
SHARE_SPREAD = 0.2  # how far the shares of modules lie from that of their model
WHOLE_FRONT = 0.5  # probability that no channels in front of the blocks are gone, as in most models that are made
FRONT_STEP = 8  # multiples of which they are otherwise; machines have steps there that no line follows


def draw_structure(
    family: str,
    units: Sequence[Mapping[str, int]],
    fixed: set[int],
    generator: random.Random,
    width: int,
    front: Mapping[str, int] | None = None,
) -> Structure:
    """Draws how many units each module keeps, and how many channels in front; which ones does not matter to time.

    Args:
        family: of the model.
        units: per block, the number of units of each module.
        fixed: blocks that cannot go.
        generator: of the choice.
        width: FFN and convolution widths are odd multiples of this, where they are not whole.
        front: the number of channels of each group in front of the blocks, by name.
    """
    size = generator.uniform(SMALLEST, 1)
    blocks: list[Block | None] = []
    while not any(blocks):  # of a few blocks all can go, which no model can be
        blocks = [
            None
            if block not in fixed and generator.random() < DROPPED
            else Block(**{name: _kept(name, counts[name], size, width, generator) for name in MODULES})
            for block, counts in enumerate(units)
        ]
    return Structure(family, tuple(blocks), _front(front or {}, size, generator))


def _front(channels: Mapping[str, int], size: float, generator: random.Random) -> dict[str, tuple[int, ...]]:
    if generator.random() < WHOLE_FRONT:
        return {}
    kept = {name: FRONT_STEP * _steps(count, size, generator, FRONT_STEP) for name, count in channels.items()}
    return {name: tuple(range(min(channels[name], max(count, FEWEST_CHANNELS)))) for name, count in kept.items()}


def _kept(name: str, units: int, size: float, width: int, generator: random.Random) -> Kept:
    if not units or generator.random() < ABSENT:
        return None
    step = 1 if name == "attention" else width
    steps = _steps(units, size, generator, step)
    if name != "attention" and steps % 2 == 0:
        steps -= 1
    return tuple(range(min(units, steps * step)))


def _steps(count: int, size: float, generator: random.Random, step: int) -> int:
    """How many steps there are in about a share of so many, at least one."""
    share = min(1.0, max(0.0, size + generator.uniform(-SHARE_SPREAD, SHARE_SPREAD)))
    return max(1, round(share * count / step))
