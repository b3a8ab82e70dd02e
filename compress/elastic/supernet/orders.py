"""Rankings that look at nothing: what learned selections have to beat."""

from __future__ import annotations

import random

from compress.elastic.supernet.parts import Parts


def random_order(parts: Parts, seed: int) -> list[int]:
    """The parts in an order drawn from a seed."""
    return random.Random(seed).sample(range(len(parts)), len(parts))


def every_other_block(parts: Parts, seed: int) -> list[int]:
    """Block by block, so that the blocks kept lie as evenly as can be at every size: at half of them every other one.

    Args:
        parts: of a model.
        seed: not used; the order follows from the number of blocks.
    """
    places = {block: place for place, block in enumerate(evenly(len(parts.units)))}
    return sorted(range(len(parts)), key=lambda number: (places[parts.entries[number].block], number))


def evenly(count: int) -> list[int]:
    """The numbers below `count` so ordered that each prefix is spread out, the last number first.

    Their distances from the end are taken by their bits in reverse (van der Corput).
    """
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(1 << bits))
    return [count - 1 - distance for distance in reversed_bits if distance < count]
