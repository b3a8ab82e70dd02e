"""Selection: from scores of modules and units, whoever gave them, to a Structure that fits a limit."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from compress.cost import CostTable
from compress.structure import FEWEST_CHANNELS, IN_FRONT, MODULES, Block, Kept, Place, Structure

Move = tuple[float, int, tuple[Place, ...]]
"""Groups of one module or two: the sum of their scores, of their costs, and the modules."""
ALTERNATIVES = 4


@dataclass(frozen=True)
class Scores:
    """How much each part of a model is wanted: what a Structure is decided from.

    Attributes:
        family: of the model.
        modules: the score of each module that may go.
        units: the scores of the units of each module whose units may go one by one.
        per_cost: whether they are what a unit is worth over what it costs, so that a module with few units can be seen
            not to be worth its fixed cost.
    """

    family: str
    modules: dict[Place, float]
    units: dict[Place, list[float]]
    per_cost: bool = False


class UnitSelection:
    """The units selected so far: a chain of groups per module, of which a prefix is selected.

    Every group of channels in front of the blocks has a chain, too; what has no scores there stays whole.

    Raises:
        StructureError: on construction, if channels have scores whose cost the table does not tell.
    """

    def __init__(self, table: CostTable, scores: Scores, round_to: int) -> None:
        self.table, self.scores = table, scores
        counts = {Place(b, m): count for b, counts in enumerate(table.units) for m, count in enumerate(counts) if count}
        counts |= {Place(IN_FRONT, number): count for number, count in enumerate(table.front.channels)}
        table.front.require(bool(table.front.names) or not any(place.in_front for place in scores.units))
        self.chains = {place: self._chain(place, count, round_to) for place, count in counts.items()}
        self.taken = {place: self._certain(place) for place in self.chains}
        self.closed: frozenset[Place] = frozenset()
        self.cost = table.always - self._saved_in_front() + sum(self._cost(*pair) for pair in self._in_blocks())

    def _in_blocks(self) -> list[tuple[Place, int]]:
        return [(place, groups) for place, groups in self.taken.items() if not place.in_front]

    def _saved_in_front(self, fuller: Place | None = None) -> int:
        """What is saved in front of the blocks, perhaps with one more group in one place; it is no sum over groups."""
        places = [Place(IN_FRONT, number) for number in range(len(self.table.front.names))]
        return self.table.front.saved([self._count(place, self.taken[place] + (place == fuller)) for place in places])

    def _count(self, place: Place, groups: int) -> int:
        return sum(map(len, self.chains[place][:groups]))

    def _chain(self, place: Place, count: int, round_to: int) -> list[list[int]]:
        """The units of a module in groups, most wanted first. Heads go one by one."""
        wanted = self.scores.units.get(place)
        if wanted is None:
            return [list(range(count))]
        order = sorted(range(count), key=wanted.__getitem__, reverse=True)  # equal ones in their order
        size = max(round_to, FEWEST_CHANNELS) if place.in_front else 1 if place.name == "attention" else round_to
        return [order[start : start + size] for start in range(0, count, size)]

    def _certain(self, place: Place) -> int:
        """How many groups of a module stay whatever happens: one if the module cannot go, since its bias stays."""
        return 0 if place in self.scores.modules else 1

    def _cost(self, place: Place, groups: int) -> int:
        return self.table.module(*place, self._count(place, groups))

    def _score(self, place: Place, group: int) -> float:
        module, units = self.scores.modules.get(place, 1.0), self.scores.units.get(place)
        chosen = self.chains[place][group]
        return module if units is None else module * sum(units[unit] for unit in chosen) / len(chosen)

    def _next(self, place: Place) -> Iterator[tuple[float, Place]]:
        group = self.taken[place]
        if group < len(self.chains[place]) and place not in self.closed:
            yield -self._score(place, group), place

    def fill(self, limit: int) -> None:
        """Takes groups, best first, as long as they fit."""
        heap = [entry for place in self.chains for entry in self._next(place)]
        heapq.heapify(heap)
        while heap:
            _, place = heapq.heappop(heap)
            step = self._step(place, 0)
            if self.cost + step <= limit:
                self.cost += step
                self.taken[place] += 1
                for entry in self._next(place):
                    heapq.heappush(heap, entry)

    @property
    def value(self) -> float:
        """What all that is selected is worth, where scores are over costs."""
        return sum(map(self._worth, self.taken))

    def _worth(self, place: Place) -> float:
        unit = max(1, self.table.each(place))
        groups = range(self.taken[place])
        return unit * sum(self._score(place, group) * len(self.chains[place][group]) for group in groups)

    def closed_where_that_pays(self, limit: int) -> UnitSelection:
        """A selection without the modules whose cost buys more elsewhere, tried one by one, the least worth first.

        Modules that cost nothing, as some do by a latency profile, are left alone: they buy nothing.
        """
        best = self
        while True:
            open_ones = {
                place: cost
                for place, count in best._in_blocks()
                if count > best._certain(place) and (cost := best._cost(place, count))
            }
            thin = sorted(open_ones, key=lambda place: best._worth(place) / open_ones[place])
            trials = [best._without(place, limit) for place in thin[:ALTERNATIVES]]
            trial = max(trials, key=lambda selection: selection.value, default=best)
            if trial.value <= best.value:
                return best
            best = trial

    def _without(self, place: Place, limit: int) -> UnitSelection:
        trial = copy.copy(self)
        trial.taken, trial.closed = self.taken | {place: self._certain(place)}, self.closed | {place}
        trial.cost += self._cost(place, trial.taken[place]) - self._cost(place, self.taken[place])
        trial.fill(limit)
        return trial

    def swap(self, limit: int, tolerance: int) -> None:
        """Swaps last groups of one or two modules for the next ones of others, if that leaves less than `tolerance`.

        Of all swaps that do, the one with the least loss of score is made; else the one that leaves least.
        """
        rest = limit - self.cost
        if rest <= tolerance:
            return
        leaving = _cheapest([(0.0, 0, ()), *self._moves(-1)])
        entering = _cheapest(list(self._moves(0)))
        swaps = [
            (max(tolerance, rest - gained), lost - won, leave, enter, gained)
            for lost, freed, leave in leaving
            for won, spent, enter in entering
            if 0 < (gained := spent - freed) <= rest and not set(leave) & set(enter)
        ]
        if swaps:
            _, _, leave, enter, gained = min(swaps)
            for places, step in ((leave, -1), (enter, 1)):
                for place in places:
                    self.taken[place] += step
            self.cost += gained

    def _moves(self, offset: int) -> Iterator[Move]:
        """The next groups of one module or two that could enter (offset 0), or the last ones that could leave (-1)."""
        single = [
            (self._score(place, self.taken[place] + offset), self._step(place, offset), (place,))
            for place, chain in self.chains.items()
            if not place.in_front
            and (self.taken[place] > self._certain(place) if offset else next(self._next(place), None))
        ]
        yield from single
        for (score, cost, place), (other_score, other_cost, other) in combinations(single, 2):
            yield score + other_score, cost + other_cost, place + other

    def _step(self, place: Place, offset: int) -> int:
        """The cost of the next group of a module, or with offset -1 of the last one taken; in front the next."""
        if place.in_front:
            return self._saved_in_front() - self._saved_in_front(place)
        group = self.taken[place] + offset
        return self._cost(place, group + 1) - self._cost(place, group)

    def structure(self) -> Structure:
        """The selected Structure."""
        blocks = [
            Block(**{name: self._kept(Place(b, m)) for m, name in enumerate(MODULES)})
            for b in range(len(self.table.units))
        ]
        front = {name: self._kept(Place(IN_FRONT, number)) for number, name in enumerate(self.table.front.names)}
        return Structure(self.scores.family, tuple(blocks), {n: k for n, k in front.items() if isinstance(k, tuple)})

    def _kept(self, place: Place) -> Kept:
        if place not in self.chains:
            return None
        units = sorted(unit for group in self.chains[place][: self.taken[place]] for unit in group)
        if len(units) == sum(map(len, self.chains[place])):
            return "all"
        return tuple(units) or None


def _cheapest(moves: list[Move]) -> list[Move]:
    """Of the moves of each cost, the first few from either end of the scores: others would never be chosen."""
    by_cost: dict[int, list[Move]] = {}
    for move in sorted(moves):
        by_cost.setdefault(move[1], []).append(move)
    return [
        move
        for alike in by_cost.values()
        for move in (alike if len(alike) <= 2 * ALTERNATIVES else [*alike[:ALTERNATIVES], *alike[-ALTERNATIVES:]])
    ]
