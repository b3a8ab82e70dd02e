"""Running one batch through a CTC model for many proposals, without computing twice what they share.

Proposals are put in an order in which neighbours agree as long as possible. Each is then run from the first block in
which it differs from the one before: the hidden states there were recorded by an earlier run. So nothing before the
first removed block is computed more than once, and nothing that two proposals have in common after it either. What
runs before the first block (subsampling, projections, positions) is recorded once and replayed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from compress.conformers import family_of, numbered_blocks, part
from compress.evaluation.transcribe import best_tokens
from compress.running.front import Front, entered_with, leaving_out, replaced_by
from compress.search.coarse import Proposal

State = tuple[int, Proposal]
"""A block that is run, and which of the blocks before it are left out: enough to know its input."""


@dataclass(frozen=True)
class Run:
    """One proposal and where it starts.

    Attributes:
        proposal: numbers of the blocks that are left out.
        start: the state to go on from; None runs the whole model.
    """

    proposal: Proposal
    start: State | None


def plan_runs(proposals: Collection[Proposal], blocks: int) -> list[Run]:
    """Puts proposals in an order in which each can go on from a state that an earlier one passes through.

    Args:
        proposals: numbers of blocks; the empty one is the whole model.
        blocks: how many the model has.
    """
    ordered = sorted(set(proposals), key=lambda proposal: [block in proposal for block in range(blocks)])
    runs = [Run(proposal, None) for proposal in ordered[:1]]
    for before, proposal in pairwise(ordered):
        differing = min(set(before) ^ set(proposal))
        last_kept = max(block for block in range(blocks) if block not in proposal)
        start = min(differing, last_kept)
        runs.append(Run(proposal, (start, tuple(block for block in proposal if block < start))))
    return runs


def block_runs(runs: Sequence[Run], blocks: int) -> int:
    """Counts the blocks that the runs compute when every state they start from can be kept."""
    first = [(run.start[0] if run.start else 0) for run in runs]
    return sum(
        sum(block not in run.proposal for block in range(start, blocks)) for run, start in zip(runs, first, strict=True)
    )


class SharedRuns:
    """Runs proposals on one batch after another.

    Args:
        model: a CTC model in eval mode.
        proposals: numbers of blocks.
        most_bytes: of hidden states that are kept at a time; a proposal whose state does not fit any more is run
            from the front. 0 shares nothing but what runs before the blocks.
    """

    def __init__(self, model: PreTrainedModel, proposals: Collection[Proposal], most_bytes: int) -> None:
        self.model, self.most_bytes = model, most_bytes
        self.positions, self.blocks = list(numbered_blocks(model)), list(numbered_blocks(model).values())
        self.runs = plan_runs(proposals, len(self.blocks))
        self._states: dict[State, Tensor] = {}
        self._awaited: Counter[State] = Counter()

    def tokens(self, inputs: dict[str, Tensor]) -> Iterator[tuple[Proposal, Tensor]]:
        """Yields the greedy tokens `(batch, frames)` of each proposal, as `best_tokens` finds them."""
        self._states = {}
        self._awaited = Counter(run.start for run in self.runs if run.start)
        front = Front(self.model)
        for run in self.runs:
            yield run.proposal, self._run(run, inputs, front)

    def _run(self, run: Run, inputs: dict[str, Tensor], front: Front) -> Tensor:
        state = self._states.get(run.start) if run.start else None
        first = run.start[0] if run.start and state is not None else 0
        left_out = {*run.proposal, *range(first)}
        with leaving_out(self.model, left_out), ExitStack() as hooks:
            hooks.enter_context(front.recorded() if run is self.runs[0] else front.replayed())
            if state is not None:  # before the recorders: they have to see what is put in
                hooks.enter_context(entered_with(self._entrance(first), replaced_by(state)))
            for number in range(first, len(self.blocks)):
                key = number, tuple(block for block in run.proposal if block < number)
                if number not in left_out and self._awaited[key] and key not in self._states:
                    hooks.enter_context(entered_with(self.blocks[number], self._recorder(key)))
            tokens = best_tokens(self.model, inputs)
        if run.start:
            self._awaited[run.start] -= 1
            if not self._awaited[run.start]:
                self._states.pop(run.start, None)
        return tokens

    def _entrance(self, first: int) -> nn.Module:
        """Returns what stands in the place of block `first`, or the first block after it where none stands there."""
        family = family_of(self.model)
        present: nn.ModuleList = part(self.model, family.blocks)
        return present[self.positions[first] if family.numbered_blocks else 0]

    def _recorder(self, key: State) -> Any:
        def record(hidden: Tensor) -> Tensor:
            held = sum(state.nbytes for state in self._states.values())
            if held + hidden.nbytes <= self.most_bytes:
                self._states[key] = hidden.clone()
            return hidden

        return record
